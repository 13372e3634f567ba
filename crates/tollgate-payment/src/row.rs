//! The rows of the books. A store keeps them; only commands change them.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Allowance, Amount, Authorization, B256, Bytes, PaymentId, Timestamp};

pub use crate::batch::{BatchItem, BatchRow, BatchState, Instruction, Submission};
use crate::{
    history::{DailySums, PaidHistory},
    key::{
        AuthorizationKey, BatchId, ExposureKey, IdentifierKey, OwnerKey, PaymentKeys, RowKey,
        SignerKey, SpenderKey,
    },
    view::{Settled, View},
};

/// A row of any kind. A store matches on it without a wildcard, so that a new kind fails to compile there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Row {
    /// A payer.
    Owner(OwnerRow),
    /// A payer's spender.
    Spender(SpenderRow),
    /// An authorization.
    Authorization(AuthorizationRow),
    /// A payment.
    Payment(PaymentRow),
    /// A batch.
    Batch(BatchRow),
    /// A settling account.
    Signer(SignerRow),
    /// A slice of the global bound.
    Exposure(ExposureRow),
    /// A payer's name for a request.
    Identifier(IdentifierRow),
    /// What a payment's request was answered.
    Outcome(OutcomeRow),
}

impl Row {
    /// The row's name.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Owner(row) => RowKey::Owner(row.key),
            Self::Spender(row) => RowKey::Spender(row.key),
            Self::Authorization(row) => RowKey::Authorization(row.key),
            Self::Payment(row) => RowKey::Payment(row.keys.id),
            Self::Batch(row) => RowKey::Batch(row.id),
            Self::Signer(row) => RowKey::Signer(row.key),
            Self::Exposure(row) => RowKey::Exposure(row.key),
            Self::Identifier(row) => RowKey::Identifier(row.key),
            Self::Outcome(row) => RowKey::Outcome(row.payment),
        }
    }
}

/// A payer, as one token's books see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OwnerRow {
    /// The name.
    pub key: OwnerKey,
    /// The sum of the reservations of open payments.
    pub held: Amount,
    /// The sum of committed charges that are not final.
    pub due: Amount,
    /// Open payments.
    pub in_flight: u32,
    /// The balance as last seen.
    pub view: Option<View>,
    /// What was finally paid, by day.
    pub history: PaidHistory,
    /// Charges that the payer made unpayable, and still owes.
    pub lost: Amount,
    /// The newest settlements that became final: a reading must not be older, and may not have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// Why the operator serves this payer no more; `None`: served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// What one spender may draw of one payer's money.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpenderRow {
    /// The name.
    pub key: SpenderKey,
    /// The sum of the reservations of open payments.
    pub held: Amount,
    /// The sum of committed charges that are not final.
    pub due: Amount,
    /// What bounds them.
    pub limit: Limit,
}

/// What bounds a spender.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Limit {
    /// The ERC-20 allowance as last seen (Permit2's, which many sellers share).
    Seen(Option<View>),
    /// The counter of an allowance that only we draw.
    Counter(Box<Counter>),
}

/// The counter of one allowance: everything drawn by one spender from one payer, ever, in atomic units.
///
/// A settlement owns an interval of it; the chain's counter (`Settler.charged`) moves from `settled`
/// through the claimed intervals.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    /// Drawn and final.
    pub settled: Amount,
    /// The end of the last interval given to a batch.
    pub claimed: Amount,
    /// Where the signed budgets end: `settled + due + held` never passes it.
    pub ceiling: Amount,
    /// When `ceiling` was last held against the chain.
    pub seen: Option<Timestamp>,
    /// The newest block at which it was: what is told of a block before it is told no more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read: u64,
    /// The permit that set the ceiling.
    pub permit: Option<Permit>,
    /// Permits before it, the oldest first, as long as charges that were made on them are not final.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Superseded>,
    /// Permits registered so far. A charge carries the count at its commit, so that a permit is
    /// submitted after the charges that came before it: a permit sets the allowance, it does not add.
    pub generation: u32,
    /// Batches with an interval of this counter, or with charges that wait for a permit, that are not concluded.
    pub undecided: u32,
    /// Batches of its permits that were in a block and are not concluded, with nothing that waits for them any more
    /// ([`Permitted`](crate::command::Permitted)). While there is one, what the chain comes to know of a permit is its to
    /// say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shown: u32,
    /// An interval failed: nothing is claimed until every batch is concluded, since later intervals
    /// will be skipped by the chain.
    pub halted: bool,
}

/// The permit behind a counter's ceiling.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permit {
    /// What was signed, to be submitted with the first settlement.
    pub signed: Allowance,
    /// The EIP-712 digest.
    pub digest: B256,
    /// Whether the chain has it: the token's nonce is past the permit's.
    pub applied: bool,
    /// The newest block in which the chain was seen to have it, 0 if in none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub had: u64,
}

/// A permit to which another succeeded, and which charges that are not final were made on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Superseded {
    /// The permit.
    pub permit: Permit,
    /// Its generation.
    pub generation: u32,
    /// Where on the counter the charges end that were made on it.
    pub until: Amount,
}

/// An authorization that was admitted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AuthorizationRow {
    /// The name.
    pub key: AuthorizationKey,
    /// What was signed. Kept until it can no longer be used or settled.
    pub signed: Authorization,
    /// For a claim: the digest of the one request that it admits.
    pub request: Option<B256>,
    /// For a claim: the one payment.
    pub payment: Option<PaymentId>,
    /// When it was first seen.
    pub created: Timestamp,
    /// For an allowance: the digest of the prices that its payer was last told, or paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<B256>,
}

