//! What is asked on a connection, and whether its answers are taken.

use core::{
    future::pending,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// The longest piece of an answer, in bytes. HTTP/2 takes a piece whole, and lets its peer have it bit by bit, so with longer
/// ones nothing would tell a peer that takes them slowly from one that takes nothing.
const PIECE: usize = 16 * 1024;

/// The requests of one connection.
pub(crate) struct Asked {
    /// How many are being answered.
    open: watch::Sender<usize>,
    /// How many have a piece of their answer that the connection has not come back from for the next one.
    unread: AtomicUsize,
    /// How many pieces were taken.
    taken: AtomicUsize,
}

impl Asked {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            open: watch::Sender::new(0),
            unread: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        })
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.open.send_modify(|open| *open = open.saturating_add(1));
        Entered {
            asked: Arc::clone(self),
            unread: false,
        }
    }

    /// Waits until nothing was asked for so long. An answered ping is no request.
    pub(crate) async fn unused(&self, limit: Duration) {
        let mut open = self.open.subscribe();
        loop {
            if open.wait_for(|open| *open == 0).await.is_err() {
                return pending().await;
            }
            match timeout(limit, open.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return pending().await,
                Err(_) => return,
            }
        }
    }

    /// Waits until, for so long at least and twice so long at most, answers were there and the peer took nothing of any. A peer
    /// whose flow-control window is shut (RFC 9113 §5.2) keeps no write of the socket waiting, so nothing else tells of it.
    pub(crate) async fn untaken(&self, limit: Duration) {
        let mut before = None;
        loop {
            sleep(limit).await;
            let now = (self.unread.load(Ordering::Relaxed) > 0)
                .then(|| self.taken.load(Ordering::Relaxed));
            if now.is_some() && now == before {
                return;
            }
            before = now;
        }
    }
}

/// A request that is being answered.
pub(crate) struct Entered {
    asked: Arc<Asked>,
    unread: bool,
}

impl Entered {
    /// The body of its answer, with which it ends.
    pub(crate) fn answer<B>(mut self, body: B) -> Answering<B> {
        self.ready();
        Answering {
            body,
            rest: Bytes::new(),
            entered: self,
        }
    }

    fn ready(&mut self) {
        if !self.unread {
            self.unread = true;
            self.asked.unread.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn taken(&mut self) {
        if self.unread {
            self.unread = false;
            self.asked.unread.fetch_sub(1, Ordering::Relaxed);
            self.asked.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.taken();
        self.asked
            .open
            .send_modify(|open| *open = open.saturating_sub(1));
    }
}

pin_project! {
    /// A body until whose last byte its request is being answered.
    pub(crate) struct Answering<B> {
        #[pin]
        body: B,
        // Of the frame of which a piece was taken.
        rest: Bytes,
        entered: Entered,
    }
}

impl<B: Body<Data = Bytes>> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        // Who asks for more has taken what there was.
        this.entered.taken();
        if this.rest.is_empty() {
            match ready!(this.body.poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *this.rest = data,
                Some(Ok(Err(other))) => {
                    this.entered.ready();
                    return Poll::Ready(Some(Ok(other)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        this.entered.ready();
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let of_body = self.body.size_hint();
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(of_body.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, PIECE};
    use bytes::Bytes;
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn a_long_answer_is_given_in_pieces_and_its_length_is_known_at_every_one() {
        let whole = Bytes::from(vec![b'x'; 3 * PIECE - 1]);
        let mut body = Asked::new().enter().answer(Full::new(whole.clone()));
        let mut left = whole.len();
        while left > 0 {
            assert!(!body.is_end_stream());
            assert_eq!(body.size_hint().exact(), u64::try_from(left).ok());
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), left.min(PIECE));
            left -= piece.len();
        }
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }
}
