//! What can go wrong between us and the chain, and who is to blame.

use tollgate_x402::{Address, Bytes, ChainId};

/// Why the chain was not read.
///
/// An endpoint is named by its place in the configuration and its host, never by its URL: URLs hold API keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The configuration cannot work; the operator is to blame.
    #[error("the chain's configuration: {0}")]
    Config(String),
    /// No answer: refused, timed out, too many requests, a server's error. Try later, or another endpoint.
    #[error("{endpoint} cannot be reached: {reason}; try later or add another endpoint")]
    Unreachable {
        /// Which endpoint.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// An answer that is not JSON-RPC, or not of the method's type. The node is to blame.
    #[error("{endpoint} gave an answer that cannot be read: {reason}")]
    Malformed {
        /// Which endpoint.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node does not have a block up to which it was asked, and would tell of less than there is.
    #[error("{endpoint} has no block {block} yet; try later or add another endpoint")]
    Behind {
        /// Which endpoint.
        endpoint: String,
        /// The block.
        block: u64,
    },
    /// The node refused the request by a JSON-RPC error.
    #[error("{endpoint} refused the request: {message} (code {code})")]
    Node {
        /// Which endpoint.
        endpoint: String,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words, cut after 300 characters.
        message: String,
    },
    /// A simulated call reverted.
    #[error("the call reverts: {message}")]
    Reverted {
        /// What the contract returned (an ABI-encoded error), empty if nothing.
        data: Bytes,
        /// The node's words.
        message: String,
    },
    /// The endpoints do not agree on a read that decides about money.
    #[error("the endpoints do not agree on {what}; check that all are in sync and of one chain")]
    Disagreement {
        /// What was read.
        what: &'static str,
    },
    /// An endpoint is of another chain.
    #[error("{endpoint} is of chain {actual}, not {expected}; correct the URL or the chain id")]
    WrongChain {
        /// Which endpoint.
        endpoint: String,
        /// The chain that was configured.
        expected: ChainId,
        /// The chain that answers.
        actual: u64,
    },
    /// There is no ERC-20 token at the address.
    #[error("no ERC-20 token answers at {0}; check the address and the chain")]
    NotAToken(Address),
}

impl ChainError {
    /// Whether it was answered and refused: asking again or elsewhere will not change its mind.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !matches!(
            self,
            Self::Unreachable { .. }
                | Self::Malformed { .. }
                | Self::Behind { .. }
                | Self::Disagreement { .. }
        )
    }
}

/// At most so many characters of what a node said get into an error.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 300;
    let mut short: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LIMIT)
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}
