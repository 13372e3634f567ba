//! The HTTP service over any facilitator.

use core::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use tollgate_x402::{Clock, ErrorCode, FacilitatorRequest, Limits, PayloadError, VerifyResponse};
use tower_service::Service;

use crate::{
    AnswerBody, Call, Callers, Facilitator, FacilitatorError, ProblemCode, Settled, Stage,
    access::Who,
    problem::{Problem, json},
    read::{self, BodyError},
};

/// The bounds of the service.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The bounds of what is read. Default: [`Limits::DEFAULT`] with bodies of 64 KiB.
    pub limits: Limits,
    /// How long a request's body may take. Default 10 s.
    pub body_timeout: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            limits: Limits {
                body_bytes: 64 * 1024,
                ..Limits::DEFAULT
            },
            body_timeout: Duration::from_secs(10),
        }
    }
}

/// A facilitator as a tower service (x402 v2 §7).
///
/// | route | |
/// |---|---|
/// | `POST /verify` | whether a payment could be settled |
/// | `POST /settle` | settles it, once: 200, 202 while the outcome is not known, 409 for a payment of something else |
/// | `GET /supported` | what is settled, and by which accounts |
/// | `GET /health` | whether it can work; no key is asked for |
///
/// It must be called within a tokio runtime. A handle: clones are the same service.
pub struct FacilitatorService<F> {
    inner: Arc<Inner<F>>,
}

struct Inner<F> {
    facilitator: F,
    callers: Callers,
    clock: Arc<dyn Clock>,
    config: ServiceConfig,
}

impl<F> Clone for FacilitatorService<F> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<F> fmt::Debug for FacilitatorService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacilitatorService")
            .field("callers", &self.inner.callers)
            .finish_non_exhaustive()
    }
}

