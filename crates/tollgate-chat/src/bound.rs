//! Bounds on tokens without a tokenizer.

use crate::request::ChatRequest;

/// The most tokens that text of so many bytes can be: one for each byte.
///
/// It holds for every tokenizer whose tokens stand for at least one byte of its input: byte-level BPE (GPT,
/// Llama 3, Qwen, SmolLM) and SentencePiece with byte fallback. It does not hold for tokenizers that first
/// expand characters (NFKC), which no current chat model uses.
pub fn upper_bound_tokens(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What a chat template adds to the texts, in tokens. The defaults are above what the templates of the
/// common open models add (SmolLM2 puts in a system prompt of its own of about 20 tokens).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputBound {
    /// Tokens for each message: its role and its marks.
    pub per_message: u32,
    /// Tokens for the whole: begin of text, default system prompt, the opening of the answer.
    pub base: u32,
}

impl Default for InputBound {
    fn default() -> Self {
        Self {
            per_message: 16,
            base: 64,
        }
    }
}

impl InputBound {
    /// The most input tokens that the request can be, template included.
    pub fn of(&self, request: &ChatRequest) -> u64 {
        self.around(request, upper_bound_tokens(request.content_bytes()))
    }

    /// The same around a count of the texts that is known better.
    pub fn around(&self, request: &ChatRequest, content_tokens: u64) -> u64 {
        let messages = u64::try_from(request.messages.len()).unwrap_or(u64::MAX);
        u64::from(self.per_message)
            .saturating_mul(messages)
            .saturating_add(self.base.into())
            .saturating_add(content_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_covers_texts_and_template() {
        let request = ChatRequest::ask("grün");
        assert_eq!(
            InputBound {
                per_message: 10,
                base: 100
            }
            .of(&request),
            116
        );
        assert_eq!(
            InputBound {
                per_message: 10,
                base: 100
            }
            .around(&request, 2),
            112
        );
    }
}
