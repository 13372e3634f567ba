//! Our own count of an answer, beside what the upstream reports.

use crate::event::{ChatEvent, ReportedUsage};

/// Counts what passed. It works for any source of events and costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Bytes of text.
    pub text_bytes: u64,
    /// Deltas of text.
    pub text_deltas: u64,
    /// Bytes of reasoning.
    pub reasoning_bytes: u64,
    /// Deltas of reasoning.
    pub reasoning_deltas: u64,
    /// The last reported usage.
    pub reported: Option<ReportedUsage>,
}

impl Tally {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self {
            text_bytes: 0,
            text_deltas: 0,
            reasoning_bytes: 0,
            reasoning_deltas: 0,
            reported: None,
        }
    }

    /// Counts one event.
    pub fn observe(&mut self, event: &ChatEvent) {
        let bytes = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        match event {
            ChatEvent::TextDelta(text) => {
                self.text_bytes = self.text_bytes.saturating_add(bytes(text.len()));
                self.text_deltas = self.text_deltas.saturating_add(1);
            }
            ChatEvent::ReasoningDelta(text) => {
                self.reasoning_bytes = self.reasoning_bytes.saturating_add(bytes(text.len()));
                self.reasoning_deltas = self.reasoning_deltas.saturating_add(1);
            }
            ChatEvent::Usage(usage) => self.reported = Some(*usage),
            ChatEvent::Start { .. } | ChatEvent::Finish(_) | ChatEvent::Error(_) => {}
        }
    }

    /// Deltas of both kinds: the floor of the output tokens where the upstream sends one delta a token, as
    /// vLLM, llama.cpp and Ollama do, or several tokens in a delta, as the large providers do. An upstream
    /// behind something that cuts the text into letters has fewer tokens than deltas.
    pub const fn floor_tokens(&self) -> u64 {
        self.text_deltas.saturating_add(self.reasoning_deltas)
    }

    /// Bytes of both kinds: the ceiling of the visible output tokens.
    pub const fn ceiling_tokens(&self) -> u64 {
        self.text_bytes.saturating_add(self.reasoning_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_and_bytes_are_counted_by_kind_and_the_last_usage_stands() {
        let mut tally = Tally::new();
        for event in [
            ChatEvent::Start {
                id: String::new(),
                model: None,
            },
            ChatEvent::ReasoningDelta("hm".into()),
            ChatEvent::text("grü"),
            ChatEvent::text("n"),
            ChatEvent::Usage(ReportedUsage::new(1, 1)),
            ChatEvent::Usage(ReportedUsage::new(1, 3)),
        ] {
            tally.observe(&event);
        }
        assert_eq!((tally.text_bytes, tally.text_deltas), (5, 2));
        assert_eq!((tally.reasoning_bytes, tally.reasoning_deltas), (2, 1));
        assert_eq!(tally.reported, Some(ReportedUsage::new(1, 3)));
        assert_eq!((tally.floor_tokens(), tally.ceiling_tokens()), (3, 7));
    }
}
