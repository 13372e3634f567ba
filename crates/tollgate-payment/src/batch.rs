//! Batches: what settles together, and the transactions that were signed for it.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Address, Allowance, Amount, B256, Bytes, Exact, Once, Timestamp};

use crate::key::{BatchId, OwnerKey, PaymentKeys, SignerKey, SpenderKey};

/// One part of a settlement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum BatchItem {
    /// Draw an interval of an allowance's counter.
    Allowance {
        /// Whose, by whom.
        spender: SpenderKey,
        /// The counter before.
        from: Amount,
        /// The counter after.
        to: Amount,
        /// The permit to submit first, if the chain does not have it.
        permit: Option<Allowance>,
        /// The payments that it settles, in the order of their intervals.
        payments: Vec<PaymentKeys>,
    },
    /// Submit the permit alone, and draw in a later batch: a plain account has one call a transaction.
    Permit {
        /// Whose, for whom.
        spender: SpenderKey,
        /// The permit.
        permit: Allowance,
        /// The payments that wait for it. None once it is in a block ([`Permitted`](crate::command::Permitted)): from
        /// then on other batches draw them, and this one is followed to its end alone.
        payments: Vec<PaymentKeys>,
    },
    /// Settle a once authorization for what was used.
    Once {
        /// What was signed.
        signed: Once,
        /// The charge.
        amount: Amount,
        /// The payment.
        payment: PaymentKeys,
    },
    /// Settle an exact authorization.
    Exact {
        /// What was signed.
        signed: Exact,
        /// The payment.
        payment: PaymentKeys,
    },
}

impl BatchItem {
    /// The payments that the item settles.
    pub fn payments(&self) -> &[PaymentKeys] {
        match self {
            Self::Allowance { payments, .. } | Self::Permit { payments, .. } => payments,
            Self::Once { payment, .. } | Self::Exact { payment, .. } => {
                core::slice::from_ref(payment)
            }
        }
    }

    /// The amount that the item moves, in atomic units.
    pub fn amount(&self) -> Amount {
        match self {
            Self::Allowance { from, to, .. } => to.saturating_sub(*from),
            Self::Permit { .. } => Amount::ZERO,
            Self::Once { amount, .. } => *amount,
            Self::Exact {
                signed: Exact::Eip3009(signed),
                ..
            } => signed.value,
            Self::Exact {
                signed: Exact::Permit2(signed),
                ..
            } => signed.amount,
        }
    }

    /// The token, the chain and the payer.
    pub fn owner(&self) -> OwnerKey {
        match self {
            Self::Allowance { spender, .. } | Self::Permit { spender, .. } => spender.owner,
            Self::Once { payment, .. } | Self::Exact { payment, .. } => payment.owner,
        }
    }
}

/// A transaction as it was signed: stored before it is sent, and sent again as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Instruction {
    /// The account's nonce.
    pub nonce: u64,
    /// The transaction's hash.
    pub hash: B256,
    /// The signed bytes (EIP-2718).
    pub raw: Bytes,
    /// The price, in wei a unit of gas.
    pub gas_price: u128,
    /// When it was stored.
    pub stored: Timestamp,
    /// When it was last sent, and how the node answered.
    pub sent: Option<(Timestamp, Submission)>,
    /// It moves nothing, and is there to use up the nonce of a transaction that no node will ever take: later nonces
    /// would wait for it for ever.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub void: bool,
}

/// What became of a submission. There is no error: an unknown outcome is a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Submission {
    /// The node has it (or had it already).
    Accepted,
    /// The node refused it: it is surely not in any pool by our doing.
    NotSent,
    /// The node refused it for its price, alone or beside another of the same nonce: only a higher one helps.
    Underpriced,
    /// The node refused it as no transaction that this chain can ever take, whatever its price.
    Invalid,
    /// No answer, or one that decides nothing.
    Unknown,
}

/// Where a batch stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BatchState {
    /// Its payments are claimed; nothing is signed.
    Claimed,
    /// Signed and stored: from here only the finalized chain decides.
    Sealed,
    /// Seen in a block that is not final.
    Included {
        /// Which of the stored transactions.
        transaction: B256,
        /// The block.
        block: u64,
    },
    /// Decided by the finalized chain.
    Concluded {
        /// Which of the stored transactions was final, if one was.
        transaction: Option<B256>,
        /// The block.
        block: u64,
    },
}

/// Payments that settle together, in one transaction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BatchRow {
    /// The name.
    pub id: BatchId,
    /// The account that sends it.
    pub signer: SignerKey,
    /// The contract that is called: a `Settler`, or `None` for a plain account's own calls.
    pub settler: Option<Address>,
    /// What it settles, in order.
    pub items: Vec<BatchItem>,
    /// Where it stands.
    pub state: BatchState,
    /// Every signed variant, oldest first: one nonce, rising prices.
    pub sent: Vec<Instruction>,
    /// When it was claimed.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

impl BatchRow {
    /// The nonce that its transactions share, once sealed.
    pub fn nonce(&self) -> Option<u64> {
        self.sent.first().map(|instruction| instruction.nonce)
    }

    /// Whether the same transactions are signed for it as for `other`.
    pub(crate) fn same_signed(&self, other: &Self) -> bool {
        let hashes = |batch: &Self| -> Vec<B256> {
            batch
                .sent
                .iter()
                .map(|instruction| instruction.hash)
                .collect()
        };
        hashes(self) == hashes(other)
    }

    /// Whether one of its transactions is there only to use up its nonce, and moves nothing.
    pub fn is_void(&self, hash: B256) -> bool {
        self.sent
            .iter()
            .any(|instruction| instruction.void && instruction.hash == hash)
    }

    /// The transaction that moves its money, and the block in which it was last seen; none of a permit, which moves
    /// nothing.
    pub fn seen(&self) -> Option<(B256, u64)> {
        match self.state {
            BatchState::Included { transaction, block } => {
                let moves = |item: &BatchItem| !matches!(item, BatchItem::Permit { .. });
                self.items.iter().any(moves).then_some((transaction, block))
            }
            _ => None,
        }
    }

    /// Whether the finalized chain has decided it.
    pub const fn concluded(&self) -> bool {
        matches!(self.state, BatchState::Concluded { .. })
    }

    /// The keys of every payment in it.
    pub fn payments(&self) -> impl Iterator<Item = &PaymentKeys> {
        self.items.iter().flat_map(BatchItem::payments)
    }
}
