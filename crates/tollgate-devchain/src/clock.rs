//! Where block timestamps come from.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The block interval of BSC since Fermi (BEP-619), in milliseconds.
pub(crate) const INTERVAL_MS: u64 = 450;

/// The first timestamp of a chain with its own clock, in seconds: the start
/// of 2026. It lies in the past so that deadlines of the wall clock are far.
pub const START_TIME: u64 = 1_767_225_600;

type Source = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The chain's clock. Header timestamps are whole seconds, so several blocks
/// share one, as on BSC.
#[derive(Clone)]
pub(crate) enum Clock {
    /// Moves 450 ms with each block and otherwise only when told.
    Stepped { next_ms: u64 },
    /// A clock from outside, in seconds, and how far the chain is ahead of it.
    Given { source: Source, ahead: i64 },
}

impl Clock {
    pub(crate) fn stepped(start: u64) -> Self {
        Self::Stepped {
            next_ms: start.saturating_mul(1000),
        }
    }

    pub(crate) fn given(source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self::Given {
            source: Arc::new(source),
            ahead: 0,
        }
    }

    pub(crate) fn system() -> Self {
        Self::given(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs())
        })
    }

    /// The time of a block made now, in seconds.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Stepped { next_ms } => next_ms / 1000,
            Self::Given { source, ahead } => source().saturating_add_signed(*ahead),
        }
    }

    /// A block was made with this timestamp, in seconds.
    pub(crate) fn tick(&mut self, timestamp: u64) {
        if let Self::Stepped { next_ms } = self {
            *next_ms = (*next_ms)
                .max(timestamp.saturating_mul(1000))
                .saturating_add(INTERVAL_MS);
        }
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        self.set(self.now().saturating_add(seconds));
    }

    /// The next block gets this timestamp, and time goes on from there.
    pub(crate) fn set(&mut self, seconds: u64) {
        match self {
            Self::Stepped { next_ms } => *next_ms = seconds.saturating_mul(1000),
            Self::Given { source, ahead } => *ahead = distance(source(), seconds),
        }
    }
}

/// `to - from`, clamped at the ends of the type.
fn distance(from: u64, to: u64) -> i64 {
    let distance = i128::from(to) - i128::from(from);
    i64::try_from(distance).unwrap_or(if distance < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stepped { next_ms } => write!(f, "Stepped({next_ms} ms)"),
            Self::Given { ahead, .. } => write!(f, "Given(+{ahead} s)"),
        }
    }
}
