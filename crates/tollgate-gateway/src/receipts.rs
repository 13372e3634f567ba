//! What the gateway asks of the rest of the program: the state of payments, and of the program itself.

use core::future::Future;

use tollgate_x402::{PaymentId, PaymentStatus};

/// Tells of payments: the ledger, behind the gateway.
pub trait Receipts: Clone + Send + Sync + 'static {
    /// The state of a payment and what the gateway remembered of its request (the memo that the meter wrote), or
    /// nothing if there is no such payment.
    ///
    /// # Errors
    /// [`ReceiptsError`].
    fn status(
        &self,
        id: PaymentId,
    ) -> impl Future<Output = Result<Option<(PaymentStatus, String)>, ReceiptsError>> + Send;
}

/// The ledger cannot be read. The operator is to blame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the ledger cannot be read: {0}")]
pub struct ReceiptsError(
    /// Why, for the log.
    pub String,
);

/// One answer to the question whether the program is ready for requests.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Check {
    /// What was looked at, such as `chain`.
    pub name: &'static str,
    /// Whether it is good.
    pub ok: bool,
    /// What was seen, for the operator: nothing secret, since anyone may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Check {
    /// A check.
    pub const fn new(name: &'static str, ok: bool) -> Self {
        Self {
            name,
            ok,
            detail: None,
        }
    }

    /// The same with what was seen.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}
