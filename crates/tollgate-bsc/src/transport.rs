//! JSON-RPC over HTTP for alloy's client.
//!
//! Our own, since what an RPC URL holds (an API key) must not reach a log or an error, and since an answer's size
//! is bounded here.

use core::task;

use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_transport::{TransportError, TransportErrorKind, TransportFut};
use reqwest::{StatusCode, Url};
use tower_service::Service;

#[derive(Clone)]
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    url: Url,
    max_response: usize,
}

impl HttpTransport {
    pub(crate) fn new(url: Url, max_response: usize) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            // A request is one small segment: without this it waits for the acknowledgement of the last.
            .tcp_nodelay(true)
            // A node does not redirect; whoever does may lead elsewhere.
            .redirect(reqwest::redirect::Policy::none());
        if url.scheme() == "http" {
            // Reading the system's certificates takes longer than all else here, and plain HTTP needs none.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(reqwest::Error::without_url)?,
            url,
            max_response,
        })
    }

    async fn run(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let failed = |error: reqwest::Error| TransportErrorKind::custom(error.without_url());
        let mut response = self
            .client
            .post(self.url)
            .json(&request)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > self.max_response {
                return Err(TransportErrorKind::custom_str(
                    "the answer is larger than max_response",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        let parsed = serde_json::from_slice::<ResponsePacket>(&body);
        // Some nodes answer a JSON-RPC error with a status of its own; the error says more than the status. A 429
        // says all by itself.
        match parsed {
            Ok(packet)
                if status.is_success()
                    || packet.is_error() && status != StatusCode::TOO_MANY_REQUESTS =>
            {
                Ok(packet)
            }
            Err(error) if status.is_success() => Err(TransportError::deser_err(
                error,
                String::from_utf8_lossy(&body),
            )),
            _ => Err(TransportErrorKind::http_error(
                status.as_u16(),
                String::from_utf8_lossy(&body).into_owned(),
            )),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<core::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

impl Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Self::Error>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}
