//! Runs of gateways: which of those that share a ledger live, and which slice of the global bound each has.

use std::sync::{Arc, PoisonError, RwLock};

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

/// The run of this gateway, as its parts see it: it can die (a gateway that was paused for longer than its lease),
/// and another can begin. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CurrentRun(Arc<RwLock<Option<Run>>>);

impl CurrentRun {
    /// The run, or nothing while there is none: then nothing may be admitted.
    pub fn get(&self) -> Option<Run> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another run, or none.
    pub fn set(&self, run: Option<Run>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = run;
    }
}

impl From<Run> for CurrentRun {
    fn from(run: Run) -> Self {
        Self(Arc::new(RwLock::new(Some(run))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_learns_of_the_end_of_a_run() {
        let run = Run { epoch: 3, slot: 1 };
        let current = CurrentRun::from(run);
        let part = current.clone();
        assert_eq!(part.get(), Some(run));
        current.set(None);
        assert_eq!(part.get(), None);
    }
}
