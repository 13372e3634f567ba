//! A model server that says what the test told it, and counts who asked.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Semaphore;
use tollgate_chat::{ChatEvent, ChatRequest, FinishReason, ReportedUsage};
use tollgate_gateway::{Upstream, UpstreamError};

/// What it does for one answer, in order.
#[derive(Clone)]
pub(crate) enum Step {
    /// So many tokens.
    Say(usize),
    /// Waits until the test opens the gate once more.
    Gate(Arc<Semaphore>),
    /// Breaks off.
    Fail,
}

/// The model server. What it says ends at the request's limit.
#[derive(Default)]
pub(crate) struct Script {
    asked: AtomicUsize,
    plan: Mutex<Vec<Step>>,
    /// Answers that are being given.
    live: Arc<AtomicUsize>,
    /// Gates at which an answer stood.
    reached: Arc<AtomicUsize>,
}

impl Script {
    /// What every answer is from now on.
    pub(crate) fn play(&self, plan: impl IntoIterator<Item = Step>) {
        *self.plan.lock().unwrap() = plan.into_iter().collect();
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until answers stood at so many gates in all.
    pub(crate) async fn reach(&self, gates: usize) {
        let reached = async {
            while self.reached.load(Ordering::SeqCst) < gates {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .expect("no answer stands at the gate");
    }

    /// How many gates answers stood at.
    pub(crate) fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    /// Answers that are being given now.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

/// Counted while it lives; the second part says whether the end was reached.
struct Live(Arc<AtomicUsize>, bool);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Event = Result<ChatEvent, UpstreamError>;

impl Upstream for Script {
    type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

    async fn chat(&self, request: ChatRequest) -> Result<Self::Events, UpstreamError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.live.fetch_add(1, Ordering::SeqCst);
        let answer = Answer {
            live: Live(Arc::clone(&self.live), false),
            reached: Arc::clone(&self.reached),
            plan: self.plan.lock().unwrap().clone().into(),
            left: request.max_output_tokens.unwrap_or(u32::MAX),
            said: 0,
            tail: VecDeque::new(),
        };
        let start = ChatEvent::Start {
            id: "answer".to_owned(),
            model: None,
        };
        let events = stream::unfold(answer, |mut answer| async move {
            let event = answer.next().await?;
            Some((event, answer))
        });
        Ok(Box::pin(stream::iter([Ok(start)]).chain(events)))
    }
}

struct Answer {
    live: Live,
    reached: Arc<AtomicUsize>,
    plan: VecDeque<Step>,
    left: u32,
    said: u64,
    tail: VecDeque<ChatEvent>,
}

impl Answer {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.plan.pop_front() {
                Some(Step::Say(0)) => {}
                Some(Step::Say(_)) if self.left == 0 => self.end(FinishReason::Length),
                Some(Step::Say(words)) => {
                    self.plan.push_front(Step::Say(words - 1));
                    self.left -= 1;
                    self.said += 1;
                    return Some(Ok(ChatEvent::text(" word".to_owned())));
                }
                Some(Step::Gate(gate)) => {
                    self.reached.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                }
                Some(Step::Fail) => {
                    self.plan.clear();
                    self.live.1 = true;
                    return Some(Err(UpstreamError::Broken("as the test wants".to_owned())));
                }
                None if self.tail.is_empty() && !self.live.1 => self.end(FinishReason::Stop),
                None => return self.tail.pop_front().map(Ok),
            }
        }
    }

    fn end(&mut self, reason: FinishReason) {
        self.live.1 = true;
        self.plan.clear();
        let usage = ReportedUsage::new(8, self.said);
        self.tail = [ChatEvent::Usage(usage), ChatEvent::Finish(reason)].into();
    }
}
