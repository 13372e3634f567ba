//! An end without loss: no new payments, open ones end by themselves or are cut, and each is charged.

use core::time::Duration;
use std::sync::Arc;

use tokio::sync::watch;

/// A handle on the payments that a paywall holds open, for a shutdown that loses none.
///
/// ```
/// # async fn shutdown(drain: tollgate_server::Drain) {
/// // Streams get 20 seconds to end; those that do not are cut and charged.
/// drain.finish(core::time::Duration::from_secs(20)).await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Drain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    open: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Open,
    Draining,
    Cut,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            open: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Open),
        }))
    }

    /// How many payments are open: being admitted, served, or ended.
    pub fn open(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Admits no more payments: priced requests are answered 503 `draining`. Free ones pass.
    pub fn begin(&self) {
        self.enter_phase(Phase::Draining);
    }

    /// Whether no more payments are admitted.
    pub fn has_begun(&self) -> bool {
        *self.0.phase.borrow() != Phase::Open
    }

    /// Ends every open answer now: streams are charged for what they delivered, what has not begun is released.
    /// Admits no more.
    pub fn cut(&self) {
        self.enter_phase(Phase::Cut);
    }

    /// Resolves when no payment is open.
    pub async fn wait(&self) {
        // It fails only without a sender, and this handle holds one.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Begins, waits as long as `patience`, cuts what is still open, and waits for that to be charged.
    pub async fn finish(&self, patience: Duration) {
        self.begin();
        if tokio::time::timeout(patience, self.wait()).await.is_err() {
            self.cut();
            self.wait().await;
        }
    }

    fn enter_phase(&self, to: Phase) {
        self.0.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = (*phase).max(to);
            later
        });
    }

    /// Counts one more open payment, unless none is admitted any more.
    pub(crate) fn enter(&self) -> Option<Open> {
        self.0
            .open
            .send_modify(|open| *open = open.saturating_add(1));
        // Counted before looking: whoever began a drain and then sees 0 open knows that none comes after.
        let open = Open(self.clone());
        (!self.has_begun()).then_some(open)
    }
}

/// One open payment; it is counted until it is dropped.
pub(crate) struct Open(Drain);

impl Open {
    /// Resolves when open answers are to be cut.
    pub(crate) fn cut(&self) -> Cut {
        Cut(self.0.0.phase.subscribe())
    }

    /// Resolves when the drain has begun.
    pub(crate) fn begun(&self) -> Begun {
        Begun(self.0.0.phase.subscribe())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .0
            .open
            .send_modify(|open| *open = open.saturating_sub(1));
    }
}

pub(crate) struct Cut(watch::Receiver<Phase>);

impl Cut {
    pub(crate) fn reached(&self) -> bool {
        *self.0.borrow() == Phase::Cut
    }

    pub(crate) async fn wait(&mut self) {
        reach(&mut self.0, Phase::Cut).await;
    }
}

pub(crate) struct Begun(watch::Receiver<Phase>);

impl Begun {
    pub(crate) async fn wait(&mut self) {
        reach(&mut self.0, Phase::Draining).await;
    }
}

async fn reach(phases: &mut watch::Receiver<Phase>, least: Phase) {
    if phases.wait_for(|phase| *phase >= least).await.is_err() {
        // The paywall is gone with all its handles: nobody can drain it.
        core::future::pending::<()>().await;
    }
}
