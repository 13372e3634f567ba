//! Payments as people see them: `x402_payment_logs`.

use serde::{Deserialize, Serialize};
use tollgate_payment::{BatchId, BatchRow, PaymentRow, PaymentState};
use tollgate_x402::{Address, Amount, B256, ChainId, PaymentId, Timestamp};

/// Where a payment stands, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Reserved, and perhaps streaming.
    Serving,
    /// Committed: to be settled.
    Due,
    /// In a batch.
    Claimed,
    /// Paid, in a finalized block.
    Final,
    /// Served and not payable any more.
    Lost,
    /// Ended without a charge.
    Released,
}

impl Status {
    /// All of them, in the order of a payment's life.
    pub const ALL: [Self; 6] = [
        Self::Serving,
        Self::Due,
        Self::Claimed,
        Self::Final,
        Self::Lost,
        Self::Released,
    ];

    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Due => "due",
            Self::Claimed => "claimed",
            Self::Final => "final",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }
}

impl From<&PaymentState> for Status {
    fn from(state: &PaymentState) -> Self {
        match state {
            PaymentState::Serving { .. } => Self::Serving,
            PaymentState::Due { .. } => Self::Due,
            PaymentState::Claimed { .. } => Self::Claimed,
            PaymentState::Final { .. } => Self::Final,
            PaymentState::Lost { .. } => Self::Lost,
            PaymentState::Released { .. } => Self::Released,
        }
    }
}

/// A payment, for people and tools: what was reserved and charged, and where the money is.
///
/// It holds the payment's id, which is a secret of the payer: whoever knows it can ask for the payment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentLog {
    /// Its number in this ledger, rising with the time of admission.
    pub seq: u64,
    /// The payment.
    pub payment: PaymentId,
    /// When it was reserved.
    pub created: Timestamp,
    /// When it was committed or released.
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub status: Status,
    /// Why it was lost or released.
    pub reason: Option<String>,
    /// Whose money.
    pub payer: Address,
    /// Who draws it; `None` for EIP-3009.
    pub spender: Option<Address>,
    /// The token.
    pub token: Address,
    /// The chain.
    pub chain: ChainId,
    /// What was reserved, in atomic units.
    pub reserved: Amount,
    /// What was charged, in atomic units.
    pub charge: Amount,
    /// The interval of the allowance's counter that it owns.
    pub interval: Option<(Amount, Amount)>,
    /// The batch that settles it, or settled it.
    pub batch: Option<BatchId>,
    /// The transaction: of the finalized block, or of the one in which it was last seen.
    pub transaction: Option<B256>,
    /// The block of that transaction.
    pub block: Option<u64>,
    /// What the gateway remembers of the request.
    pub memo: String,
    /// The slot of the run that admitted it.
    pub slot: u32,
}

impl PaymentLog {
    /// The payment with this number as people see it. `batch` is the one that holds or held it, if one does.
    pub fn of(seq: u64, row: &PaymentRow, batch: Option<&BatchRow>) -> Self {
        let seen = match &row.state {
            PaymentState::Final { transaction, block } => Some((*transaction, *block)),
            PaymentState::Claimed { .. } => batch.and_then(BatchRow::seen),
            _ => None,
        };
        Self {
            seq,
            payment: row.keys.id,
            created: row.created,
            ended: row.ended,
            status: Status::from(&row.state),
            reason: reason(&row.state),
            payer: row.keys.owner.owner,
            spender: row.keys.spender,
            token: row.keys.owner.token,
            chain: row.keys.owner.chain,
            reserved: row.reserved,
            charge: row.charge,
            interval: row.interval,
            batch: batch.map(|batch| batch.id),
            transaction: seen.map(|(transaction, _)| transaction),
            block: seen.map(|(_, block)| block),
            memo: row.memo.clone(),
            slot: row.keys.exposure.slice,
        }
    }
}

/// Why a payment was lost or released, as the enum's own name says it.
pub(crate) fn reason(state: &PaymentState) -> Option<String> {
    match state {
        PaymentState::Lost { reason } => Some(format!("{reason:?}")),
        PaymentState::Released { reason } => Some(format!("{reason:?}")),
        PaymentState::Serving { .. }
        | PaymentState::Due { .. }
        | PaymentState::Claimed { .. }
        | PaymentState::Final { .. } => None,
    }
}

/// The batch that holds a payment now, given the one that held it before its last change.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) const fn batch_of(state: &PaymentState, before: Option<BatchId>) -> Option<BatchId> {
    match state {
        PaymentState::Claimed { batch, .. } => Some(*batch),
        PaymentState::Final { .. } | PaymentState::Lost { .. } => before,
        PaymentState::Serving { .. } | PaymentState::Due { .. } | PaymentState::Released { .. } => {
            None
        }
    }
}

/// Which payments people want to see. Every field that is given narrows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogFilter {
    /// Of this chain.
    pub chain: Option<ChainId>,
    /// Of this token.
    pub token: Option<Address>,
    /// Of this payer.
    pub payer: Option<Address>,
    /// That stand here.
    pub status: Option<Status>,
    /// With a number below this: the `seq` of the last one of the page before.
    pub before: Option<u64>,
}

impl LogFilter {
    /// Whether a payment with this number is meant.
    pub fn admits(&self, seq: u64, payment: &PaymentRow) -> bool {
        let owner = &payment.keys.owner;
        self.chain.is_none_or(|chain| chain == owner.chain)
            && self.token.is_none_or(|token| token == owner.token)
            && self.payer.is_none_or(|payer| payer == owner.owner)
            && self
                .status
                .is_none_or(|status| status == Status::from(&payment.state))
            && self.before.is_none_or(|before| seq < before)
    }
}
