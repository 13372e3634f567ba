// `@x402/fetch` as its documentation shows it: scheme upto, Permit2, with spending limits that name the asset.
import { UptoEvmScheme } from '@x402/evm/upto/client';
import { wrapFetchWithPayment, x402Client } from '@x402/fetch';
import * as ai from 'ai';
import * as viem from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

import { once } from '../common/once.mjs';

const { createPublicClient, createWalletClient, defineChain, http } = viem;

async function connect({ key, rpc, chainId, offer }) {
  const account = privateKeyToAccount(key);
  const client = new x402Client();
  client.register(offer.network, new UptoEvmScheme(account));
  // without this it pays in no token of BSC
  client.setSpendControls({
    allowedAssets: [{ network: offer.network, asset: offer.asset, maxAmountPerPayment: offer.amount.toString() }],
  });

  const chain = defineChain({
    id: chainId,
    name: 'development',
    nativeCurrency: { name: 'BNB', symbol: 'BNB', decimals: 18 },
    rpcUrls: { default: { http: [rpc] } },
  });
  const reader = createPublicClient({ chain, transport: http(rpc), pollingInterval: 100 });
  const wallet = createWalletClient({ account, chain, transport: http(rpc) });
  return {
    address: account.address,
    wrap: (fetch) => wrapFetchWithPayment(fetch, client),
    send: async (transaction) => {
      const hash = await wallet.sendTransaction({ ...transaction, type: 'legacy' });
      const receipt = await reader.waitForTransactionReceipt({ hash });
      if (receipt.status !== 'success') throw new Error(`${hash} failed`);
    },
  };
}

await once(connect, ai, viem);
process.exit(0);
