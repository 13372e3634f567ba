//! The money of one admitted request.

use std::{future::Future, sync::Arc};

use tokio::sync::Notify;
use tollgate_ledger::{Durable, Executed, Store, StoreError};
use tollgate_payment::{
    PaymentKeys, Refusal, ReleaseReason,
    command::{Charge, Checkpoint, Commit, Release, Reservation},
    port::{Admitted, Hold, HoldError},
};
use tollgate_x402::{Amount, PaymentId};

/// A reservation in the ledger. Dropped without an end, it is ended by its last checkpoint.
#[derive(Debug)]
pub struct EngineHold<S: Store> {
    open: Option<Open<S>>,
    admitted: Admitted,
    durable: Option<Durable>,
    work: Arc<Notify>,
}

#[derive(Debug)]
struct Open<S> {
    store: S,
    keys: PaymentKeys,
}

impl<S: Store> EngineHold<S> {
    pub(crate) fn new(
        store: S,
        keys: PaymentKeys,
        admitted: Admitted,
        executed: Executed<Reservation>,
        work: Arc<Notify>,
    ) -> Self {
        Self {
            open: Some(Open { store, keys }),
            admitted,
            durable: Some(executed.durable),
            work,
        }
    }
}

impl<S: Store> Hold for EngineHold<S> {
    fn id(&self) -> PaymentId {
        self.admitted.id
    }

    fn cap(&self) -> Amount {
        self.admitted.cap
    }

    fn terms(&self) -> &Admitted {
        &self.admitted
    }

    async fn durable(&mut self) -> Result<(), HoldError> {
        match self.durable.take() {
            None => Ok(()),
            Some(durable) => durable.await.map_err(failed),
        }
    }

    async fn checkpoint(&mut self, used: Amount) -> Result<(), HoldError> {
        let open = self.open.as_ref().ok_or(HoldError::Ended)?;
        open.store
            .transact(Checkpoint {
                keys: open.keys,
                used,
            })
            .await
            .map_err(failed)
    }

    async fn commit(mut self, used: Amount, memo: Option<String>) -> Result<Charge, HoldError> {
        let open = self.open.take().ok_or(HoldError::Ended)?;
        let charge = end(
            &open.store,
            Commit {
                keys: open.keys,
                used: Some(used),
                memo,
            },
        )
        .await?;
        self.work.notify_one();
        Ok(charge)
    }

    async fn release(mut self) -> Result<(), HoldError> {
        let open = self.open.take().ok_or(HoldError::Ended)?;
        end(
            &open.store,
            Release {
                keys: open.keys,
                reason: ReleaseReason::UpstreamFailed,
            },
        )
        .await
    }
}

/// Ends a payment in a task of its own, so that a caller that goes away cannot stop it half-way.
fn end<S: Store, C: tollgate_payment::Command>(
    store: &S,
    command: C,
) -> impl Future<Output = Result<C::Outcome, HoldError>> + Send + use<S, C> {
    let store = store.clone();
    let task = tokio::spawn(async move { store.transact(command).await });
    async move {
        match task.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(HoldError::Unavailable(
                "the ledger's task was stopped".to_owned(),
            )),
        }
    }
}

fn failed(error: StoreError) -> HoldError {
    match error {
        StoreError::Refused(Refusal::Overtaken | Refusal::Missing(_)) => HoldError::Ended,
        error => HoldError::Unavailable(error.to_string()),
    }
}

impl<S: Store> Drop for EngineHold<S> {
    fn drop(&mut self) {
        let Some(Open { store, keys }) = self.open.take() else {
            return;
        };
        // Not ended: its task was stopped. What its last checkpoint says is owed; a payment that no runtime
        // can end here is ended at the next start, by its epoch.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let work = Arc::clone(&self.work);
            runtime.spawn(async move {
                match store.transact(Commit { keys, used: None, memo: None }).await {
                    Ok(_) => work.notify_one(),
                    Err(error) => tracing::warn!(payment = ?keys.id, %error, "a dropped payment waits for the next start"),
                }
            });
        }
    }
}
