//! reqwest as a tower service that follows no redirect.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

/// An HTTP client for [`Pay`](crate::Pay): reqwest with rustls, connection pools, `TCP_NODELAY`, and no redirects,
/// which would carry a payment to whoever they name.
#[derive(Clone, Debug)]
pub struct Transport(reqwest::Client);

impl Transport {
    /// A client that gives up on a connection after `connect`, and on an answer after no byte came for `silence`.
    ///
    /// # Errors
    /// What reqwest says, where TLS cannot be set up.
    pub fn new(connect: Duration, silence: Duration) -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .connect_timeout(connect)
            .read_timeout(silence)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Self)
    }
}

impl Service<Request<Bytes>> for Transport {
    type Response = Response<reqwest::Body>;
    type Error = reqwest::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            client.execute(request).await.map(Response::from)
        })
    }
}
