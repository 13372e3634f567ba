//! The UI message stream out, as the AI SDK (5, 6 and 7) reads it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tollgate_sse::Utf8Bytes;

use crate::event::{ChatEvent, FinishReason};
use crate::finish::FinishMetadata;
use crate::write::put_event;

/// The headers that the AI SDK's servers send with a UI message stream.
pub fn stream_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (
            CONTENT_TYPE,
            HeaderValue::from_static(tollgate_sse::CONTENT_TYPE),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("x-vercel-ai-ui-message-stream"),
            HeaderValue::from_static("v1"),
        ),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ])
}

/// The encoder of one UI message stream.
///
/// Older SDKs reject unknown chunk types and unknown fields of known chunks, so it writes the documented
/// ones only; what the payment layer adds goes into `messageMetadata`.
#[derive(Clone, Debug, Default)]
pub struct UiStream {
    started: bool,
    closed: bool,
    open: Option<Block>,
    texts: u32,
    reasonings: u32,
    finish: Option<FinishReason>,
}

/// The block that deltas go into.
#[derive(Clone, Debug)]
struct Block {
    kind: Kind,
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
enum Chunk<'a> {
    Start,
    TextStart {
        id: &'a str,
    },
    TextDelta {
        id: &'a str,
        delta: &'a str,
    },
    TextEnd {
        id: &'a str,
    },
    ReasoningStart {
        id: &'a str,
    },
    ReasoningDelta {
        id: &'a str,
        delta: &'a str,
    },
    ReasoningEnd {
        id: &'a str,
    },
    Error {
        error_text: &'a str,
    },
    Finish {
        finish_reason: &'static str,
        message_metadata: &'a FinishMetadata,
    },
}

impl UiStream {
    /// A stream of which nothing is written.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frames for this event, `None` if it has none: usage and the reason of the end are told in
    /// [`closing`](Self::closing), the last reason given holds. After `closing` there are none.
    pub fn encode(&mut self, event: &ChatEvent) -> Option<Bytes> {
        if self.closed {
            return None;
        }
        let mut buf = BytesMut::new();
        match event {
            ChatEvent::Start { .. } => self.start(&mut buf),
            ChatEvent::TextDelta(text) => self.delta(&mut buf, Kind::Text, text),
            ChatEvent::ReasoningDelta(text) => self.delta(&mut buf, Kind::Reasoning, text),
            ChatEvent::Usage(_) => {}
            ChatEvent::Finish(reason) => self.finish = Some(*reason),
            ChatEvent::Error(error) => {
                self.start(&mut buf);
                put_event(
                    &mut buf,
                    &Chunk::Error {
                        error_text: &error.to_string(),
                    },
                );
                self.finish = Some(FinishReason::Error);
            }
        }
        (!buf.is_empty()).then(|| buf.freeze())
    }

    /// The end of the stream: what is open is closed, then `finish` with the facts of the charge, then
    /// `[DONE]`. To be called once the charge is durable. Empty if it was called before.
    pub fn closing(&mut self, metadata: &FinishMetadata) -> Bytes {
        if self.closed {
            return Bytes::new();
        }
        let mut buf = BytesMut::with_capacity(512);
        self.start(&mut buf);
        self.end_block(&mut buf);
        let finish_reason = self.finish.unwrap_or(FinishReason::Other).ui_name();
        put_event(
            &mut buf,
            &Chunk::Finish {
                finish_reason,
                message_metadata: metadata,
            },
        );
        buf.put_slice(b"data: [DONE]\n\n");
        self.closed = true;
        buf.freeze()
    }

    fn start(&mut self, buf: &mut BytesMut) {
        if !self.started {
            self.started = true;
            put_event(buf, &Chunk::Start);
        }
    }

    fn delta(&mut self, buf: &mut BytesMut, kind: Kind, text: &Utf8Bytes) {
        if text.is_empty() {
            return;
        }
        buf.reserve(text.len().saturating_add(64));
        self.start(buf);
        if self.open.as_ref().is_none_or(|block| block.kind != kind) {
            self.end_block(buf);
            self.open_block(buf, kind);
        }
        let Some(Block { id, .. }) = &self.open else {
            return;
        };
        let delta = text.as_str();
        match kind {
            Kind::Text => put_event(buf, &Chunk::TextDelta { id, delta }),
            Kind::Reasoning => put_event(buf, &Chunk::ReasoningDelta { id, delta }),
        }
    }

    fn open_block(&mut self, buf: &mut BytesMut, kind: Kind) {
        let (name, count) = match kind {
            Kind::Text => ("txt", &mut self.texts),
            Kind::Reasoning => ("rsn", &mut self.reasonings),
        };
        let id = format!("{name}-{count}");
        *count = count.saturating_add(1);
        match kind {
            Kind::Text => put_event(buf, &Chunk::TextStart { id: &id }),
            Kind::Reasoning => put_event(buf, &Chunk::ReasoningStart { id: &id }),
        }
        self.open = Some(Block { kind, id });
    }

    fn end_block(&mut self, buf: &mut BytesMut) {
        match self.open.take() {
            Some(Block {
                kind: Kind::Text,
                id,
            }) => put_event(buf, &Chunk::TextEnd { id: &id }),
            Some(Block {
                kind: Kind::Reasoning,
                id,
            }) => put_event(buf, &Chunk::ReasoningEnd { id: &id }),
            None => {}
        }
    }
}
