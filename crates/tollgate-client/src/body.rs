//! The body of a paid answer.

use core::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::watch::Watch;

pin_project! {
    /// The body of an answer, frame by frame as the seller sends it. Of a paid answer it is read along with, so that
    /// the [`ReceiptHandle`](crate::ReceiptHandle) of the response has the receipt at the end.
    pub struct PaidBody<B> {
        #[pin]
        inner: B,
        watch: Option<Watch>,
    }
}

impl<B> PaidBody<B> {
    pub(crate) const fn unpaid(inner: B) -> Self {
        Self { inner, watch: None }
    }

    pub(crate) const fn watched(inner: B, watch: Watch) -> Self {
        Self {
            inner,
            watch: Some(watch),
        }
    }
}

impl<B: Body<Data = Bytes>> Body for PaidBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = core::task::ready!(this.inner.poll_frame(cx));
        if let Some(watch) = this.watch {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        watch.see(data);
                    }
                }
                Some(Err(_)) => watch.broken(),
                None => watch.ended(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> core::fmt::Debug for PaidBody<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaidBody")
            .field("paid", &self.watch.as_ref().map(Watch::paid))
            .finish_non_exhaustive()
    }
}
