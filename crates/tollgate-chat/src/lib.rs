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

mod bound;
mod completion;
mod data_url;
mod error;
mod event;
mod finish;
mod json;
mod limits;
mod request;
mod tally;
mod write;

pub mod dialect;
pub mod upstream;

pub use bound::{InputBound, upper_bound_tokens};
pub use completion::{Completion, CompletionTooLarge};
pub use data_url::{DataUrl, DataUrlError};
pub use dialect::Dialect;
pub use error::{JsonPath, RequestError, StreamError};
pub use event::{ChatEvent, FinishReason, ReportedUsage};
pub use finish::{FinishMetadata, MetaValue};
pub use limits::RequestLimits;
pub use request::{ChatRequest, Message, Part, Role};
pub use tally::Tally;
pub use tollgate_sse::Utf8Bytes;
