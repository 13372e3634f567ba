//! A payer's own names for its requests.

use tollgate_x402::{B256, PaymentId, Timestamp};

use crate::{
    key::{IdentifierKey, RowKey},
    policy::Retention,
    refusal::Refusal,
    row::PaymentState,
    store::Rows,
};

/// A payer's own name for a request (the `payment-identifier` extension): the same name is the same payment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Naming {
    /// The name.
    pub key: IdentifierKey,
    /// The payment that the name stood for, if it was found released, with nothing charged and no answer kept: the
    /// name passes to this one.
    pub replaces: Option<PaymentId>,
    /// How long the name is kept.
    pub retention: Retention,
}

impl Naming {
    pub(super) fn rows(&self) -> impl Iterator<Item = RowKey> {
        let replaced = self
            .replaces
            .map(|payment| [RowKey::Payment(payment), RowKey::Outcome(payment)]);
        [RowKey::Identifier(self.key)]
            .into_iter()
            .chain(replaced.into_iter().flatten())
    }

    /// A name stands for one request, and for one payment unless that ended with nothing charged and nothing told.
    pub(super) fn check(&self, request: B256, rows: &Rows, now: Timestamp) -> Result<(), Refusal> {
        let Some(known) = rows.identifier(&self.key).filter(|row| row.expires > now) else {
            return Ok(());
        };
        if known.request != request {
            return Err(Refusal::IdentifierUsed);
        }
        let free = self.replaces == Some(known.payment)
            && rows.outcome(&known.payment).is_none()
            && rows
                .payment(&known.payment)
                .is_some_and(|payment| matches!(payment.state, PaymentState::Released { .. }));
        if free {
            Ok(())
        } else {
            Err(Refusal::Named(known.payment))
        }
    }
}
