//! An answer collected into one piece, for callers who did not ask for a stream.

use crate::error::StreamError;
use crate::event::{ChatEvent, FinishReason, ReportedUsage};

/// The events of an answer put together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The id under which the caller sees the answer.
    pub id: String,
    /// The seller's public name of the model.
    pub model: String,
    /// The text so far.
    pub text: String,
    /// The reasoning so far.
    pub reasoning: String,
    /// Why it ended; `None` while it has not.
    pub finish: Option<FinishReason>,
    /// The last reported usage.
    pub usage: Option<ReportedUsage>,
    /// Why it broke off.
    pub error: Option<StreamError>,
    max_bytes: usize,
}

impl Completion {
    /// An empty answer under the caller-facing id and model name, holding at most `max_bytes` of text and
    /// reasoning together.
    pub fn new(id: impl Into<String>, model: impl Into<String>, max_bytes: usize) -> Self {
        Self {
            id: id.into(),
            model: model.into(),
            text: String::new(),
            reasoning: String::new(),
            finish: None,
            usage: None,
            error: None,
            max_bytes,
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// [`CompletionTooLarge`] when the event does not fit; the answer stays as it was.
    pub fn push(&mut self, event: &ChatEvent) -> Result<(), CompletionTooLarge> {
        match event {
            ChatEvent::TextDelta(text) => {
                self.room(text.len())?;
                self.text.push_str(text.as_str());
            }
            ChatEvent::ReasoningDelta(text) => {
                self.room(text.len())?;
                self.reasoning.push_str(text.as_str());
            }
            ChatEvent::Usage(usage) => self.usage = Some(*usage),
            ChatEvent::Finish(reason) => self.finish = Some(*reason),
            ChatEvent::Error(error) => {
                self.error = Some(error.clone());
                self.finish = Some(FinishReason::Error);
            }
            ChatEvent::Start { .. } => {}
        }
        Ok(())
    }

    fn room(&self, more: usize) -> Result<(), CompletionTooLarge> {
        let held = self.text.len().saturating_add(self.reasoning.len());
        if held.saturating_add(more) > self.max_bytes {
            return Err(CompletionTooLarge {
                limit: self.max_bytes,
            });
        }
        Ok(())
    }
}

/// The upstream's answer is larger than what may be held for a caller without a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is larger than {limit} bytes: ask for a stream")]
pub struct CompletionTooLarge {
    /// The bound, in bytes.
    pub limit: usize,
}
