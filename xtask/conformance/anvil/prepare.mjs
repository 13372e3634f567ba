// Makes an anvil into the chain that the gateway expects: the real Permit2, and the project's own contracts where the
// canonical ones stand on BSC. Prints the Settler's address as one line of JSON.
//
// usage: node prepare.mjs RPC_URL ARTIFACTS_DIRECTORY LEDGER_ID
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { concat, createPublicClient, createTestClient, createWalletClient, defineChain, http, keccak256, numberToHex, pad } from 'viem';
import { mnemonicToAccount } from 'viem/accounts';

const MNEMONIC = 'test test test test test test test test test test test junk';
const PERMIT2 = '0x000000000022D473030F116dDEE9F6B43aC78BA3';
const PERMIT2_SALT = '0x0000000000000000000000000000000000000000d3af2663da51c10215000000';
const PERMIT2_INIT_HASH = '0xe2be1e05eedf35dacd66c65c862f8150ff9ab4b6b24b9bbe62be71b6b16cf0f8';
const CREATE2_DEPLOYER = '0x4e59b44847b379578588920cA78FbF26c0B4956C';
const EXACT_PROXY = '0x402085c248EeA27D92E8b30b2C58ed07f9E20001';
const UPTO_PROXY = '0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002';
const USD1 = '0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d';
const USDT = '0x55d398326f99059fF775485246999027B3197955';
/** Who may mint: a storage slot of each test token. */
const ADMIN_SLOT = { [USD1]: 6, [USDT]: 3 };
const MILLION = 10n ** 24n;

const [, , url, artifacts, ledgerId] = process.argv;
const artifact = async (name) => JSON.parse(await readFile(join(artifacts, `${name}.json`), 'utf8'));
const hex = (code) => (code.startsWith('0x') ? code : `0x${code}`);

const transport = http(url);
const chainId = await createPublicClient({ transport }).getChainId();
const chain = defineChain({
  id: chainId,
  name: 'anvil',
  nativeCurrency: { name: 'BNB', symbol: 'BNB', decimals: 18 },
  rpcUrls: { default: { http: [url] } },
});
const reader = createPublicClient({ chain, transport, pollingInterval: 50 });
const test = createTestClient({ mode: 'anvil', chain, transport });
const account = (addressIndex) => mnemonicToAccount(MNEMONIC, { addressIndex });
const [operator, admin, treasury] = [account(7), account(8), account(9)];
const wallet = createWalletClient({ account: admin, chain, transport });
/** Mines what was sent, without waiting for the next block. */
const mined = async (...hashes) => {
  await test.mine({ blocks: 1 });
  const receipts = await Promise.all(hashes.map((hash) => reader.waitForTransactionReceipt({ hash })));
  for (const receipt of receipts) assert.equal(receipt.status, 'success', receipt.transactionHash);
  return receipts[0];
};

// Permit2 as everywhere: its own init code through the deterministic deployer
const require = createRequire(import.meta.url);
const bytecode = join(dirname(require.resolve('hardhat-predeploy/package.json')), 'bin', `${PERMIT2}.bytecode`);
const file = await readFile(bytecode);
const initCode = file.subarray(0, 2).toString() === '0x' ? file.toString().trim() : `0x${file.toString('hex')}`;
assert.equal(keccak256(initCode), PERMIT2_INIT_HASH, 'this is not the init code of Permit2');
await mined(await wallet.sendTransaction({ to: CREATE2_DEPLOYER, data: concat([PERMIT2_SALT, initCode]) }));
assert.notEqual(await reader.getCode({ address: PERMIT2 }), undefined, 'Permit2 is not where it belongs');

for (const [name, address] of [['TestUsd1', USD1], ['TestUsdt', USDT], ['ExactProxy', EXACT_PROXY], ['UptoProxy', UPTO_PROXY]]) {
  await test.setCode({ address, bytecode: hex((await artifact(name)).runtime) });
}
const holders = Array.from({ length: 10 }, (_, index) => account(index).address);
const write = async (name, address, functionName, args) =>
  wallet.writeContract({ address, abi: (await artifact(name)).abi, functionName, args, gas: 200_000n });
for (const token of [USD1, USDT]) {
  await test.setStorageAt({ address: token, index: numberToHex(ADMIN_SLOT[token]), value: pad(admin.address, { size: 32 }) });
}
const hashes = [await write('TestUsdt', USDT, 'mint', [MILLION * BigInt(holders.length)])];
for (const holder of holders) {
  hashes.push(await write('TestUsd1', USD1, 'mint', [holder, MILLION]));
  hashes.push(await write('TestUsdt', USDT, 'transfer', [holder, MILLION]));
}
await mined(...hashes);

const settler = await artifact('Settler');
const deployed = await mined(
  await wallet.deployContract({
    abi: settler.abi,
    bytecode: hex(settler.creation),
    args: [ledgerId, treasury.address, admin.address, [operator.address]],
  }),
);
console.log(JSON.stringify({ chainId, settler: deployed.contractAddress }));
process.exit(0);
