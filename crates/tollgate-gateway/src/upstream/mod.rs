//! Who answers: model servers behind one trait.

mod echo;
mod openai;

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tollgate_chat::{ChatEvent, ChatRequest, StreamError, upstream::openai::ErrorObject};

pub use echo::{EchoEvents, EchoUpstream};
pub use openai::{ApiKey, ApiKeyError, OpenAiConfig, OpenAiEvents, OpenAiUpstream, OpenAiUrlError};

/// A model server.
pub trait Upstream: Send + Sync + 'static {
    /// The events of one answer: at most one `Start` first, one `Finish` or `Error` last. Dropping it stops the work.
    type Events: Stream<Item = Result<ChatEvent, UpstreamError>> + Send + 'static;

    /// Asks for an answer. `request.model` is the server's own name of the model, and `request.max_output_tokens` the
    /// most that is paid for.
    ///
    /// # Errors
    /// [`UpstreamError`]: the server did not begin to answer.
    fn chat(
        &self,
        request: ChatRequest,
    ) -> impl Future<Output = Result<Self::Events, UpstreamError>> + Send;

    /// What it is, for the list of models, if it is not a model.
    fn remark(&self) -> Option<&'static str> {
        None
    }

    /// Whether it reads files, such as pictures. Requests with files are refused if not.
    fn takes_files(&self) -> bool {
        false
    }
}

/// Why a model server did not answer, or broke off. To be blamed: the model server, but for `Refused`.
///
/// The texts are for the operator's log, so they have nothing of what the model server said but its code: many repeat
/// what they were asked. Callers get constant ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It cannot be reached.
    #[error("the model server cannot be reached: {0}")]
    Connect(String),
    /// Nothing came in time.
    #[error("the model server sent nothing for {millis} ms")]
    Timeout {
        /// How long was waited, in milliseconds.
        millis: u128,
    },
    /// It refused the request itself (400, 413, 422): the request is to blame, or the gateway's settings.
    #[error("the model server refused the request with {status}{}", coded(.error.code.as_deref()))]
    Refused {
        /// Its status.
        status: u16,
        /// What it said, bounded.
        error: ErrorObject,
    },
    /// It answered with another status that is no success.
    #[error("the model server answered {status}{}", coded(.error.code.as_deref()))]
    Status {
        /// Its status.
        status: u16,
        /// What it said, bounded.
        error: ErrorObject,
    },
    /// The connection broke while it answered.
    #[error("the connection to the model server broke: {0}")]
    Broken(String),
    /// What it sent makes no sense, or reports an error.
    #[error("{}", reported(.0))]
    Stream(StreamError),
}

/// A code that is one: a word, not a sentence.
fn coded(code: Option<&str>) -> String {
    let word = |code: &&str| {
        code.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    code.filter(word)
        .map_or_else(String::new, |code| format!(" ({code})"))
}

fn reported(error: &StreamError) -> String {
    match error {
        StreamError::Reported { code, .. } => {
            format!(
                "the model server reported an error{}",
                coded(code.as_deref())
            )
        }
        other => other.detail(),
    }
}

/// The upstreams of a gateway whose models are answered by different ones.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyUpstream {
    /// An OpenAI-compatible server.
    OpenAi(OpenAiUpstream),
    /// The built-in echo engine.
    Echo(EchoUpstream),
}

/// The events of [`AnyUpstream`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyEvents {
    /// Of an OpenAI-compatible server.
    OpenAi(Box<OpenAiEvents>),
    /// Of the built-in echo engine.
    Echo(EchoEvents),
}

impl Stream for AnyEvents {
    type Item = Result<ChatEvent, UpstreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::OpenAi(events) => Pin::new(events).poll_next(cx),
            Self::Echo(events) => Pin::new(events).poll_next(cx),
        }
    }
}

impl Upstream for AnyUpstream {
    type Events = AnyEvents;

    async fn chat(&self, request: ChatRequest) -> Result<AnyEvents, UpstreamError> {
        Ok(match self {
            Self::OpenAi(upstream) => AnyEvents::OpenAi(Box::new(upstream.chat(request).await?)),
            Self::Echo(upstream) => AnyEvents::Echo(upstream.chat(request).await?),
        })
    }

    fn remark(&self) -> Option<&'static str> {
        match self {
            Self::OpenAi(upstream) => upstream.remark(),
            Self::Echo(upstream) => upstream.remark(),
        }
    }

    fn takes_files(&self) -> bool {
        match self {
            Self::OpenAi(upstream) => upstream.takes_files(),
            Self::Echo(upstream) => upstream.takes_files(),
        }
    }
}

impl From<OpenAiUpstream> for AnyUpstream {
    fn from(upstream: OpenAiUpstream) -> Self {
        Self::OpenAi(upstream)
    }
}

impl From<EchoUpstream> for AnyUpstream {
    fn from(upstream: EchoUpstream) -> Self {
        Self::Echo(upstream)
    }
}
