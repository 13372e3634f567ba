//! The body of an answer behind the paywall: the upstream's events, written in the caller's dialect.

use core::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::collections::VecDeque;

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use tollgate_chat::ChatEvent;
use tollgate_x402::PaymentId;

use crate::{
    course::{SharedCourse, Step},
    upstream::UpstreamError,
};

/// What the service behind the paywall answers: a short text, or a stream of which each frame is counted in the meter
/// when it is taken.
pub struct AnswerBody<E> {
    kind: Kind<E>,
}

enum Kind<E> {
    Whole(Option<Bytes>),
    Events(Events<E>),
}

struct Events<E> {
    /// What came before the answer began.
    first: VecDeque<ChatEvent>,
    /// Nothing once the answer is over.
    upstream: Option<Pin<Box<E>>>,
    course: SharedCourse,
    /// The payment, for the log.
    id: PaymentId,
}

impl<E> AnswerBody<E> {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())),
        }
    }

    pub(crate) const fn events(
        first: VecDeque<ChatEvent>,
        upstream: Pin<Box<E>>,
        course: SharedCourse,
        id: PaymentId,
    ) -> Self {
        Self {
            kind: Kind::Events(Events {
                first,
                upstream: Some(upstream),
                course,
                id,
            }),
        }
    }
}

impl<E> From<Bytes> for AnswerBody<E> {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

impl<E> core::fmt::Debug for AnswerBody<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match &self.kind {
            Kind::Whole(_) => "AnswerBody::Whole",
            Kind::Events(_) => "AnswerBody::Events",
        })
    }
}

impl<E> Body for AnswerBody<E>
where
    E: Stream<Item = Result<ChatEvent, UpstreamError>>,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.kind {
            Kind::Whole(bytes) => bytes.take(),
            Kind::Events(events) => ready!(events.poll(cx)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

impl<E> Events<E>
where
    E: Stream<Item = Result<ChatEvent, UpstreamError>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(None);
            };
            let event = match self.first.pop_front() {
                Some(event) => Some(Ok(event)),
                None => ready!(upstream.as_mut().poll_next(cx)),
            };
            let mut course = self.course.lock();
            let step = match event {
                Some(Ok(event)) => course.take(&event),
                Some(Err(error)) => {
                    tracing::warn!(payment = ?self.id, %error, "the model server failed in mid-stream");
                    course.fail(&error)
                }
                None => course.fail(&UpstreamError::Broken("it ended before its end".to_owned())),
            };
            let frame = match step {
                Step::Nothing => continue,
                Step::Frame(frame) => frame,
                Step::Over(last) => {
                    // The upstream is let go of before the charge is made.
                    self.upstream = None;
                    match last {
                        Some(last) => last,
                        None => return Poll::Ready(None),
                    }
                }
            };
            return Poll::Ready(Some(frame));
        }
    }
}
