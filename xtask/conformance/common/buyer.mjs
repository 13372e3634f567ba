// A buyer: a foreign paying client, driven as its users drive it, with a record of what it sent.
import assert from 'node:assert/strict';

import { charge, decode } from './gateway.mjs';

/** The header in which a payment went, if one did. */
const headerOf = (init) => {
  const headers = new Headers(init?.headers);
  return headers.get('payment-signature') ?? headers.get('x-payment') ?? undefined;
};

export class Buyer {
  /**
   * Every paid request: its header's value, what was signed, and the status that answered it. The header of a permit
   * that is used again differs where the offer that it echoes differs; the signature does not.
   */
  sent = [];
  /** What was charged, as the answers say. */
  charges = [];
  #paying;
  #ai;

  /**
   * @param address who pays
   * @param wrap    makes a paying fetch out of a plain one, as the client's documentation shows
   * @param ai      the module `ai`
   */
  constructor(gateway, address, wrap, ai) {
    this.gateway = gateway;
    this.address = address;
    this.#ai = ai;
    this.#paying = wrap((input, init) => this.#recorded(input, init));
  }

  async #recorded(input, init) {
    // a wrapper passes either an address with its options, or one request
    const header = headerOf(input instanceof Request ? input : init);
    const response = await fetch(input, init);
    if (header !== undefined) {
      this.sent.push({ header, signature: decode(header).payload.signature, status: response.status });
    }
    return response;
  }

  get last() {
    return this.sent.at(-1);
  }

  /** Asks and pays. Returns `{text, facts}`, or `{status, error, retryAfter}` if it was refused. */
  async ask(mode, prompt, body = {}) {
    const answer = await (mode === 'stream' ? this.#stream(prompt, body) : this.#plain(prompt, body));
    if (answer.text !== undefined) this.charges.push(answer.facts);
    return answer;
  }

  async #plain(prompt, body) {
    const response = await this.#paying(this.gateway.api, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, stream: false, messages: [{ role: 'user', content: prompt }] }),
    });
    if (!response.ok) return refusal(response, await response.text());
    const completion = await response.json();
    assert.equal(completion.object, 'chat.completion');
    const header = response.headers.get('payment-response') ?? response.headers.get('x-payment-response');
    assert.ok(header, 'a plain answer carries its settlement in a header');
    const settled = decode(header);
    assert.equal(settled.success, true);
    const [choice] = completion.choices;
    return { text: choice.message.content, finish: choice.finish_reason, facts: charge(completion.messageMetadata) };
  }

  async #stream(prompt, body) {
    let refused;
    const transport = new this.#ai.DefaultChatTransport({
      api: this.gateway.api,
      body,
      fetch: async (input, init) => {
        const response = await this.#paying(input, init);
        if (!response.ok) refused = refusal(response, await response.clone().text());
        return response;
      },
    });
    let stream;
    try {
      stream = await transport.sendMessages({
        trigger: 'submit-message',
        chatId: 'conformance',
        messageId: undefined,
        messages: [{ id: 'u1', role: 'user', parts: [{ type: 'text', text: prompt }] }],
        abortSignal: undefined,
      });
    } catch (error) {
      if (refused === undefined) throw error;
      return refused;
    }
    let message;
    for await (const state of this.#ai.readUIMessageStream({ stream, terminateOnError: true })) message = state;
    assert.ok(message, 'the stream holds a message');
    const text = message.parts.filter((part) => part.type === 'text').map((part) => part.text).join('');
    return { text, facts: charge(message.metadata) };
  }

  /** Asks again as often as the gateway says that credit is used up for the moment. */
  async askPatiently(mode, prompt, body) {
    for (let tries = 0; tries < 60; tries += 1) {
      const answer = await this.ask(mode, prompt, body);
      if (answer.status !== 429) return answer;
      assert.ok(answer.retryAfter > 0, 'a 429 says when to come back');
      await new Promise((resolve) => setTimeout(resolve, Math.min(answer.retryAfter, 5) * 1000));
    }
    throw new Error('the credit never came back');
  }

  get spent() {
    return this.charges.reduce((sum, { charged }) => sum + charged, 0n);
  }
}

function refusal(response, text) {
  let error = text;
  try {
    const body = JSON.parse(text);
    error = body.error?.code ?? body.error ?? text;
  } catch {
    // a refusal that is not JSON is shown as it is
  }
  return { status: response.status, error: String(error), retryAfter: Number(response.headers.get('retry-after') ?? 0) };
}
