//! The store in SQLite keeps every promise.
#![cfg(all(feature = "kit", feature = "sqlite"))]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;
use tollgate_ledger::{SqliteStore, kit::Harness};
use tollgate_x402::{B256, Clock};

struct InFiles {
    folder: TempDir,
    files: AtomicU32,
}

impl InFiles {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            files: AtomicU32::new(0),
        }
    }
}

impl Harness for InFiles {
    type Store = SqliteStore;

    fn create(&self, id: B256, clock: Arc<dyn Clock>) -> SqliteStore {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.path().join(format!("{number}.db"));
        SqliteStore::open(file, id, clock).unwrap()
    }

    fn reopen(&self, store: SqliteStore, id: B256, clock: Arc<dyn Clock>) -> SqliteStore {
        let file = store.path().to_owned();
        drop(store);
        SqliteStore::open(file, id, clock).unwrap()
    }
}

tollgate_ledger::conformance_tests!(InFiles::new());
