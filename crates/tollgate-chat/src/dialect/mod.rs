//! What callers speak: one module a dialect, each in both directions.
//!
//! A dialect reads a body into a [`ChatRequest`] and writes [`ChatEvent`]s as its own stream or plain answer.
//! The end of a stream is written apart from its running part, by the payment layer once the charge is
//! durable: see [`ResponseStream`].
//!
//! OpenAI's chat completions and responses and Anthropic's messages get a module here, a variant in
//! [`Dialect`] and one in [`ResponseStream`]; the compiler then names every place that must learn them.

pub mod dgrid;

use bytes::Bytes;
use http::HeaderMap;

use crate::completion::Completion;
use crate::error::RequestError;
use crate::event::{ChatEvent, ReportedUsage};
use crate::finish::FinishMetadata;
use crate::limits::RequestLimits;
use crate::request::ChatRequest;

/// The dialect of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// DGrid's: AI SDK messages or `content` in, UI message stream or `chat.completion` out.
    DGrid,
}

/// What the seller configures about reading requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestConfig {
    /// The public name of the model where the caller names none.
    pub default_model: String,
    /// Bounds on the body.
    pub limits: RequestLimits,
}

/// DGrid's documented default model, and the default limits.
impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            default_model: dgrid::DEFAULT_MODEL.to_owned(),
            limits: RequestLimits::default(),
        }
    }
}

impl Dialect {
    /// Reads a body, whatever its content type says: paying wrappers lose that header.
    ///
    /// # Errors
    /// [`RequestError`], to be blamed on the caller.
    pub fn decode_request(
        self,
        body: &[u8],
        config: &RequestConfig,
    ) -> Result<ChatRequest, RequestError> {
        match self {
            Self::DGrid => dgrid::decode_request(body, config),
        }
    }

    /// The headers of a streamed answer.
    pub fn stream_headers(self) -> HeaderMap {
        match self {
            Self::DGrid => dgrid::stream_headers(),
        }
    }

    /// The encoder of one streamed answer.
    pub fn stream(self) -> ResponseStream {
        match self {
            Self::DGrid => ResponseStream::DGrid(dgrid::UiStream::new()),
        }
    }

    /// The body of a plain answer, `application/json`. `usage` is what was charged for, `created` the seconds
    /// since 1970, `metadata` the facts of the charge.
    pub fn plain_answer(
        self,
        completion: &Completion,
        usage: &ReportedUsage,
        created: u64,
        metadata: Option<&FinishMetadata>,
    ) -> Bytes {
        match self {
            Self::DGrid => dgrid::plain_answer(completion, usage, created, metadata),
        }
    }
}

/// Writes a streamed answer in two parts: the running part event by event, and the end, once.
///
/// `Finish` and `Error` events do not end the stream on the wire: [`closing`](Self::closing) does, and only
/// the payment layer calls it, after the charge is durable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ResponseStream {
    /// A UI message stream.
    DGrid(dgrid::UiStream),
}

impl ResponseStream {
    /// The frames for this event, `None` if it has none on the wire.
    pub fn encode(&mut self, event: &ChatEvent) -> Option<Bytes> {
        match self {
            Self::DGrid(stream) => stream.encode(event),
        }
    }

    /// The last frames. Empty if they were written already.
    pub fn closing(&mut self, metadata: &FinishMetadata) -> Bytes {
        match self {
            Self::DGrid(stream) => stream.closing(metadata),
        }
    }
}
