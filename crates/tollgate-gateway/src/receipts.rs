//! What the gateway asks of the rest of the program: the state of payments, and of the program itself.

use core::future::Future;

use serde::Serialize;
use tollgate_x402::{PaymentId, PaymentStatus};

/// Tells of payments: the ledger, behind the gateway.
pub trait Receipts: Clone + Send + Sync + 'static {
    /// A signed receipt, as it is written into the status.
    type Receipt: Serialize + Send;

    /// The state of a payment, or nothing if there is no such payment; and its signed receipt, where its charge stands and
    /// somebody signs for the gateway. That nobody signs, or cannot now, is no error.
    ///
    /// What the gateway remembered of the request is the memo that its meter wrote. Nobody else reads it: `read` puts it into
    /// the status, before the receipt is made of that.
    ///
    /// # Errors
    /// [`ReceiptsError`].
    fn status(
        &self,
        id: PaymentId,
        read: ReadMemo,
    ) -> impl Future<Output = Result<Option<Told<Self::Receipt>>, ReceiptsError>> + Send;
}

/// What is told of a payment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Told<R> {
    /// Its state.
    #[serde(flatten)]
    pub status: PaymentStatus,
    /// What is signed of it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<R>,
}

/// Puts what a memo remembers into the status of its payment.
pub type ReadMemo = fn(&str, &mut PaymentStatus);

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
