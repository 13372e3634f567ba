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

mod answer;
mod binding;
mod body;
mod bounds;
mod drain;
mod future;
pub mod headers;
mod layer;
mod memory;
mod meter;
mod prefer;
mod problem;
mod pump;
mod read;
mod record;
mod refusal;
mod replay;
mod sale;
mod stop;
mod wait;

pub use binding::request_digest;
pub use body::{BodyError, BoxError, PaywallBody};
pub use bounds::Bounds;
pub use drain::Drain;
pub use future::ResponseFuture;
pub use layer::{Paywall, PaywallLayer};
pub use meter::{Delivery, Ending, Meter, Outcome, Tariff, Unpriced};
pub use problem::Problem;
