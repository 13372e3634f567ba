// `@x402/express` as its documentation shows it: a foreign server whose payments our facilitator verifies and settles,
// paid by `@x402/fetch`.
import assert from 'node:assert/strict';
import { once } from 'node:events';

import { HTTPFacilitatorClient } from '@x402/core/server';
import { ExactEvmScheme as ExactClient } from '@x402/evm/exact/client';
import { ExactEvmScheme as ExactServer } from '@x402/evm/exact/server';
import { UptoEvmScheme as UptoClient } from '@x402/evm/upto/client';
import { UptoEvmScheme as UptoServer } from '@x402/evm/upto/server';
import { paymentMiddleware, setSettlementOverrides, x402ResourceServer } from '@x402/express';
import { wrapFetchWithPayment, x402Client } from '@x402/fetch';
import express from 'express';
import { createPublicClient, createWalletClient, defineChain, http } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';

import { KEYS, PAUPER } from '../common/accounts.mjs';
import { Chain, PERMIT2 } from '../common/chain.mjs';
import { cell, step, usd } from '../common/report.mjs';

const USD1 = '0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d';
/** The development account that sellers of this cell are paid to: the key of the facilitator settles for it. */
const SELLER = cell.payTo;
const TEXT = 'The quick brown fox jumps over the lazy dog.';
const CENT = 10n ** 16n;

const chain = new Chain(cell.rpc);
const network = `eip155:${await chain.chainId()}`;
const decode = (header) => JSON.parse(Buffer.from(header, 'base64').toString('utf8'));
const bearer = cell.key === undefined ? {} : { authorization: `Bearer ${cell.key}` };

/** What is sold: the most that is signed, and what is settled. */
const ROUTES = {
  once: { '/upto': { scheme: 'upto', most: 20n * CENT, charge: 3n * CENT, extra: { assetTransferMethod: 'permit2' } } },
  exact: {
    '/transfer': { scheme: 'exact', most: 4n * CENT, charge: 4n * CENT, extra: {} },
    '/permit2': { scheme: 'exact', most: 5n * CENT, charge: 5n * CENT, extra: { assetTransferMethod: 'permit2' } },
  },
}[cell.kind];

