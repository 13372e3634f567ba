// The chain, read by plain JSON-RPC: neither the gateway's nor the client's view of it.
import assert from 'node:assert/strict';

const BALANCE_OF = '0x70a08231'; // balanceOf(address), ERC-20
const ALLOWANCE = '0xdd62ed3e'; // allowance(address,address), ERC-20
const NONCES = '0x7ecebe00'; // nonces(address), ERC-2612
const TREASURY = '0x61d027b3'; // treasury(), of our Settler
const IS_OPERATOR = '0x6d70f7ae'; // isOperator(address), of our Settler
const APPROVE = '0x095ea7b3'; // approve(address,uint256), ERC-20

export const PERMIT2 = '0x000000000022D473030F116dDEE9F6B43aC78BA3';

const word = (value) => BigInt(value).toString(16).padStart(64, '0');

export class Chain {
  #url;
  #id = 0;

  constructor(url) {
    this.#url = url;
  }

  async call(method, ...params) {
    this.#id += 1;
    const response = await fetch(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: this.#id, method, params }),
    });
    const answer = await response.json();
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
    return answer.result;
  }

  async chainId() {
    return Number(await this.call('eth_chainId'));
  }

  #read(to, data) {
    return this.call('eth_call', { to, data }, 'latest');
  }

  async balance(token, owner) {
    return BigInt(await this.#read(token, BALANCE_OF + word(owner)));
  }

  async allowance(token, owner, spender) {
    return BigInt(await this.#read(token, ALLOWANCE + word(owner) + word(spender)));
  }

  async nonce(token, owner) {
    return BigInt(await this.#read(token, NONCES + word(owner)));
  }

  /** Where a Settler sends money; undefined if `payTo` is a plain account. */
  async treasury(payTo) {
    if ((await this.call('eth_getCode', payTo, 'latest')) === '0x') return undefined;
    return `0x${(await this.#read(payTo, TREASURY)).slice(-40)}`;
  }

  /** Whether an account settles for `payTo`: as that account itself, or as an operator of the Settler there. */
  async settlesFor(payTo, account) {
    if (account.toLowerCase() === payTo.toLowerCase()) return true;
    const answer = await this.#read(payTo, IS_OPERATOR + word(account));
    return answer !== '0x' && BigInt(answer) === 1n;
  }

  /** Everything that the seller holds of a token: at payTo, and at its treasury. */
  async takings(offer) {
    const treasury = await this.treasury(offer.payTo);
    const there = treasury === undefined ? 0n : await this.balance(offer.asset, treasury);
    return there + (await this.balance(offer.asset, offer.payTo));
  }

  /** A transaction went well and its block is final. */
  async assertFinal(hash) {
    const receipt = await this.call('eth_getTransactionReceipt', hash);
    assert.ok(receipt, `no receipt of ${hash}`);
    assert.equal(receipt.status, '0x1', `${hash} failed`);
    const final = await this.call('eth_getBlockByNumber', 'finalized', false);
    assert.ok(BigInt(receipt.blockNumber) <= BigInt(final.number), `${hash} is not final`);
    return receipt;
  }

  /** Calldata that lets `spender` draw on the caller's tokens. */
  static approval(spender, amount) {
    return APPROVE + word(spender) + word(amount);
  }
}
