//! Reads along with an answer, for what it says of the charge. The answer passes through as it is.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, de::IgnoredAny};
use tollgate_sse::{CONTENT_TYPE, Decoder, Event, Limits};
use tollgate_x402::Amount;

use crate::{Receipt, chat::DONE};

/// The longest JSON answer that is read along with.
const MAX_JSON: usize = 4 << 20;
/// Says that a stream is a UI message stream.
const UI_MESSAGE_STREAM: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");

/// Reads along with one answer.
pub(crate) enum Tap {
    /// A stream of events.
    Events(Box<Events>),
    /// One JSON text, in chunks, with what is left to its limit.
    Json(Vec<Bytes>, usize),
    /// Neither.
    Off,
}

/// What is known of a stream of events.
pub(crate) struct Events {
    decoder: Decoder,
    receipt: Receipt,
    /// It is of a dialect whose end is known.
    known: bool,
    /// That end was seen.
    whole: bool,
}

impl Tap {
    /// The tap for an answer of these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase());
        // A compressed answer is not ours to open.
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Self::Off;
        }
        match kind.as_deref() {
            Some(CONTENT_TYPE) => Self::Events(Box::new(Events {
                decoder: Decoder::new(Limits::default()),
                receipt: Receipt::default(),
                known: headers.contains_key(UI_MESSAGE_STREAM),
                whole: false,
            })),
            Some("application/json") => Self::Json(Vec::new(), MAX_JSON),
            _ => Self::Off,
        }
    }

    pub(crate) fn see(&mut self, chunk: &Bytes) {
        let broken = match self {
            Self::Events(events) => {
                events.decoder.push(chunk.clone());
                events.read().is_err()
            }
            Self::Json(chunks, left) => match left.checked_sub(chunk.len()) {
                Some(rest) => {
                    *left = rest;
                    chunks.push(chunk.clone());
                    false
                }
                None => true,
            },
            Self::Off => false,
        };
        if broken {
            *self = Self::Off;
        }
    }

    /// Whether an answer of which no more comes lacks its end. Of what is not read along with, that is not known.
    pub(crate) fn is_cut(&mut self) -> bool {
        match self {
            Self::Events(events) => {
                events.read_unfinished();
                events.known && !events.whole
            }
            Self::Json(chunks, _) => {
                let body = joined(chunks);
                let cut = serde_json::from_slice::<IgnoredAny>(&body)
                    .is_err_and(|error| error.is_eof() && !body.is_empty());
                *chunks = vec![body];
                cut
            }
            Self::Off => false,
        }
    }

    /// What the answer said, as far as it came.
    pub(crate) fn finish(&mut self) -> Receipt {
        match core::mem::replace(self, Self::Off) {
            Self::Events(events) => {
                let mut events = *events;
                events.read_unfinished();
                events.receipt
            }
            Self::Json(chunks, _) => serde_json::from_slice::<Part<'_>>(&joined(&chunks))
                .ok()
                .and_then(|part| part.message_metadata)
                .map(Metadata::into_receipt)
                .unwrap_or_default(),
            Self::Off => Receipt::default(),
        }
    }
}

impl Events {
    fn read(&mut self) -> Result<(), tollgate_sse::DecodeError> {
        while let Some(event) = self.decoder.next_event()? {
            self.see(&event);
        }
        Ok(())
    }

    fn read_unfinished(&mut self) {
        if let Ok(Some(event)) = self.decoder.take_unfinished() {
            self.see(&event);
        }
    }

    /// Takes what a part of a UI message stream says of the charge, and of the end. The last word counts.
    fn see(&mut self, event: &Event) {
        let data = event.data.as_str();
        if data == DONE {
            self.whole = true;
            return;
        }
        // Text has these in quotes that are escaped, so this is rarely true for nothing.
        let told = ["\"messageMetadata\"", "\"finish\""];
        if self.known && !told.iter().any(|word| data.contains(word)) {
            return;
        }
        let Ok(part) = serde_json::from_str::<Part<'_>>(data) else {
            return;
        };
        let kind = part.kind.as_deref().unwrap_or_default();
        self.known |= matches!(
            kind,
            "start"
                | "text-start"
                | "text-delta"
                | "reasoning-start"
                | "reasoning-delta"
                | "finish"
        ) || part.object.as_deref() == Some("chat.completion.chunk");
        self.whole |= kind == "finish";
        let carries = matches!(kind, "start" | "finish" | "message-metadata");
        if let Some(metadata) = part.message_metadata.filter(|_| carries) {
            let before = core::mem::take(&mut self.receipt);
            self.receipt = metadata.into_receipt().or(before);
        }
    }
}

/// The chunks as one.
fn joined(chunks: &[Bytes]) -> Bytes {
    match chunks {
        [one] => one.clone(),
        many => Bytes::from(many.concat()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    object: Option<Cow<'a, str>>,
    #[serde(default)]
    message_metadata: Option<Metadata>,
}

/// What sellers tell of the charge. Anything that is not as expected is as if it were not there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    total_tokens: Option<serde_json::Value>,
    #[serde(default)]
    allowance_left: Option<serde_json::Value>,
    #[serde(default)]
    calculated_price_wei: Option<serde_json::Value>,
    #[serde(default)]
    real_price_wei: Option<serde_json::Value>,
    #[serde(default)]
    payment_id: Option<serde_json::Value>,
}

impl Metadata {
    fn into_receipt(self) -> Receipt {
        let amount =
            |value: Option<serde_json::Value>| -> Option<Amount> { value?.as_str()?.parse().ok() };
        Receipt {
            charge: amount(self.real_price_wei),
            calculated: amount(self.calculated_price_wei),
            allowance_left: amount(self.allowance_left),
            total_tokens: self.total_tokens.and_then(|value| value.as_u64()),
            payment_id: self
                .payment_id
                .and_then(|value| value.as_str()?.parse().ok()),
            ..Receipt::default()
        }
    }
}
