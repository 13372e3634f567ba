//! The canonical event stream of an answer.

use tollgate_sse::Utf8Bytes;

use crate::error::StreamError;

/// One step of an answer.
///
/// A stream is `Start`, then deltas and usage in any order, then exactly one of `Finish` and `Error`, which
/// is the last event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// The upstream began to answer.
    Start {
        /// The upstream's id of the answer, empty if it gave none.
        id: String,
        /// The upstream's name of the model.
        model: Option<String>,
    },
    /// More of the answer's text, never empty.
    TextDelta(Utf8Bytes),
    /// More of the model's reasoning, never empty.
    ReasoningDelta(Utf8Bytes),
    /// What the upstream says it used for the whole answer so far; a later one replaces an earlier one.
    Usage(ReportedUsage),
    /// The answer is complete.
    Finish(FinishReason),
    /// The answer broke off.
    Error(StreamError),
}

impl ChatEvent {
    /// A piece of text.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::TextDelta(text.into())
    }

    /// Whether nothing follows.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Finish(_) | Self::Error(_))
    }
}

/// Tokens as the upstream reports them. A claim, to be held against one's own count and the reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedUsage {
    /// Input tokens, those from the cache included.
    pub input: u64,
    /// Input tokens that came from the cache, at most `input`.
    pub cached_input: u64,
    /// Output tokens, those of the reasoning included.
    pub output: u64,
    /// Output tokens of the reasoning, at most `output`.
    pub reasoning: u64,
}

impl ReportedUsage {
    /// Input and output without details.
    pub const fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            cached_input: 0,
            output,
            reasoning: 0,
        }
    }

    /// Input and output together.
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// The same with details that are no larger than what they are details of.
    pub fn normalized(mut self) -> Self {
        self.cached_input = self.cached_input.min(self.input);
        self.reasoning = self.reasoning.min(self.output);
        self
    }
}

/// Why the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model was done, or met a stop text.
    Stop,
    /// The answer reached its most tokens.
    Length,
    /// A content filter cut it.
    ContentFilter,
    /// The model wants a tool called.
    ToolCalls,
    /// It failed.
    Error,
    /// Something else, or the upstream did not say.
    Other,
}

impl FinishReason {
    /// The name in the AI SDK's UI message stream; every version of the SDK knows these six and no others.
    pub const fn ui_name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content-filter",
            Self::ToolCalls => "tool-calls",
            Self::Error => "error",
            Self::Other => "other",
        }
    }

    /// The name in OpenAI's chat completions, which know four: what they do not know is `stop`.
    pub const fn openai_name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::ToolCalls => "tool_calls",
            Self::Stop | Self::Error | Self::Other => "stop",
        }
    }

    /// Reads what OpenAI-compatible servers write.
    pub fn from_openai(name: &str) -> Self {
        match name {
            "stop" | "eos" | "end_turn" | "stop_sequence" => Self::Stop,
            "length" | "max_tokens" => Self::Length,
            "content_filter" | "content-filter" => Self::ContentFilter,
            "tool_calls" | "tool-calls" | "function_call" => Self::ToolCalls,
            "error" | "abort" | "aborted" => Self::Error,
            _ => Self::Other,
        }
    }

    /// Reads what the UI message stream writes.
    pub fn from_ui(name: &str) -> Self {
        match name {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content-filter" => Self::ContentFilter,
            "tool-calls" => Self::ToolCalls,
            "error" => Self::Error,
            _ => Self::Other,
        }
    }
}
