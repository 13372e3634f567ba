//! Counting what is asked of the nodes: tests and metrics assert it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// How often each JSON-RPC method was called, over all endpoints; a batch counts by its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcCounts {
    /// Calls by method.
    pub calls: BTreeMap<&'static str, u64>,
    /// HTTP requests: a batch is one.
    pub round_trips: u64,
}

impl RpcCounts {
    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.calls
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The calls of one method.
    #[must_use]
    pub fn of(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or_default()
    }

    /// What was added since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            calls: self
                .calls
                .iter()
                .map(|(method, count)| (*method, count.saturating_sub(earlier.of(method))))
                .filter(|(_, count)| *count > 0)
                .collect(),
            round_trips: self.round_trips.saturating_sub(earlier.round_trips),
        }
    }
}

/// The counter behind [`RpcCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<RpcCounts>);

impl Counter {
    /// One HTTP request with these methods.
    pub(crate) fn add(&self, methods: &[&'static str]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.round_trips = counts.round_trips.saturating_add(1);
        for method in methods {
            let count = counts.calls.entry(method).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn get(&self) -> RpcCounts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
