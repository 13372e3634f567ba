//! A receipt against the chain: what buyers, and the sellers' own audits, check for themselves.

use serde::{Deserialize, Serialize};
use tollgate_contracts::settler::Kind;
use tollgate_x402::{Address, Amount, B256, ChainId, PaymentId, U256};

use crate::{
    BlockId, Chain, ChainError, Claim, Evidence, Finality, ItemEvidence, evidence, evidence::Unused,
};

/// What a seller says was moved for one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementReceipt {
    /// The payment.
    pub payment: PaymentId,
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// Who paid.
    pub owner: Address,
    /// The charge, in atomic units.
    pub amount: Amount,
    /// The transaction.
    pub transaction: B256,
    /// How it was moved.
    pub movement: Movement,
}

/// How a charge was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Movement {
    /// From an allowance, by a Settler: the charge owns the interval `from..to` of the counter of token and owner.
    Interval {
        /// The Settler.
        settler: Address,
        /// Its treasury, which got the money.
        treasury: Address,
        /// The counter before the charge, in atomic units.
        from: Amount,
        /// The counter after it, in atomic units.
        to: Amount,
    },
    /// Once, by a Settler, which got the money.
    Once {
        /// The Settler.
        settler: Address,
        /// Permit2's nonce.
        nonce: U256,
    },
    /// Exact by EIP-3009, by a Settler, which got the money.
    Eip3009 {
        /// The Settler.
        settler: Address,
        /// The authorization's nonce.
        nonce: B256,
    },
    /// Exact by Permit2, by a Settler, which got the money.
    Permit2Exact {
        /// The Settler.
        settler: Address,
        /// Permit2's nonce.
        nonce: U256,
    },
    /// By a plain account: one transfer of the charge.
    Transfer {
        /// Who got the money.
        to: Address,
    },
}

/// What the chain says of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Exactly what the receipt says was moved, for good.
    Final(BlockId),
    /// Exactly what the receipt says was moved, in a block that is not final yet.
    Included(BlockId),
    /// The transaction is in no block (yet).
    NotIncluded,
    /// The chain does not show what the receipt says. `block` is the transaction's; what a final block does not show
    /// it will never show.
    NotMoved {
        /// The block, and whether it is final.
        finality: Finality,
        /// Why.
        reason: Unproven,
    },
}

/// Why the chain does not show what a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unproven {
    /// The receipt is of another chain than the one that was asked.
    #[error("the receipt is of chain {0}")]
    OtherChain(ChainId),
    /// The interval is not as long as the amount, or the amount is 0.
    #[error("the receipt contradicts itself: its interval is not its amount")]
    Inconsistent,
    /// The transaction reverted.
    #[error("the transaction reverted: nothing moved")]
    Reverted,
    /// No such transfer, or no event of the Settler for it.
    #[error("the transaction does not move what the receipt says")]
    NoSuchTransfer,
    /// The Settler skipped it.
    #[error("the Settler skipped it: its counter stood at {actual}")]
    Skipped {
        /// Where the counter stood, in atomic units.
        actual: Amount,
    },
    /// The Settler said that it failed.
    #[error("the Settler said that it failed")]
    Failed,
    /// The Settler's word and the token's do not agree.
    #[error("the Settler says that it moved, the token does not")]
    Contradicted,
}

impl Verdict {
    /// Whether all is as the receipt says, for good.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }
}

