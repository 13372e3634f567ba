//! The system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_x402::{Clock, Timestamp};

/// The system's clock, in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}
