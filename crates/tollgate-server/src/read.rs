//! Reads a request's body, within a size and a time.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tollgate_x402::ErrorCode;

use crate::{Bounds, Problem};

pin_project! {
    /// The whole body, which is not copied if it comes in one piece.
    pub(crate) struct Read<B> {
        #[pin]
        body: B,
        #[pin]
        time: Sleep,
        first: Bytes,
        rest: BytesMut,
        memory: Arc<Semaphore>,
        // What this body takes of it.
        taken: Option<OwnedSemaphorePermit>,
        limit: usize,
        over: bool,
        // How much more of a body that is too large is read and thrown away: a connection that is closed while its
        // client still writes loses the answer that says so.
        patience: usize,
    }
}

/// A body of up to so many times the limit is read to its end before it is refused.
const DISCARDED: usize = 4;

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
    Late,
    /// Others take all the memory there is for this.
    Crowded,
}

impl ReadError {
    pub(crate) fn problem(self, bounds: &Bounds) -> Problem {
        let (code, message) = match self {
            Self::TooLarge => (
                ErrorCode::RequestTooLarge,
                format!("the request's body is over {} bytes", bounds.request_bytes),
            ),
            Self::Broken => (
                ErrorCode::InvalidRequest,
                "the request's body broke off".to_owned(),
            ),
            Self::Late => (
                ErrorCode::InvalidRequest,
                format!(
                    "the request's body did not arrive within {} ms",
                    bounds.request_timeout.as_millis()
                ),
            ),
            Self::Crowded => (
                ErrorCode::RateLimited,
                "too many requests are being read".to_owned(),
            ),
        };
        let problem = Problem::new(code, message);
        match self {
            Self::Crowded => problem.retry_after(bounds.retry_after),
            Self::TooLarge | Self::Broken | Self::Late => problem,
        }
    }
}

impl<B: Body> Read<B> {
    /// # Errors
    /// [`ReadError::TooLarge`], if the body says itself that it is far too large.
    pub(crate) fn new(
        body: B,
        bounds: &Bounds,
        memory: &Arc<Semaphore>,
    ) -> Result<Self, ReadError> {
        let limit = bounds.request_bytes;
        let patience = limit.saturating_mul(DISCARDED);
        let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if length > patience {
            return Err(ReadError::TooLarge);
        }
        let time = sleep(bounds.request_timeout);
        Ok(Self {
            body,
            time,
            first: Bytes::new(),
            rest: BytesMut::new(),
            memory: Arc::clone(memory),
            taken: None,
            limit,
            over: length > limit,
            patience,
        })
    }
}

impl<B: Body> Future for Read<B> {
    type Output = Result<Bytes, ReadError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let mut data = match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(ReadError::Broken)),
                Poll::Ready(None) if *this.over => return Poll::Ready(Err(ReadError::TooLarge)),
                Poll::Ready(None) => {
                    let first = core::mem::take(this.first);
                    let rest = core::mem::take(this.rest);
                    return Poll::Ready(Ok(if rest.is_empty() {
                        first
                    } else {
                        rest.freeze()
                    }));
                }
                Poll::Pending => return this.time.as_mut().poll(cx).map(|()| Err(ReadError::Late)),
            };
            // Either the body is in `first`, or it is in `rest`.
            let read = this.first.len().max(this.rest.len());
            *this.over |= read.saturating_add(data.remaining()) > *this.limit;
            if *this.over {
                *this.first = Bytes::new();
                *this.rest = BytesMut::new();
                *this.taken = None;
                match this.patience.checked_sub(data.remaining()) {
                    Some(left) => *this.patience = left,
                    None => return Poll::Ready(Err(ReadError::TooLarge)),
                }
                continue;
            }
            let more = u32::try_from(data.remaining()).ok();
            let more = more.and_then(|more| this.memory.clone().try_acquire_many_owned(more).ok());
            match (more, this.taken.as_mut()) {
                (None, _) => return Poll::Ready(Err(ReadError::Crowded)),
                (Some(more), Some(taken)) => taken.merge(more),
                (more, None) => *this.taken = more,
            }
            if read == 0 {
                *this.first = data.copy_to_bytes(data.remaining());
            } else {
                if this.rest.is_empty() {
                    this.rest.extend_from_slice(this.first);
                }
                this.rest
                    .extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
        }
    }
}
