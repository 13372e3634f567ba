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

mod decode;
mod encode;
mod event;
mod limits;
mod text;

pub use decode::{Decoder, Frame};
pub use encode::{encode_comment, encode_data};
pub use event::{Event, Field, FieldError};
pub use limits::{DecodeError, Limits};
pub use text::Utf8Bytes;

/// The media type of an event stream, WHATWG HTML §9.2.5.
pub const CONTENT_TYPE: &str = "text/event-stream";
