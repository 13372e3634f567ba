//! The store in PostgreSQL keeps every promise:
//! `cargo xtask postgres -- cargo test -p tollgate-ledger --all-features --test postgres -- --ignored`.
#![cfg(all(feature = "kit", feature = "postgres"))]

mod crash;
mod database;
mod gateways;
mod opening;
mod tls;
mod unfit;

use std::sync::{Arc, Mutex};

use tollgate_ledger::{PostgresConfig, PostgresStore, Store, kit::Harness};
use tollgate_x402::{B256, Clock};

/// Each ledger is a schema of its own.
#[derive(Default)]
struct InSchemas {
    last: Mutex<Option<PostgresConfig>>,
}

impl InSchemas {
    fn open(&self, config: &PostgresConfig, id: B256, clock: Arc<dyn Clock>) -> PostgresStore {
        let open = PostgresStore::open(config.clone().with_clock(clock), id);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(open)).unwrap()
    }
}

impl Harness for InSchemas {
    type Store = PostgresStore;

    fn create(&self, id: B256, clock: Arc<dyn Clock>) -> PostgresStore {
        let config = database::ledger();
        *self.last.lock().unwrap() = Some(config.clone());
        self.open(&config, id, clock)
    }

    fn reopen(&self, store: PostgresStore, id: B256, clock: Arc<dyn Clock>) -> PostgresStore {
        let config = self.last.lock().unwrap().clone().unwrap();
        drop(store);
        self.open(&config, id, clock)
    }

    fn replica(&self, store: &PostgresStore, clock: Arc<dyn Clock>) -> Option<PostgresStore> {
        let config = self.last.lock().unwrap().clone().unwrap();
        Some(self.open(&config, store.ledger_id(), clock))
    }
}

tollgate_ledger::conformance_tests!(
    #[ignore = "needs PostgreSQL: cargo xtask postgres"]
    InSchemas::default()
);
