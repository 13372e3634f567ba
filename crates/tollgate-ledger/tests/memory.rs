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

mod shared {
    use super::*;

    /// Several gateways on the same books.
    struct Shared;

    impl Harness for Shared {
        type Store = MemoryStore;

        fn create(&self, id: B256, clock: Arc<dyn Clock>) -> MemoryStore {
            MemoryStore::shared(id, clock)
        }

        fn reopen(&self, store: MemoryStore, _id: B256, _clock: Arc<dyn Clock>) -> MemoryStore {
            store.fork()
        }

        fn replica(&self, store: &MemoryStore, _clock: Arc<dyn Clock>) -> Option<MemoryStore> {
            Some(store.replica())
        }
    }

    tollgate_ledger::conformance_tests!(Shared);
}
