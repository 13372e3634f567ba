//! What the model server answers: one shape for chunks of a stream and for plain answers.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tollgate_sse::Utf8Bytes;

use crate::error::StreamError;
use crate::event::{ChatEvent, FinishReason, ReportedUsage};
use crate::upstream::{Str, clip};

/// A chunk or a plain answer. Typed and borrowed: this is the hot path of every token.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) model: Option<Str<'a>>,
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
    #[serde(default)]
    pub(super) error: Option<ErrorObject>,
    /// vLLM reports some errors as an object of its own kind instead of under `error`.
    #[serde(borrow, default)]
    object: Option<Str<'a>>,
    #[serde(borrow, default)]
    message: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub(super) index: Count,
    #[serde(borrow, default)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub(super) message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Str<'a>>,
    /// OpenAI puts a refusal here instead of into the content: the caller should read it as well.
    #[serde(borrow, default)]
    refusal: Option<Str<'a>>,
    /// DeepSeek, llama.cpp, vLLM and SGLang.
    #[serde(borrow, default)]
    reasoning_content: Option<Str<'a>>,
    /// Ollama, newer vLLM, OpenRouter.
    #[serde(borrow, default)]
    reasoning: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

/// A count of tokens; anything but an unsigned integer is no count.
#[derive(Clone, Copy, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl Usage {
    /// `None` unless both counts are there: half a report is no report, and our own count stands.
    pub(super) fn report(&self) -> Option<ReportedUsage> {
        let details = self.prompt_tokens_details.as_ref();
        let completion = self.completion_tokens_details.as_ref();
        let usage = ReportedUsage {
            input: self.prompt_tokens.0?,
            cached_input: details
                .and_then(|details| details.cached_tokens.0)
                .unwrap_or(0),
            output: self.completion_tokens.0?,
            reasoning: completion
                .and_then(|details| details.reasoning_tokens.0)
                .unwrap_or(0),
        };
        Some(usage.normalized())
    }
}

impl<'a> Chunk<'a> {
    pub(super) fn parse(event: &'a Utf8Bytes) -> Result<Self, StreamError> {
        serde_json::from_slice(event.as_bytes()).map_err(|error| StreamError::Malformed {
            reason: format!("at byte {} of an event: {}", error.column(), reason(&error)),
        })
    }

    pub(super) fn error(&mut self) -> Option<StreamError> {
        if let Some(error) = self.error.take() {
            return Some(error.into());
        }
        let is_error = self
            .object
            .as_ref()
            .is_some_and(|object| object.as_str() == "error");
        is_error.then(|| StreamError::Reported {
            code: None,
            message: clip(
                self.message.as_ref().map_or("", |message| message.as_str()),
                MAX_MESSAGE,
            ),
        })
    }
}

/// What kind of mistake it is; the parser's own text may quote the answer.
fn reason(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early",
        serde_json::error::Category::Data => "a value of another type than expected",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
    }
}