impl<F: Facilitator> FacilitatorService<F> {
    /// A service for these callers.
    pub fn new(
        facilitator: F,
        callers: Callers,
        clock: Arc<dyn Clock>,
        config: ServiceConfig,
    ) -> Self {
        let inner = Inner {
            facilitator,
            callers,
            clock,
            config,
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Verify,
    Settle,
    Supported,
    Health,
}

impl Route {
    fn of(method: &Method, path: &str) -> Result<Self, Problem> {
        let (route, its_method) = match path {
            "/verify" => (Self::Verify, Method::POST),
            "/settle" => (Self::Settle, Method::POST),
            "/supported" => (Self::Supported, Method::GET),
            "/health" => (Self::Health, Method::GET),
            _ => {
                let message = "there is nothing at this path";
                return Err(Problem::new(ProblemCode::NotFound, message));
            }
        };
        if *method == its_method || its_method == Method::GET && *method == Method::HEAD {
            return Ok(route);
        }
        let message = format!("{path} is asked with {its_method}");
        Err(Problem::new(ProblemCode::MethodNotAllowed, message))
    }
}

impl<F: Facilitator> Inner<F> {
    async fn answer<B: Body>(&self, request: Request<B>) -> Result<Response<AnswerBody>, Problem> {
        let (head, body) = request.into_parts();
        let route = Route::of(&head.method, head.uri.path())?;
        if route == Route::Health {
            return Ok(match self.facilitator.health().await {
                Ok(()) => json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned()),
                Err(error) => return Err(problem(error)),
            });
        }
        // Before the body is read: a stranger's costs nothing.
        let who = self.callers.of(&head.headers)?;
        if route == Route::Supported {
            let supported = self.facilitator.supported().await.map_err(problem)?;
            return Ok(json(StatusCode::OK, supported.to_json()));
        }
        let limit = self.config.limits.body_bytes;
        let body = read::whole(body, limit, self.config.body_timeout)
            .await
            .map_err(|error| unread(error, limit))?;
        let request = match FacilitatorRequest::parse_body(&body, &self.config.limits) {
            Ok(request) if request.version == request.payload.version() => request,
            Ok(_) => {
                let message = "x402Version is not that of the paymentPayload";
                return Err(Problem::new(ProblemCode::InvalidRequest, message));
            }
            Err(error) => return unparsed(route, &error),
        };
        who.may_pay(request.requirements.pay_to)?;
        let call = Call {
            request,
            caller: Some(who.name()),
            may_begin: true,
        };
        if route == Route::Verify {
            let verified = self.facilitator.verify(&call).await.map_err(problem)?;
            return Ok(json(StatusCode::OK, verified.to_json()));
        }
        self.settle(&who, call).await
    }

    /// Settles within the caller's budget. What was begun before costs it nothing, however often it is asked for, and is
    /// told even to a caller whose budget is spent.
    async fn settle(&self, who: &Who<'_>, mut call: Call) -> Result<Response<AnswerBody>, Problem> {
        // A caller may hang up at every await: so gas is taken only for what this call may begin.
        call.may_begin = false;
        match self.facilitator.settle(&call).await {
            Err(FacilitatorError::NotBegun) => {}
            settled => return Ok(tell(&settled.map_err(problem)?)),
        }
        call.may_begin = true;
        let gas = self.facilitator.gas(&call);
        who.take(gas, self.clock.now())?;
        let settled = self.facilitator.settle(&call).await;
        if !settled.as_ref().is_ok_and(|settled| settled.fresh) {
            who.give_back(gas, self.clock.now());
        }
        Ok(tell(&settled.map_err(problem)?))
    }
}

/// The answer to a settlement.
fn tell(settled: &Settled) -> Response<AnswerBody> {
    let status = match settled.stage {
        Stage::Done | Stage::Refused => StatusCode::OK,
        Stage::Pending => StatusCode::ACCEPTED,
        Stage::Conflict => StatusCode::CONFLICT,
    };
    let mut response = json(status, settled.response.to_json());
    if settled.stage == Stage::Pending {
        let seconds = HeaderValue::from_static("2");
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// The fields that the caller writes, and not the payer.
const OURS: [&str; 4] = ["", "x402Version", "paymentPayload", "paymentRequirements"];

/// What cannot be read is the payer's fault if it is the payment, and the caller's if it is anything else.
fn unparsed(route: Route, error: &PayloadError) -> Result<Response<AnswerBody>, Problem> {
    let code = match error {
        PayloadError::Json(_) | PayloadError::Multiple | PayloadError::TooLong => {
            ProblemCode::InvalidRequest
        }
        PayloadError::Field(field) if field.object.starts_with("accepts") => {
            ProblemCode::InvalidRequirements
        }
        PayloadError::Field(field) if field.object.is_empty() && OURS.contains(&field.field) => {
            ProblemCode::InvalidRequest
        }
        _ if route == Route::Verify => {
            let mut response = VerifyResponse::invalid(error.code(), None);
            response.invalid_message = Some(error.to_string());
            return Ok(json(StatusCode::OK, response.to_json()));
        }
        _ => ProblemCode::InvalidRequest,
    };
    Err(Problem::new(code, error.to_string()))
}

fn unread(error: BodyError, limit: usize) -> Problem {
    match error {
        BodyError::TooLarge => Problem::new(
            ProblemCode::RequestTooLarge,
            format!("the body is over {limit} bytes"),
        ),
        BodyError::Broken => Problem::new(ProblemCode::InvalidRequest, error.to_string()),
        BodyError::Late => Problem::new(ProblemCode::RequestTimeout, error.to_string()),
    }
}

fn problem(error: FacilitatorError) -> Problem {
    match error {
        FacilitatorError::Unavailable {
            code,
            message,
            retry_after,
        } => {
            tracing::warn!(%code, %message, "the facilitator cannot work");
            // What a node or a disk said is for the operator: it may name hosts.
            Problem::new(ProblemCode::Unavailable, code.as_str()).after(retry_after)
        }
        FacilitatorError::Paused {
            message,
            retry_after,
        } => {
            tracing::warn!(%message, "nothing new is settled");
            Problem::new(ProblemCode::Unavailable, message).after(retry_after)
        }
        FacilitatorError::Refused { retry_after, .. } => {
            tracing::error!(%error, "the facilitator behind this one refuses");
            let problem = Problem::new(
                ProblemCode::Unavailable,
                ErrorCode::UnexpectedSettleError.as_str(),
            );
            problem.after(retry_after.unwrap_or(5))
        }
        FacilitatorError::NotBegun => {
            Problem::new(ProblemCode::InternalError, "the settlement was not begun")
        }
        FacilitatorError::Unknown(message) => {
            tracing::error!(%message, "a call's outcome is unknown");
            Problem::new(ProblemCode::InternalError, "the outcome is unknown")
        }
    }
}

/// The answer that comes.
pub struct ServiceFuture(
    Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>,
);

impl fmt::Debug for ServiceFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceFuture")
    }
}

impl Future for ServiceFuture {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<F, B> Service<Request<B>> for FacilitatorService<F>
where
    F: Facilitator,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = ServiceFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ServiceFuture {
        let inner = Arc::clone(&self.inner);
        ServiceFuture(Box::pin(async move {
            let head = *request.method() == Method::HEAD;
            let mut response = inner
                .answer(request)
                .await
                .unwrap_or_else(|problem| problem.to_response());
            if head {
                *response.body_mut() = AnswerBody::default();
            }
            Ok(response)
        }))
    }
}
