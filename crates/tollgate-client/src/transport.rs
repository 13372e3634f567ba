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
///
/// The system's proxies (`HTTPS_PROXY`, …) are used for `https://` alone, through a tunnel in which they see nothing. A
/// request to `http://`, which is for this machine, goes there itself: a proxy would read the payment, and could answer
/// in the seller's name.
#[derive(Clone, Debug)]
pub struct Transport {
    encrypted: reqwest::Client,
    plain: reqwest::Client,
}

impl Transport {
    /// A client that gives up on a connection after `connect`, and on an answer after no byte came for `silence`.
    ///
    /// # Errors
    /// What reqwest says, where TLS cannot be set up.
    pub fn new(connect: Duration, silence: Duration) -> Result<Self, reqwest::Error> {
        let client = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .tcp_nodelay(true)
                .connect_timeout(connect)
                .read_timeout(silence)
                .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self {
            encrypted: client().https_only(true).build()?,
            plain: client().no_proxy().build()?,
        })
    }

    /// What a request goes by: only what is encrypted for the seller may go by a proxy.
    fn client(&self, request: &reqwest::Request) -> &reqwest::Client {
        if request.url().scheme() == "https" {
            &self.encrypted
        } else {
            &self.plain
        }
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
        let transport = self.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            let client = transport.client(&request);
            client.execute(request).await.map(Response::from)
        })
    }
}
