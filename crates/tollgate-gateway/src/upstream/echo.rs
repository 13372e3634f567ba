//! The built-in echo engine: deterministic, and honest about what it is.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::collections::VecDeque;

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep};
use tollgate_chat::{ChatEvent, ChatRequest, FinishReason, Part, ReportedUsage, Role};

use crate::{
    tokens::{TokenCount, Tokenizer},
    upstream::{Upstream, UpstreamError},
};

/// What it says before it repeats.
const INTRODUCTION: &str =
    "This is tollgate's built-in echo engine, not a language model. You said:";

/// Repeats what it is told, word by word, and says that it does. For trying a gateway out without a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct EchoUpstream {
    delay: Duration,
}

impl EchoUpstream {
    /// The name under which it is sold by default.
    pub const MODEL: &'static str = "tollgate/echo";

    /// An engine that answers at once.
    pub const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
        }
    }

    /// An engine that waits so long before each word.
    pub const fn with_delay(delay: Duration) -> Self {
        Self { delay }
    }
}

impl Upstream for EchoUpstream {
    type Events = EchoEvents;

    async fn chat(&self, request: ChatRequest) -> Result<EchoEvents, UpstreamError> {
        let tokenizer = Tokenizer::load().await;
        let said = request
            .messages
            .iter()
            .rev()
            .find(|message| message.role == Role::User);
        let said: Vec<&str> = said
            .into_iter()
            .flat_map(|message| &message.content)
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let mut words = words(INTRODUCTION);
        words.extend(words_after(&said.join("\n")));
        Ok(EchoEvents {
            tokenizer,
            model: request.model.clone(),
            input: tokenizer.count_request_async(&request).await,
            words,
            count: TokenCount::default(),
            limit: request.max_output_tokens.map_or(u64::MAX, u64::from),
            delay: self.delay,
            sleep: None,
            step: Step::Start,
        })
    }

    fn remark(&self) -> Option<&'static str> {
        Some("tollgate's built-in echo engine, not a language model: it repeats what it is told")
    }
}

/// The events of one echo.
#[derive(Debug)]
pub struct EchoEvents {
    tokenizer: &'static Tokenizer,
    model: Option<String>,
    input: u64,
    words: VecDeque<String>,
    count: TokenCount,
    limit: u64,
    delay: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Words,
    Finish(FinishReason),
    Over,
}

impl EchoEvents {
    /// The next word, if it still fits the limit.
    fn word(&mut self) -> Option<ChatEvent> {
        let word = self.words.pop_front()?;
        let mut count = self.count.clone();
        count.push(self.tokenizer, &word);
        if count.total(self.tokenizer) > self.limit {
            self.step = Step::Finish(FinishReason::Length);
            return None;
        }
        self.count = count;
        Some(ChatEvent::text(word))
    }

    fn next(&mut self) -> Option<ChatEvent> {
        match self.step {
            Step::Start => {
                self.step = Step::Words;
                Some(ChatEvent::Start {
                    id: String::new(),
                    model: self.model.take(),
                })
            }
            Step::Words => match self.word() {
                Some(word) => Some(word),
                None => {
                    let reason = match self.step {
                        Step::Finish(reason) => reason,
                        _ => FinishReason::Stop,
                    };
                    self.step = Step::Finish(reason);
                    Some(ChatEvent::Usage(ReportedUsage::new(
                        self.input,
                        self.count.total(self.tokenizer),
                    )))
                }
            },
            Step::Finish(reason) => {
                self.step = Step::Over;
                Some(ChatEvent::Finish(reason))
            }
            Step::Over => None,
        }
    }
}

impl Stream for EchoEvents {
    type Item = Result<ChatEvent, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if matches!(this.step, Step::Words) && !this.words.is_empty() && !this.delay.is_zero() {
            let delay = this.delay;
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(delay)));
            ready!(sleep.as_mut().poll(cx));
            // From now on, not from when it was due: a reader that stalls does not get a burst.
            if let Some(next) = Instant::now().checked_add(delay) {
                sleep.as_mut().reset(next);
            }
        }
        Poll::Ready(this.next().map(Ok))
    }
}

/// The words of a text, each with the white space before it.
fn words(text: &str) -> VecDeque<String> {
    let mut words = VecDeque::new();
    let mut word = String::new();
    let mut in_word = false;
    for c in text.chars() {
        if in_word && c.is_whitespace() {
            words.push_back(core::mem::take(&mut word));
            in_word = false;
        }
        in_word |= !c.is_whitespace();
        word.push(c);
    }
    if !word.is_empty() {
        words.push_back(word);
    }
    words
}

/// The same, parted from what stands before.
fn words_after(text: &str) -> VecDeque<String> {
    words(&format!(" {text}"))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_put_together_are_the_text() {
        for text in ["", " ", "a", " a  b\n\nc ", "日本 語"] {
            let words = words(text);
            assert_eq!(words.iter().map(String::as_str).collect::<String>(), text);
        }
        assert_eq!(words("a b\nc"), ["a", " b", "\nc"]);
    }
}