async function serve() {
  const app = express();
  const facilitator = new HTTPFacilitatorClient({
    url: cell.facilitator,
    createAuthHeaders: async () => ({ verify: bearer, settle: bearer, supported: bearer }),
  });
  const server = new x402ResourceServer(facilitator)
    .register(network, new UptoServer())
    .register(network, new ExactServer());
  const routes = {};
  for (const [path, { scheme, most, extra }] of Object.entries(ROUTES)) {
    const domain = { name: 'World Liberty Financial USD', version: '1' };
    routes[`GET ${path}`] = {
      accepts: {
        scheme,
        network,
        payTo: SELLER,
        maxTimeoutSeconds: 120,
        price: { amount: most.toString(), asset: USD1, extra: { ...domain, ...extra } },
      },
      description: 'a fox',
      mimeType: 'text/plain',
    };
  }
  app.use(paymentMiddleware(routes, server));
  const served = [];
  for (const [path, { scheme, charge }] of Object.entries(ROUTES)) {
    app.get(path, async (request, response) => {
      served.push(path);
      if (scheme === 'upto') setSettlementOverrides(response, { amount: charge.toString() });
      if (cell.mode === 'plain') {
        response.json({ text: TEXT });
        return;
      }
      // the middleware holds all of it back until the payment is settled
      response.type('text/plain');
      for (const word of TEXT.split(/(?<= )/)) {
        response.write(word);
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    });
  }
  const listener = app.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return { url: `http://127.0.0.1:${listener.address().port}`, served };
}

function wallet(key) {
  const account = privateKeyToAccount(key);
  const client = new x402Client();
  client.register(network, new UptoClient(account));
  client.register(network, new ExactClient(account));
  client.setSpendControls({ allowedAssets: [{ network, asset: USD1, maxAmountPerPayment: (99n * CENT).toString() }] });
  // what went over the wire
  const sent = [];
  const record = async (input, init) => {
    const request = new Request(input, init);
    const response = await fetch(request);
    const header = request.headers.get('payment-signature');
    if (header !== null) sent.push(header);
    return response;
  };
  const definition = defineChain({
    id: Number(network.split(':')[1]),
    name: 'development',
    nativeCurrency: { name: 'BNB', symbol: 'BNB', decimals: 18 },
    rpcUrls: { default: { http: [cell.rpc] } },
  });
  const reader = createPublicClient({ chain: definition, transport: http(cell.rpc), pollingInterval: 100 });
  const signer = createWalletClient({ account, chain: definition, transport: http(cell.rpc) });
  return {
    address: account.address,
    sent,
    pay: wrapFetchWithPayment(record, client),
    send: async (transaction) => {
      const hash = await signer.sendTransaction({ ...transaction, type: 'legacy' });
      const receipt = await reader.waitForTransactionReceipt({ hash });
      assert.equal(receipt.status, 'success', hash);
    },
  };
}

/** Pays one request; the text that came, and what its receipt says. */
async function buy(buyer, url) {
  const response = await buyer.pay(url);
  const body = await response.text();
  assert.equal(response.status, 200, `${response.status} ${body} ${reason(response)}`);
  assert.equal(cell.mode === 'plain' ? JSON.parse(body).text : body, TEXT);
  const receipt = decode(response.headers.get('payment-response'));
  assert.equal(receipt.success, true);
  assert.equal(receipt.network, network);
  assert.equal(receipt.payer.toLowerCase(), buyer.address.toLowerCase());
  await chain.assertFinal(receipt.transaction);
  return receipt;
}

const reason = (response) => {
  const header = response.headers.get('payment-required') ?? response.headers.get('payment-response');
  return header === null ? '' : decode(header).error ?? decode(header).errorReason;
};

const ask = async (path, body, headers = bearer) => {
  const response = await fetch(`${cell.facilitator}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, answer: await response.json() };
};

const [one, other, pauper] = [KEYS[0], KEYS[1], PAUPER].map(wallet);
const { url, served } = await serve();
const before = new Map();
for (const { address } of [one, other, { address: SELLER }]) before.set(address, await chain.balance(USD1, address));
const spent = new Map();
const paid = (buyer, { charge }) => spent.set(buyer.address, (spent.get(buyer.address) ?? 0n) + charge);

await step('an unpaid request is offered terms, with what the facilitator supports', async () => {
  for (const [path, { scheme, most }] of Object.entries(ROUTES)) {
    const response = await fetch(url + path);
    assert.equal(response.status, 402);
    const [entry] = decode(response.headers.get('payment-required')).accepts;
    assert.deepEqual([entry.scheme, entry.amount, entry.payTo], [scheme, most.toString(), SELLER]);
    if (scheme === 'upto') assert.match(entry.extra.facilitatorAddress, /^0x[0-9a-fA-F]{40}$/);
  }
});

const needsPermit2 = Object.keys(ROUTES).filter((path) => ROUTES[path].extra.assetTransferMethod === 'permit2');
await step('without an approval of Permit2 it is refused, and told so', async () => {
  for (const path of needsPermit2) {
    const response = await one.pay(url + path);
    assert.ok([402, 412].includes(response.status), `status ${response.status}`);
    assert.equal(reason(response), 'permit2_allowance_required');
  }
  assert.equal(served.length, 0);
});

await step('the payers approve Permit2, once', async () => {
  await one.send({ to: pauper.address, value: 10n ** 18n });
  for (const buyer of [one, other, pauper]) {
    await buyer.send({ to: USD1, data: Chain.approval(PERMIT2, 2n ** 256n - 1n) });
  }
});

for (const [path, route] of Object.entries(ROUTES)) {
  await step(`${path}: it is served, settled, and final when the answer comes`, async () => {
    const receipt = await buy(one, url + path);
    if (receipt.amount !== undefined) assert.equal(BigInt(receipt.amount), route.charge);
    paid(one, route);
    return `${usd(route.charge)} of ${usd(route.most)}`;
  });

  await step(`${path}: calls at once are all served, each by its own payment`, async () => {
    const receipts = await Promise.all([one, other, one, other].map((buyer) => buy(buyer, url + path)));
    for (const buyer of [one, other, one, other]) paid(buyer, route);
    assert.equal(new Set(receipts.map(({ transaction }) => transaction)).size, 4);
  });

  const payload = () => decode(one.sent.at(-1));
  const terms = (amount) => ({ ...payload().accepted, amount: amount.toString() });
  const body = (amount) => ({ x402Version: 2, paymentPayload: payload(), paymentRequirements: terms(amount) });

  await step(`${path}: a payment that was settled serves nothing again`, async () => {
    const count = served.length;
    const response = await fetch(url + path, { headers: { 'payment-signature': one.sent.at(-1) } });
    assert.notEqual(response.status, 200);
    assert.equal(served.length, count);
  });

  await step(`${path}: settled again, sixteen times at once, it is the same transaction`, async () => {
    const again = await Promise.all(Array.from({ length: 16 }, () => ask('/settle', body(route.charge))));
    for (const { status, answer } of again) {
      assert.deepEqual([status, answer.success], [200, true], JSON.stringify(answer));
      assert.equal(answer.transaction, again[0].answer.transaction);
      assert.equal(BigInt(answer.amount), route.charge);
    }
    if (route.scheme === 'upto') {
      const { status, answer } = await ask('/settle', body(route.charge - 1n));
      assert.deepEqual([status, answer.errorReason], [409, 'duplicate_settlement']);
    }
  });

  await step(`${path}: who has no money is refused, and told why`, async () => {
    const response = await pauper.pay(url + path);
    assert.equal(response.status, 402);
    assert.match(reason(response), /insufficient_balance/);
  });

  if (cell.key !== undefined) {
    await step(`${path}: the facilitator serves its callers alone, for their payees alone`, async () => {
      const stranger = await ask('/settle', body(route.charge), {});
      assert.deepEqual([stranger.status, stranger.answer.error], [401, 'unauthorized']);
      const wrong = await ask('/verify', body(route.charge), { authorization: 'Bearer another-key-of-nobody' });
      assert.equal(wrong.status, 401);
      const asked = body(route.charge);
      asked.paymentRequirements.payTo = pauper.address;
      const elsewhere = await ask('/settle', asked);
      assert.deepEqual([elsewhere.status, elsewhere.answer.error], [403, 'pay_to_not_allowed']);
    });
  }
}

await step('what was charged is what moved on the chain', async () => {
  let sum = 0n;
  for (const buyer of [one, other]) {
    const after = await chain.balance(USD1, buyer.address);
    assert.equal(before.get(buyer.address) - after, spent.get(buyer.address), `the spending of ${buyer.address}`);
    sum += spent.get(buyer.address);
  }
  assert.equal((await chain.balance(USD1, SELLER)) - before.get(SELLER), sum, 'what the seller got');
  return usd(sum);
});
process.exit(0);