/// Where a payment stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PaymentState {
    /// Reserved, and perhaps streaming: `used` is the durable checkpoint.
    Serving {
        /// Delivered and worth so much at least.
        used: Amount,
    },
    /// Committed: to be settled.
    Due {
        /// Settlements that failed.
        attempts: u32,
    },
    /// In a batch.
    Claimed {
        /// The batch.
        batch: BatchId,
        /// Settlements that failed before.
        attempts: u32,
    },
    /// Paid, in a finalized block.
    Final {
        /// The transaction.
        transaction: B256,
        /// The block.
        block: u64,
    },
    /// Served and not payable any more.
    Lost {
        /// Why.
        reason: LossReason,
    },
    /// Ended without a charge.
    Released {
        /// Why.
        reason: ReleaseReason,
    },
}

/// Why a payment ended without a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReleaseReason {
    /// The upstream failed before anything was delivered.
    UpstreamFailed,
    /// Nothing was delivered: the caller left before, or the charge could not be written.
    NothingDelivered,
    /// The gateway died before a checkpoint.
    GatewayDied,
}

/// Why a charge became unpayable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LossReason {
    /// The payer's balance does not cover it.
    Balance,
    /// The allowance was revoked or overwritten.
    Allowance,
    /// The nonce was burned or spent elsewhere.
    Nonce,
    /// The deadline passed before it could be settled.
    Deadline,
    /// The token is paused, or the payer frozen.
    Frozen,
    /// The chain refused it again and again.
    Refused,
}

/// One request's payment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PaymentRow {
    /// The rows that it touches.
    pub keys: PaymentKeys,
    /// Where it stands.
    pub state: PaymentState,
    /// The worst case that was reserved, in atomic units.
    pub reserved: Amount,
    /// The committed charge, less what of it was lost before the rest was settled; 0 before the commit. Never above
    /// `reserved`.
    pub charge: Amount,
    /// The part of the committed charge that was lost, because the payer had only money for the rest. Together with
    /// `charge` it is what was committed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub short: Amount,
    /// The most items of a batch that it goes in; 0: as many as may be. A transaction that reverted as a whole is parted
    /// until what made it revert is alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub company: u32,
    /// The part of the reservation or charge above the payer's own paid history.
    pub unproven: Amount,
    /// For an allowance: the counter's generation at the commit.
    pub generation: u32,
    /// For an allowance in a batch: the interval of the counter.
    pub interval: Option<(Amount, Amount)>,
    /// The digest of the request that was paid for.
    pub request: B256,
    /// What the gateway wants to remember for the receipt: at most 2 KiB, opaque here.
    pub memo: String,
    /// The run of the gateway that serves it: a payment of a run that died is concluded by the next.
    pub epoch: u64,
    /// The last second in which it can be submitted.
    pub deadline: Timestamp,
    /// When it was reserved.
    pub created: Timestamp,
    /// When it was committed or released.
    pub ended: Option<Timestamp>,
    /// When it last changed.
    pub updated: Timestamp,
}

/// Whether a field need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A settling account: its next nonce lives with the ledger, in the step that stores what is signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignerRow {
    /// The name.
    pub key: SignerKey,
    /// The nonce of the next transaction.
    pub next_nonce: u64,
    /// Who may seal with it now. A term is never given twice, so that a holder that was paused and wakes
    /// up late cannot write: its term is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Why nothing is sent with it until a person has looked; it outlives restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<Halt>,
}

/// Who may send with an account, and until when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The number of the term: rising.
    pub term: u64,
    /// The worker: 128 random bits, drawn at its start.
    pub holder: u128,
    /// When another may take over, by the store's clock.
    pub until: Timestamp,
}

/// Why an account is not used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Halt {
    /// What was seen, for people.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A payer's name for a request (the `payment-identifier` extension): the same name is the same payment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdentifierRow {
    /// The name.
    pub key: IdentifierKey,
    /// The digest of the one request that it names.
    pub request: B256,
    /// The one payment.
    pub payment: PaymentId,
    /// When it was first seen.
    pub created: Timestamp,
    /// From when on it may be forgotten.
    pub expires: Timestamp,
}

/// What a payment's request was answered, so that a lost answer can be given again without a second charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The payment.
    pub payment: PaymentId,
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The body.
    pub body: StoredBody,
    /// From when on it may be forgotten.
    pub expires: Timestamp,
}

/// The body of a stored answer. `Debug` tells its length alone: what was answered is the payer's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredBody {
    /// All of it.
    Whole(Bytes),
    /// It was longer than what is kept: that the payment ended, and its charge, can still be told.
    TooLong,
}

impl core::fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Whole(body) => write!(f, "Whole({} bytes)", body.len()),
            Self::TooLong => f.write_str("TooLong"),
        }
    }
}

/// A slice of the global bound.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExposureRow {
    /// The name.
    pub key: ExposureKey,
    /// The sum of the unproven parts of everything open and unsettled.
    pub used: Amount,
    /// The unproven parts of what was lost, by day. They count as what is open does: else each new address of one and
    /// the same thief would be lent anew what the last one did not pay.
    #[serde(default, skip_serializing_if = "DailySums::is_empty")]
    pub lost: DailySums,
}
