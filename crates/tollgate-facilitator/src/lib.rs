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

mod access;
mod answer;
mod client;
mod port;
mod problem;
mod read;
mod service;

pub use access::{Caller, CallerName, Callers, GasBudget, KeyHash, NameError};
pub use answer::AnswerBody;
pub use client::{Client, ClientConfig, ConfigError};
pub use port::{Call, Facilitator, FacilitatorError, Settled, Stage};
pub use problem::ProblemCode;
pub use service::{FacilitatorService, ServiceConfig, ServiceFuture};
