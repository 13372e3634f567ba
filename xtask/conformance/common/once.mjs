// Cells of the kind `once`: x402's upto with Permit2, each authorization good for one request.
import assert from 'node:assert/strict';

import { KEYS, PAUPER } from './accounts.mjs';
import { Books } from './books.mjs';
import { Buyer } from './buyer.mjs';
import { Chain, PERMIT2 } from './chain.mjs';
import { Gateway } from './gateway.mjs';
import { cell, step, usd } from './report.mjs';

const PROMPT = 'The quick brown fox jumps over the lazy dog.';

/** @param connect makes `{address, wrap, send}` of a key: the client under test, and a wallet for its approval */
export async function once(connect, ai, viem) {
  const gateway = new Gateway(cell.gateway);
  const chain = new Chain(cell.rpc);
  const request = { messages: [{ role: 'user', content: PROMPT }] };

  let offer;
  await step('an unpaid request is offered terms, the same in v1 and v2', async () => {
    offer = await gateway.offer(request);
    assert.equal(offer.chainId, await chain.chainId(), 'the network of the offer is the chain');
    assert.match(offer.extra.facilitatorAddress, /^0x[0-9a-fA-F]{40}$/);
    return `up to ${usd(offer.amount)}, this request at most ${usd(offer.minimum)}`;
  });

  const wallets = await Promise.all(
    [KEYS[0], KEYS[1], PAUPER].map((key) => connect({ key, rpc: cell.rpc, chainId: offer.chainId, offer })),
  );
  const [one, other, pauper] = wallets.map(({ address, wrap }) => new Buyer(gateway, address, wrap, ai));
  const books = await Books.open(chain, offer, [one.address, other.address, pauper.address]);

  await step('without an approval of Permit2 it is refused, and told so', async () => {
    const { status, error } = await one.ask(cell.mode, PROMPT);
    assert.deepEqual([status, error], [402, 'permit2_allowance_required']);
  });

  await step('the payers approve Permit2, once', async () => {
    await wallets[0].send({ to: wallets[2].address, value: 10n ** 18n });
    for (const wallet of wallets) {
      await wallet.send({ to: offer.asset, data: Chain.approval(PERMIT2, 2n ** 256n - 1n) });
    }
  });

  await step('the first payment is served and settled at once', async () => {
    const { text, facts, error } = await one.ask(cell.mode, PROMPT);
    assert.equal(error, undefined);
    assert.ok(text.includes(PROMPT), `the echo of the prompt: ${text}`);
    assert.ok(facts.charged <= offer.minimum, 'more was charged than was quoted');
    const receipt = await gateway.final(facts.id);
    assert.equal(receipt.authorization, 'once');
    return `${facts.tokens} tokens, ${usd(facts.charged)}`;
  });

  await step('each further call signs for itself', async () => {
    for (let count = 0; count < 3; count += 1) {
      const { error } = await one.askPatiently(cell.mode, `${PROMPT} ${count}`);
      assert.equal(error, undefined);
    }
    const served = one.sent.filter(({ status }) => status === 200).map(({ signature }) => signature);
    assert.equal(new Set(served).size, served.length, 'a signature was used twice');
  });

  await step('a payment that served one request does not serve another', async () => {
    const response = await fetch(gateway.api, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'payment-signature': one.last.header },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'something else' }] }),
    });
    const text = await response.text();
    assert.equal(response.status, 409, text);
    assert.match(text, /duplicate_settlement/);
  });

  await step('two calls at once are both served', async () => {
    const answers = await Promise.all([other.ask(cell.mode, `${PROMPT} A`), other.ask(cell.mode, `${PROMPT} B`)]);
    for (const [index, { text, error }] of answers.entries()) {
      assert.equal(error, undefined);
      assert.ok(text.includes(`${PROMPT} ${'AB'[index]}`), 'each gets its own answer');
    }
  });

  await step('who has no money is refused, and told why', async () => {
    const { status, error } = await pauper.ask(cell.mode, PROMPT);
    assert.deepEqual([status, error], [402, 'permit2_insufficient_balance']);
  });

  await books.close(gateway, [one, other, pauper], viem);
}
