//! What a request used.

use tollgate_x402::TokenUsage;

/// The tokens of a request that are billed.
///
/// The cached tokens are among the input tokens and the reasoning tokens among the output tokens; a report that says
/// otherwise is read as if all were.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BillableUsage {
    input: u64,
    cached_input: u64,
    output: u64,
    reasoning: u64,
}

impl BillableUsage {
    /// So many tokens in and out.
    pub const fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            cached_input: 0,
            output,
            reasoning: 0,
        }
    }

    /// The same with so many of the input tokens from a cache (at most all).
    #[must_use]
    pub fn with_cached_input(self, tokens: u64) -> Self {
        Self {
            cached_input: tokens.min(self.input),
            ..self
        }
    }

    /// The same with so many of the output tokens spent on reasoning (at most all). They cost what output costs.
    #[must_use]
    pub fn with_reasoning(self, tokens: u64) -> Self {
        Self {
            reasoning: tokens.min(self.output),
            ..self
        }
    }

    /// All input tokens.
    pub const fn input(self) -> u64 {
        self.input
    }

    /// The input tokens that came from a cache.
    pub const fn cached_input(self) -> u64 {
        self.cached_input
    }

    /// The input tokens that did not.
    pub const fn uncached_input(self) -> u64 {
        self.input.saturating_sub(self.cached_input)
    }

    /// All output tokens.
    pub const fn output(self) -> u64 {
        self.output
    }

    /// The output tokens spent on reasoning.
    pub const fn reasoning(self) -> u64 {
        self.reasoning
    }

    /// Input and output together.
    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl From<TokenUsage> for BillableUsage {
    fn from(usage: TokenUsage) -> Self {
        Self::new(usage.input_tokens, usage.output_tokens)
            .with_cached_input(usage.cached_input_tokens)
            .with_reasoning(usage.reasoning_tokens)
    }
}

impl From<BillableUsage> for TokenUsage {
    fn from(usage: BillableUsage) -> Self {
        Self {
            input_tokens: usage.input,
            cached_input_tokens: usage.cached_input,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
        }
    }
}
