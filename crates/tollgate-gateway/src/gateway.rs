//! The routes.

use core::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use serde::Serialize;
use tollgate_payment::port::Till;
use tollgate_server::{Drain, Paywall, PaywallBody, PaywallLayer, Problem, ResponseFuture};
use tollgate_x402::{Clock, ErrorCode, PaymentId, Timestamp};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    answer::Answering,
    body::AnswerBody,
    catalogue::Catalogue,
    config::{ConfigError, GatewayConfig},
    cors,
    memo::Memo,
    models,
    receipts::{Check, Receipts},
    tariff::InferenceTariff,
    upstream::{AnyUpstream, Upstream},
};

/// The body of a gateway's answers.
pub type GatewayBody<U = AnyUpstream> = PaywallBody<AnswerBody<<U as Upstream>::Events>>;

type Checks = Pin<Box<dyn Future<Output = Vec<Check>> + Send>>;

/// The inference gateway: a tower service that sells chats over a till.
///
/// | route | |
/// |---|---|
/// | `POST /x402/v1`, `POST /x402/v1/responses` | a chat, for a payment; 402 without one, for `GET` and `HEAD` too |
/// | `GET /x402/v1/payments/{id}` | the state of a payment |
/// | `GET /v1/models` | what is sold, with prices |
/// | `GET /healthz` | whether the process is alive |
/// | `GET /readyz` | whether it takes requests, with its checks |
///
/// A handle: clones are the same gateway. It must be called within a tokio runtime.
pub struct Gateway<T, R, U = AnyUpstream> {
    paywall: Paywall<Answering<U>, T, InferenceTariff<U>>,
    shared: Arc<Shared<R, U>>,
}

struct Shared<R, U> {
    catalogue: Arc<Catalogue<U>>,
    receipts: R,
    drain: Drain,
    readiness: Box<dyn Fn() -> Checks + Send + Sync>,
}

impl<T, R, U> Clone for Gateway<T, R, U> {
    fn clone(&self) -> Self {
        Self {
            paywall: self.paywall.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T, R, U> core::fmt::Debug for Gateway<T, R, U> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let models: Vec<_> = self
            .shared
            .catalogue
            .models
            .iter()
            .map(|model| model.name.as_str())
            .collect();
        f.debug_struct("Gateway")
            .field("models", &models)
            .finish_non_exhaustive()
    }
}

impl<T: Till, R: Receipts, U: Upstream> Gateway<T, R, U> {
    /// A gateway that is paid into `till` and reads payments from `receipts`. It is always ready.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: GatewayConfig<U>, till: T, receipts: R) -> Result<Self, ConfigError> {
        Self::with(config, till, receipts, Arc::new(SystemClock), || async {
            Vec::new()
        })
    }

    /// The same with a clock of its own, and ready only while all the checks that `readiness` makes are good.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn with<F, C>(
        config: GatewayConfig<U>,
        till: T,
        receipts: R,
        clock: Arc<dyn Clock>,
        readiness: F,
    ) -> Result<Self, ConfigError>
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Vec<Check>> + Send + 'static,
    {
        let bounds = config.limits.paywall.clone();
        // What a completion is wrapped in is small beside it; JSON may write a byte of text as six.
        let completion_bytes = bounds.response_bytes.checked_div(8).unwrap_or_default();
        let catalogue = Arc::new(Catalogue::new(config)?);
        let tariff = InferenceTariff::new(Arc::clone(&catalogue), clock, completion_bytes);
        let layer = PaywallLayer::new(till, tariff.clone()).with_bounds(bounds);
        let drain = layer.drain();
        tariff.watch(drain.clone());
        let shared = Shared {
            catalogue: Arc::clone(&catalogue),
            receipts,
            drain,
            readiness: Box::new(move || Box::pin(readiness())),
        };
        Ok(Self {
            paywall: layer.layer(Answering::new(catalogue)),
            shared: Arc::new(shared),
        })
    }

    /// The handle on the open payments: [`serve`](crate::serve()) drains by it.
    pub fn drain(&self) -> Drain {
        self.shared.drain.clone()
    }
}

/// What a path names.
enum Route<'a> {
    Chat,
    Payment(&'a str),
    Models,
    Health,
    Ready,
    Nothing,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        match path {
            "/x402/v1" | "/x402/v1/responses" => Self::Chat,
            "/v1/models" => Self::Models,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            path => path
                .strip_prefix("/x402/v1/payments/")
                .map_or(Self::Nothing, Self::Payment),
        }
    }
}

impl<T, R, U, B> Service<Request<B>> for Gateway<T, R, U>
where
    T: Till,
    R: Receipts,
    U: Upstream,
    B: Body,
{
    type Response = Response<GatewayBody<U>>;
    type Error = Infallible;
    type Future = RouteFuture<T, U, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> RouteFuture<T, U, B> {
        let state = match (Route::of(request.uri().path()), request.method()) {
            (Route::Nothing, _) => State::now(not_found()),
            (_, &Method::OPTIONS) => State::now(preflight()),
            (Route::Chat, &Method::GET | &Method::HEAD | &Method::POST) => State::Chat {
                answer: self.paywall.call(request),
            },
            (Route::Chat, _) => State::now(method_not_allowed(HeaderValue::from_static(
                "GET, HEAD, POST, OPTIONS",
            ))),
            (route, &Method::GET | &Method::HEAD) => self.look(&route),
            (_, _) => State::now(method_not_allowed(HeaderValue::from_static(
                "GET, HEAD, OPTIONS",
            ))),
        };
        RouteFuture { state }
    }
}

