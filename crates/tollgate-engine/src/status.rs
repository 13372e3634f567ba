//! What is told of a payment.

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{AuthorizationRow, BatchRow, PaymentRow, PaymentState, RowKey};
use tollgate_x402::{
    AuthorizationKind, Interval, Network, PaymentAmounts, PaymentId, PaymentState as StatusState,
    PaymentStatus,
};

use crate::{
    market::{Market, Markets},
    receipt::Standing,
};

/// The state of a payment, and what the gateway remembered of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PaymentTold {
    /// The state.
    pub status: PaymentStatus,
    /// What the gateway remembered, in its own words.
    pub memo: String,
    /// What a receipt says beside that.
    pub(crate) standing: Option<Standing>,
}

/// The state of a payment, and what the gateway remembered of it.
///
/// # Errors
/// [`StoreError`].
pub async fn status<S: Store>(
    store: &S,
    markets: &Markets,
    id: PaymentId,
) -> Result<Option<PaymentTold>, StoreError> {
    let Some(payment) = store.payment(id).await? else {
        return Ok(None);
    };
    let key = payment.keys.authorization;
    let rows = store
        .read([RowKey::Authorization(key)].into_iter().collect())
        .await?;
    let batch = match payment.state {
        PaymentState::Claimed { batch, .. } => store.batch(batch).await?,
        _ => None,
    };
    let Some(signed) = rows.authorization(&key) else {
        return Ok(None);
    };
    let owner = payment.keys.owner;
    let Some(market) = markets.of(owner.chain, owner.token) else {
        return Ok(None);
    };
    Ok(Some(PaymentTold {
        status: tell(&payment, signed, batch.as_ref(), market),
        standing: Standing::of(&payment, signed, market),
        memo: payment.memo,
    }))
}

fn tell(
    payment: &PaymentRow,
    authorization: &AuthorizationRow,
    batch: Option<&BatchRow>,
    market: &Market,
) -> PaymentStatus {
    let owner = payment.keys.owner;
    let kind: AuthorizationKind = authorization.signed.kind();
    let amounts = PaymentAmounts {
        authorized: authorization.signed.cap(),
        reserved: payment.reserved,
        calculated: None,
    };
    let mut status = PaymentStatus::accepted(
        payment.keys.id,
        kind,
        Network::from(owner.chain),
        owner.token,
        owner.owner,
        market.terms.pay_to,
        amounts,
        payment.created,
    );
    status.updated_at = payment.updated;
    status.charge =
        (!matches!(payment.state, PaymentState::Serving { .. })).then_some(payment.charge);
    status.interval = payment.interval.map(|(from, to)| Interval { from, to });
    status.state = match &payment.state {
        PaymentState::Serving { .. } | PaymentState::Due { .. } => StatusState::Accepted,
        PaymentState::Claimed { .. } => match batch.and_then(BatchRow::seen) {
            Some((transaction, block)) => {
                status.transaction = Some(transaction);
                status.block = Some(block);
                StatusState::Included
            }
            None => StatusState::Accepted,
        },
        PaymentState::Final { transaction, block } => {
            status.transaction = Some(*transaction);
            status.block = Some(*block);
            StatusState::Final
        }
        PaymentState::Lost { .. } => StatusState::Lost,
        PaymentState::Released { .. } => StatusState::Released,
    };
    status
}
