//! Reads along with an answer, for what it says of the charge. The answer passes through as it is.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use tollgate_sse::{CONTENT_TYPE, Decoder, Event, Limits};
use tollgate_x402::Amount;

use crate::Receipt;

/// The longest JSON answer that is read along with.
const MAX_JSON: usize = 4 << 20;

/// Reads along with one answer.
pub(crate) enum Tap {
    /// A stream of events.
    Events(Box<(Decoder, Receipt)>),
    /// One JSON text, in chunks, with what is left to its limit.
    Json(Vec<Bytes>, usize),
    /// Neither.
    Off,
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
            Some(CONTENT_TYPE) => {
                let decoder = Decoder::new(Limits::default());
                Self::Events(Box::new((decoder, Receipt::default())))
            }
            Some("application/json") => Self::Json(Vec::new(), MAX_JSON),
            _ => Self::Off,
        }
    }

    pub(crate) fn see(&mut self, chunk: &Bytes) {
        let broken = match self {
            Self::Events(events) => {
                let (decoder, receipt) = &mut **events;
                decoder.push(chunk.clone());
                read_events(decoder, receipt).is_err()
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

    /// What the answer said, as far as it came.
    pub(crate) fn finish(&mut self) -> Receipt {
        match core::mem::replace(self, Self::Off) {
            Self::Events(events) => {
                let (mut decoder, mut receipt) = *events;
                if let Ok(Some(event)) = decoder.take_unfinished() {
                    read_event(&event, &mut receipt);
                }
                receipt
            }
            Self::Json(chunks, _) => {
                let body = match chunks.as_slice() {
                    [one] => one.clone(),
                    many => Bytes::from(many.concat()),
                };
                serde_json::from_slice::<Part<'_>>(&body)
                    .ok()
                    .and_then(|part| part.message_metadata)
                    .map(Metadata::into_receipt)
                    .unwrap_or_default()
            }
            Self::Off => Receipt::default(),
        }
    }
}

fn read_events(
    decoder: &mut Decoder,
    receipt: &mut Receipt,
) -> Result<(), tollgate_sse::DecodeError> {
    while let Some(event) = decoder.next_event()? {
        read_event(&event, receipt);
    }
    Ok(())
}

/// Takes what a part of a UI message stream says of the charge. The last word counts.
fn read_event(event: &Event, receipt: &mut Receipt) {
    let data = event.data.as_str();
    // Text has it in quotes that are escaped, so this is rarely true for nothing.
    if !data.contains("\"messageMetadata\"") {
        return;
    }
    let Ok(part) = serde_json::from_str::<Part<'_>>(data) else {
        return;
    };
    let carries = matches!(
        part.kind.as_deref(),
        Some("start" | "finish" | "message-metadata")
    );
    if let Some(metadata) = part.message_metadata.filter(|_| carries) {
        *receipt = metadata.into_receipt().or(core::mem::take(receipt));
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
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
