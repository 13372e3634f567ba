//! The parts of a chat answer that a buyer shows: text, reasoning, errors. A UI message stream, or one JSON text.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use tollgate_sse::{CONTENT_TYPE, DecodeError, Decoder, Limits};

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChatPart {
    /// More of the answer's text.
    Text(String),
    /// More of the model's reasoning.
    Reasoning(String),
    /// The seller tells of an error. The answer may still go on to its end.
    Error(String),
    /// The answer is complete, with the reason that is given: `stop`, `length`, …
    Finish(Option<String>),
}

/// Reads a chat answer chunk by chunk.
pub struct ChatReader {
    mode: Mode,
    parts: VecDeque<ChatPart>,
    whole: bool,
}

enum Mode {
    Events(Box<Decoder>),
    Json(Vec<u8>),
}

/// The last event of a stream.
pub(crate) const DONE: &str = "[DONE]";
/// The longest answer in one piece, in bytes.
const MAX_JSON: usize = 16 << 20;

impl ChatReader {
    /// A reader for an answer of these headers: a stream of events, else one JSON text.
    pub fn of(headers: &HeaderMap) -> Self {
        let events = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| {
                let kind = kind.split(';').next().unwrap_or_default();
                kind.trim().eq_ignore_ascii_case(CONTENT_TYPE)
            });
        Self {
            mode: if events {
                Mode::Events(Box::new(Decoder::new(Limits::default())))
            } else {
                Mode::Json(Vec::new())
            },
            parts: VecDeque::new(),
            whole: false,
        }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`DecodeError`] if the seller breaks a limit.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), DecodeError> {
        match &mut self.mode {
            Mode::Events(decoder) => {
                decoder.push(chunk);
                while let Some(event) = decoder.next_event()? {
                    let (part, last) = part(event.data.as_str());
                    self.whole |= last;
                    self.parts.extend(part);
                }
            }
            Mode::Json(text) => {
                if text.len().saturating_add(chunk.len()) > MAX_JSON {
                    return Err(DecodeError::EventTooLarge { limit: MAX_JSON });
                }
                text.extend_from_slice(&chunk);
            }
        }
        Ok(())
    }

    /// The answer has ended: what was waiting for that.
    pub fn end(&mut self) {
        match &mut self.mode {
            Mode::Events(decoder) => {
                if let Ok(Some(event)) = decoder.take_unfinished() {
                    let (part, last) = part(event.data.as_str());
                    self.whole |= last;
                    self.parts.extend(part);
                }
            }
            Mode::Json(text) => {
                let parts = whole(&core::mem::take(text));
                self.whole |= parts.is_some();
                self.parts.extend(parts.into_iter().flatten());
            }
        }
    }

    /// Whether the answer came to the end that its format has: the chunk `finish` or `[DONE]` of a stream, the end of a
    /// JSON text (which is known after [`end`](Self::end)). A body that ends before that was cut off, though the
    /// connection may not tell: one that is closed looks the same as one that broke.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// The next part that is complete.
    pub fn next_part(&mut self) -> Option<ChatPart> {
        self.parts.pop_front()
    }
}

impl core::fmt::Debug for ChatReader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ChatReader").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    delta: Option<String>,
    #[serde(default)]
    error_text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// The part, and whether it is the end. Chunks of other types and what is no chunk at all are passed over.
fn part(data: &str) -> (Option<ChatPart>, bool) {
    let Ok(chunk) = serde_json::from_str::<Chunk<'_>>(data) else {
        return (None, data == DONE);
    };
    match &*chunk.kind {
        "text-delta" => (chunk.delta.map(ChatPart::Text), false),
        "reasoning-delta" => (chunk.delta.map(ChatPart::Reasoning), false),
        "error" => {
            let text = chunk.error_text.unwrap_or_default();
            (Some(ChatPart::Error(text)), false)
        }
        "finish" => (Some(ChatPart::Finish(chunk.finish_reason)), true),
        _ => (None, false),
    }
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
}

/// Nothing if it ends in the middle.
fn whole(text: &[u8]) -> Option<Vec<ChatPart>> {
    let completion = serde_json::from_slice::<Completion>(text);
    if completion.as_ref().is_err_and(serde_json::Error::is_eof) {
        return None;
    }
    let Some(choice) = completion
        .ok()
        .and_then(|completion| completion.choices.into_iter().next())
    else {
        return Some(vec![ChatPart::Error(
            "the answer is no chat.completion".into(),
        )]);
    };
    let said = choice.message.reasoning_content.map(ChatPart::Reasoning);
    Some(
        said.into_iter()
            .chain(choice.message.content.map(ChatPart::Text))
            .chain([ChatPart::Finish(choice.finish_reason)])
            .collect(),
    )
}