impl<T, R, U> Gateway<T, R, U>
where
    T: Till,
    R: Receipts,
    U: Upstream,
{
    /// What costs nothing.
    fn look<B: Body>(&self, route: &Route<'_>) -> State<T, U, B> {
        match route {
            Route::Payment(id) => match id.parse() {
                Ok(id) => State::Later {
                    answer: Box::pin(payment(Arc::clone(&self.shared), id)),
                },
                Err(_) => State::now(no_payment()),
            },
            Route::Models => State::now(json(StatusCode::OK, models::list(&self.shared.catalogue))),
            Route::Health => State::now(uncached(json(
                StatusCode::OK,
                r#"{"status":"ok"}"#.to_owned(),
            ))),
            Route::Ready => State::Later {
                answer: Box::pin(ready(Arc::clone(&self.shared))),
            },
            Route::Chat | Route::Nothing => State::now(not_found()),
        }
    }
}

pin_project! {
    /// The answer to a request.
    pub struct RouteFuture<T, U, B>
    where
        T: Till,
        U: Upstream,
        B: Body,
    {
        #[pin]
        state: State<T, U, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<T, U, B>
    where
        T: Till,
        U: Upstream,
        B: Body,
    {
        Now { response: Option<Response<GatewayBody<U>>> },
        Later { answer: Pin<Box<dyn Future<Output = Response<GatewayBody<U>>> + Send>> },
        Chat { #[pin] answer: ResponseFuture<Answering<U>, T, InferenceTariff<U>, B, AnswerBody<U::Events>> },
    }
}

impl<T: Till, U: Upstream, B: Body> State<T, U, B> {
    const fn now(response: Response<GatewayBody<U>>) -> Self {
        Self::Now {
            response: Some(response),
        }
    }
}

impl<T: Till, U: Upstream, B: Body> Future for RouteFuture<T, U, B> {
    type Output = Result<Response<GatewayBody<U>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match self.project().state.project() {
            StateProjection::Now { response } => match response.take() {
                Some(response) => response,
                // Polled again after it was ready, which no executor does.
                None => return Poll::Pending,
            },
            StateProjection::Later { answer } => ready!(answer.as_mut().poll(cx)),
            StateProjection::Chat { answer } => ready!(answer.poll(cx))?,
        };
        cors::answer(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

async fn payment<R: Receipts, U, B: From<Bytes>>(
    shared: Arc<Shared<R, U>>,
    id: PaymentId,
) -> Response<B> {
    match shared.receipts.status(id, Memo::tell).await {
        Ok(Some(told)) => match serde_json::to_string(&told) {
            Ok(told) => uncached(json(StatusCode::OK, told)),
            Err(error) => unread(&error),
        },
        Ok(None) => no_payment(),
        Err(error) => unread(&error),
    }
}

fn unread<B: From<Bytes>>(error: &dyn core::error::Error) -> Response<B> {
    tracing::error!(%error, "a payment's status was not told");
    Problem::new(ErrorCode::LedgerUnavailable, "the ledger cannot be read")
        .retry_after(2)
        .to_response()
}

async fn ready<R: Receipts, U, B: From<Bytes>>(shared: Arc<Shared<R, U>>) -> Response<B> {
    #[derive(Serialize)]
    struct Readiness {
        ready: bool,
        draining: bool,
        checks: Vec<Check>,
    }
    let checks = (shared.readiness)().await;
    let draining = shared.drain.has_begun();
    let ready = !draining && checks.iter().all(|check| check.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_string(&Readiness {
        ready,
        draining,
        checks,
    });
    uncached(json(status, body.unwrap_or_default()))
}

fn json<B: From<Bytes>>(status: StatusCode, body: String) -> Response<B> {
    let mut response = Response::new(B::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn uncached<B>(mut response: Response<B>) -> Response<B> {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn no_payment<B: From<Bytes>>() -> Response<B> {
    Problem::new(ErrorCode::PaymentNotFound, "no payment has this id").to_response()
}

fn not_found<B: From<Bytes>>() -> Response<B> {
    let body = r#"{"error":"not_found","errorMessage":"there is nothing at this path","advice":"Post chats to /x402/v1, and see GET /v1/models for what is sold."}"#;
    json(StatusCode::NOT_FOUND, body.to_owned())
}

pub(crate) fn method_not_allowed<B: From<Bytes>>(allow: HeaderValue) -> Response<B> {
    let body = r#"{"error":"method_not_allowed","errorMessage":"this path does not take this method","advice":"Use a method of the Allow header."}"#;
    let mut response = json(StatusCode::METHOD_NOT_ALLOWED, body.to_owned());
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

fn preflight<B: From<Bytes>>() -> Response<B> {
    let mut response = Response::new(B::from(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::preflight(response.headers_mut());
    response
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}
