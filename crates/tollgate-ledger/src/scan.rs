//! Reading everything, page by page.

use tollgate_payment::RowKey;

/// A kind of row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RowKind {
    /// Payers.
    Owner,
    /// Payers' spenders.
    Spender,
    /// Authorizations.
    Authorization,
    /// Payments.
    Payment,
    /// Batches.
    Batch,
    /// Settling accounts.
    Signer,
    /// Slices of the global bound.
    Exposure,
    /// Payers' names for requests.
    Identifier,
    /// What requests were answered.
    Outcome,
}

impl RowKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Owner,
        Self::Spender,
        Self::Authorization,
        Self::Payment,
        Self::Batch,
        Self::Signer,
        Self::Exposure,
        Self::Identifier,
        Self::Outcome,
    ];

    /// The kind of the row of this name.
    pub const fn of(key: &RowKey) -> Self {
        match key {
            RowKey::Owner(_) => Self::Owner,
            RowKey::Spender(_) => Self::Spender,
            RowKey::Authorization(_) => Self::Authorization,
            RowKey::Payment(_) => Self::Payment,
            RowKey::Batch(_) => Self::Batch,
            RowKey::Signer(_) => Self::Signer,
            RowKey::Exposure(_) => Self::Exposure,
            RowKey::Identifier(_) => Self::Identifier,
            RowKey::Outcome(_) => Self::Outcome,
        }
    }
}
