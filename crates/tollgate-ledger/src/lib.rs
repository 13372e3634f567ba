#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod body;
mod decide;
mod error;
#[cfg(feature = "kit")]
pub mod kit;
mod log;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod run;
mod scan;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod text;
mod totals;

pub use decide::{Decided, decide};
pub use error::{Outage, StoreError};
pub use log::{LogFilter, PaymentLog, Status};
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresConfig, PostgresError, PostgresStore, ServerReport};
pub use query::{BookedEntry, Due, Queue};
pub use run::{CurrentRun, RENEW_EVERY, RUN_LEASE, Run};
pub use scan::RowKind;
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteStore};
pub use store::{Durable, Executed, Store};
pub use totals::{Balance, Sum, TokenTotals, Totals};
