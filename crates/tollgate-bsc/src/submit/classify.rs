//! What nodes say when they do not simply take a transaction.
//!
//! The codes tell little: geth, bsc, erigon and most others give -32000 for everything. So the words decide, in the
//! order of [`TABLE`]; what it does not have is unknown, since nothing may be concluded from words that we do not know.

use super::{
    Doubt::{self, NoAnswer, NonceUsed, RateLimited, Unrecognized},
    NotSentReason::{
        self, GasLimit, InsufficientFunds, Invalid, NonceGap, PoolFull, ReplacementUnderpriced,
        Underpriced, Unsupported,
    },
};
use crate::endpoint::is_rate_limit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    NotSent(NotSentReason),
    Unknown(Doubt),
}

use Verdict::{Accepted, NotSent};

/// Words in an error's message, in lower case, and what they mean. The first row that fits counts, so the more
/// special words stand first.
///
/// | words | said by | meaning |
/// |---|---|---|
/// | already known, transaction already imported, known transaction, … | geth, bsc, reth, erigon; anvil; besu, older geth | the node has it |
/// | nonce too low, … | all | the nonce is used on the chain, perhaps by this very transaction: **unknown** |
/// | replacement transaction underpriced, could not replace, … | geth, bsc, reth, anvil; erigon; nethermind | another of this nonce stands |
/// | underpriced, gas price below, fee too low, … | all | below the node's floor |
/// | insufficient funds, … | all | too little BNB |
/// | intrinsic gas too low, exceeds block gas limit, gas limit too high, … | all | the gas limit |
/// | txpool is full, account limit exceeded, … | geth, bsc, reth, erigon | no room |
/// | nonce too high, gapped-nonce, … | geth, reth, anvil, bsc | an earlier one is missing |
/// | invalid sender, chain id, typed transaction, rlp, … | all | not valid |
/// | method not found, … | all | no such method |
pub(crate) const TABLE: &[(&str, Verdict)] = &[
    // It is there.
    ("already known", Accepted),
    ("alreadyknown", Accepted),
    ("already imported", Accepted),
    ("already_exists", Accepted),
    ("already in the pool", Accepted),
    ("already in mempool", Accepted),
    ("already exists in pool", Accepted),
    ("known transaction", Accepted),
    ("existing tx with same hash", Accepted),
    ("existing txn with same hash", Accepted),
    // EIP-7966: it waits in the pool.
    ("was added to the transaction pool but", Accepted),
    ("was added to the mempool but", Accepted),
    // The nonce is used. By whom is not said.
    ("nonce too low", Verdict::Unknown(NonceUsed)),
    ("nonce is too low", Verdict::Unknown(NonceUsed)),
    ("nonce below", Verdict::Unknown(NonceUsed)),
    ("nonce is below", Verdict::Unknown(NonceUsed)),
    ("oldnonce", Verdict::Unknown(NonceUsed)),
    ("already mined", Verdict::Unknown(NonceUsed)),
    ("nonce has already been used", Verdict::Unknown(NonceUsed)),
    // Another of this nonce stands in the pool.
    (
        "replacement transaction underpriced",
        NotSent(ReplacementUnderpriced),
    ),
    ("replacement fee too low", NotSent(ReplacementUnderpriced)),
    ("could not replace", NotSent(ReplacementUnderpriced)),
    ("replacementnotallowed", NotSent(ReplacementUnderpriced)),
    (
        "future transaction tries to replace pending",
        NotSent(ReplacementUnderpriced),
    ),
    // Below the floor.
    (
        "gas price supplied is too low",
        NotSent(ReplacementUnderpriced),
    ),
    ("underpriced", NotSent(Underpriced)),
    ("gas price below", NotSent(Underpriced)),
    ("gas price too low", NotSent(Underpriced)),
    ("gas tip cap", NotSent(Underpriced)),
    ("tip too low", NotSent(Underpriced)),
    ("fee too low", NotSent(Underpriced)),
    ("feetoolow", NotSent(Underpriced)),
    ("less than block base fee", NotSent(Underpriced)),
    ("below configured minimum", NotSent(Underpriced)),
    // Too little BNB.
    ("insufficient funds", NotSent(InsufficientFunds)),
    ("insufficientfunds", NotSent(InsufficientFunds)),
    ("insufficient balance", NotSent(InsufficientFunds)),
    ("exceeds account balance", NotSent(InsufficientFunds)),
    // The gas limit.
    ("intrinsic gas", NotSent(GasLimit)),
    ("floor data gas", NotSent(GasLimit)),
    ("exceeds block gas limit", NotSent(GasLimit)),
    ("block gas limit", NotSent(GasLimit)),
    ("gas limit too high", NotSent(GasLimit)),
    ("gas limit is too high", NotSent(GasLimit)),
    ("gaslimitexceeded", NotSent(GasLimit)),
    ("intrinsicgas", NotSent(GasLimit)),
    ("exceeds the cap", NotSent(GasLimit)),
    ("max_gas_limit_exceeded", NotSent(GasLimit)),
    ("exceeds transaction gas cap", NotSent(GasLimit)),
    ("exceeds maximum per-transaction gas", NotSent(GasLimit)),
    ("gas limit cap", NotSent(GasLimit)),
    ("exceeds transaction gas limit", NotSent(GasLimit)),
    ("tx gas limit", NotSent(GasLimit)),
    ("gas required exceeds allowance", NotSent(GasLimit)),
    // No room.
    ("txpool is full", NotSent(PoolFull)),
    ("pool is full", NotSent(PoolFull)),
    ("account limit exceeded", NotSent(PoolFull)),
    ("in-flight transaction limit", NotSent(PoolFull)),
    ("exceeded max transactions per sender", NotSent(PoolFull)),
    ("already reserved", NotSent(PoolFull)),
    ("delegatorhaspendingtx", NotSent(PoolFull)),
    ("pendingtxsofanothertype", NotSent(PoolFull)),
    ("truncated from queue", NotSent(PoolFull)),
    ("spammer", NotSent(PoolFull)),
    // An earlier one is missing.
    ("nonce too high", NotSent(NonceGap)),
    ("nonce gap", NotSent(NonceGap)),
    ("noncegap", NotSent(NonceGap)),
    ("gapped-nonce", NotSent(NonceGap)),
    // Not valid, whatever the price.
    ("exceeds the configured cap", NotSent(Invalid)),
    ("higher than max fee per gas", NotSent(Invalid)),
    ("invalid sender", NotSent(Invalid)),
    ("invalid signature", NotSent(Invalid)),
    ("invalid transaction signature", NotSent(Invalid)),
    ("invalid chain id", NotSent(Invalid)),
    ("chain id mismatch", NotSent(Invalid)),
    ("incompatible eip-155", NotSent(Invalid)),
    ("only replay-protected", NotSent(Invalid)),
    ("transaction type not supported", NotSent(Invalid)),
    ("oversized data", NotSent(Invalid)),
    ("transaction size exceeds", NotSent(Invalid)),
    ("typed transaction too short", NotSent(Invalid)),
    ("failed to decode", NotSent(Invalid)),
    ("rlp: ", NotSent(Invalid)),
    ("rlptoolong", NotSent(Invalid)),
    ("negative value", NotSent(Invalid)),
    ("gas uint64 overflow", NotSent(Invalid)),
    ("gasuintoverflow", NotSent(Invalid)),
    ("failedtoresolvesender", NotSent(Invalid)),
    ("is not activated yet", NotSent(Invalid)),
    ("senderiscontract", NotSent(Invalid)),
    ("sender not an eoa", NotSent(Invalid)),
    // No such method.
    ("method not found", NotSent(Unsupported)),
    ("does not exist/is not available", NotSent(Unsupported)),
    ("method not supported", NotSent(Unsupported)),
    ("unsupported method", NotSent(Unsupported)),
    ("method not allowed", NotSent(Unsupported)),
    ("method is not available", NotSent(Unsupported)),
    // A gateway before the node: it may have been passed on.
    ("timeout", Verdict::Unknown(NoAnswer)),
    ("timed out", Verdict::Unknown(NoAnswer)),
    ("deadline exceeded", Verdict::Unknown(NoAnswer)),
    ("unavailable", Verdict::Unknown(NoAnswer)),
    ("internal error", Verdict::Unknown(NoAnswer)),
    ("bad gateway", Verdict::Unknown(NoAnswer)),
];

/// The verdict on a JSON-RPC error.
pub(crate) fn classify(code: i64, message: &str) -> Verdict {
    let words = message.to_ascii_lowercase();
    if let Some((_, verdict)) = TABLE.iter().find(|(row, _)| words.contains(row)) {
        return *verdict;
    }
    match code {
        // EIP-7966: the transaction is in the pool, and was not included in time.
        4 => Accepted,
        -32_601 => NotSent(Unsupported),
        _ if is_rate_limit(code, message) => Verdict::Unknown(RateLimited),
        _ => Verdict::Unknown(Unrecognized),
    }
}

#[cfg(test)]
mod tests;
