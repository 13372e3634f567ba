//! Signed receipts: what a payment was charged, said by the account that settles it.

use core::time::Duration;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;
use tollgate_eip712::{
    CounterInterval, PaymentKind, Signed, Statement, TokenCounts, UsageReceipt, Version1, Wallet,
    digest, sign_statement,
};
use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{AuthorizationRow, PaymentRow, PaymentState};
use tollgate_x402::{B256, PaymentId, PaymentStatus, Signature65};

use crate::{
    Market, Markets,
    status::{PaymentTold, status},
};

/// So long a key that is elsewhere may take. A status does not wait longer for its receipt.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many receipts are signed at once: the key has settlements to sign. Who comes above it asks again.
const AT_ONCE: usize = 8;
/// So many signatures are remembered, about 200 bytes each.
const REMEMBERED: usize = 4_096;

/// Signs receipts with the key that settles: where a plain account is paid, that account's; where a `Settler` is, one
/// of its operators'. So whoever has a receipt can ask the chain who signed it.
///
/// Clones share what they remember.
#[derive(Debug)]
pub struct Notary<W> {
    wallet: Arc<W>,
    recent: Arc<Mutex<Recent>>,
    places: Arc<Semaphore>,
}

impl<W> Clone for Notary<W> {
    fn clone(&self) -> Self {
        Self {
            wallet: Arc::clone(&self.wallet),
            recent: Arc::clone(&self.recent),
            places: Arc::clone(&self.places),
        }
    }
}

/// The last signatures: who asks for a payment again and again is told the same one.
#[derive(Debug, Default)]
struct Recent {
    signatures: HashMap<B256, Signature65>,
    order: VecDeque<B256>,
}

impl Recent {
    fn put(&mut self, digest: B256, signature: Signature65) {
        if self.signatures.insert(digest, signature).is_some() {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.signatures.remove(&oldest);
        }
    }
}

/// What a receipt says beside the status: of a charge that stands, and is paid to whom is paid today.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    authorization: B256,
    request: B256,
    kind: PaymentKind,
    /// Whether a contract counts.
    settler: bool,
}

impl Standing {
    /// Of a charge that is committed and neither lost nor released; `None` of everything else, and of a charge that
    /// another address than today's is paid: the key at hand does not speak for that one.
    pub(crate) fn of(
        payment: &PaymentRow,
        authorization: &AuthorizationRow,
        market: &Market,
    ) -> Option<Self> {
        let stands = match payment.state {
            PaymentState::Due { .. }
            | PaymentState::Claimed { .. }
            | PaymentState::Final { .. } => !payment.charge.is_zero(),
            PaymentState::Serving { .. }
            | PaymentState::Lost { .. }
            | PaymentState::Released { .. } => false,
        };
        let signed = &authorization.signed;
        (stands && signed.payee() == market.terms.pay_to).then(|| Self {
            authorization: digest(signed, &market.domain),
            request: payment.request,
            kind: signed.into(),
            settler: market.settler,
        })
    }
}

impl<W: Wallet> Notary<W> {
    /// Signs with this key.
    pub fn new(wallet: W) -> Self {
        Self {
            wallet: Arc::new(wallet),
            recent: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The receipt of a payment, with the model and the tokens that its status tells (nothing told is an empty name, and no
    /// tokens). The same state of a payment has the same receipt.
    ///
    /// `None` where there is none: nothing is charged, or not any more, or the key cannot sign in this moment, which the
    /// log tells, or signs for many others.
    pub async fn receipt(&self, told: &PaymentTold) -> Option<Signed<UsageReceipt>> {
        let standing = told.standing.as_ref()?;
        let receipt = usage(standing, &told.status)?;
        if !standing.settler && receipt.pay_to != self.wallet.address() {
            return None;
        }
        let digest = receipt.digest();
        if let Some(signature) = self.remembered(&digest) {
            return Some(Signed {
                payload: receipt,
                signature,
            });
        }
        let _place = self.places.try_acquire().ok()?;
        match tokio::time::timeout(PATIENCE, sign_statement(&*self.wallet, receipt)).await {
            Ok(Ok(signed)) => {
                self.recent().put(digest, signed.signature);
                Some(signed)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a receipt was not signed; the payment's status goes without");
                None
            }
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                tracing::warn!(
                    seconds,
                    "the key did not answer, and a receipt was not signed; the payment's status goes without"
                );
                None
            }
        }
    }

    fn remembered(&self, digest: &B256) -> Option<Signature65> {
        self.recent().signatures.get(digest).copied()
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a payment with its receipt, if there is one: what a seller answers to whoever knows the id. `read` puts what
/// the seller remembered into the state; without a `notary` nothing is signed.
///
/// # Errors
/// [`StoreError`].
pub async fn tell<S: Store, W: Wallet>(
    store: &S,
    markets: &Markets,
    notary: Option<&Notary<W>>,
    id: PaymentId,
    read: impl FnOnce(&str, &mut PaymentStatus),
) -> Result<Option<(PaymentStatus, Option<Signed<UsageReceipt>>)>, StoreError> {
    let Some(mut told) = status(store, markets, id).await? else {
        return Ok(None);
    };
    read(&told.memo, &mut told.status);
    let receipt = match notary {
        Some(notary) => notary.receipt(&told).await,
        None => None,
    };
    Ok(Some((told.status, receipt)))
}

/// What is signed.
fn usage(standing: &Standing, status: &PaymentStatus) -> Option<UsageReceipt> {
    let tokens = status.usage.unwrap_or_default();
    let interval = status.interval.filter(|_| standing.settler);
    Some(UsageReceipt {
        version: Version1,
        chain: status.network.chain_id()?,
        pay_to: status.pay_to,
        payment: UsageReceipt::payment_digest(status.id),
        authorization: standing.authorization,
        request: standing.request,
        kind: standing.kind,
        payer: status.payer,
        token: status.token,
        amount: status.charge?,
        model: status.model.clone().unwrap_or_default(),
        tokens: TokenCounts {
            input: tokens.input_tokens,
            output: tokens.output_tokens,
        },
        counter: interval.map(|interval| CounterInterval {
            from: interval.from,
            to: interval.to,
        }),
        issued_at: status.updated_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_signatures_are_remembered_than_there_is_room_for() {
        let signature =
            Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), false).unwrap();
        let mut recent = Recent::default();
        for number in 0..REMEMBERED + 10 {
            let digest = B256::left_padding_from(&number.to_be_bytes());
            recent.put(digest, signature);
            recent.put(digest, signature);
        }
        assert_eq!(recent.signatures.len(), REMEMBERED);
        assert_eq!(recent.order.len(), REMEMBERED);
        assert!(!recent.signatures.contains_key(&B256::ZERO));
    }
}
