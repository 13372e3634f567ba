/** What the signature of a payment's `receipt` is over: typed data for viem, ethers and others that know EIP-712. */
export function typedData({ payload }) {
  const { version, chain, payTo, tokens, counter, ...same } = payload;
  return {
    domain: { name: 'tollgate usage receipt', version: '1', chainId: chain, verifyingContract: payTo },
    types: {
      UsageReceipt: [
        { name: 'version', type: 'uint256' },
        { name: 'payment', type: 'bytes32' },
        { name: 'authorization', type: 'bytes32' },
        { name: 'request', type: 'bytes32' },
        { name: 'kind', type: 'string' },
        { name: 'payer', type: 'address' },
        { name: 'token', type: 'address' },
        { name: 'amount', type: 'uint256' },
        { name: 'model', type: 'string' },
        { name: 'inputTokens', type: 'uint256' },
        { name: 'outputTokens', type: 'uint256' },
        { name: 'counterFrom', type: 'uint256' },
        { name: 'counterTo', type: 'uint256' },
        { name: 'issuedAt', type: 'uint256' },
      ],
    },
    primaryType: 'UsageReceipt',
    message: {
      ...same,
      version: BigInt(version),
      amount: BigInt(same.amount),
      inputTokens: BigInt(tokens.input),
      outputTokens: BigInt(tokens.output),
      counterFrom: BigInt(counter?.from ?? 0),
      counterTo: BigInt(counter?.to ?? 0),
      issuedAt: BigInt(same.issuedAt),
    },
  };
}
