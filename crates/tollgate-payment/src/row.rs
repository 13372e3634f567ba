//! The rows of the books. A store keeps them; only commands change them.

use serde::{Deserialize, Serialize};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, Bytes, Exact, Once, PaymentId, Timestamp,
};

use crate::{
    history::{DailySums, PaidHistory},
    key::{
        AuthorizationKey, BatchId, ExposureKey, IdentifierKey, OwnerKey, PaymentKeys, RowKey,
        SignerKey, SpenderKey,
    },
    view::{Settled, View, is_nothing},
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
    /// The newest settlement that became final: a reading must not be older.
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
    #[serde(default, skip_serializing_if = "is_zero")]
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
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub short: Amount,
    /// The most items of a batch that it goes in; 0: as many as may be. A transaction that reverted as a whole is parted
    /// until what made it revert is alone.
    #[serde(default, skip_serializing_if = "is_zero")]
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

/// Whether a number need not be written.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

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
