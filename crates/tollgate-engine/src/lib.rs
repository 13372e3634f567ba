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

mod hold;
mod market;
mod policy;
mod rail;
mod status;
mod till;
mod verifier;
mod worker;

pub use hold::EngineHold;
pub use market::{Market, Markets};
pub use policy::Policy;
pub use rail::{OwnRail, RailConfig};
pub use status::status;
pub use till::{Cashier, CashierConfig};
pub use verifier::ChainVerifier;
pub use worker::{Progress, Worker, WorkerConfig, WorkerError};
