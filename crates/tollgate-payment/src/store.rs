//! What a command sees and what it decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, PaymentId, Timestamp};

use crate::{
    key::{
        AuthorizationKey, BatchId, ExposureKey, IdentifierKey, OwnerKey, RowKey, SignerKey,
        SpenderKey,
    },
    refusal::Refusal,
    row::{
        AuthorizationRow, BatchRow, ExposureRow, IdentifierRow, OutcomeRow, OwnerRow, PaymentRow,
        Row, SignerRow, SpenderRow,
    },
};

/// One atomic step: pure, and repeatable.
///
/// A store locks the rows that [`rows`](Command::rows) names, asks [`decide`](Command::decide) and
/// writes what it answers, or nothing where it refuses.
pub trait Command: Send + Sync + 'static {
    /// What the caller learns.
    type Outcome: Send + 'static;

    /// The rows to lock and to show to `decide`.
    fn rows(&self) -> RowSet;

    /// The step.
    ///
    /// # Errors
    /// A [`Refusal`]: nothing is written.
    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Self::Outcome>, Refusal>;
}

/// Names of rows, each once, in locking order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowSet(Vec<RowKey>);

impl RowSet {
    /// The names in locking order.
    pub fn iter(&self) -> impl Iterator<Item = &RowKey> {
        self.0.iter()
    }
}

impl FromIterator<RowKey> for RowSet {
    fn from_iter<I: IntoIterator<Item = RowKey>>(keys: I) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        Self(keys)
    }
}

/// The rows that exist of those that a command named.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rows(BTreeMap<RowKey, Row>);

macro_rules! row_readers {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $variant:ident($row:ty);)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, key: &$key) -> Option<&$row> {
            match self.0.get(&RowKey::$variant(*key)) {
                Some(Row::$variant(row)) => Some(row),
                _ => None,
            }
        }
    )*};
}

impl Rows {
    row_readers! {
        /// A payer.
        owner: OwnerKey => Owner(OwnerRow);
        /// A payer's spender.
        spender: SpenderKey => Spender(SpenderRow);
        /// An authorization.
        authorization: AuthorizationKey => Authorization(AuthorizationRow);
        /// A payment.
        payment: PaymentId => Payment(PaymentRow);
        /// A batch.
        batch: BatchId => Batch(BatchRow);
        /// A settling account.
        signer: SignerKey => Signer(SignerRow);
        /// A slice of the global bound.
        exposure: ExposureKey => Exposure(ExposureRow);
        /// A payer's name for a request.
        identifier: IdentifierKey => Identifier(IdentifierRow);
        /// What a payment's request was answered.
        outcome: PaymentId => Outcome(OutcomeRow);
    }

    /// Adds a row, or replaces the one of the same name.
    pub fn put(&mut self, row: Row) {
        self.0.insert(row.key(), row);
    }

    /// All of them, in locking order.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.0.values()
    }
}

impl FromIterator<Row> for Rows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| (row.key(), row)).collect())
    }
}

/// What a command decided: what to write, and what the caller learns.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<T> {
    /// Rows as they are from now on; each was named by the command.
    pub writes: Vec<Row>,
    /// Lines for the double-entry book.
    pub entries: Vec<Entry>,
    /// What the caller learns.
    pub outcome: T,
}

/// An account of the double-entry book, one set a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Account {
    /// Reserved of payers' money.
    PayerHeld,
    /// The other side of reservations.
    Reserved,
    /// Owed by payers.
    PayerDue,
    /// Earned, and not final.
    RevenuePending,
    /// Received, in finalized blocks.
    Treasury,
    /// Earned and final.
    RevenueFinal,
    /// Owed by payers, and not payable any more.
    BadDebt,
    /// Of what was owed and not payable, what the operator asks for no more.
    Forgiven,
}

impl Account {
    /// The name in the books.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayerHeld => "payer_held",
            Self::Reserved => "reserved",
            Self::PayerDue => "payer_due",
            Self::RevenuePending => "revenue_pending",
            Self::Treasury => "treasury",
            Self::RevenueFinal => "revenue_final",
            Self::BadDebt => "bad_debt",
            Self::Forgiven => "forgiven",
        }
    }
}

/// One line of the double-entry book. Lines are added, never changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The payment that it belongs to.
    pub payment: PaymentId,
    /// Whose money, of which token.
    pub owner: OwnerKey,
    /// The account that takes.
    pub debit: Account,
    /// The account that gives.
    pub credit: Account,
    /// How much, in atomic units; never 0.
    pub amount: Amount,
}
