//! Reads a request's body, within a size and a time.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tollgate_x402::ErrorCode;

use crate::{
    Bounds, Problem,
    memory::{Memory, Share},
};

pin_project! {
    /// The whole body, which is not copied if it comes in one piece.
    pub(crate) struct Read<B> {
        #[pin]
        body: B,
        #[pin]
        time: Sleep,
        share: Share,
        limit: usize,
        // Why it will be refused at its end.
        refused: Option<ReadError>,
        // How much more of a body that is refused is read and thrown away: a connection that is closed while its client
        // still writes loses the answer that says so.
        patience: usize,
    }
}

/// So many times the limit is read of a body that is refused, for its end.
const DISCARDED: usize = 4;

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
    Late,
    /// The memory for this does not suffice, and none takes more than this one.
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
    pub(crate) fn new(body: B, bounds: &Bounds, memory: &Arc<Memory>) -> Result<Self, ReadError> {
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
            share: memory.share(),
            limit,
            refused: (length > limit).then_some(ReadError::TooLarge),
            patience,
        })
    }
}

impl<B: Body> Future for Read<B> {
    type Output = Result<Bytes, ReadError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let data = match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(ReadError::Broken)),
                Poll::Ready(None) => {
                    let body = this.share.finish().ok_or(ReadError::Crowded);
                    return Poll::Ready(this.refused.map_or(body, Err));
                }
                Poll::Pending => {
                    let refused = this.refused.unwrap_or(ReadError::Late);
                    return this.time.as_mut().poll(cx).map(|()| Err(refused));
                }
            };
            let more = data.remaining();
            let kept = if this.refused.is_some() {
                false
            } else if let Some(read) = this.share.len() {
                let read = read.saturating_add(more);
                if read > *this.limit {
                    *this.refused = Some(ReadError::TooLarge);
                    false
                } else {
                    let rest = this.body.size_hint().upper();
                    let rest = rest.and_then(|rest| usize::try_from(rest).ok());
                    let most = read.saturating_add(rest.unwrap_or(usize::MAX));
                    this.share.push(data, most.min(*this.limit))
                }
            } else {
                false
            };
            if !kept {
                let refused = *this.refused.get_or_insert(ReadError::Crowded);
                this.share.free();
                match this.patience.checked_sub(more) {
                    Some(left) => *this.patience = left,
                    None => return Poll::Ready(Err(refused)),
                }
            }
        }
    }
}
