// The books must balance: what answers said, what receipts say, and what the chain moved.
import assert from 'node:assert/strict';

import { typedData } from './receipt.mjs';
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

  /**
   * Waits until all payments are final and compares to the last atomic unit.
   *
   * @param viem the module `viem`, which has signed nothing here and recovers who did
   */
  async close(gateway, buyers, viem) {
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
    await step('every receipt is signed by who settles for the seller, and says the same', async () => {
      const recover = ({ signature, ...receipt }) =>
        viem.recoverTypedDataAddress({ ...typedData(receipt), signature });
      let signer;
      for (const { id, charged } of buyers.flatMap(({ charges }) => charges)) {
        const { receipt, ...status } = await gateway.status(id);
        assert.equal(receipt.format, 'eip712');
        const { payload } = receipt;
        signer = await recover(receipt);
        assert.ok(await this.#chain.settlesFor(this.#offer.payTo, signer), `${signer} does not settle for the seller`);
        assert.ok(await viem.verifyTypedData({ ...typedData(receipt), address: signer, signature: receipt.signature }));
        assert.equal(payload.payTo.toLowerCase(), this.#offer.payTo.toLowerCase());
        assert.equal(payload.chain, this.#offer.chainId);
        assert.equal(payload.token.toLowerCase(), this.#offer.asset.toLowerCase());
        assert.equal(payload.payer.toLowerCase(), status.payer.toLowerCase());
        assert.equal(payload.payment, viem.keccak256(`0x${id}`), 'the receipt is of another payment');
        assert.equal(payload.kind, status.authorization);
        assert.equal(BigInt(payload.amount), charged);
        assert.equal(payload.model, status.model);
        assert.deepEqual(payload.tokens, { input: status.usage.inputTokens, output: status.usage.outputTokens });
        if (payload.counter !== undefined) {
          assert.deepEqual(payload.counter, status.interval);
          assert.equal(BigInt(payload.counter.to) - BigInt(payload.counter.from), charged);
        }
        const more = { ...receipt, payload: { ...payload, amount: (charged + 1n).toString() } };
        assert.notEqual(await recover(more), signer, 'a changed receipt is still good');
      }
      return signer;
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
