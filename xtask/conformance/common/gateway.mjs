// The gateway as anybody sees it: what it offers, and what it tells of a payment.
import assert from 'node:assert/strict';

import { eventually } from './report.mjs';

const DECIMAL = /^(0|[1-9][0-9]{0,77})$/;

export const decode = (header) => JSON.parse(Buffer.from(header, 'base64').toString('utf8'));

export class Gateway {
  constructor(url) {
    this.url = url;
    this.api = `${url}/x402/v1`;
  }

  /** The entry that a request is offered; both versions of the 402 must offer the same. */
  async offer(body) {
    const response = await fetch(this.api, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const v1 = await response.json();
    assert.equal(response.status, 402, `an unpaid request: ${JSON.stringify(v1)}`);
    assert.match(response.headers.get('cache-control') ?? '', /no-store/);
    const v2 = decode(response.headers.get('payment-required'));
    assert.equal(v1.x402Version, 1);
    assert.equal(v2.x402Version, 2);
    const [entry] = v1.accepts;
    assert.equal(entry.scheme, 'upto');
    for (const key of ['scheme', 'network', 'payTo', 'asset', 'maxTimeoutSeconds', 'amount']) {
      assert.deepEqual(v2.accepts[0][key], entry[key], `${key} differs between v1 and v2`);
    }
    assert.match(entry.maxAmountRequired, DECIMAL);
    assert.match(entry.extra.minAmountRequired, DECIMAL);
    return {
      ...entry,
      amount: BigInt(entry.maxAmountRequired),
      minimum: BigInt(entry.extra.minAmountRequired),
      chainId: Number(entry.network.split(':')[1]),
    };
  }

  async status(id) {
    const response = await fetch(`${this.api}/payments/${id}`);
    assert.equal(response.status, 200, `the receipt of ${id}`);
    return response.json();
  }

  /** The receipt once its settlement is final. */
  final(id, seconds = 60) {
    return eventually(`payment ${id} is final`, seconds, async () => {
      const status = await this.status(id);
      assert.notEqual(status.state, 'lost', `payment ${id} was lost`);
      return status.state === 'final' ? status : undefined;
    });
  }
}

/** The facts of the charge that an answer carries, checked for their form. */
export function charge(metadata) {
  assert.ok(metadata, 'the answer carries no facts of the charge');
  assert.ok(Number.isSafeInteger(metadata.totalTokens) && metadata.totalTokens > 0, `totalTokens ${metadata.totalTokens}`);
  for (const key of ['allowanceLeft', 'calculatedPriceWei', 'realPriceWei']) {
    assert.match(metadata[key], DECIMAL, key);
  }
  assert.match(metadata.paymentId, /^[0-9a-f]{32}$/, 'paymentId');
  const facts = {
    id: metadata.paymentId,
    tokens: metadata.totalTokens,
    left: BigInt(metadata.allowanceLeft),
    calculated: BigInt(metadata.calculatedPriceWei),
    charged: BigInt(metadata.realPriceWei),
  };
  assert.ok(facts.charged > 0n, 'nothing was charged');
  assert.ok(facts.charged <= facts.calculated, 'more was charged than calculated');
  return facts;
}
