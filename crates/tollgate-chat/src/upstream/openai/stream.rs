//! The stream from the model server.

use std::collections::VecDeque;

use bytes::Bytes;
use tollgate_sse::{Decoder, Limits, Utf8Bytes};

use super::response::{Chunk, Usage, start};
use crate::error::StreamError;
use crate::event::{ChatEvent, FinishReason};
use crate::tally::Tally;

/// Reads a streamed chat completion into [`ChatEvent`]s.
///
/// Push the chunks of the body, pop the events after each, and call [`end`](Self::end) when the body ends.
/// The last event is one `Finish` or one `Error`, at `[DONE]` or at the end of the body; usage comes before
/// it wherever the server puts it. What servers vary in is taken as it comes: `content: null`, content in
/// pieces, usage in every chunk, in the finishing one or in one of its own, `reasoning_content` or
/// `reasoning`, no `[DONE]`, errors in mid-stream, additional keys.
#[derive(Clone, Debug)]
pub struct OpenAiStream {
    decoder: Decoder,
    pending: VecDeque<ChatEvent>,
    started: bool,
    finish: Option<FinishReason>,
    done: bool,
    tally: Tally,
}

impl OpenAiStream {
    /// A decoder at the beginning of an answer.
    pub fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            pending: VecDeque::new(),
            started: false,
            finish: None,
            done: false,
            tally: Tally::new(),
        }
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if !self.done {
            self.decoder.push(chunk);
        }
    }

    /// The next event, `None` if more bytes are needed or the answer is over.
    pub fn next_event(&mut self) -> Option<ChatEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.tally.observe(&event);
                return Some(event);
            }
            if self.done {
                return None;
            }
            match self.decoder.next_event() {
                Ok(Some(event)) => self.take(&event.data),
                Ok(None) => return None,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// The body ended. What is left comes from [`next_event`](Self::next_event): an answer without its end
    /// ends with [`StreamError::Truncated`].
    pub fn end(&mut self) {
        while !self.done {
            match self.decoder.take_unfinished() {
                Ok(Some(event)) => self.take(&event.data),
                Ok(None) if self.finish.is_some() => self.finish(),
                Ok(None) => self.fail(StreamError::Truncated),
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Whether the last event was read from the body. Bytes after it are not looked at.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// The count of what [`next_event`](Self::next_event) returned.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    fn take(&mut self, data: &Utf8Bytes) {
        match data.as_bytes().trim_ascii() {
            b"" => {}
            b"[DONE]" => self.finish(),
            _ => match Chunk::parse(data) {
                Ok(chunk) => self.take_chunk(chunk, data),
                Err(error) => self.fail(error),
            },
        }
    }

    fn take_chunk(&mut self, mut chunk: Chunk<'_>, data: &Utf8Bytes) {
        if let Some(error) = chunk.error() {
            return self.fail(error);
        }
        let choices = chunk.choices.unwrap_or_default();
        let usage = chunk.usage.as_ref().and_then(Usage::report);
        // Some servers begin with a chunk that has neither id nor choices.
        if !self.started && (!choices.is_empty() || usage.is_some()) {
            self.started = true;
            self.pending.push_back(start(chunk.id, chunk.model));
        }
        for choice in choices {
            // One answer is asked for; others that come anyway are not the caller's.
            if choice.index.0.unwrap_or(0) != 0 {
                continue;
            }
            if let Some(delta) = choice.delta.or(choice.message) {
                delta.emit(data, |event| self.pending.push_back(event));
            }
            if let Some(reason) = choice
                .finish_reason
                .filter(|reason| !reason.as_str().is_empty())
            {
                self.finish = Some(FinishReason::from_openai(reason.as_str()));
            }
        }
        self.pending.extend(usage.map(ChatEvent::Usage));
    }

    fn finish(&mut self) {
        self.last(ChatEvent::Finish(
            self.finish.unwrap_or(FinishReason::Other),
        ));
    }

    fn fail(&mut self, error: StreamError) {
        self.last(ChatEvent::Error(error));
    }

    fn last(&mut self, event: ChatEvent) {
        self.done = true;
        if !self.started {
            self.started = true;
            self.pending.push_back(start(None, None));
        }
        self.pending.push_back(event);
    }
}

/// With the limits of [`tollgate_sse`].
impl Default for OpenAiStream {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}
