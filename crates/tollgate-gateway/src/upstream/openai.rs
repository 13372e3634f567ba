//! Any server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, OpenAI and most others.

use core::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderValue, header};
use http_body::Body;
use reqwest::{Client, Url, redirect};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tollgate_chat::{
    ChatEvent, ChatRequest, StreamError,
    upstream::openai::{OpenAiOptions, OpenAiStream, decode_completion, decode_error},
};

use crate::upstream::{Upstream, UpstreamError};

/// The most that is read of an error's body, in bytes.
const ERROR_BYTES: usize = 16 * 1024;
/// The longest plain answer of a server that does not stream, in bytes.
const PLAIN_BYTES: usize = 16 * 1024 * 1024;

/// How long the end of a body that is over in every other way is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a model server is, and how long it is waited for.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenAiConfig {
    /// The base URL of its API, such as `http://127.0.0.1:8000/v1`: `/chat/completions` is put behind it.
    pub base_url: String,
    /// Its key, if it wants one.
    pub api_key: Option<ApiKey>,
    /// What it takes.
    pub options: OpenAiOptions,
    /// How long a connection may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long the first token may take, the connection included. Default 60 s.
    pub first_token_timeout: Duration,
    /// How long each further piece may take. Default 60 s.
    pub idle_timeout: Duration,
}

impl OpenAiConfig {
    /// A server without a key, with the defaults.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            options: OpenAiOptions::default(),
            connect_timeout: Duration::from_secs(5),
            first_token_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for OpenAiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("OpenAiConfig")
            .field("api_key", &self.api_key)
            .field("options", &self.options)
            .field("connect_timeout", &self.connect_timeout)
            .field("first_token_timeout", &self.first_token_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// The key of a model server. It shows in no `Debug` and no log.
#[derive(Clone)]
pub struct ApiKey(HeaderValue);

/// A key that cannot be sent in a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the API key holds characters that cannot be sent in a header: look for a line feed or a quote too much"
)]
pub struct ApiKeyError;

impl ApiKey {
    /// A key, sent as a bearer token.
    ///
    /// # Errors
    /// [`ApiKeyError`].
    pub fn new(key: &str) -> Result<Self, ApiKeyError> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| ApiKeyError)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl core::str::FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(key: &str) -> Result<Self, ApiKeyError> {
        Self::new(key)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Why there is no client for a server. The operator is to blame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenAiUrlError {
    /// The base URL is none.
    #[error("the base URL must be an absolute http or https URL, such as http://127.0.0.1:8000/v1")]
    Url,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A client of one server. A handle: clones share their connections.
#[derive(Clone)]
pub struct OpenAiUpstream {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    url: Url,
    config: OpenAiConfig,
}

impl fmt::Debug for OpenAiUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("OpenAiUpstream")
            .field("host", &self.inner.url.host_str())
            .finish_non_exhaustive()
    }
}

impl OpenAiUpstream {
    /// A client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`OpenAiUrlError`].
    pub fn new(config: OpenAiConfig) -> Result<Self, OpenAiUrlError> {
        let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
        let url = Url::parse(&url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let client = Client::builder()
            .tcp_nodelay(true)
            .connect_timeout(config.connect_timeout)
            // The key goes to this server, and to no other that it or the environment names.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| OpenAiUrlError::Tls(error.without_url().to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                url: url.ok_or(OpenAiUrlError::Url)?,
                config,
            }),
        })
    }

    async fn open(
        &self,
        request: &ChatRequest,
        deadline: Deadline,
    ) -> Result<OpenAiEvents, UpstreamError> {
        let Inner {
            client,
            url,
            config,
        } = self.inner.as_ref();
        let mut call = client
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, tollgate_sse::CONTENT_TYPE)
            .body(config.options.encode_request(request));
        if let Some(ApiKey(key)) = &config.api_key {
            call = call.header(header::AUTHORIZATION, key.clone());
        }
        let response = call.send().await.map_err(not_sent)?;
        let status = response.status();
        let stream = is_event_stream(response.headers());
        let body: reqwest::Body = http::Response::from(response).into_body();
        if !status.is_success() {
            // As much of it as comes in time.
            let error = decode_error(&collect(body, ERROR_BYTES).await.unwrap_or_default());
            let status = status.as_u16();
            return Err(match status {
                400 | 413 | 422 => UpstreamError::Refused { status, error },
                _ => UpstreamError::Status { status, error },
            });
        }
        let mut events = OpenAiEvents {
            body: None,
            decoder: OpenAiStream::default(),
            plain: VecDeque::new(),
            deadline,
            idle: config.idle_timeout,
            sleep: None,
            over: false,
        };
        if stream {
            events.body = Some(body);
        } else {
            let body = collect(body, PLAIN_BYTES).await?;
            events.plain = decode_completion(body).into();
        }
        Ok(events)
    }
}

impl Upstream for OpenAiUpstream {
    type Events = OpenAiEvents;