impl SettlementReceipt {
    /// Holds the receipt against what a node told of its transaction: pure.
    #[must_use]
    pub fn judge(&self, transaction: Option<&crate::TxReceipt>, heads: &crate::Heads) -> Verdict {
        let unproven = |finality, reason| Verdict::NotMoved { finality, reason };
        if self.amount.is_zero() || !self.is_consistent() {
            return unproven(Finality::NotIncluded, Unproven::Inconsistent);
        }
        let transaction = transaction.filter(|receipt| receipt.hash == self.transaction);
        let claims: Vec<Claim> = self.claim().into_iter().collect();
        let Evidence {
            finality,
            reverted,
            items,
        } = evidence::evidence(&claims, transaction, heads);
        if reverted {
            return unproven(finality, Unproven::Reverted);
        }
        if finality == Finality::NotIncluded {
            return Verdict::NotIncluded;
        }
        let exact = items.first().copied().unwrap_or(ItemEvidence::NotMoved);
        let item = match (self.movement, transaction) {
            // One transfer pays many charges: the interval that the Settler charged may be wider.
            (
                Movement::Interval {
                    settler,
                    treasury,
                    from,
                    to,
                },
                Some(receipt),
            ) => Unused::of(&receipt.logs)
                .covered(settler, treasury, self.token, self.owner, (from, to))
                .unwrap_or(exact),
            _ => exact,
        };
        match (item, finality) {
            (ItemEvidence::Moved, Finality::Final(block)) => Verdict::Final(block),
            (ItemEvidence::Moved, Finality::Included(block)) => Verdict::Included(block),
            (ItemEvidence::Moved, Finality::NotIncluded) => Verdict::NotIncluded,
            (ItemEvidence::Skipped { actual }, _) => {
                unproven(finality, Unproven::Skipped { actual })
            }
            (ItemEvidence::Failed, _) => unproven(finality, Unproven::Failed),
            (ItemEvidence::NotMoved, _) => unproven(finality, Unproven::NoSuchTransfer),
            (ItemEvidence::Contradicted, _) => unproven(finality, Unproven::Contradicted),
        }
    }

    fn is_consistent(&self) -> bool {
        match self.movement {
            Movement::Interval { from, to, .. } => to.checked_sub(from) == Some(self.amount),
            _ => true,
        }
    }

    fn claim(&self) -> Option<Claim> {
        let (token, owner, value) = (self.token, self.owner, self.amount);
        let pulled = |settler, kind, nonce| Claim::Pulled {
            settler,
            kind,
            token,
            owner,
            nonce,
            value,
        };
        Some(match self.movement {
            Movement::Interval {
                settler,
                treasury,
                from,
                to,
            } => Claim::Interval {
                settler,
                treasury,
                token,
                owner,
                from,
                to,
            },
            Movement::Once { settler, nonce } => pulled(settler, Kind::Once, nonce),
            Movement::Eip3009 { settler, nonce } => {
                pulled(settler, Kind::Eip3009, U256::from_be_bytes(nonce.0))
            }
            Movement::Permit2Exact { settler, nonce } => pulled(settler, Kind::Permit2Exact, nonce),
            Movement::Transfer { to } => Claim::Transfer {
                token,
                from: owner,
                to,
                value,
                authorization: None,
            },
        })
    }
}

/// Checks, from a receipt and the chain alone, that exactly what the receipt says was moved, and whether for good.
///
/// For an allowance: that the Settler charged an interval of the counter that covers the receipt's, and the token moved
/// that interval's length from the payer to the treasury. Nobody else's receipt can be covered by the same part of the
/// counter: a payer who keeps the receipts sees that their intervals do not overlap. Whether the Settler is the one that
/// the payer signed for is for the payer to compare: it is the spender that was signed.
///
/// # Errors
/// Those of [`Chain::sight`]: what the receipt says is then not decided.
pub async fn verify_settlement(
    chain: &Chain,
    receipt: &SettlementReceipt,
) -> Result<Verdict, ChainError> {
    if receipt.chain != chain.id() {
        return Ok(Verdict::NotMoved {
            finality: Finality::NotIncluded,
            reason: Unproven::OtherChain(receipt.chain),
        });
    }
    let sight = chain.sight(&[receipt.transaction]).await?;
    let transaction = sight.receipts.first().and_then(Option::as_ref);
    Ok(receipt.judge(transaction, &sight.heads))
}

#[cfg(test)]
mod tests;
