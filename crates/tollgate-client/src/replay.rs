//! Bodies that can be sent twice.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};

/// A request body that can be sent a second time, with the payment.
pub trait ReplayBody: Clone {
    /// The whole content, without copying it.
    fn content(&self) -> Bytes;
}

impl ReplayBody for Bytes {
    fn content(&self) -> Bytes {
        self.clone()
    }
}

impl ReplayBody for Full<Bytes> {
    fn content(&self) -> Bytes {
        // It has one frame, and that is ready: the body is polled once and never waited for.
        let mut body = self.clone();
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        let frame = core::pin::pin!(body.frame()).poll(&mut context);
        match frame {
            core::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        }
    }
}

impl ReplayBody for Empty<Bytes> {
    fn content(&self) -> Bytes {
        Bytes::new()
    }
}
