// What a cell says while it runs: one line a step, on standard output.

/** The cell, as `cargo xtask conformance` describes it. */
export const cell = JSON.parse(process.env.TOLLGATE_CELL ?? 'null');
if (cell === null) throw new Error('run me with `cargo xtask conformance`');

/** Runs a step and says how long it took; a failure says which step it was. */
export async function step(name, work) {
  const start = performance.now();
  try {
    const note = await work();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`      ${name} (${seconds} s)${note ? `: ${note}` : ''}`);
  } catch (error) {
    // the long values that an assertion shows are payments: nobody reads them, and they are good for money
    const text = error.message.split('\n').map((line) => (line.length > 300 ? `${line.slice(0, 300)}…` : line));
    console.error(`      ${name}: ${text.join('\n        ')}`);
    console.error((error.stack ?? '').split('\n').filter((line) => /^ +at .*\.mjs:/.test(line)).join('\n'));
    process.exit(1);
  }
}

/** Asks until `probe` returns something that is not undefined; at most `seconds`. */
export async function eventually(what, seconds, probe) {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Atomic units as people read them. */
export const usd = (amount) => `${(Number(amount) / 1e18).toFixed(6)} USD`;

process.on('unhandledRejection', (error) => {
  console.error(error);
  process.exit(1);
});
