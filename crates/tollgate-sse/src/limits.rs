//! What a peer may make us hold.

/// Bounds on what the decoder buffers, in bytes. A peer that goes beyond them gets a [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest line, without its end, in bytes.
    pub max_line: usize,
    /// The largest event, in bytes: its data with the joining line feeds, its name and its id together.
    /// Comments and unknown fields are not held, so only `max_line` bounds them.
    pub max_event: usize,
}

impl Limits {
    /// Limits of the given sizes, in bytes.
    pub const fn new(max_line: usize, max_event: usize) -> Self {
        Self {
            max_line,
            max_event,
        }
    }
}

/// 1 MiB a line and 4 MiB an event.
impl Default for Limits {
    fn default() -> Self {
        Self::new(1 << 20, 4 << 20)
    }
}

/// The sender of the stream broke a bound. There is no other error: the standard gives every
/// sequence of bytes a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line is longer than [`Limits::max_line`].
    #[error(
        "the event stream holds a line of more than {limit} bytes: raise max_line if the sender is trusted"
    )]
    LineTooLong {
        /// The bound, in bytes.
        limit: usize,
    },
    /// An event is larger than [`Limits::max_event`].
    #[error(
        "the event stream holds an event of more than {limit} bytes: raise max_event if the sender is trusted"
    )]
    EventTooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
}