impl Delta<'_> {
    /// The deltas of this chunk, those of the reasoning first.
    pub(super) fn emit(self, event: &Utf8Bytes, mut emit: impl FnMut(ChatEvent)) {
        let not_empty = |text: Option<Str<'_>>| {
            text.filter(|text| !text.as_str().is_empty())
                .map(|text| text.share(event))
        };
        if let Some(text) = not_empty(self.reasoning_content).or_else(|| not_empty(self.reasoning))
        {
            emit(ChatEvent::ReasoningDelta(text));
        }
        if let Some(text) = not_empty(self.content) {
            emit(ChatEvent::TextDelta(text));
        }
        if let Some(text) = not_empty(self.refusal) {
            emit(ChatEvent::TextDelta(text));
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
                Ok(Count(Some(count)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

const MAX_MESSAGE: usize = 512;
const MAX_CODE: usize = 64;

/// An error as OpenAI-compatible servers report it. For the operator: it may name hosts and accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorObject {
    /// The server's sentence, at most 512 bytes.
    pub message: String,
    /// Its `code`, or else its `type`, at most 64 bytes.
    pub code: Option<String>,
}

impl From<ErrorObject> for StreamError {
    fn from(error: ErrorObject) -> Self {
        Self::Reported {
            code: error.code,
            message: error.message,
        }
    }
}

/// `{"message":…,"type":…,"code":…}` or a bare string.
impl<'de> Deserialize<'de> for ErrorObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ErrorVisitor;
        impl<'de> Visitor<'de> for ErrorVisitor {
            type Value = ErrorObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an error object or a text")
            }

            fn visit_str<E>(self, message: &str) -> Result<ErrorObject, E> {
                Ok(ErrorObject {
                    message: clip(message, MAX_MESSAGE),
                    code: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ErrorObject, A::Error> {
                let (mut message, mut code, mut kind) =
                    (String::new(), String::new(), String::new());
                while let Some(key) = map.next_key::<Str<'de>>()? {
                    match key.as_str() {
                        "message" => {
                            message = clip(map.next_value::<Str<'de>>()?.as_str(), MAX_MESSAGE)
                        }
                        "code" => code = clip(map.next_value::<Str<'de>>()?.as_str(), MAX_CODE),
                        "type" => kind = clip(map.next_value::<Str<'de>>()?.as_str(), MAX_CODE),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let code = if code.is_empty() { kind } else { code };
                Ok(ErrorObject {
                    message,
                    code: (!code.is_empty()).then_some(code),
                })
            }
        }
        deserializer.deserialize_any(ErrorVisitor)
    }
}

/// Reads the body of an answer whose status is an error, as far as it can be read.
pub fn decode_error(body: &[u8]) -> ErrorObject {
    #[derive(Deserialize)]
    struct Body {
        error: ErrorObject,
    }
    serde_json::from_slice::<Body>(body)
        .map(|body| body.error)
        .or_else(|_| serde_json::from_slice::<ErrorObject>(body))
        .unwrap_or_else(|_| ErrorObject {
            message: clip(&String::from_utf8_lossy(body), MAX_MESSAGE),
            code: None,
        })
}

/// Reads a plain answer into the same events as a stream: the last one is `Finish` or `Error`. The body's
/// size is the caller's to bound.
pub fn decode_completion(body: bytes::Bytes) -> Vec<ChatEvent> {
    let body = Utf8Bytes::from_lossy(body);
    match completion(&body) {
        Ok(events) => events,
        Err(error) => vec![ChatEvent::Error(error)],
    }
}

fn completion(body: &Utf8Bytes) -> Result<Vec<ChatEvent>, StreamError> {
    let mut chunk = Chunk::parse(body)?;
    if let Some(error) = chunk.error() {
        return Err(error);
    }
    let choice = chunk
        .choices
        .unwrap_or_default()
        .into_iter()
        .find(|choice| choice.index.0.unwrap_or(0) == 0);
    let choice = choice.ok_or_else(|| StreamError::Malformed {
        reason: "no choices".to_owned(),
    })?;
    let mut events = vec![start(chunk.id, chunk.model)];
    if let Some(message) = choice.message.or(choice.delta) {
        message.emit(body, |event| events.push(event));
    }
    events.extend(
        chunk
            .usage
            .as_ref()
            .and_then(Usage::report)
            .map(ChatEvent::Usage),
    );
    let reason = choice
        .finish_reason
        .filter(|reason| !reason.as_str().is_empty());
    events.push(ChatEvent::Finish(
        reason.map_or(FinishReason::Other, |reason| {
            FinishReason::from_openai(reason.as_str())
        }),
    ));
    Ok(events)
}

pub(super) fn start(id: Option<Str<'_>>, model: Option<Str<'_>>) -> ChatEvent {
    let owned = |text: Option<Str<'_>>| {
        text.map(|text| text.as_str().to_owned())
            .filter(|text| !text.is_empty())
    };
    ChatEvent::Start {
        id: owned(id).unwrap_or_default(),
        model: owned(model),
    }
}
