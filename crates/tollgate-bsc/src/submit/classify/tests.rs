use super::*;
use Verdict::Unknown;

/// What real nodes said, with their codes.
#[rustfmt::skip]
const SAID: &[(&str, i64, &str, Verdict)] = &[
    ("geth, bsc, reth", -32_000, "already known", Accepted),
    ("anvil", -32_003, "transaction already imported", Accepted),
    ("anvil, older", -32_000, "Transaction already imported", Accepted),
    ("erigon", -32_000, "ALREADY_EXISTS: the transaction", Accepted),
    ("erigon, older", -32_000, "existing tx with same hash", Accepted),
    ("erigon 3", -32_000, "existing txn with same hash", Accepted),
    ("geth before 1.9", -32_000, "known transaction: 88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe6a713944b", Accepted),
    ("besu", -32_000, "Known transaction", Accepted),
    ("nethermind", -32_010, "AlreadyKnown", Accepted),
    ("geth, eth_sendRawTransactionSync", 4, "The transaction was added to the transaction pool but wasn't processed in 5s", Accepted),
    ("EIP-7966, other words", 4, "waited 5000 ms", Accepted),
    ("a provider", -32_000, "transaction already in mempool", Accepted),
    ("a provider", -32_000, "tx already exists in pool", Accepted),
    ("a provider", -32_000, "transaction is already in the pool", Accepted),
    ("EIP-7966's words", 4, "The transaction was added to the mempool but wasn't processed within the timeout", Accepted),
    ("geth, bsc", -32_000, "nonce too low: next nonce 12, tx nonce 11", Unknown(NonceUsed)),
    ("anvil", -32_003, "nonce too low", Unknown(NonceUsed)),
    ("parity", -32_010, "Transaction nonce is too low. Try incrementing the nonce.", Unknown(NonceUsed)),
    ("besu", -32_001, "Nonce too low", Unknown(NonceUsed)),
    ("besu, older", -32_000, "transaction nonce is below sender account nonce", Unknown(NonceUsed)),
    ("a provider", -32_000, "nonce below the account's", Unknown(NonceUsed)),
    ("nethermind", -32_010, "OldNonce, Current nonce: 5, nonce of rejected tx: 4.", Unknown(NonceUsed)),
    ("erigon", -32_000, "transaction already mined", Unknown(NonceUsed)),
    ("ethers' words", -32_000, "nonce has already been used", Unknown(NonceUsed)),
    ("geth, bsc, reth", -32_000, "replacement transaction underpriced", NotSent(ReplacementUnderpriced)),
    ("geth, with detail", -32_000, "replacement transaction underpriced: new tx gas fee cap 50000000 <= 50000000 queued", NotSent(ReplacementUnderpriced)),
    ("ethers' words", -32_000, "replacement fee too low", NotSent(ReplacementUnderpriced)),
    ("erigon", -32_000, "could not replace existing tx", NotSent(ReplacementUnderpriced)),
    ("nethermind", -32_010, "ReplacementNotAllowed", NotSent(ReplacementUnderpriced)),
    ("geth", -32_000, "future transaction tries to replace pending", NotSent(ReplacementUnderpriced)),
    ("openethereum", -32_010, "Transaction gas price supplied is too low. There is another transaction with same nonce in the queue.", NotSent(ReplacementUnderpriced)),
    ("geth, bsc", -32_000, "transaction underpriced: tip needed 50000000, tip permitted 1", NotSent(Underpriced)),
    ("erigon", -32_000, "INTERNAL_ERROR: underpriced", NotSent(Underpriced)),
    ("geth 1.16", -32_000, "transaction gas price below minimum: gas tip cap 1, minimum needed 50000000", NotSent(Underpriced)),
    ("parity", -32_010, "Transaction gas price too low. There is another transaction.", NotSent(Underpriced)),
    ("a provider", -32_000, "gas tip cap 0, minimum needed 100000000", NotSent(Underpriced)),
    ("a provider", -32_000, "tip too low", NotSent(Underpriced)),
    ("erigon", -32_000, "fee too low", NotSent(Underpriced)),
    ("nethermind", -32_010, "FeeTooLow, MaxFeePerGas too low.", NotSent(Underpriced)),
    ("geth, anvil", -32_000, "max fee per gas less than block base fee: address 0xf39F, maxFeePerGas: 1, baseFee: 2", NotSent(Underpriced)),
    ("besu", -32_009, "Transaction's price is below configured minimum", NotSent(Underpriced)),
    ("geth, bsc", -32_000, "insufficient funds for gas * price + value: balance 0, tx cost 100, overshot 100", NotSent(InsufficientFunds)),
    ("anvil", -32_003, "Insufficient funds for gas * price + value", NotSent(InsufficientFunds)),
    ("nethermind", -32_010, "InsufficientFunds, Balance is 0", NotSent(InsufficientFunds)),
    ("a provider", -32_000, "insufficient balance to pay for gas", NotSent(InsufficientFunds)),
    ("besu", -32_004, "Upfront cost exceeds account balance", NotSent(InsufficientFunds)),
    ("geth, reth", -32_000, "intrinsic gas too low: gas 21000, minimum needed 53000", NotSent(GasLimit)),
    ("geth, Prague", -32_000, "insufficient gas for floor data gas cost: gas 30000, minimum needed 40000", NotSent(GasLimit)),
    ("geth, reth", -32_000, "exceeds block gas limit", NotSent(GasLimit)),
    ("besu", -32_005, "Transaction gas limit exceeds block gas limit", NotSent(GasLimit)),
    ("a provider", -32_000, "gas is above the block gas limit", NotSent(GasLimit)),
    ("geth, Osaka", -32_000, "transaction gas limit too high (cap: 16777216, tx: 20000000)", NotSent(GasLimit)),
    ("a provider", -32_000, "gas exceeds transaction gas limit", NotSent(GasLimit)),
    ("erigon 3", -32_000, "gas limit is too high", NotSent(GasLimit)),
    ("nethermind", -32_010, "GasLimitExceeded, Gas limit: 30000000, gas limit of rejected tx: 40000000", NotSent(GasLimit)),
    ("erigon", -32_000, "IntrinsicGas", NotSent(GasLimit)),
    ("anvil", -32_003, "transaction gas limit (20000000) exceeds the cap (16777216)", NotSent(GasLimit)),
    ("ethereum's tests", -32_000, "TX_MAX_GAS_LIMIT_EXCEEDED", NotSent(GasLimit)),
    ("a provider", -32_602, "gas limit 20000000 exceeds transaction gas cap 16777216 (EIP-7825)", NotSent(GasLimit)),
    ("a protecting relay", -32_602, "gas limit exceeds maximum per-transaction gas (16777216)", NotSent(GasLimit)),
    ("a provider", -32_602, "above the transaction gas limit cap of 2^24", NotSent(GasLimit)),
    ("reth", -32_000, "tx gas limit 20000000 exceeds max 16777216", NotSent(GasLimit)),
    ("anvil", -32_003, "Out of gas: gas required exceeds allowance: 0", NotSent(GasLimit)),
    ("geth, bsc, reth", -32_000, "txpool is full", NotSent(PoolFull)),
    ("a provider", -32_000, "transaction pool is full", NotSent(PoolFull)),
    ("erigon", -32_000, "pending sub-pool is full", NotSent(PoolFull)),
    ("erigon, other spelling", -32_000, "basefee subpool is full", NotSent(PoolFull)),
    ("geth", -32_000, "account limit exceeded", NotSent(PoolFull)),
    ("geth, 7702", -32_000, "in-flight transaction limit reached for delegated accounts", NotSent(PoolFull)),
    ("reth", -32_000, "rejected: exceeded max transactions per sender", NotSent(PoolFull)),
    ("geth, blobs", -32_000, "address already reserved", NotSent(PoolFull)),
    ("geth, bsc, 7702", -32_000, "authority already reserved", NotSent(PoolFull)),
    ("erigon, 7702", -32_000, "EIP-7702 transaction with authority already reserved", NotSent(PoolFull)),
    ("nethermind, 7702", -32_010, "DelegatorHasPendingTx, already has pending transactions", NotSent(PoolFull)),
    ("nethermind", -32_010, "PendingTxsOfAnotherType", NotSent(PoolFull)),
    ("bsc", -32_000, "transaction truncated from queue", NotSent(PoolFull)),
    ("erigon", -32_000, "spammer", NotSent(PoolFull)),
    ("geth", -32_000, "nonce too high: address 0xf39F, tx: 9 state: 5", NotSent(NonceGap)),
    ("EIP-7966", 6, "nonce gap: expected 5", NotSent(NonceGap)),
    ("nethermind", -32_010, "NonceGap, Future nonce", NotSent(NonceGap)),
    ("geth, 7702", -32_000, "gapped-nonce tx from delegated accounts", NotSent(NonceGap)),
    ("geth, bsc", -32_000, "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)", NotSent(Invalid)),
    ("geth", -32_000, "max priority fee per gas higher than max fee per gas: address 0xf39F", NotSent(Invalid)),
    ("geth", -32_000, "invalid sender", NotSent(Invalid)),
    ("besu", -32_002, "Invalid signature", NotSent(Invalid)),
    ("reth", -32_000, "invalid transaction signature", NotSent(Invalid)),
    ("geth", -32_000, "invalid chain id for signer: have 1 want 56", NotSent(Invalid)),
    ("a provider", -32_000, "chain id mismatch", NotSent(Invalid)),
    ("anvil", -32_003, "Incompatible EIP-155 transaction, signed for another chain", NotSent(Invalid)),
    ("geth", -32_000, "only replay-protected (EIP-155) transactions allowed over RPC", NotSent(Invalid)),
    ("geth, reth", -32_000, "transaction type not supported", NotSent(Invalid)),
    ("geth, reth", -32_000, "oversized data: transaction size 140000, limit 131072", NotSent(Invalid)),
    ("a provider", -32_000, "transaction size exceeds the limit", NotSent(Invalid)),
    ("geth", -32_000, "typed transaction too short", NotSent(Invalid)),
    ("anvil", -32_602, "Failed to decode transaction", NotSent(Invalid)),
    ("geth", -32_000, "rlp: element is larger than containing list", NotSent(Invalid)),
    ("erigon", -32_000, "RLPTooLong", NotSent(Invalid)),
    ("geth, erigon", -32_000, "negative value", NotSent(Invalid)),
    ("geth", -32_000, "gas uint64 overflow", NotSent(Invalid)),
    ("erigon", -32_000, "GasUintOverflow", NotSent(Invalid)),
    ("nethermind", -32_010, "FailedToResolveSender", NotSent(Invalid)),
    ("erigon", -32_000, "fork supporting this transaction type is not activated yet", NotSent(Invalid)),
    ("nethermind", -32_010, "SenderIsContract, Sender is a contract", NotSent(Invalid)),
    ("geth", -32_000, "sender not an eoa: address 0x8d0D", NotSent(Invalid)),
    ("geth, JSON-RPC", -32_601, "the method eth_sendRawTransactionSync does not exist/is not available", NotSent(Unsupported)),
    ("JSON-RPC", -32_601, "Method not found", NotSent(Unsupported)),
    ("a provider", -32_004, "Method not supported", NotSent(Unsupported)),
    ("a provider", -32_600, "Unsupported method: eth_sendRawTransactionSync", NotSent(Unsupported)),
    ("a provider", -32_601, "no", NotSent(Unsupported)),
    ("a provider", -32_000, "method not allowed on this plan", NotSent(Unsupported)),
    ("a provider", -32_000, "the method is not available", NotSent(Unsupported)),
    ("geth's HTTP server", -32_002, "request timed out", Unknown(NoAnswer)),
    ("a gateway", -32_000, "upstream timeout", Unknown(NoAnswer)),
    ("a gateway", -32_000, "context deadline exceeded", Unknown(NoAnswer)),
    ("a gateway", -32_603, "service temporarily unavailable", Unknown(NoAnswer)),
    ("a gateway", -32_603, "Internal error", Unknown(NoAnswer)),
    ("a gateway", -32_000, "502 Bad Gateway", Unknown(NoAnswer)),
    ("Infura", -32_005, "daily request count exceeded, request rate limited", Unknown(RateLimited)),
    ("Alchemy", 429, "Your app has exceeded its compute units per second capacity", Unknown(RateLimited)),
    ("QuickNode", -32_007, "25/second request limit reached - reduce calls per second", Unknown(RateLimited)),
    ("Ankr", -32_029, "Too many requests", Unknown(RateLimited)),
    ("BSC's public nodes", -32_005, "limit exceeded", Unknown(RateLimited)),
    ("NodeReal", -32_005, "request rate exceeds your plan: rate limit exceeded", Unknown(RateLimited)),
    ("dRPC", 429, "You've reached the request limit of the free tier", Unknown(RateLimited)),
    ("BlockPI", -32_000, "rate limit exceeded, please upgrade your plan", Unknown(RateLimited)),
    ("a sequencer behind a node", -32_016, "over rate limit", Unknown(RateLimited)),
    ("a provider", -32_001, "Too Many Requests", Unknown(RateLimited)),
    // The node is behind: what it says of the pool is of another moment.
    ("geth, bsc", -32_000, "header not found", Unknown(Unrecognized)),
    ("geth", -32_000, "missing trie node 0000 (path )", Unknown(Unrecognized)),
    ("erigon", -32_000, "mined", Unknown(Unrecognized)),
    ("a private relay", -32_000, "transaction rejected", Unknown(Unrecognized)),
    ("a private relay", -32_000, "bundle simulation failed", Unknown(Unrecognized)),
    ("EIP-7966, queued", 5, "not ready for inclusion", Unknown(Unrecognized)),
    ("nobody", -32_000, "the moon is in the way", Unknown(Unrecognized)),
    ("nobody", -32_000, "", Unknown(Unrecognized)),
];

#[test]
fn every_nodes_words_get_their_verdict() {
    for (node, code, message, verdict) in SAID {
        assert_eq!(classify(*code, message), *verdict, "{node}: {message}");
    }
}

#[test]
fn every_row_of_the_table_decides_one_of_the_nodes_words() {
    let mut undecided = Vec::new();
    for (row, _) in TABLE {
        let decides = SAID.iter().any(|(_, _, message, _)| {
            let message = message.to_ascii_lowercase();
            let first = TABLE.iter().find(|(words, _)| message.contains(words));
            first.is_some_and(|(words, _)| words == row)
        });
        if !decides {
            undecided.push(row);
        }
    }
    assert!(undecided.is_empty(), "no sample for the rows {undecided:?}");
}

#[test]
fn a_nonce_that_is_used_is_never_taken_for_a_refusal() {
    // The transaction that used it may be this one.
    for (_, code, message, verdict) in SAID {
        if message.to_ascii_lowercase().contains("nonce too low") {
            assert_eq!(*verdict, Unknown(NonceUsed));
            assert_eq!(classify(*code, message), Unknown(NonceUsed));
        }
    }
}
