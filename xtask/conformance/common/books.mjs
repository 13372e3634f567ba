// The books must balance: what answers said, what receipts say, and what the chain moved.
import assert from 'node:assert/strict';

import { step, usd } from './report.mjs';

export class Books {
  #chain;
  #offer;
  #before = new Map();
  #takings = 0n;

  /** Notes what payers and seller hold before anything is paid. */
  static async open(chain, offer, addresses) {
    const books = new Books();
    books.#chain = chain;
    books.#offer = offer;
    books.#takings = await chain.takings(offer);
    for (const address of addresses) books.#before.set(address, await chain.balance(offer.asset, address));
    return books;
  }

  /** Waits until all payments are final and compares to the last atomic unit. */
  async close(gateway, buyers) {
    await step('every payment becomes final, with a receipt that the chain bears out', async () => {
      for (const buyer of buyers) {
        for (const { id, charged, calculated, tokens } of buyer.charges) {
          const receipt = await gateway.final(id);
          assert.equal(BigInt(receipt.charge), charged, 'the receipt names another charge than the answer');
          assert.equal(BigInt(receipt.amounts.calculated), calculated);
          assert.ok(charged <= BigInt(receipt.amounts.reserved), 'more was charged than reserved');
          assert.equal(receipt.payer.toLowerCase(), buyer.address.toLowerCase());
          assert.equal(receipt.usage.inputTokens + receipt.usage.outputTokens, tokens);
          await this.#chain.assertFinal(receipt.transaction);
        }
      }
    });
    await step('what was charged is what moved on the chain', async () => {
      let sum = 0n;
      for (const buyer of buyers) {
        const after = await this.#chain.balance(this.#offer.asset, buyer.address);
        assert.equal(this.#before.get(buyer.address) - after, buyer.spent, `the spending of ${buyer.address}`);
        sum += buyer.spent;
      }
      assert.equal((await this.#chain.takings(this.#offer)) - this.#takings, sum, 'what the seller got');
      return `${buyers.reduce((count, buyer) => count + buyer.charges.length, 0)} payments, ${usd(sum)}`;
    });
  }
}
