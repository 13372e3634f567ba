//! The client of all measurements: one code path, whether it asks the gateway or what is behind it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Connections are kept shorter than any server here keeps them.
const KEEP: Duration = Duration::from_secs(5);

/// A client with kept connections. A handle.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pool: Pooled<HttpConnector, Full<Bytes>>,
}

/// A whole answer, and when its parts came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Duration,
    /// From the request to the frame that holds the mark.
    pub(crate) marked: Option<Duration>,
    /// From the request to the last byte.
    pub(crate) whole: Duration,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) url: String,
    pub(crate) body: Bytes,
    /// A header, such as a payment.
    pub(crate) header: Option<(&'static str, String)>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pooled::builder(TokioExecutor::new())
            .pool_idle_timeout(KEEP)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { pool }
    }

    /// Posts, and reads the answer to its end. The time of the first frame with `mark` in it is told.
    pub(crate) async fn post(&self, ask: Ask, mark: &[u8]) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(ask.url)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some((name, value)) = ask.header {
            request = request.header(name, value);
        }
        self.send(request.body(Full::new(ask.body))?, mark).await
    }

    /// Gets a small document.
    pub(crate) async fn get(&self, url: &str) -> anyhow::Result<Bytes> {
        let request = Request::builder().uri(url).body(Full::default())?;
        let answer = self.send(request, b"").await?;
        ensure!(answer.status.is_success(), "{url}: {}", answer.status);
        Ok(answer.body)
    }

    async fn send(&self, request: Request<Full<Bytes>>, mark: &[u8]) -> anyhow::Result<Answer> {
        let begin = Instant::now();
        let response = self.pool.request(request).await.context("no answer")?;
        let (parts, mut body) = response.into_parts();
        let (mut first_byte, mut marked) = (None, None);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the answer broke off")?.into_data() else {
                continue;
            };
            let now = begin.elapsed();
            first_byte.get_or_insert(now);
            if marked.is_none() && holds(&data, mark) {
                marked = Some(now);
            }
            bytes.extend_from_slice(&data);
        }
        let whole = begin.elapsed();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: bytes.freeze(),
            first_byte: first_byte.unwrap_or(whole),
            marked,
            whole,
        })
    }
}

fn holds(data: &[u8], mark: &[u8]) -> bool {
    !mark.is_empty() && data.windows(mark.len()).any(|window| window == mark)
}
