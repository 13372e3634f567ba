//! The store in memory keeps every promise.
#![cfg(feature = "kit")]

use std::sync::Arc;

use tollgate_ledger::{MemoryStore, kit::Harness};
use tollgate_x402::{B256, Clock};

struct InMemory;

impl Harness for InMemory {
    type Store = MemoryStore;

    fn create(&self, id: B256, clock: Arc<dyn Clock>) -> MemoryStore {
        MemoryStore::new(id, clock)
    }

    fn reopen(&self, store: MemoryStore, _id: B256, _clock: Arc<dyn Clock>) -> MemoryStore {
        store.fork()
    }
}

tollgate_ledger::conformance_tests!(InMemory);
