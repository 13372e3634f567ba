// Compiles our Solidity by the compiler's standard JSON interface, and writes to the standard output, as one JSON
// object, what `cargo xtask contracts` keeps: for each contract the ABI, both bytecodes, and where things lie.
// usage: node compile.mjs <directory with node_modules> <directory of the sources>

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [installed, root] = process.argv.slice(2);
const solc = createRequire(resolve(installed, "package.json"))("solc");
const names = readdirSync(root, { recursive: true })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".sol"))
  .sort();

const input = {
  language: "Solidity",
  sources: Object.fromEntries(names.map((name) => [name, { content: readFileSync(join(root, name), "utf8") }])),
  settings: {
    evmVersion: "cancun",
    viaIR: true,
    optimizer: { enabled: true, runs: 10000 },
    // No hash of the metadata in the code: a changed comment must not change the code.
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: {
      "*": {
        "*": [
          "abi",
          "storageLayout",
          "evm.bytecode.object",
          "evm.deployedBytecode.object",
          "evm.deployedBytecode.immutableReferences",
        ],
        "": ["ast"],
      },
    },
  },
};

const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = (output.errors ?? []).filter((error) => error.severity !== "info");
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);

const contracts = {};
for (const file of names) {
  for (const [name, contract] of Object.entries(output.contracts[file] ?? {})) {
    if (contract.evm.bytecode.object === "") continue; // an interface, or abstract
    contracts[name] = {
      source: file,
      abi: contract.abi,
      storage: Object.fromEntries((contract.storageLayout?.storage ?? []).map((entry) => [entry.label, Number(entry.slot)])),
      immutables: immutables(output.sources[file].ast, contract.evm.deployedBytecode.immutableReferences ?? {}),
      creation: contract.evm.bytecode.object,
      runtime: contract.evm.deployedBytecode.object,
    };
  }
}
process.stdout.write(JSON.stringify({ compiler: solc.version(), settings: input.settings, contracts }, sorted));

// Keys in the order of the alphabet: what is committed must not depend on how somebody's map is ordered.
function sorted(_key, value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

// The compiler names immutables by the number of their node in the syntax tree: here by their names, with the places
// in the runtime code where their 32 bytes go.
function immutables(ast, references) {
  const byId = {};
  (function walk(node) {
    if (Array.isArray(node)) return node.forEach(walk);
    if (node === null || typeof node !== "object") return;
    if (node.nodeType === "VariableDeclaration" && node.mutability === "immutable") byId[node.id] = node.name;
    Object.values(node).forEach(walk);
  })(ast);
  return Object.fromEntries(
    Object.entries(references).map(([id, places]) => [byId[id], places.map((place) => place.start)]),
  );
}
