//! The layer and its service.

use core::task::{Context, Poll};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::sync::Semaphore;
use tollgate_payment::port::Till;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Bounds, BoxError, Drain, PaywallBody, ResponseFuture, Tariff, memory::Memory};

/// Puts a [`Paywall`] before a service.
pub struct PaywallLayer<T, F> {
    shared: Arc<Shared<T, F>>,
}

pub(crate) struct Shared<T, F> {
    pub(crate) till: T,
    pub(crate) tariff: F,
    pub(crate) bounds: Bounds,
    pub(crate) drain: Drain,
    /// For bodies that are being read.
    pub(crate) memory: Arc<Memory>,
    /// For callers that wait for a block.
    pub(crate) waiting: Semaphore,
}

impl<T, F> Shared<T, F> {
    fn new(till: T, tariff: F, bounds: Bounds) -> Arc<Self> {
        let memory = Memory::new(bounds.reading_bytes);
        let waiting = Semaphore::new(bounds.waiting.min(Semaphore::MAX_PERMITS));
        Arc::new(Self {
            till,
            tariff,
            bounds,
            drain: Drain::new(),
            memory,
            waiting,
        })
    }
}

impl<T: Till, F: Tariff> PaywallLayer<T, F> {
    /// A paywall that prices by `tariff` and is paid into `till`, within the default [`Bounds`].
    pub fn new(till: T, tariff: F) -> Self {
        Self {
            shared: Shared::new(till, tariff, Bounds::default()),
        }
    }

    /// The same within these bounds, and with a drain of its own.
    #[must_use]
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        let Shared { till, tariff, .. } = self.shared.as_ref();
        Self {
            shared: Shared::new(till.clone(), tariff.clone(), bounds),
        }
    }

    /// The handle on the open payments of all services that this layer makes.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }
}

impl<T, F> Clone for PaywallLayer<T, F> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T, F> core::fmt::Debug for PaywallLayer<T, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PaywallLayer")
            .field("bounds", &self.shared.bounds)
            .finish_non_exhaustive()
    }
}

impl<S, T, F> Layer<S> for PaywallLayer<T, F> {
    type Service = Paywall<S, T, F>;

    fn layer(&self, inner: S) -> Paywall<S, T, F> {
        Paywall {
            inner,
            shared: self.shared.clone(),
        }
    }
}

/// Serves only what is paid for: the service that [`PaywallLayer`] makes of another.
///
/// It is always ready. A paid request waits for the inner service's readiness after its payment was admitted, in a
/// task of its own; a request without a payment does not touch the inner service at all.
///
/// It must be called within a tokio runtime.
pub struct Paywall<S, T, F> {
    inner: S,
    shared: Arc<Shared<T, F>>,
}

impl<S: Clone, T, F> Clone for Paywall<S, T, F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: core::fmt::Debug, T, F> core::fmt::Debug for Paywall<S, T, F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Paywall")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, T, F, B, RB> Service<Request<B>> for Paywall<S, T, F>
where
    T: Till,
    F: Tariff,
    B: Body,
    S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    type Response = Response<PaywallBody<RB>>;
    /// Of free requests only: a paid one whose service fails is answered 502.
    type Error = S::Error;
    type Future = ResponseFuture<S, T, F, B, RB>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ResponseFuture::new(request, self.inner.clone(), self.shared.clone())
    }
}
