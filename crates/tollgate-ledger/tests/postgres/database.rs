//! The PostgreSQL of `cargo xtask postgres`, and ledgers of their own in it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use tollgate_ledger::PostgresConfig;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Where the server is.
pub(crate) fn url() -> String {
    std::env::var("TOLLGATE_POSTGRES_URL")
        .expect("run it as: cargo xtask postgres -- cargo test … -- --ignored")
}

/// A name that no other test has.
pub(crate) fn name() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(
        "t{:x}",
        RandomState::new().hash_one((std::process::id(), number))
    )
}

/// An empty ledger of its own.
pub(crate) fn ledger() -> PostgresConfig {
    of(&name())
}

/// The ledger of this name.
pub(crate) fn of(name: &str) -> PostgresConfig {
    PostgresConfig::new(&url()).unwrap().schema(name).unwrap()
}

/// An empty ledger of this name, whose connections the server knows by it.
pub(crate) fn named(name: &str) -> PostgresConfig {
    let url = format!("{} application_name={name}", url());
    PostgresConfig::new(&url).unwrap().schema(name).unwrap()
}
