//! The course of one answer: what was delivered, what it is worth, and how it ends.
//!
//! The body that runs through the paywall writes it, frame by frame; the meter reads it. Both stand on the two sides
//! of one pump, so the lock is never waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tollgate_chat::{
    ChatEvent, Completion, FinishMetadata, FinishReason, ReportedUsage, StreamError,
    dialect::ResponseStream,
};
use tollgate_price::{BillableUsage, Rates};
use tollgate_x402::Amount;

use crate::{
    tokens::{TokenCount, Tokenizer},
    upstream::UpstreamError,
};

/// A handle on the course of one answer.
#[derive(Clone, Debug)]
pub(crate) struct SharedCourse(Arc<Mutex<Course>>);

impl SharedCourse {
    pub(crate) fn new(course: Course) -> Self {
        Self(Arc::new(Mutex::new(course)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Course> {
        // What is in it is plain counts: a panic elsewhere leaves nothing half-done that would be dangerous.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the answer is written.
#[derive(Debug)]
pub(crate) enum Writing {
    /// Event by event.
    Stream(ResponseStream),
    /// Collected.
    Plain(Completion),
}

/// The course of one answer.
#[derive(Debug)]
pub(crate) struct Course {
    rates: Rates,
    /// What was reserved, in atomic units.
    cap: Amount,
    /// The most output that it pays for, in tokens of our own count.
    limit: u64,
    /// Set when the upstream is called: from then on tokens are counted.
    tokenizer: Option<&'static Tokenizer>,
    input: u64,
    text: TokenCount,
    reasoning: TokenCount,
    reported: Option<ReportedUsage>,
    end: Option<FinishReason>,
    /// What the meter saw last.
    seen: (BillableUsage, Amount),
    pub(crate) writing: Writing,
}

/// What an event comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is written.
    Nothing,
    /// This is written.
    Frame(Bytes),
    /// The answer is over, and this is written before its end.
    Over(Option<Bytes>),
}

impl Course {
    pub(crate) fn new(rates: Rates, writing: Writing) -> Self {
        Self {
            rates,
            cap: Amount::ZERO,
            limit: 0,
            tokenizer: None,
            input: 0,
            text: TokenCount::default(),
            reasoning: TokenCount::default(),
            reported: None,
            end: None,
            seen: (BillableUsage::default(), Amount::ZERO),
            writing,
        }
    }

    /// The upstream is about to be called: under this reservation, with so many input tokens, for at most so many
    /// output tokens.
    pub(crate) fn begin(
        &mut self,
        tokenizer: &'static Tokenizer,
        cap: Amount,
        input: u64,
        limit: u64,
    ) {
        (self.tokenizer, self.cap, self.input, self.limit) = (Some(tokenizer), cap, input, limit);
    }

    /// Takes the upstream's next event.
    pub(crate) fn take(&mut self, event: &ChatEvent) -> Step {
        if self.end.is_some() {
            return Step::Over(None);
        }
        match event {
            ChatEvent::TextDelta(text) if !self.grow(text.as_str(), false) => {
                return self.finish(FinishReason::Length);
            }
            ChatEvent::ReasoningDelta(text) if !self.grow(text.as_str(), true) => {
                return self.finish(FinishReason::Length);
            }
            ChatEvent::Usage(usage) => self.reported = Some(usage.normalized()),
            // The model server failed, and says so last of all.
            ChatEvent::Finish(FinishReason::Error) => {
                return self.take(&ChatEvent::Error(ended_with_an_error()));
            }
            ChatEvent::Finish(reason) => return self.finish(*reason),
            ChatEvent::Error(_) => self.end = Some(FinishReason::Error),
            _ => {}
        }
        let frame = self.write(event);
        match (self.end, frame) {
            (Some(_), frame) => Step::Over(frame),
            (None, Some(frame)) => Step::Frame(frame),
            (None, None) => Step::Nothing,
        }
    }

    /// Takes the upstream's failure in mid-stream.
    pub(crate) fn fail(&mut self, error: &UpstreamError) -> Step {
        self.take(&ChatEvent::Error(match error {
            UpstreamError::Stream(error) => error.clone(),
            UpstreamError::Timeout { .. } => StreamError::Stopped {
                code: "upstream_timeout",
                reason: "the model server sent nothing more; what was delivered is charged",
            },
            _ => StreamError::Truncated,
        }))
    }

    /// Whether more text still fits what is paid for; if so, it is counted.
    fn grow(&mut self, text: &str, reasoning: bool) -> bool {
        let Some(tokenizer) = self.tokenizer else {
            return false;
        };
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let most = self
            .text
            .range()
            .1
            .saturating_add(self.reasoning.range().1)
            .saturating_add(bytes);
        let count = if reasoning {
            &mut self.reasoning
        } else {
            &mut self.text
        };
        if most <= self.limit {
            count.push(tokenizer, text);
            return true;
        }
        // It may be too much: look closely.
        let before = count.clone();
        count.push(tokenizer, text);
        let fits = self.own_output(tokenizer) <= self.limit;
        if !fits {
            *(if reasoning {
                &mut self.reasoning
            } else {
                &mut self.text
            }) = before;
        }
        fits
    }

    fn own_output(&self, tokenizer: &Tokenizer) -> u64 {
        self.text
            .total(tokenizer)
            .saturating_add(self.reasoning.total(tokenizer))
    }

    fn finish(&mut self, reason: FinishReason) -> Step {
        self.end = Some(reason);
        Step::Over(self.write(&ChatEvent::Finish(reason)))
    }

    fn write(&mut self, event: &ChatEvent) -> Option<Bytes> {
        match &mut self.writing {
            Writing::Stream(stream) => stream.encode(event),
            Writing::Plain(completion) => {
                if completion.push(event).is_err() {
                    // What fits is delivered and charged.
                    self.end = Some(FinishReason::Length);
                    completion.finish = self.end;
                }
                None
            }
        }
    }

    /// What is billed: the upstream's report of a whole answer, where the reservation covers it, else our own count of
    /// what came.
    fn usage(&self) -> BillableUsage {
        let Some(tokenizer) = self.tokenizer else {
            return BillableUsage::default();
        };
        let whole = self.end.is_some_and(|reason| reason != FinishReason::Error);
        let reported = self.reported.filter(|_| whole).map(|usage| {
            BillableUsage::new(usage.input, usage.output)
                .with_cached_input(usage.cached_input)
                .with_reasoning(usage.reasoning)
        });
        reported
            .filter(|usage| self.rates.cost(*usage) <= self.cap)
            .unwrap_or_else(|| {
                let reasoning = self.reasoning.total(tokenizer);
                let output = self.text.total(tokenizer).saturating_add(reasoning);
                BillableUsage::new(self.input, output).with_reasoning(reasoning)
            })
    }

    /// What the answer so far is worth, in atomic units. Nothing before its first token: a payer is not charged for a
    /// question that was not answered.
    fn worth(&self, usage: BillableUsage) -> Amount {
        let whole = self.end.is_some_and(|reason| reason != FinishReason::Error);
        if whole || usage.output() > 0 {
            self.rates.cost(usage)
        } else {
            Amount::ZERO
        }
    }

    fn state(&self) -> (BillableUsage, Amount) {
        let usage = self.usage();
        (usage, self.worth(usage))
    }

    /// Takes note of what the answer so far is worth: what is charged, if nothing more reaches the caller.
    pub(crate) fn see(&mut self) -> Amount {
        self.seen = self.state();
        self.seen.1
    }

    /// What was used and what it is worth, as the meter saw it last.
    pub(crate) const fn seen(&self) -> (BillableUsage, Amount) {
        self.seen
    }

    /// Why the answer ended, if the upstream or the limit ended it.
    pub(crate) const fn ended(&self) -> Option<FinishReason> {
        self.end
    }

    /// The last bytes: of a stream its end, of a plain answer all of it. They can be asked for again.
    pub(crate) fn close(
        &self,
        stopped: Option<StreamError>,
        metadata: &FinishMetadata,
        created: u64,
    ) -> Bytes {
        let (usage, _) = self.seen;
        match &self.writing {
            Writing::Stream(stream) => {
                let mut stream = stream.clone();
                let mut last = Vec::new();
                if let Some(error) = stopped {
                    last.extend(stream.encode(&ChatEvent::Error(error)).unwrap_or_default());
                } else if self.end.is_none() {
                    // We cut it at what is paid for.
                    let _ = stream.encode(&ChatEvent::Finish(FinishReason::Length));
                }
                last.extend(stream.closing(metadata));
                last.into()
            }
            Writing::Plain(completion) => {
                crate::plain::body(completion, usage, created, Some(metadata))
            }
        }
    }
}

/// What an end means that the model server calls an error.
pub(crate) fn ended_with_an_error() -> StreamError {
    StreamError::Reported {
        code: Some("finish_reason".to_owned()),
        message: "it ended the answer with an error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_chat::{Dialect, InputBound};
    use tollgate_price::PricePerMillion;

    use super::*;

    fn course(rates: Rates, cap: Amount, input: u64, limit: u64) -> Course {
        let mut course = Course::new(rates, Writing::Stream(Dialect::DGrid.stream()));
        course.begin(Tokenizer::load_blocking(), cap, input, limit);
        course
    }

    fn event() -> impl Strategy<Value = ChatEvent> {
        prop_oneof![
            4 => "[a-z ]{1,12}|[\\PC]{1,6}|[日本語]{1,4}".prop_map(ChatEvent::text),
            1 => "[a-z ]{1,12}".prop_map(|text| ChatEvent::ReasoningDelta(text.into())),
            1 => (0..2000u64, 0..2000u64).prop_map(|(input, output)| ChatEvent::Usage(ReportedUsage::new(input, output))),
            1 => Just(ChatEvent::Start { id: String::new(), model: None }),
            1 => Just(ChatEvent::Error(StreamError::Truncated)),
            1 => Just(ChatEvent::Finish(FinishReason::Stop)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn an_answer_is_never_worth_more_than_its_reservation(
            input in 0..100u64,
            paid_output in 1..60u64,
            prices in (0..1_000_000_000u128, 1..1_000_000_000u128),
            events in prop::collection::vec(event(), 0..60),
        ) {
            let rates = Rates::new(PricePerMillion::from_units(prices.0), PricePerMillion::from_units(prices.1));
            let bound = u64::from(InputBound::default().base);
            let cap = rates.worst_case(input + bound, paid_output);
            let limit = rates.max_output_for(cap, input + bound).unwrap();
            let mut course = course(rates, cap, input, limit);
            let mut over = false;
            let mut text = String::new();
            for event in events {
                let step = course.take(&event);
                prop_assert!(!over || step == Step::Over(None), "nothing follows the end");
                over |= matches!(step, Step::Over(_));
                prop_assert!(course.see() <= cap);
                if let (ChatEvent::TextDelta(delta), Step::Frame(_)) = (&event, &step) {
                    text.push_str(delta.as_str());
                }
            }
            prop_assert!(Tokenizer::load_blocking().count(&text) <= limit);
        }
    }

    #[test]
    fn a_question_without_an_answer_is_worth_nothing_and_a_whole_empty_answer_its_input() {
        let rates = Rates::new(
            PricePerMillion::from_units(1_000_000),
            PricePerMillion::from_units(2_000_000),
        );
        let cap = Amount::from(1000u64);
        let mut failed = course(rates, cap, 10, 100);
        assert_eq!(failed.see(), Amount::ZERO);
        failed.take(&ChatEvent::Usage(ReportedUsage::new(10, 0)));
        failed.fail(&UpstreamError::Timeout { millis: 1 });
        assert_eq!(failed.see(), Amount::ZERO);

        let mut empty = course(rates, cap, 10, 100);
        empty.take(&ChatEvent::Finish(FinishReason::Stop));
        assert_eq!(empty.see(), Amount::from(10u64));
    }

    #[test]
    fn what_the_upstream_reports_counts_only_when_the_answer_is_whole() {
        let rates = Rates::new(
            PricePerMillion::from_units(1_000_000),
            PricePerMillion::from_units(1_000_000),
        );
        let mut course = course(rates, Amount::from(1000u64), 10, 100);
        course.take(&ChatEvent::Usage(ReportedUsage::new(500, 0)));
        course.take(&ChatEvent::text("Hello"));
        assert_eq!(course.see(), Amount::from(11u64));
        course.take(&ChatEvent::Finish(FinishReason::Stop));
        assert_eq!(course.see(), Amount::from(500u64));
    }
}
