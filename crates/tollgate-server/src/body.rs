//! The bodies of the paywall's answers.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

pin_project! {
    /// The body of an answer: a text of the paywall's own, a metered stream, or the inner service's body.
    pub struct PaywallBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Whole { bytes: Option<Bytes> },
        Metered { stream: Receiver },
        Inner { #[pin] body: B },
    }
}

/// Any error of a body.
pub type BoxError = Box<dyn core::error::Error + Send + Sync>;

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The stream was ended before its end: the reader took too long, or the ledger failed. What was delivered is
    /// charged.
    #[error("the answer was cut; what was delivered is charged")]
    Cut,
    /// The body of the inner service, of an answer that was not charged.
    #[error("the answer broke off")]
    Inner(#[source] BoxError),
}

impl<B> PaywallBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    pub(crate) const fn empty() -> Self {
        Self {
            kind: Kind::Whole { bytes: None },
        }
    }
}

impl<B> From<Bytes> for PaywallBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Whole {
                bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            },
        }
    }
}

impl<B> core::fmt::Debug for PaywallBody<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match &self.kind {
            Kind::Whole { .. } => "PaywallBody::Whole",
            Kind::Metered { .. } => "PaywallBody::Metered",
            Kind::Inner { .. } => "PaywallBody::Inner",
        })
    }
}

impl<B> Body for PaywallBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            KindProjection::Whole { bytes } => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            KindProjection::Metered { stream } => stream
                .poll(cx)
                .map(|frame| frame.map(|frame| frame.ok_or(BodyError::Cut))),
            KindProjection::Inner { body } => Poll::Ready(
                ready!(body.poll_frame(cx))
                    .map(|frame| frame.map_err(|error| BodyError::Inner(error.into()))),
            ),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { bytes } => bytes.is_none(),
            Kind::Metered { .. } => false,
            Kind::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { bytes } => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Metered { .. } => SizeHint::default(),
            Kind::Inner { body } => body.size_hint(),
        }
    }
}

/// The reader's end of a metered stream.
struct Receiver {
    frames: mpsc::Receiver<Frame<Bytes>>,
    /// Set before the last sender goes. A sender that goes without it has broken off.
    finished: Arc<AtomicBool>,
    over: bool,
}

impl Receiver {
    /// `Some(None)` is a stream that broke off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Option<Frame<Bytes>>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match ready!(self.frames.poll_recv(cx)) {
            Some(frame) => Poll::Ready(Some(Some(frame))),
            None => {
                self.over = true;
                Poll::Ready((!self.finished.load(Ordering::Acquire)).then_some(None))
            }
        }
    }
}

/// The pump's end of a metered stream. Dropping it breaks the stream off, unless it is [finished](Sender::finish).
pub(crate) struct Sender {
    frames: mpsc::Sender<Frame<Bytes>>,
    finished: Arc<AtomicBool>,
}

/// The reader is gone.
pub(crate) struct Gone;

impl Sender {
    /// A stream of which at most so many frames wait for the reader.
    pub(crate) fn channel<B>(frames: usize) -> (Self, PaywallBody<B>) {
        let (sender, receiver) = mpsc::channel(frames.max(1));
        let finished = Arc::new(AtomicBool::new(false));
        let stream = Receiver {
            frames: receiver,
            finished: finished.clone(),
            over: false,
        };
        (
            Self {
                frames: sender,
                finished,
            },
            PaywallBody {
                kind: Kind::Metered { stream },
            },
        )
    }

    /// Resolves when there is room for one frame.
    pub(crate) async fn room(&self) -> Result<(), Gone> {
        // The only sender: the room cannot be taken before the frame is sent.
        self.frames.reserve().await.map(drop).map_err(|_| Gone)
    }

    /// Resolves when the reader is gone.
    pub(crate) async fn gone(&self) {
        self.frames.closed().await;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.frames.is_closed()
    }

    /// Sends a frame for which there is room.
    pub(crate) fn send(&self, frame: Frame<Bytes>) -> Result<(), Gone> {
        self.frames.try_send(frame).map_err(|_| Gone)
    }

    /// Ends the stream as it should end.
    pub(crate) fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }
}
