//! The conformance kit: what every store must do, run against it by its own tests.
//!
//! ```
//! use std::sync::Arc;
//! use tollgate_ledger::{MemoryStore, kit::Harness};
//! use tollgate_x402::{B256, Clock};
//!
//! #[derive(Default)]
//! struct InMemory;
//!
//! impl Harness for InMemory {
//!     type Store = MemoryStore;
//!     fn create(&self, id: B256, clock: Arc<dyn Clock>) -> MemoryStore {
//!         MemoryStore::new(id, clock)
//!     }
//!     fn reopen(&self, store: MemoryStore, _id: B256, _clock: Arc<dyn Clock>) -> MemoryStore {
//!         store.fork()
//!     }
//! }
//!
//! tollgate_ledger::conformance_tests!(InMemory::default());
//! # fn main() {}
//! ```
//!
//! A promise that does not hold panics, as tests do.
#![cfg_attr(
    not(test),
    expect(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects,
        reason = "it is a test, which other crates run"
    )
)]

mod ask;
mod history;
mod model;
mod payers;
mod promises;
mod runs;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tollgate_x402::{B256, Clock, Timestamp};

pub use self::{
    ask::Ask,
    history::{History, Step},
    model::{agrees_with_memory, compare},
    payers::{Kind, OPERATOR, PERMIT2, SELLER, TOKEN, credit, payer, payment_id, reserve},
    promises::*,
    runs::*,
};
use crate::store::Store;

/// How a test gets at a store.
pub trait Harness: Send + Sync {
    /// The store.
    type Store: Store;

    /// An empty ledger of its own with this name.
    fn create(&self, ledger_id: B256, clock: Arc<dyn Clock>) -> Self::Store;

    /// Closes a ledger and opens it again, as a new start would; `ledger_id` is another one than it has.
    fn reopen(&self, store: Self::Store, ledger_id: B256, clock: Arc<dyn Clock>) -> Self::Store;

    /// The same ledger as another gateway opens it, where several may; `None` where one process owns it.
    fn replica(&self, _store: &Self::Store, _clock: Arc<dyn Clock>) -> Option<Self::Store> {
        None
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows the beginning of the kit's time.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_900_000_000)))
    }

    /// Moves it.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Runs one promise.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// One test a promise, for the harness that the expression makes; an attribute before it is given to each test.
#[macro_export]
macro_rules! conformance_tests {
    (#[$attribute:meta] $harness:expr) => {
        $crate::conformance_tests! { @all [#[$attribute]] $harness }
    };
    ($harness:expr) => {
        $crate::conformance_tests! { @all [] $harness }
    };
    (@all $attributes:tt $harness:expr) => {
        $crate::conformance_tests! { @each $attributes $harness =>
            a_later_step_sees_the_earlier_one_before_it_is_durable
            a_ledger_keeps_its_name_and_its_rows_when_it_is_opened_again
            a_step_that_writes_what_it_did_not_name_writes_nothing
            a_refused_step_writes_nothing
            an_allowance_is_never_overdrawn_by_64_requests_at_once
            one_balance_behind_three_kinds_of_authorization_is_spent_once
            one_once_authorization_sent_64_times_at_once_is_admitted_once
            runs_are_numbered_without_repeats
            due_payments_of_one_spender_come_in_the_order_of_their_commits
            payments_of_dead_runs_are_found
            a_run_that_ended_is_dead_and_the_next_takes_over
            each_living_run_has_a_slot_of_its_own
            a_run_declared_dead_learns_it_and_writes_nothing
            what_has_expired_is_forgotten_and_nothing_else
            an_abandoned_call_is_executed_nevertheless
            the_books_balance_after_many_callers_at_once
        }
        $crate::conformance_tests! { @one $attributes it_agrees_with_the_memory_store_on_random_histories
            $crate::kit::agrees_with_memory(&$harness)
        }
    };
    (@each $attributes:tt $harness:expr => $($promise:ident)*) => {$(
        $crate::conformance_tests! { @one $attributes $promise
            $crate::kit::block_on($crate::kit::$promise(&$harness))
        }
    )*};
    (@one [$(#[$attribute:meta])*] $name:ident $does:expr) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            $does;
        }
    };
}
