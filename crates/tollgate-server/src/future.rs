//! One request, up to the point where its payment is handed to a task of its own.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, request::Parts};
use http_body::Body;
use http_body_util::Full;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tollgate_payment::{RequestBinding, port::Till};
use tollgate_x402::{ErrorCode, PaymentPayload};
use tower_service::Service;

use crate::{
    BoxError, Meter, PaywallBody, Problem, Tariff, Unpriced, binding,
    layer::Shared,
    read::{Read, ReadError},
    refusal,
    sale::{self, Sale},
};

pin_project! {
    /// The answer to a request.
    ///
    /// Dropping it is safe at every point: once a payment is being admitted, a task of its own ends it.
    pub struct ResponseFuture<S, T, F, B, RB>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        head_only: bool,
        #[pin]
        state: State<S, T, F, B, RB>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, T, F, B, RB>
    where
        S: Service<Request<Full<Bytes>>>,
    {
        Reading {
            #[pin]
            body: Read<B>,
            request: Option<Waiting<S, T, F>>,
        },
        Readying { inner: S, request: Option<Request<Full<Bytes>>> },
        Calling { #[pin] call: S::Future },
        Paying { answer: oneshot::Receiver<Response<PaywallBody<RB>>> },
        Answered { response: Option<Response<PaywallBody<RB>>> },
    }
}

/// A request whose body is being read.
struct Waiting<S, T, F> {
    parts: Parts,
    payment: Option<Bytes>,
    inner: S,
    shared: Arc<Shared<T, F>>,
}

impl<S, T, F, B, RB> ResponseFuture<S, T, F, B, RB>
where
    T: Till,
    F: Tariff,
    S: Service<Request<Full<Bytes>>>,
    B: Body,
{
    pub(crate) fn new(request: Request<B>, inner: S, shared: Arc<Shared<T, F>>) -> Self {
        let (parts, body) = request.into_parts();
        let head_only = parts.method == Method::HEAD;
        let state = match payment_header(&parts, &shared) {
            Err(problem) => State::Answered {
                response: Some(problem.to_response()),
            },
            Ok(payment) => match Read::new(body, &shared.bounds, &shared.memory) {
                Err(error) => State::Answered {
                    response: Some(error.problem(&shared.bounds).to_response()),
                },
                Ok(body) => State::Reading {
                    body,
                    request: Some(Waiting {
                        parts,
                        payment,
                        inner,
                        shared,
                    }),
                },
            },
        };
        Self { head_only, state }
    }
}

/// What can be refused from the head alone; else the payment header, if there is one.
fn payment_header<T, F>(parts: &Parts, shared: &Shared<T, F>) -> Result<Option<Bytes>, Problem> {
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let payment = PaymentPayload::find_header(headers)
        .map_err(|error| Problem::new(error.code(), error.to_string()))?;
    let wire = shared.bounds.wire.header_bytes;
    if payment.is_some_and(|(_, value)| value.len() > wire) {
        let message = format!("the payment header is over {wire} bytes");
        return Err(Problem::new(ErrorCode::PaymentHeaderTooLarge, message));
    }
    Ok(payment.map(|(_, value)| Bytes::copy_from_slice(value)))
}

impl<S, T, F, B, RB> Future for ResponseFuture<S, T, F, B, RB>
where
    T: Till,
    F: Tariff,
    B: Body,
    S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    type Output = Result<Response<PaywallBody<RB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Reading { body, request } => {
                    let body = ready!(body.poll(cx));
                    match request.take() {
                        Some(request) => request.price(body),
                        // Polled again after it was ready, which no executor does.
                        None => return Poll::Pending,
                    }
                }
                StateProjection::Readying { inner, request } => {
                    ready!(inner.poll_ready(cx))?;
                    match request.take() {
                        Some(request) => State::Calling {
                            call: inner.call(request),
                        },
                        None => return Poll::Pending,
                    }
                }
                StateProjection::Calling { call } => {
                    return call
                        .poll(cx)
                        .map(|response| response.map(|response| response.map(PaywallBody::inner)));
                }
                StateProjection::Paying { answer } => {
                    // The task ends without an answer only if it panics.
                    let response = ready!(Pin::new(answer).poll(cx)).unwrap_or_else(|_| {
                        Problem::new(ErrorCode::InternalError, "the payment was not admitted")
                            .to_response()
                    });
                    State::Answered {
                        response: Some(response),
                    }
                }
                StateProjection::Answered { response } => match response.take() {
                    Some(response) if *this.head_only => {
                        return Poll::Ready(Ok(refusal::without_body(response)));
                    }
                    Some(response) => return Poll::Ready(Ok(response)),
                    None => return Poll::Pending,
                },
            };
            this.state.set(next);
        }
    }
}

impl<S, T, F> Waiting<S, T, F>
where
    T: Till,
    F: Tariff,
{
    /// Prices a request that has been read, and answers it, passes it on, or has it sold.
    fn price<B, RB>(self, body: Result<Bytes, ReadError>) -> State<S, T, F, B, RB>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        RB: Body<Data = Bytes> + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        let Self {
            parts,
            payment,
            inner,
            shared,
        } = self;
        let bounds = &shared.bounds;
        let answered = |response| State::Answered {
            response: Some(response),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return answered(error.problem(bounds).to_response()),
        };
        let (ask, mut meter) = match shared.tariff.ask(&parts, &body) {
            Ok(priced) => priced,
            Err(Unpriced::Refused(problem)) => return answered(problem.to_response()),
            Err(Unpriced::Free) => {
                let request = Some(Request::from_parts(parts, Full::new(body)));
                return State::Readying { inner, request };
            }
        };
        // HEAD asks what GET would be answered, so it is never sold anything.
        let payment = payment.filter(|_| parts.method != Method::HEAD);
        if payment.is_none() && shared.drain.has_begun() {
            return answered(refusal::draining(bounds));
        }
        let offer = shared.till.offer(ask);
        let Some(payment) = payment else {
            return answered(refusal::unpaid(&offer));
        };
        let payment = match PaymentPayload::parse_header(&payment, &bounds.wire) {
            Ok(payment) => payment,
            // Whoever reads a 402 forgets its payment, which the next server may take.
            Err(_) if shared.drain.has_begun() => return answered(refusal::draining(bounds)),
            Err(error) => {
                return answered(refusal::refused(
                    &offer,
                    error.code(),
                    &error.to_string(),
                    None,
                    bounds,
                ));
            }
        };
        let open = shared.drain.enter();
        let binding = RequestBinding {
            digest: binding::request_digest(&parts, &body),
            memo: meter
                .memo()
                .filter(|memo| sale::fits(memo))
                .unwrap_or_default(),
        };
        let request = Request::from_parts(parts, Full::new(body));
        let sale = Sale {
            shared,
            offer,
            payment,
            binding,
            meter,
            inner,
            request,
            open,
        };
        State::Paying {
            answer: sale.start(),
        }
    }
}
