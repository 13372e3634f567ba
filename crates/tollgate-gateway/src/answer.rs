//! The service behind the paywall: it asks the upstream for what was paid for.

use core::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};
use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use tollgate_chat::{ChatEvent, Dialect, FinishReason};
use tollgate_server::Problem;
use tollgate_x402::ErrorCode;
use tower_service::Service;

use crate::{
    body::AnswerBody,
    catalogue::Catalogue,
    course::{SharedCourse, Step, ended_with_an_error},
    handover::{Handover, Job},
    tokens::Tokenizer,
    upstream::{Upstream, UpstreamError},
};

type Answer<E> = Response<AnswerBody<E>>;

/// Answers chats that are paid for.
pub(crate) struct Answering<U> {
    catalogue: Arc<Catalogue<U>>,
}

impl<U> Clone for Answering<U> {
    fn clone(&self) -> Self {
        Self {
            catalogue: Arc::clone(&self.catalogue),
        }
    }
}

impl<U> Answering<U> {
    pub(crate) const fn new(catalogue: Arc<Catalogue<U>>) -> Self {
        Self { catalogue }
    }
}

impl<U: Upstream> Service<Request<Full<Bytes>>> for Answering<U> {
    type Response = Answer<U::Events>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let job = request
            .extensions_mut()
            .remove::<Handover<U>>()
            .and_then(|handover| handover.take());
        let this = self.clone();
        Box::pin(async move {
            let answer = match job {
                Some(job) => this.answer(job).await,
                None => Ok(not_a_question()),
            };
            Ok(answer.unwrap_or_else(|problem| problem.to_response()))
        })
    }
}

impl<U: Upstream> Answering<U> {
    async fn answer(&self, job: Job<U>) -> Result<Answer<U::Events>, Problem> {
        let Job {
            order,
            course,
            id,
            cap,
        } = job;
        let (model, mut request) = (order.model, order.request);
        let tokenizer = Tokenizer::load().await;
        let counted = match order.counted {
            Some(counted) => counted,
            None => tokenizer.count_request_async(&request).await,
        };
        let files = request.files().fold(0, |sum: u64, file| {
            sum.saturating_add(tollgate_chat::upper_bound_tokens(file.as_str().len()))
        });
        let input = self
            .catalogue
            .input
            .around(&request, counted.saturating_add(files));
        let affordable = model
            .rates
            .max_output_for(cap, input)
            .filter(|tokens| *tokens > 0)
            .ok_or_else(too_long)?;
        let max_output = u32::try_from(affordable)
            .map_or(order.max_output, |tokens| tokens.min(order.max_output));
        // Our count may be a little above the upstream's for the same text. What is far above what was asked for is
        // the upstream's mistake, and nobody's to pay.
        let asked = u64::from(max_output);
        let limit = asked
            .saturating_add(asked.div_ceil(4))
            .saturating_add(16)
            .min(affordable);
        course.lock().begin(tokenizer, cap, counted, limit);

        let stream = request.stream;
        request.model = Some(model.upstream_model.clone());
        request.max_output_tokens = Some(max_output);
        let failed = |error: UpstreamError| {
            tracing::warn!(payment = ?id, model = %model.name, %error, "the model server failed before its first token");
            problem(&error)
        };
        let mut events = Box::pin(model.upstream.chat(request).await.map_err(failed)?);
        if stream {
            let first = first(&mut events).await.map_err(failed)?;
            let mut response = Response::new(AnswerBody::events(first, events, course, id));
            *response.headers_mut() = Dialect::DGrid.stream_headers();
            return Ok(response);
        }
        collect(&mut events, &course).await.map_err(failed)?;
        // The meter writes it, once it knows the charge.
        let mut response = Response::new(AnswerBody::whole(Bytes::new()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Ok(response)
    }
}

/// Waits for the first token: what came up to it.
async fn first<E>(events: &mut Pin<Box<E>>) -> Result<VecDeque<ChatEvent>, UpstreamError>
where
    E: Stream<Item = Result<ChatEvent, UpstreamError>>,
{
    let mut first = VecDeque::new();
    loop {
        let event = next(events).await?;
        let begun = event.is_last()
            || matches!(
                event,
                ChatEvent::TextDelta(_) | ChatEvent::ReasoningDelta(_)
            );
        first.push_back(event);
        if begun {
            return Ok(first);
        }
    }
}

/// Takes the whole answer. A caller without a stream has got nothing of one that breaks off.
async fn collect<E>(events: &mut Pin<Box<E>>, course: &SharedCourse) -> Result<(), UpstreamError>
where
    E: Stream<Item = Result<ChatEvent, UpstreamError>>,
{
    loop {
        let event = next(events).await?;
        if matches!(course.lock().take(&event), Step::Over(_)) {
            return Ok(());
        }
    }
}

/// The next event; an error event is an error, and so is an end that the model server calls one.
async fn next<E>(events: &mut Pin<Box<E>>) -> Result<ChatEvent, UpstreamError>
where
    E: Stream<Item = Result<ChatEvent, UpstreamError>>,
{
    match poll_fn(|cx| events.as_mut().poll_next(cx)).await {
        Some(Ok(ChatEvent::Error(error))) => Err(UpstreamError::Stream(error)),
        Some(Ok(ChatEvent::Finish(FinishReason::Error))) => {
            Err(UpstreamError::Stream(ended_with_an_error()))
        }
        Some(event) => event,
        None => Err(UpstreamError::Broken("it ended before its end".to_owned())),
    }
}

/// What the caller is told. What the model server said may name hosts and accounts, and stays in the log.
fn problem(error: &UpstreamError) -> Problem {
    match error {
        UpstreamError::Timeout { .. } => Problem::new(
            ErrorCode::UpstreamTimeout,
            "the model server gave no token in time",
        ),
        UpstreamError::Refused { .. } => Problem::new(
            ErrorCode::InvalidRequest,
            "the model server refused this request: it may be too long for the model, or a parameter out of its range",
        ),
        UpstreamError::Connect(_) => Problem::new(
            ErrorCode::UpstreamFailed,
            "the model server cannot be reached",
        ),
        UpstreamError::Status { status: 429, .. } => Problem::new(
            ErrorCode::UpstreamFailed,
            "the model server has too much to do",
        )
        .retry_after(5),
        _ => Problem::new(
            ErrorCode::UpstreamFailed,
            "the model server failed before its first token",
        ),
    }
}

fn too_long() -> Problem {
    Problem::new(
        ErrorCode::InvalidRequest,
        "the conversation alone costs more than one payment here may charge: send a shorter one",
    )
}

/// A paid `GET`: there is nothing to answer, and nothing is charged.
fn not_a_question<E>() -> Answer<E> {
    crate::gateway::method_not_allowed(HeaderValue::from_static("POST"))
}
