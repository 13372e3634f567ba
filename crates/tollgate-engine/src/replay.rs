//! What became of a payment whose request comes again.

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    OutcomeRow, PaymentRow, PaymentState, Retention, RowKey, command::Told, port::Kept,
};
use tollgate_x402::{PaymentId, PaymentStatus, Timestamp};

use crate::{market::Markets, status};

/// What became of it.
pub(crate) enum Earlier {
    /// It is being served.
    Serving,
    /// It has ended, and this was answered.
    Ended(Box<PaymentStatus>, Kept),
    /// It has ended with nothing charged and nothing answered.
    Nothing,
}

/// Looks for the payment and its answer.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn earlier<S: Store>(
    store: &S,
    markets: &Markets,
    retention: Retention,
    now: Timestamp,
    id: PaymentId,
) -> Result<Earlier, StoreError> {
    let names = [RowKey::Payment(id), RowKey::Outcome(id)];
    let rows = store.read(names.into_iter().collect()).await?;
    // A payment that is not there was admitted in a step that has not reached the disk.
    let Some(payment) = rows.payment(&id) else {
        return Ok(Earlier::Serving);
    };
    let outcome = rows.outcome(&id);
    match payment.state {
        PaymentState::Serving { .. } => return Ok(Earlier::Serving),
        PaymentState::Released { .. } if outcome.is_none() => return Ok(Earlier::Nothing),
        _ => {}
    }
    let Some(told) = status::status(store, markets, id).await? else {
        let missing = "a payment's authorization or its market is missing".to_owned();
        return Err(StoreError::Corrupt(missing));
    };
    let answer = kept(payment, outcome, retention, now);
    Ok(Earlier::Ended(Box::new(told.status), answer))
}

fn kept(
    payment: &PaymentRow,
    outcome: Option<&OutcomeRow>,
    retention: Retention,
    now: Timestamp,
) -> Kept {
    match outcome {
        Some(outcome) if outcome.expires <= now => Kept::Expired,
        Some(outcome) => Kept::Answer(Told {
            status: outcome.status,
            content_type: outcome.content_type.clone(),
            body: outcome.body.clone(),
        }),
        // It was never written, or its time is over and it was removed.
        None => {
            let ended = payment.ended.unwrap_or(payment.updated);
            if retention.until(payment.deadline, ended) <= now {
                Kept::Expired
            } else {
                Kept::BrokenOff
            }
        }
    }
}
