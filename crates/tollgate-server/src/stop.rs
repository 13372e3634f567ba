//! What ends an answer from outside.

use core::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

use crate::drain::Cut;

/// What ends an answer, beside the inner service and the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The server shuts down and waits no longer.
    Draining,
    /// The answer took too long.
    TimeUp,
}

pub(crate) struct Stops {
    cut: Cut,
    time: Pin<Box<Sleep>>,
}

impl Stops {
    pub(crate) fn new(cut: Cut, serving: Duration) -> Self {
        Self {
            cut,
            time: Box::pin(sleep(serving)),
        }
    }

    pub(crate) async fn wait(&mut self) -> Stop {
        tokio::select! {
            biased;
            () = self.cut.wait() => Stop::Draining,
            () = self.time.as_mut() => Stop::TimeUp,
        }
    }

    /// The same without waiting, for a stream that is always ready and so never looks at anything else.
    pub(crate) fn reached(&self) -> Option<Stop> {
        if self.cut.reached() {
            Some(Stop::Draining)
        } else if Instant::now() >= self.time.deadline() {
            Some(Stop::TimeUp)
        } else {
            None
        }
    }
}
