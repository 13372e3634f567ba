//! A second look at the payer of a long stream.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tollgate_ledger::Store;
use tollgate_payment::{
    PaymentKeys,
    command::{Funds, Notice, Voided},
    port::{Verifier, VerifyError},
};
use tollgate_x402::{Authorization, Clock, Timestamp};

type Look = dyn Fn() -> Pin<Box<dyn Future<Output = Option<Voided>> + Send>> + Send + Sync;

/// Looks at a payer's money again while it is being served, beside the stream and never in its way.
pub(crate) struct Watch {
    look: Box<Look>,
    clock: Arc<dyn Clock>,
    every: u64,
    next: Timestamp,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    looking: bool,
    voided: Option<Voided>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is looked up is the payer's.
        f.debug_struct("Watch")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// A look every so many seconds, the first when as many have passed.
    pub(crate) fn new<F, L>(every: u64, clock: Arc<dyn Clock>, look: L) -> Self
    where
        F: Future<Output = Option<Voided>> + Send + 'static,
        L: Fn() -> F + Send + Sync + 'static,
    {
        Self {
            next: clock.now().plus(every),
            look: Box::new(move || Box::pin(look())),
            clock,
            every,
            seen: Arc::default(),
        }
    }

    /// What the last look found against the payment; begins the next, if it is time.
    pub(crate) fn found(&mut self) -> Option<Voided> {
        let now = self.clock.now();
        let mut seen = lock(&self.seen);
        if now >= self.next && !seen.looking && seen.voided.is_none() {
            self.next = now.plus(self.every);
            seen.looking = true;
            let (look, seen) = ((self.look)(), Arc::clone(&self.seen));
            tokio::spawn(async move {
                let voided = look.await;
                *lock(&seen) = Seen {
                    looking: false,
                    voided,
                };
            });
        }
        seen.voided.clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the money of a payer that is being served. What is found of its balance and allowance goes to the books,
/// where the next step of each of its streams sees it; what is said against the authorization itself comes back.
pub(crate) async fn look_again<S: Store, V: Verifier>(
    store: &S,
    verifier: &V,
    keys: PaymentKeys,
    authorization: &Authorization,
) -> Option<Voided> {
    match verifier.funds(authorization).await {
        Ok(funds) => {
            notice(store, keys, funds).await;
            None
        }
        Err(VerifyError::Refused { message, .. }) => Some(Voided::Refused(message)),
        // Who cannot be seen is not judged.
        Err(VerifyError::Unavailable(_)) => None,
    }
}

/// Keeps what was read of a payer that is being served.
pub(crate) async fn notice<S: Store>(store: &S, keys: PaymentKeys, funds: Funds) {
    let notice = Notice {
        owner: keys.owner,
        spender: keys.spender_key(),
        funds,
    };
    if let Err(error) = store.execute(notice).await {
        tracing::debug!(%error, "what was read of a payer was not noted");
    }
}
