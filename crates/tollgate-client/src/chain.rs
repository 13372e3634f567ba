//! The chain, asked by the payer: permit nonces before, and what moved afterwards.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use tokio::sync::OnceCell;
use tollgate_bsc::{
    BlockTag, CallRequest, Chain, ChainConfig, ChainError, Movement, SettlementReceipt, Verdict,
    verify_settlement,
};
use tollgate_x402::{Authorization, ChainId, Exact, PaymentStatus};

use crate::{ChainFacts, FactsError, Finding, Paid, SignedReceipt};

/// One chain behind its JSON-RPC endpoints, connected when it is first asked.
#[derive(Debug)]
pub struct ChainRpc {
    config: ChainConfig,
    chain: OnceCell<Chain>,
}

impl ChainRpc {
    /// The chain behind one endpoint.
    pub fn new(chain: ChainId, url: impl Into<String>) -> Self {
        Self::of(ChainConfig::new(chain, [url]))
    }

    /// The chain of a configuration.
    pub fn of(config: ChainConfig) -> Self {
        Self {
            config,
            chain: OnceCell::new(),
        }
    }

    /// The connection.
    ///
    /// # Errors
    /// [`ChainError`] if no endpoint answers, or one is of another chain. The next call tries again.
    pub async fn chain(&self) -> Result<&Chain, ChainError> {
        self.chain
            .get_or_try_init(|| Chain::connect(self.config.clone()))
            .await
    }
}

impl ChainFacts for ChainRpc {
    fn knows(&self, chain: ChainId) -> bool {
        chain == self.config.chain_id
    }

    async fn permit_nonce(
        &self,
        _: ChainId,
        token: Address,
        owner: Address,
    ) -> Result<U256, FactsError> {
        let chain = self.chain().await.map_err(unread)?;
        nonces(chain, token, owner).await
    }
}

impl ChainFacts for Chain {
    fn knows(&self, chain: ChainId) -> bool {
        chain == self.id()
    }

    async fn permit_nonce(
        &self,
        _: ChainId,
        token: Address,
        owner: Address,
    ) -> Result<U256, FactsError> {
        nonces(self, token, owner).await
    }
}

/// ERC-2612 `nonces(owner)`.
async fn nonces(chain: &Chain, token: Address, owner: Address) -> Result<U256, FactsError> {
    let answer = read(
        chain,
        token,
        "nonces(address)",
        owner.into_word().as_slice(),
    )
    .await;
    word(&answer.map_err(unread)?)
        .ok_or_else(|| FactsError::new("the token has no nonces(address): it takes no permits"))
}

fn unread(error: ChainError) -> FactsError {
    FactsError::new(error.to_string())
}

async fn read(
    chain: &Chain,
    to: Address,
    function: &str,
    argument: &[u8],
) -> Result<Bytes, ChainError> {
    let hash = keccak256(function);
    let (selector, _) = hash.split_at(4);
    let request = CallRequest {
        to: Some(to),
        input: [selector, argument].concat().into(),
        ..CallRequest::default()
    };
    chain.call(&request, BlockTag::Latest).await
}

fn word(answer: &[u8]) -> Option<U256> {
    (answer.len() == 32).then(|| U256::from_be_slice(answer))
}

/// Holds a payment's status against the chain: that exactly the charge moved, from who signed, by whom it was signed
/// for, and whether for good. Nothing if nothing is claimed to have moved yet, or nothing was charged.
///
/// Where `payTo` is a Settler, the payment's own part of the counter, or its own nonce, must be in what moved. Where
/// it is a plain account, there must be a transfer of just the charge to it.
///
/// # Errors
/// [`ChainError`]: the chain did not answer, and nothing is decided.
pub async fn verify_on_chain(
    chain: &Chain,
    paid: &Paid,
    status: &PaymentStatus,
) -> Result<Option<Verdict>, ChainError> {
    let (Some(charge), Some(transaction)) = (status.charge, status.transaction) else {
        return Ok(None);
    };
    if charge.is_zero() {
        return Ok(None);
    }
    // What was signed says who may move it, not the seller's words.
    let settler = paid.pay_to;
    let treasury = match read(chain, settler, "treasury()", &[]).await {
        Ok(answer) => word(&answer).filter(|word| !word.is_zero()),
        Err(ChainError::Reverted { .. }) => None,
        Err(error) => return Err(error),
    };
    let movement = match (treasury, paid.authorization(), status.interval) {
        (Some(treasury), Authorization::Allowance(_), Some(interval)) => Movement::Interval {
            settler,
            treasury: Address::from_word(treasury.into()),
            from: interval.from,
            to: interval.to,
        },
        (Some(_), Authorization::Once(signed), _) => Movement::Once {
            settler,
            nonce: signed.nonce,
        },
        (Some(_), Authorization::Exact(Exact::Eip3009(signed)), _) => Movement::Eip3009 {
            settler,
            nonce: signed.nonce,
        },
        (Some(_), Authorization::Exact(Exact::Permit2(signed)), _) => Movement::Permit2Exact {
            settler,
            nonce: signed.nonce,
        },
        (None, ..) | (Some(_), Authorization::Allowance(_), None) => {
            Movement::Transfer { to: settler }
        }
    };
    let receipt = SettlementReceipt {
        payment: status.id,
        chain: paid.chain,
        token: paid.token,
        owner: paid.payer,
        amount: charge,
        transaction,
        movement,
    };
    verify_settlement(chain, &receipt).await.map(Some)
}

/// Asks the chain whether who signed a receipt settles for `pay_to`, whom the payer signed for: is it, where that is a plain
/// account, or is an operator of the `Settler` there. What is wrong if not. It is one call, and none where `pay_to` itself
/// signed.
///
/// The chain is asked as it is now. An operator that was dismissed since is found: who keeps receipts asks when they come.
///
/// # Errors
/// [`ChainError`]: the chain did not answer, and nothing is decided.
pub async fn verify_signer(
    chain: &Chain,
    pay_to: Address,
    receipt: &SignedReceipt,
) -> Result<Option<Finding>, ChainError> {
    let signer = match receipt.signer() {
        Ok(signer) => signer,
        Err(error) => return Ok(Some(Finding::Signature(error))),
    };
    if signer == pay_to {
        return Ok(None);
    }
    let argument = signer.into_word();
    let answer = match read(chain, pay_to, "isOperator(address)", argument.as_slice()).await {
        Ok(answer) => word(&answer),
        Err(ChainError::Reverted { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok((answer != Some(U256::ONE)).then_some(Finding::Signer { signer, pay_to }))
}