    async fn chat(&self, request: ChatRequest) -> Result<OpenAiEvents, UpstreamError> {
        let deadline = Deadline::after(self.inner.config.first_token_timeout);
        match timeout_at(deadline.at, self.open(&request, deadline)).await {
            Ok(opened) => opened,
            Err(_) => Err(deadline.passed()),
        }
    }

    fn takes_files(&self) -> bool {
        self.inner.config.options.images
    }
}

/// The events of one answer.
pub struct OpenAiEvents {
    body: Option<reqwest::Body>,
    decoder: OpenAiStream,
    /// The events of an answer that came in one piece.
    plain: VecDeque<ChatEvent>,
    /// Of the next piece.
    deadline: Deadline,
    idle: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl fmt::Debug for OpenAiEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiEvents")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Stream for OpenAiEvents {
    type Item = Result<ChatEvent, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.plain.pop_front().or_else(|| this.decoder.next_event()) {
                if matches!(
                    event,
                    ChatEvent::TextDelta(_) | ChatEvent::ReasoningDelta(_)
                ) {
                    this.deadline = Deadline::unset(this.idle);
                }
                if event.is_last() {
                    this.keep_connection(cx);
                    this.end();
                }
                return Poll::Ready(Some(Ok(event)));
            }
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.decoder.push(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.end();
                    return Poll::Ready(Some(Err(broken(error))));
                }
                Poll::Ready(None) => {
                    this.body = None;
                    this.decoder.end();
                }
                Poll::Pending => return this.wait(cx),
            }
        }
    }
}

impl OpenAiEvents {
    /// Lets go of the connection: a server that still works sees it close.
    fn end(&mut self) {
        self.over = true;
        self.body = None;
        self.sleep = None;
    }

    /// After the last event the body has nothing more but its end. Once that is read, the connection serves the next
    /// request; without it, it would be closed.
    fn keep_connection(&mut self, cx: &mut Context<'_>) {
        let Some(mut body) = self.body.take() else {
            return;
        };
        if !self.decoder.is_done() || !matches!(Pin::new(&mut body).poll_frame(cx), Poll::Pending) {
            return;
        }
        tokio::spawn(timeout(PATIENCE, async move {
            // A server that goes on talking is not waited for.
            let _ = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        }));
    }

    /// Nothing is there: the time is counted from the first look that found nothing, so that a slow reader of ours is
    /// not taken for a slow server.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ChatEvent, UpstreamError>>> {
        let at = self.deadline.set();
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let passed = self.deadline.passed();
        self.end();
        Poll::Ready(Some(Err(passed)))
    }
}

/// A time until which something must come.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    after: Duration,
    at: Instant,
    set: bool,
}

impl Deadline {
    /// So long from now.
    fn after(after: Duration) -> Self {
        // A duration beyond what the clock counts is a year.
        let now = Instant::now();
        let at = now
            .checked_add(after)
            .or_else(|| now.checked_add(Duration::from_secs(31_536_000)));
        Self {
            after,
            at: at.unwrap_or(now),
            set: true,
        }
    }

    /// So long from when it is [set](Self::set).
    fn unset(after: Duration) -> Self {
        Self {
            set: false,
            ..Self::after(after)
        }
    }

    fn set(&mut self) -> Instant {
        if !self.set {
            *self = Self::after(self.after);
        }
        self.at
    }

    fn passed(&self) -> UpstreamError {
        UpstreamError::Timeout {
            millis: self.after.as_millis(),
        }
    }
}

fn is_event_stream(headers: &http::HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let kind = kind
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    // Servers that stream without saying so are rarer than ones that answer plainly and say so.
    !kind.eq_ignore_ascii_case(b"application/json")
}

async fn collect(mut body: reqwest::Body, limit: usize) -> Result<Bytes, UpstreamError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > limit {
            return Err(UpstreamError::Stream(StreamError::Malformed {
                reason: format!("an answer of more than {limit} bytes in one piece"),
            }));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn not_sent(error: reqwest::Error) -> UpstreamError {
    UpstreamError::Connect(chain(&error.without_url()))
}

fn broken(error: reqwest::Error) -> UpstreamError {
    UpstreamError::Broken(chain(&error.without_url()))
}

/// An error with what caused it.
fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_show_in_no_debug_output() {
        let mut config = OpenAiConfig::new("http://user:hunter2@127.0.0.1:1/v1");
        config.api_key = Some("sk-secret".parse().unwrap());
        let shown = format!("{:?}", config.api_key);
        assert!(!shown.contains("secret"), "{shown}");
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("hunter2"),
            "{shown}"
        );
        let shown = format!("{:?}", OpenAiUpstream::new(config).unwrap());
        assert!(
            !shown.contains("secret") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_url_and_no_key_is_refused() {
        for url in ["", "127.0.0.1:8000", "ftp://a/v1", "file:///etc"] {
            assert_eq!(
                OpenAiUpstream::new(OpenAiConfig::new(url)).unwrap_err(),
                OpenAiUrlError::Url,
                "{url}"
            );
        }
        assert_eq!(ApiKey::new("sk\n").unwrap_err(), ApiKeyError);
    }
}
