//! The money of one admitted request.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{Notify, oneshot};
use tollgate_ledger::{Durable, Executed, Outage, Store, StoreError};
use tollgate_payment::{
    Command, PaymentKeys, Refusal, ReleaseReason, Retention,
    command::{Answer, Charge, Checkpoint, Commit, Release, Reservation, Standing},
    port::{Admitted, Hold, HoldError},
};
use tollgate_x402::{Amount, PaymentId, PaymentStatus};

use crate::{included::Inclusions, watch::Watch};

/// A reservation in the ledger. Dropped without an end, it is ended by its last checkpoint.
#[derive(Debug)]
pub struct EngineHold<S: Store> {
    open: Option<Open<S>>,
    admitted: Admitted,
    durable: Option<Durable>,
    retention: Option<Retention>,
    answer: Option<Answer>,
    watch: Option<Watch>,
    inclusions: Option<Arc<Inclusions>>,
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
        retention: Option<Retention>,
        work: Arc<Notify>,
    ) -> Self {
        Self {
            open: Some(Open { store, keys }),
            admitted,
            durable: Some(executed.durable),
            retention,
            answer: None,
            watch: None,
            inclusions: None,
            work,
        }
    }

    /// The same, of a payer that is looked at again while it is served.
    pub(crate) fn watched(mut self, watch: Option<Watch>) -> Self {
        self.watch = watch;
        self
    }

    /// The same, of a till whose callers may wait for a block.
    pub(crate) fn awaited(mut self, inclusions: Option<Arc<Inclusions>>) -> Self {
        self.inclusions = inclusions;
        self
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
        let standing = open.store.transact(Checkpoint {
            keys: open.keys,
            used,
        });
        match standing.await.map_err(failed)? {
            Standing::Good => {}
            Standing::Void(voided) => return Err(HoldError::Void(voided)),
        }
        match self.watch.as_mut().and_then(Watch::found) {
            None => Ok(()),
            Some(voided) => Err(HoldError::Void(voided)),
        }
    }

    fn retention(&self) -> Option<Retention> {
        self.retention
    }

    fn keep(&mut self, answer: Answer) {
        self.answer = self.retention.map(|_| answer);
    }

    fn inclusion(&self) -> Option<impl Future<Output = Option<PaymentStatus>> + Send + use<S>> {
        let (open, inclusions) = self.open.as_ref().zip(self.inclusions.as_ref())?;
        inclusions
            .expected(&open.keys.authorization)
            .then(|| Arc::clone(inclusions).wait(open.store.clone(), self.admitted.id))
    }

    async fn commit(mut self, used: Amount, memo: Option<String>) -> Result<Charge, HoldError> {
        let (open, commit) = self.charge(used, memo)?;
        end(&open.store, commit, None, &self.work).await
    }

    async fn commit_undelivered(
        mut self,
        used: Amount,
        memo: Option<String>,
    ) -> Result<Charge, HoldError> {
        // Who can ask for the answer again gets it once the charge is written. Of anybody else nothing is taken for it.
        let again = self.retention.is_some();
        let (open, commit) = self.charge(used, memo)?;
        let give_up = (!again).then_some(Release {
            keys: open.keys,
            reason: ReleaseReason::NothingDelivered,
        });
        let charged = end(&open.store, commit, give_up, &self.work).await;
        charged.map_err(|error| match error {
            HoldError::Unavailable(error) if again => HoldError::Undecided(error),
            error => error,
        })
    }

    async fn release(mut self) -> Result<(), HoldError> {
        let open = self.open.take().ok_or(HoldError::Ended)?;
        let release = Release {
            keys: open.keys,
            reason: ReleaseReason::UpstreamFailed,
        };
        end(&open.store, release, None, &self.work).await
    }
}

impl<S: Store> EngineHold<S> {
    /// What makes this the charge.
    fn charge(
        &mut self,
        used: Amount,
        memo: Option<String>,
    ) -> Result<(Open<S>, Commit), HoldError> {
        let open = self.open.take().ok_or(HoldError::Ended)?;
        let commit = Commit {
            keys: open.keys,
            used: Some(used),
            memo,
            answer: self.answer.take(),
        };
        Ok((open, commit))
    }
}

/// The time between attempts to end a payment whose end the ledger did not take.
const RETRY: Duration = Duration::from_secs(1);

/// Ends a payment in a task of its own, so that a caller that goes away cannot stop it half-way. The caller learns of
/// the first attempt. If the ledger was not there for it, the task goes on: what was delivered is owed, and a payment
/// that does not end holds its payer's money. With `give_up` it goes on with that, if the first attempt surely wrote
/// nothing.
fn end<S: Store, C: Command + Clone>(
    store: &S,
    command: C,
    give_up: Option<Release>,
    work: &Arc<Notify>,
) -> impl Future<Output = Result<C::Outcome, HoldError>> + Send + use<S, C> {
    let (store, work) = (store.clone(), Arc::clone(work));
    let (sender, first) = oneshot::channel();
    tokio::spawn(async move {
        let outcome = store.transact(command.clone()).await;
        let waits = may_return(&outcome);
        let give_up = give_up.filter(|_| !may_be_written(&outcome));
        // Nobody may be there to hear it.
        drop(sender.send(outcome));
        match give_up {
            Some(release) if waits => repeat(&store, release).await,
            _ if waits => repeat(&store, command).await,
            _ => {}
        }
        work.notify_one();
    });
    async move {
        match first.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(HoldError::Undecided(
                "the ledger's task was stopped".to_owned(),
            )),
        }
    }
}

/// Ends a payment that nobody holds: what its last checkpoint says is owed.
pub(crate) fn abandon<S: Store>(store: &S, keys: PaymentKeys, work: &Arc<Notify>) {
    let commit = Commit {
        keys,
        used: None,
        memo: None,
        answer: None,
    };
    // The task does it, whoever waits.
    drop(end(store, commit, None, work));
}

/// Tries until the ledger takes it, or refuses it.
async fn repeat<S: Store, C: Command + Clone>(store: &S, command: C) {
    loop {
        tokio::time::sleep(RETRY).await;
        if !may_return(&store.transact(command.clone()).await) {
            return;
        }
    }
}

/// Whether a step that failed may have been written all the same.
const fn may_be_written<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(Outage::Unknown)))
}

/// Whether a step failed for a reason that passes.
const fn may_return<T>(outcome: &Result<T, StoreError>) -> bool {
    match outcome {
        Err(StoreError::Unavailable(outage)) => !matches!(outage, Outage::Closed),
        _ => false,
    }
}

fn failed(error: StoreError) -> HoldError {
    match error {
        StoreError::Refused(Refusal::Overtaken | Refusal::Missing(_)) => HoldError::Ended,
        StoreError::Unavailable(Outage::Unknown) => HoldError::Undecided(error.to_string()),
        error => HoldError::Unavailable(error.to_string()),
    }
}

impl<S: Store> Drop for EngineHold<S> {
    fn drop(&mut self) {
        let Some(Open { store, keys }) = self.open.take() else {
            return;
        };
        // Not ended: its task was stopped. A payment that no runtime can end here is ended at the next start, by its
        // epoch.
        if tokio::runtime::Handle::try_current().is_ok() {
            abandon(&store, keys, &self.work);
        }
    }
}
