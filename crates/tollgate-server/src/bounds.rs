//! How much and how long.

use core::time::Duration;

use tollgate_x402::{Amount, Limits};

/// The bounds within which a paywall reads, waits and risks.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Bounds {
    /// The longest request body, in bytes. More is 413. Default 4 MiB.
    pub request_bytes: usize,
    /// The most that bodies take together while they are being read, in bytes, beside the piece of each that just came.
    /// Where it does not suffice, the one that takes most is given up, and told with a 429 to come again: of `n` bodies
    /// none is that takes less than an `n`th of this. A body that comes in pieces takes up to three times its length
    /// (it is copied as it grows), and at most twice [`request_bytes`](Self::request_bytes); if this is below that, the
    /// longest may not be taken at all. Default 256 MiB.
    pub reading_bytes: usize,
    /// How long a request body may take to arrive. Default 30 s.
    pub request_timeout: Duration,
    /// The longest body of a buffered answer, in bytes. More is the upstream's failure: 502, nothing charged.
    /// Default 16 MiB.
    pub response_bytes: usize,
    /// The bounds of the payment header. Default 16 KiB.
    pub wire: Limits,
    /// The most that may be delivered and not be durable yet, in atomic units: what a crash can lose of one stream.
    /// Default 10^16, which is one US cent of a dollar of 18 decimals.
    pub checkpoint_step: Amount,
    /// How long something delivered may stay not durable. Default 2 s.
    pub checkpoint_interval: Duration,
    /// How many frames of a stream may wait for the reader, at least 1. Default 16.
    pub frames: usize,
    /// How long a stream waits for a reader that takes nothing, before it is ended and charged. Default 30 s.
    pub write_timeout: Duration,
    /// How long one request may be served, from its admission. A stream is cut and charged then; an answer that has
    /// not begun is 504. It must not be above the margin that the till keeps before a payment's deadline.
    /// Default 10 min.
    pub serving: Duration,
    /// How long a caller may ask to wait until its payment is in a block, after its answer is there (`Prefer: wait`), in
    /// whole seconds. Who asks for more waits so long; 0: nobody waits. Only whole answers wait, never streams.
    /// Default 30 s.
    pub wait: Duration,
    /// How many callers may wait so at once. Each keeps its answer in memory, of at most
    /// [`response_bytes`](Self::response_bytes), and its connection; above this many, answers go out at once. Default 256.
    pub waiting: usize,
    /// What `Retry-After` says where the till says nothing, in seconds. Default 2.
    pub retry_after: u64,
}

impl Bounds {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            request_bytes: 4 * 1024 * 1024,
            reading_bytes: 256 * 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            response_bytes: 16 * 1024 * 1024,
            wire: Limits::DEFAULT,
            checkpoint_step: Amount::from(10_000_000_000_000_000_u64),
            checkpoint_interval: Duration::from_secs(2),
            frames: 16,
            write_timeout: Duration::from_secs(30),
            serving: Duration::from_secs(600),
            wait: Duration::from_secs(30),
            waiting: 256,
            retry_after: 2,
        }
    }
}
