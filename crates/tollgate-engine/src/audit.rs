//! What must always hold, recomputed from the rows: by operators, after crashes, and in simulations after every step.

mod book;
mod chain;
mod payments;
mod ranges;
mod report;

use tollgate_ledger::{RowKind, Store, StoreError};
use tollgate_payment::{PaymentRow, Row, command::UNKNOWN};

pub(crate) use chain::charged;
pub use chain::{ChainAuditError, audit_chain};
pub use report::{Invariant, Report};

/// Rows that are read at once.
const PAGE: usize = 512;

/// Recomputes everything that a ledger alone can tell.
///
/// Pages of rows may be of different moments: where others write meanwhile, what was found is certain only if a second
/// audit finds the same ([`Report::also_in`]). A copy of the ledger, or one that nobody else has open, is of one moment.
///
/// # Errors
/// [`StoreError`]: nothing is known then. A violated invariant is no error.
pub async fn audit<S: Store>(store: &S) -> Result<Report, StoreError> {
    let mut payments = payments::Audit::default();
    let mut rows = Scan::new(store, RowKind::Batch);
    while let Some(page) = rows.next().await? {
        for row in &page {
            if let Row::Batch(batch) = row {
                payments.batch(batch);
            }
        }
    }
    let mut rows = Scan::new(store, RowKind::Payment);
    while let Some(page) = rows.next().await? {
        payments.page(store, &page).await?;
    }
    for kind in [
        RowKind::Owner,
        RowKind::Spender,
        RowKind::Exposure,
        RowKind::Signer,
    ] {
        let mut rows = Scan::new(store, kind);
        while let Some(page) = rows.next().await? {
            for row in &page {
                payments.row(row);
            }
        }
    }
    let mut report = payments.finish();
    for kind in [RowKind::Identifier, RowKind::Outcome] {
        let mut rows = Scan::new(store, kind);
        while let Some(page) = rows.next().await? {
            book::names(store, &page, &mut report).await?;
        }
    }
    book::book(store, &mut report).await?;
    Ok(report)
}

/// Whether a payment was found on the chain, and not made by this ledger.
pub(crate) fn is_unknown(payment: &PaymentRow) -> bool {
    payment.request.is_zero() && payment.memo.starts_with(UNKNOWN)
}

/// Whether a payment is a payer's own transfer, for what it made unpayable before.
pub(crate) fn is_paid_off(payment: &PaymentRow) -> bool {
    payment.request.is_zero() && payment.memo.starts_with(PAID_OFF)
}

/// The memo of a transfer by which a payer paid a debt.
pub const PAID_OFF: &str = "a payer's transfer for a debt";

/// Every row of a kind, page by page.
pub(crate) struct Scan<'a, S> {
    store: &'a S,
    kind: RowKind,
    after: Option<tollgate_payment::RowKey>,
    done: bool,
}

impl<'a, S: Store> Scan<'a, S> {
    pub(crate) const fn new(store: &'a S, kind: RowKind) -> Self {
        Self {
            store,
            kind,
            after: None,
            done: false,
        }
    }

    /// The next page; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let page = self.store.scan(self.kind, self.after, PAGE).await?;
        self.done = page.len() < PAGE;
        self.after = page.last().map(Row::key);
        Ok((!page.is_empty()).then_some(page))
    }
}
