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
}

enum Mode {
    Events(Box<Decoder>),
    Json(Vec<u8>),
}

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
                    self.parts.extend(part(event.data.as_str()));
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
                    self.parts.extend(part(event.data.as_str()));
                }
            }
            Mode::Json(text) => self.parts.extend(whole(&core::mem::take(text))),
        }
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

/// Chunks of other types, `[DONE]` and what is no chunk at all are passed over.
fn part(data: &str) -> Option<ChatPart> {
    let chunk: Chunk<'_> = serde_json::from_str(data).ok()?;
    match &*chunk.kind {
        "text-delta" => chunk.delta.map(ChatPart::Text),
        "reasoning-delta" => chunk.delta.map(ChatPart::Reasoning),
        "error" => Some(ChatPart::Error(chunk.error_text.unwrap_or_default())),
        "finish" => Some(ChatPart::Finish(chunk.finish_reason)),
        _ => None,
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

fn whole(text: &[u8]) -> Vec<ChatPart> {
    let completion = serde_json::from_slice::<Completion>(text);
    let Some(choice) = completion
        .ok()
        .and_then(|completion| completion.choices.into_iter().next())
    else {
        return vec![ChatPart::Error("the answer is no chat.completion".into())];
    };
    let said = choice.message.reasoning_content.map(ChatPart::Reasoning);
    said.into_iter()
        .chain(choice.message.content.map(ChatPart::Text))
        .chain([ChatPart::Finish(choice.finish_reason)])
        .collect()
}
