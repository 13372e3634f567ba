//! A caller that waits for a block before it takes its answer.

use core::{future::Future, pin::Pin, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::sleep,
};
use tollgate_payment::port::Hold;
use tollgate_x402::PaymentStatus;

use crate::{
    Bounds,
    drain::{Begun, Open},
};

/// What a caller asked for, and how many may.
pub(crate) struct Waits<'a> {
    /// Seconds; none: at once.
    seconds: u64,
    places: &'a Semaphore,
}

impl<'a> Waits<'a> {
    /// Of a caller that asked to wait so long.
    pub(crate) fn new(asked: Option<u64>, bounds: &Bounds, places: &'a Semaphore) -> Self {
        Self {
            seconds: asked.unwrap_or(0).min(bounds.wait.as_secs()),
            places,
        }
    }

    /// The wait for what is charged next, if there is one: it was asked for, a block is expected, and there is a place.
    pub(crate) fn wait<H: Hold>(&self, hold: &H, open: &Open) -> Option<Wait<'a>> {
        if self.seconds == 0 {
            return None;
        }
        let inclusion = hold.inclusion()?;
        let place = self.places.try_acquire().ok()?;
        Some(Wait {
            // Most callers do not wait: their tasks have no room for it.
            inclusion: Box::pin(inclusion),
            seconds: self.seconds,
            begun: open.begun(),
            _place: place,
        })
    }
}

/// A wait that has a place.
pub(crate) struct Wait<'a> {
    inclusion: Pin<Box<dyn Future<Output = Option<PaymentStatus>> + Send>>,
    seconds: u64,
    begun: Begun,
    _place: SemaphorePermit<'a>,
}

/// What came of a wait.
#[derive(Default)]
pub(crate) struct Waited {
    /// How the payment stands, if that is news.
    pub(crate) status: Option<PaymentStatus>,
    /// The preference, in seconds, if it was honoured: there was nothing more to wait for, or the time was over.
    pub(crate) applied: Option<u64>,
}

impl Wait<'_> {
    /// Waits for the block: no longer than was asked, nor for a caller that has gone, nor while the server shuts down.
    pub(crate) async fn end(self, gone: impl Future<Output = ()>) -> Waited {
        let Self {
            inclusion,
            seconds,
            mut begun,
            _place,
        } = self;
        let applied = Some(seconds);
        tokio::select! {
            biased;
            status = inclusion => match status {
                Some(status) => Waited { status: Some(status), applied },
                None => Waited::default(),
            },
            () = gone => Waited::default(),
            () = begun.wait() => Waited::default(),
            () = sleep(Duration::from_secs(seconds)) => Waited { status: None, applied },
        }
    }
}
