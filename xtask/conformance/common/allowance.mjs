// Cells of the kind `allowance`: an ERC-2612 permit is signed once and used until it is exhausted.
import assert from 'node:assert/strict';

import { KEYS, PAUPER } from './accounts.mjs';
import { Books } from './books.mjs';
import { Buyer } from './buyer.mjs';
import { Chain } from './chain.mjs';
import { Gateway } from './gateway.mjs';
import { cell, step, usd } from './report.mjs';

const PROMPT = 'The quick brown fox jumps over the lazy dog.';
/** No payer is lent more than this before it has paid anything, in atomic units (0.10 USD). */
const FIRST_CREDIT = 10n ** 17n;

/** @param connect makes `{address, wrap}` of a key: the client under test */
export async function allowance(connect, ai, viem) {
  const gateway = new Gateway(cell.gateway);
  const chain = new Chain(cell.rpc);
  const request = (prompt, body = {}) => ({ ...body, messages: [{ role: 'user', content: prompt }] });
  const buyer = async (key) => {
    const { address, wrap } = await connect({ key, rpc: cell.rpc, chainId: offer.chainId, offer });
    return new Buyer(gateway, address, wrap, ai);
  };

  let offer;
  await step('an unpaid request is offered terms, the same in v1 and v2', async () => {
    offer = await gateway.offer(request(PROMPT));
    assert.equal(offer.chainId, await chain.chainId(), 'the network of the offer is the chain');
    assert.equal(offer.extra.primaryType, 'Permit');
    return `up to ${usd(offer.amount)}, this request at most ${usd(offer.minimum)}`;
  });

  const [one, other, pauper] = [await buyer(KEYS[0]), await buyer(KEYS[1]), await buyer(PAUPER)];
  const books = await Books.open(chain, offer, [one.address, other.address, pauper.address]);

  await step('the first payment signs a permit and is served', async () => {
    const { text, facts, error } = await one.ask(cell.mode, PROMPT);
    assert.equal(error, undefined);
    assert.ok(text.includes(PROMPT), `the echo of the prompt: ${text}`);
    assert.ok(facts.charged <= offer.minimum, 'more was charged than was quoted');
    assert.equal(facts.left, offer.amount - facts.charged, 'what is left of the allowance');
    await gateway.final(facts.id);
    const granted = await chain.allowance(offer.asset, one.address, offer.payTo);
    assert.equal(granted, offer.amount - facts.charged, 'what is left of the allowance on the chain');
    return `${facts.tokens} tokens, ${usd(facts.charged)}`;
  });

  await step('the same permit pays again, and nothing is signed', async () => {
    const first = one.last.signature;
    for (let count = 0; count < 3; count += 1) {
      const left = one.charges.at(-1).left;
      const { facts, error } = await one.askPatiently(cell.mode, `${PROMPT} ${count}`);
      assert.equal(error, undefined);
      assert.ok(one.last.signature === first, 'the client signed anew although the allowance lasts');
      assert.equal(facts.left, left - facts.charged, 'the allowance goes down by the charge');
    }
  });

  await step('the permit is used until it is exhausted, then another is signed', async () => {
    const first = one.last.signature;
    const [prompt, body] = await costly(gateway, request);
    let calls = 0;
    let { left } = one.charges.at(-1);
    while (one.last.signature === first) {
      assert.ok(calls < 400, `the permit still lasts after ${calls} calls`);
      const answer = await one.askPatiently(cell.mode, prompt, body);
      calls += 1;
      if (answer.error !== undefined) {
        // the client found the allowance good on the chain, the ledger knows better: the next call signs anew
        assert.deepEqual([answer.status, answer.error], [402, 'allowance_exhausted']);
        assert.ok(one.last.signature === first, 'a fresh permit was refused');
        break;
      }
      if (one.last.signature === first) {
        assert.equal(answer.facts.left, left - answer.facts.charged, 'the allowance goes down by the charge');
        left = answer.facts.left;
      }
    }
    const { minimum } = await gateway.offer(request(prompt, body));
    assert.ok(left < minimum, `${usd(left)} of the old permit were left, and the request costs ${usd(minimum)} at most`);
    const signed = await one.askPatiently(cell.mode, PROMPT);
    assert.equal(signed.error, undefined);
    assert.ok(one.last.signature !== first, 'the same permit was sent again');
    return `after ${calls} more calls; ${usd(one.spent)} so far`;
  });

  await step('two first calls at once are both served', async () => {
    const answers = await Promise.all([other.ask(cell.mode, `${PROMPT} A`), other.ask(cell.mode, `${PROMPT} B`)]);
    for (const [index, { text, error }] of answers.entries()) {
      assert.equal(error, undefined);
      assert.ok(text.includes(`${PROMPT} ${'AB'[index]}`), 'each gets its own answer');
    }
    assert.notEqual(answers[0].facts.id, answers[1].facts.id, 'two payments');
  });

  await step('who has no money is refused, and told why', async () => {
    const { status, error } = await pauper.ask(cell.mode, PROMPT);
    assert.deepEqual([status, error], [402, 'insufficient_funds']);
    assert.equal(pauper.last.status, 402, 'the payment was sent and refused');
  });

  await books.close(gateway, [one, other, pauper], viem);
}

/**
 * A long prompt with a short answer, whose worst case is nearly what a new payer is lent: few calls exhaust an
 * allowance, and none of them takes long.
 */
async function costly(gateway, request) {
  const line = 'All work and no play makes Jack a dull boy. ';
  const make = (lines) => [line.repeat(lines), { max_tokens: 4 }];
  let lines = 1;
  while (lines < 4096 && (await gateway.offer(request(...make(lines * 2)))).minimum < (FIRST_CREDIT * 8n) / 10n) lines *= 2;
  return make(lines);
}
