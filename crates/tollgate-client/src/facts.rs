//! What the client asks a chain: one number.

use core::future::Future;

use tollgate_x402::{Address, ChainId, U256};

/// The port to a chain's present state. An ERC-2612 permit is signed over the owner's present nonce at the token;
/// nothing else of the chain is needed to pay.
///
/// A wrong answer costs nothing: it makes a permit that no contract takes.
pub trait ChainFacts: Send + Sync {
    /// Whether this chain can be asked. If not, no allowance is signed for it, and the next way to pay is taken.
    fn knows(&self, chain: ChainId) -> bool {
        let _ = chain;
        true
    }

    /// The token's `nonces(owner)` (ERC-2612).
    ///
    /// # Errors
    /// [`FactsError`]: nothing was signed and nothing sent.
    fn permit_nonce(
        &self,
        chain: ChainId,
        token: Address,
        owner: Address,
    ) -> impl Future<Output = Result<U256, FactsError>> + Send;
}

/// The chain did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain cannot be read: {0}")]
pub struct FactsError(Box<str>);

impl FactsError {
    /// An error of this reason, which holds no secret (URLs of nodes often do).
    pub fn new(reason: impl Into<Box<str>>) -> Self {
        Self(reason.into())
    }
}

/// No chain: only once and exact payments are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFacts;

impl ChainFacts for NoFacts {
    fn knows(&self, _: ChainId) -> bool {
        false
    }

    fn permit_nonce(
        &self,
        chain: ChainId,
        _: Address,
        _: Address,
    ) -> impl Future<Output = Result<U256, FactsError>> + Send {
        core::future::ready(Err(FactsError::new(format!(
            "no connection to chain {chain} is configured"
        ))))
    }
}

/// A closure of chain, token and owner.
impl<F, R> ChainFacts for F
where
    F: Fn(ChainId, Address, Address) -> R + Send + Sync,
    R: Future<Output = Result<U256, FactsError>> + Send,
{
    fn permit_nonce(
        &self,
        chain: ChainId,
        token: Address,
        owner: Address,
    ) -> impl Future<Output = Result<U256, FactsError>> + Send {
        self(chain, token, owner)
    }
}
