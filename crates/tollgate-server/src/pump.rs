//! The pump of a stream: it forwards frames as they come, and keeps what they are worth durable.

use core::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::{Instant, sleep_until, timeout};
use tollgate_payment::port::{Hold, HoldError};
use tollgate_x402::Amount;

use crate::{
    Bounds, BoxError, Meter,
    body::{Gone, Sender},
    record::Record,
    stop::{Stop, Stops},
};

/// Why a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The inner body ended.
    Complete,
    /// The inner body failed.
    UpstreamError,
    /// The cap, the time, the ledger, the payer's money, or a shutdown ended it.
    Cut,
    /// The inner body panicked.
    Panicked,
    /// The caller hung up.
    Gone,
    /// The caller took nothing for too long.
    Stalled,
}

/// Carries one stream from the inner service to the caller.
pub(crate) struct Pump<'a, H, M> {
    pub(crate) hold: &'a mut H,
    pub(crate) meter: &'a mut M,
    /// What the frames so far are worth. It outlives a panic.
    pub(crate) used: &'a mut Amount,
    pub(crate) stops: &'a mut Stops,
    pub(crate) bounds: &'a Bounds,
    pub(crate) sender: &'a Sender,
    pub(crate) durable: Durable,
    /// What goes out is kept as well, where it can be asked for again.
    pub(crate) record: &'a mut Option<Record>,
}

impl<H: Hold, M: Meter> Pump<'_, H, M> {
    /// Runs until the stream ends. The inner body is dropped on return, so that its work stops before the charge is
    /// made. Trailers are given back: they go out after the closing bytes.
    pub(crate) async fn run<B>(mut self, body: B) -> (End, Option<HeaderMap>)
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        let mut trailers = None;
        let mut delivered = false;
        let end = loop {
            let frame = match self.next(body.as_mut()).await {
                Ok(frame) => frame,
                Err(end) => break end,
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            if let Err(end) = self.forward(data).await {
                break end;
            }
            delivered = true;
        };
        // What an upstream reports of itself after its last frame counts as well.
        if delivered && matches!(end, End::Complete | End::UpstreamError) {
            *self.used = self.meter.observe(&Bytes::new());
        }
        (end, trailers)
    }

    /// The next frame; beside the wait for it, what was delivered becomes durable if it is time.
    async fn next<B>(&mut self, body: Pin<&mut B>) -> Result<Frame<Bytes>, End>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let used = *self.used;
        let open = used.saturating_sub(self.durable.used);
        let half = self.bounds.checkpoint_step.get().wrapping_shr(1);
        let due = self.durable.at.checked_add(self.bounds.checkpoint_interval);
        let mut frame = pin!(pull(
            body,
            self.sender,
            self.stops,
            self.bounds.write_timeout
        ));
        if open.is_zero() {
            return frame.await;
        }
        // Half a step ahead, so that the frame that would pass the step seldom has to wait for the disk.
        if open.get() <= half {
            tokio::select! {
                biased;
                frame = frame.as_mut() => return frame,
                () = at(due) => {}
            }
        }
        // A hold's step is never dropped half-way: the ledger would not know what to believe.
        let mut saving = pin!(self.hold.checkpoint(used));
        let (saved, frame) = tokio::select! {
            biased;
            saved = saving.as_mut() => match saved {
                Ok(()) => (Ok(()), frame.await),
                Err(error) => return Err(not_saved(&error)),
            },
            frame = frame.as_mut() => (saving.await, frame),
        };
        saved.map_err(|error| not_saved(&error))?;
        self.durable = Durable {
            used,
            at: Instant::now(),
        };
        frame
    }

    /// Meters a frame and sends it.
    async fn forward(&mut self, data: Bytes) -> Result<(), End> {
        if data.is_empty() {
            return Ok(());
        }
        *self.used = self.meter.observe(&data);
        let used = *self.used;
        let mut last = Ok(());
        if used.saturating_sub(self.durable.used) > self.bounds.checkpoint_step {
            last = match self.hold.checkpoint(used).await {
                Ok(()) => Ok(()),
                // It is durable and counts: the caller gets what it is charged for.
                Err(error @ HoldError::Void(_)) => Err(not_saved(&error)),
                Err(error) => return Err(not_saved(&error)),
            };
            self.durable = Durable {
                used,
                at: Instant::now(),
            };
        }
        if let Some(record) = self.record {
            record.push(&data);
        }
        self.sender
            .send(Frame::data(data))
            .map_err(|Gone| End::Gone)?;
        if used > self.hold.cap() {
            Err(End::Cut)
        } else {
            last
        }
    }
}

/// What is known to be durable, and since when.
pub(crate) struct Durable {
    used: Amount,
    at: Instant,
}

impl Durable {
    /// Nothing was delivered yet.
    pub(crate) fn nothing() -> Self {
        Self {
            used: Amount::ZERO,
            at: Instant::now(),
        }
    }
}

fn not_saved(error: &HoldError) -> End {
    match error {
        HoldError::Void(voided) => {
            tracing::warn!(%voided, "the payment was voided while it was served; the stream is cut");
        }
        error => tracing::error!(%error, "a checkpoint was not written; the stream is cut"),
    }
    End::Cut
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        // Beyond what the clock counts.
        None => core::future::pending().await,
    }
}

/// Waits for room, and only then for a frame: no more is taken from the inner service than the caller takes from us.
async fn pull<B>(
    mut body: Pin<&mut B>,
    sender: &Sender,
    stops: &mut Stops,
    patience: Duration,
) -> Result<Frame<Bytes>, End>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if let Some(stop) = stops.reached() {
        return Err(cut(stop));
    }
    tokio::select! {
        biased;
        room = timeout(patience, sender.room()) => match room {
            Ok(Ok(())) => {}
            Ok(Err(Gone)) => return Err(End::Gone),
            Err(_) => return Err(End::Stalled),
        },
        stop = stops.wait() => return Err(cut(stop)),
    }
    // A panic is caught here already: above, a checkpoint may be on its way to the disk.
    let polled = AssertUnwindSafe(poll_fn(|cx| body.as_mut().poll_frame(cx))).catch_unwind();
    let frame = tokio::select! {
        biased;
        frame = polled => frame.map_err(|_| End::Panicked)?,
        () = sender.gone() => return Err(End::Gone),
        stop = stops.wait() => return Err(cut(stop)),
    };
    match frame {
        // What the caller can no longer get is not metered.
        _ if sender.is_gone() => Err(End::Gone),
        None => Err(End::Complete),
        Some(Ok(frame)) => Ok(frame),
        Some(Err(error)) => {
            let error = error.into();
            tracing::warn!(%error, "the inner service's stream failed");
            Err(End::UpstreamError)
        }
    }
}

fn cut(stop: Stop) -> End {
    tracing::debug!(?stop, "stream cut");
    End::Cut
}
