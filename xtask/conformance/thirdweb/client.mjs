// thirdweb's `wrapFetchWithPayment` as its documentation shows it: scheme upto, ERC-2612 Permit, with a storage for
// the permit (a browser has one by itself), its RPC sent to the chain of the cell.
import * as ai from 'ai';
import { createThirdwebClient, defineChain } from 'thirdweb';
import { createWalletAdapter, privateKeyToAccount } from 'thirdweb/wallets';
import { wrapFetchWithPayment } from 'thirdweb/x402';
// thirdweb brings it
import * as viem from 'viem';

import { allowance } from '../common/allowance.mjs';

/** thirdweb's AsyncStorage, in memory. */
class Storage {
  #items = new Map();

  async getItem(key) {
    return this.#items.get(key) ?? null;
  }

  async setItem(key, value) {
    this.#items.set(key, value);
  }

  async removeItem(key) {
    this.#items.delete(key);
  }
}

async function connect({ key, rpc, chainId, offer }) {
  const client = createThirdwebClient({ clientId: 'conformance' });
  const chain = defineChain({ id: chainId, rpc });
  const adaptedAccount = privateKeyToAccount({ client, privateKey: key });
  const wallet = createWalletAdapter({ client, adaptedAccount, chain, onDisconnect() {}, switchChain() {} });
  const options = { storage: new Storage(), maxValue: offer.amount };
  return { address: adaptedAccount.address, wrap: (fetch) => wrapFetchWithPayment(fetch, client, wallet, options) };
}

await allowance(connect, ai, viem);
process.exit(0);
