//! Runs of gateways: which of those that share a ledger live, and which slice of the global bound each has.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// Seconds for which a run that is shared is believed to live after its last sign of life, by the ledger's clock.
pub const RUN_LEASE: u64 = 15;

/// Seconds between signs of life.
pub const RENEW_EVERY: u64 = 5;

/// A run of a gateway, from its start to its end or its death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Its number: above every one before, at least 1.
    pub epoch: u64,
    /// Its slot, which no other living run has: the slice of the global bound that it may use.
    pub slot: u32,
}

/// Seconds for which a run admits after it asked to be renewed: [`RUN_LEASE`], less one because the ledger counts whole
/// seconds, and less one for what is on its way to the ledger.
const ADMITS_FOR: Duration = Duration::from_secs(RUN_LEASE.saturating_sub(2));

/// The run of this gateway, as its parts see it: it ends by itself where it was not renewed in time, since the others
/// may then take it for dead, and another can begin. Clones share it.
#[derive(Clone)]
pub struct CurrentRun(Arc<Inner>);

struct Inner {
    /// The time since some moment; it never goes back.
    time: Box<dyn Fn() -> Duration + Send + Sync>,
    run: RwLock<Option<Life>>,
}

/// A run, and until when it lives without another sign of life; `None`: it needs none.
#[derive(Clone, Copy)]
struct Life {
    run: Run,
    until: Option<Duration>,
}

impl CurrentRun {
    /// No run yet. Its time is this process's monotonic clock.
    pub fn new() -> Self {
        let began = Instant::now();
        Self::with_time(move || began.elapsed())
    }

    /// No run yet, and time from elsewhere: the time since some moment, which never goes back.
    pub fn with_time(time: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            time: Box::new(time),
            run: RwLock::new(None),
        }))
    }

    /// The run, or nothing while there is none: then nothing may be admitted.
    pub fn get(&self) -> Option<Run> {
        let life = *self.0.run.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        life.filter(|life| life.until.is_none_or(|until| now < until))
            .map(|life| life.run)
    }

    /// This moment, by the time that it goes by: to be taken before a sign of life is sent.
    pub fn now(&self) -> Duration {
        (self.0.time)()
    }

    /// The ledger took a sign of life of this run, which was sent at `asked`.
    pub fn renew(&self, run: Run, asked: Duration) {
        self.set(Some(Life {
            run,
            until: Some(asked.saturating_add(ADMITS_FOR)),
        }));
    }

    /// There is no run any more.
    pub fn end(&self) {
        self.set(None);
    }

    fn set(&self, life: Option<Life>) {
        *self.0.run.write().unwrap_or_else(PoisonError::into_inner) = life;
    }
}

impl Default for CurrentRun {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CurrentRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CurrentRun").field(&self.get()).finish()
    }
}

/// A run that needs no signs of life: of a process that has its ledger for itself.
impl From<Run> for CurrentRun {
    fn from(run: Run) -> Self {
        let current = Self::new();
        current.set(Some(Life { run, until: None }));
        current
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn every_part_learns_of_the_end_of_a_run() {
        let run = Run { epoch: 3, slot: 1 };
        let current = CurrentRun::from(run);
        let part = current.clone();
        assert_eq!(part.get(), Some(run));
        current.end();
        assert_eq!(part.get(), None);
    }

    #[test]
    fn a_run_that_is_not_renewed_ends_before_its_lease() {
        let seconds = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&seconds);
        let current =
            CurrentRun::with_time(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
        let run = Run { epoch: 1, slot: 0 };
        let asked = current.now();
        // The ledger took long: the lease may have begun when it was asked for.
        seconds.store(4, Ordering::SeqCst);
        current.renew(run, asked);
        let at = |second| {
            seconds.store(second, Ordering::SeqCst);
            current.get()
        };
        assert_eq!(at(RUN_LEASE - 3), Some(run));
        assert_eq!(at(RUN_LEASE - 2), None);
        current.renew(run, current.now());
        assert_eq!(at(RUN_LEASE + 5), Some(run));
    }
}
