//! The UI message stream in, for paying clients.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tollgate_sse::{Decoder, Limits, Utf8Bytes};

use crate::error::StreamError;
use crate::event::FinishReason;
use crate::finish::MetaValue;
use crate::upstream::{Str, clip};

/// What a caller sees of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UiEvent {
    /// More text.
    Text(Utf8Bytes),
    /// More reasoning.
    Reasoning(Utf8Bytes),
    /// The seller tells of an error; a `Finish` may follow.
    Error(String),
    /// The end of the answer, with the facts of the charge if the seller told them.
    Finish(FinishReason, Option<ReceivedMetadata>),
    /// The end of the stream.
    Done,
}

/// The seller's claim about the charge: the texts, counts and flags of `messageMetadata`. Nothing in it was
/// checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Value>")]
pub struct ReceivedMetadata(BTreeMap<String, MetaValue>);

impl ReceivedMetadata {
    /// Tokens of input and output.
    pub fn total_tokens(&self) -> Option<u64> {
        match self.get("totalTokens")? {
            MetaValue::Number(number) => Some(*number),
            MetaValue::Text(_) | MetaValue::Flag(_) => None,
        }
    }

    /// What may still be charged under the authorization, in atomic units.
    pub fn allowance_left(&self) -> Option<&str> {
        self.text("allowanceLeft")
    }

    /// What the usage costs, in atomic units.
    pub fn calculated_price_wei(&self) -> Option<&str> {
        self.text("calculatedPriceWei")
    }

    /// What is charged, in atomic units.
    pub fn real_price_wei(&self) -> Option<&str> {
        self.text("realPriceWei")
    }

    /// Any value.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.get(key)
    }

    /// Any value that is a text, such as `paymentId`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetaValue::Text(text) => Some(text),
            MetaValue::Number(_) | MetaValue::Flag(_) => None,
        }
    }

    /// All values in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetaValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    Other(IgnoredAny),
}

impl From<BTreeMap<String, Value>> for ReceivedMetadata {
    fn from(map: BTreeMap<String, Value>) -> Self {
        let known = |(key, value)| match value {
            Value::Text(text) => Some((key, MetaValue::Text(text))),
            Value::Number(number) => Some((key, MetaValue::Number(number))),
            Value::Flag(flag) => Some((key, MetaValue::Flag(flag))),
            Value::Other(IgnoredAny) => None,
        };
        Self(map.into_iter().filter_map(known).collect())
    }
}

/// Reads a UI message stream chunk by chunk.
#[derive(Clone, Debug)]
pub struct UiReader {
    decoder: Decoder,
    done: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    r#type: Str<'a>,
    #[serde(borrow, default)]
    delta: Option<Str<'a>>,
    #[serde(borrow, default)]
    error_text: Option<Str<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Str<'a>>,
    #[serde(default)]
    message_metadata: Option<ReceivedMetadata>,
}

impl UiReader {
    /// A reader at the beginning of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            done: false,
        }
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        self.decoder.push(chunk);
    }

    /// The next event, `None` if more bytes are needed. Chunks of other types are passed over, and so is
    /// everything after `Done`.
    ///
    /// # Errors
    /// [`StreamError`] when the seller's stream is not one.
    pub fn next_event(&mut self) -> Result<Option<UiEvent>, StreamError> {
        while let Some(event) = self.decoder.next_event()? {
            if self.done || event.data.is_empty() {
                continue;
            }
            if event.data == "[DONE]" {
                self.done = true;
                return Ok(Some(UiEvent::Done));
            }
            let chunk: Chunk<'_> =
                serde_json::from_slice(event.data.as_bytes()).map_err(|error| {
                    StreamError::Malformed {
                        reason: clip(&error.to_string(), 128),
                    }
                })?;
            let share = |text: Str<'_>| text.share(&event.data);
            return Ok(Some(match chunk.r#type.as_str() {
                "text-delta" => UiEvent::Text(chunk.delta.map(share).unwrap_or_default()),
                "reasoning-delta" => UiEvent::Reasoning(chunk.delta.map(share).unwrap_or_default()),
                "error" => UiEvent::Error(
                    chunk
                        .error_text
                        .map(|text| text.as_str().to_owned())
                        .unwrap_or_default(),
                ),
                "finish" => UiEvent::Finish(
                    chunk.finish_reason.map_or(FinishReason::Other, |reason| {
                        FinishReason::from_ui(reason.as_str())
                    }),
                    chunk.message_metadata,
                ),
                _ => continue,
            }));
        }
        Ok(None)
    }

    /// Whether the stream came to its end: a body that ends before was cut.
    pub const fn is_done(&self) -> bool {
        self.done
    }
}
