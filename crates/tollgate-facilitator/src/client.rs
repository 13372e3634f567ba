//! The client of a facilitator that is somewhere else. What it is told is held against what it asked.

use core::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use tollgate_x402::{ErrorCode, Limits, SettleResponse, SupportedResponse, VerifyResponse};
use tower_service::Service;

use crate::{Call, Facilitator, FacilitatorError, Settled, Stage, read};

/// How a facilitator is reached.
#[derive(Clone)]
pub struct ClientConfig {
    url: String,
    authorization: Option<HeaderValue>,
    /// The bounds of what is read. Default: [`Limits::DEFAULT`].
    pub limits: Limits,
    /// How long an answer may take, its body included. Default 60 s.
    pub timeout: Duration,
}

/// An address or a key that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an `http://` or `https://` URL.
    #[error("a facilitator's address is an http:// or https:// URL")]
    Url,
    /// A key with characters that no header carries.
    #[error("a facilitator's key is visible ASCII characters")]
    Key,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// A facilitator at this base URL.
    ///
    /// # Errors
    /// [`ConfigError::Url`].
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let uri: http::Uri = url.parse().map_err(|_| ConfigError::Url)?;
        if !matches!(uri.scheme_str(), Some("http" | "https"))
            || uri.host().is_none()
            || uri.query().is_some()
        {
            return Err(ConfigError::Url);
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            authorization: None,
            limits: Limits::DEFAULT,
            timeout: Duration::from_secs(60),
        })
    }

    /// The same with a key, sent as `Authorization: Bearer`.
    ///
    /// # Errors
    /// [`ConfigError::Key`].
    pub fn with_key(mut self, key: &str) -> Result<Self, ConfigError> {
        let mut value =
            HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| ConfigError::Key)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }
}

/// A facilitator over HTTP, by any tower service that carries requests. It follows no redirect: the service must not
/// either.
///
/// It believes nothing that contradicts the question: another payer, another network, a success without a
/// transaction. What it does pass on is still the facilitator's word alone; the chain is for the caller to ask.
#[derive(Clone)]
pub struct Client<S> {
    service: S,
    config: ClientConfig,
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

struct Answer {
    status: StatusCode,
    retry_after: Option<u64>,
    body: Bytes,
}

impl<S> Client<S> {
    /// A client.
    pub const fn new(service: S, config: ClientConfig) -> Self {
        Self { service, config }
    }
}

impl<S, B> Client<S>
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
{
    /// Asks. Whatever is not a whole answer in time is unknown.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Answer, FacilitatorError> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.config.url)
            .parse()
            .map_err(|_| FacilitatorError::Unknown("the address cannot be asked".to_owned()))?;
        let head = request.headers_mut();
        head.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(key) = &self.config.authorization {
            head.insert(header::AUTHORIZATION, key.clone());
        }
        let asked = async {
            let mut service = self.service.clone();
            core::future::poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(unreached)?;
            let (head, body) = service.call(request).await.map_err(unreached)?.into_parts();
            let limits = &self.config.limits;
            let body = read::whole(body, limits.body_bytes, self.config.timeout)
                .await
                .map_err(|error| FacilitatorError::Unknown(error.to_string()))?;
            let retry_after = head
                .headers
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            Ok(Answer {
                status: head.status,
                retry_after,
                body,
            })
        };
        match tokio::time::timeout(self.config.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(FacilitatorError::Unknown(format!(
                "no answer within {} s",
                self.config.timeout.as_secs()
            ))),
        }
    }
}

fn unreached(error: impl Into<Box<dyn Error + Send + Sync>>) -> FacilitatorError {
    FacilitatorError::Unknown(format!("it cannot be reached: {}", error.into()))
}

/// An answer that judges nothing.
fn unjudged(answer: &Answer, what: &str) -> FacilitatorError {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    match answer.status.as_u16() {
        status @ (400 | 401 | 403 | 404 | 405 | 413 | 429) => FacilitatorError::Refused {
            status,
            message: text,
            retry_after: answer.retry_after,
        },
        503 => FacilitatorError::Unavailable {
            code: ErrorCode::UnexpectedSettleError,
            message: format!("the facilitator says that it cannot work: {text}"),
            retry_after: answer.retry_after.unwrap_or(5),
        },
        status => FacilitatorError::Unknown(format!("{what} ({status}): {text}")),
    }
}

impl<S, B> Facilitator for Client<S>
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: Body + Send,
    B::Data: Send,
{
    async fn verify(&self, call: &Call) -> Result<VerifyResponse, FacilitatorError> {
        let answer = self
            .ask(Method::POST, "/verify", call.request.to_json())
            .await?;
        if answer.status.is_redirection() {
            return Err(unjudged(&answer, "a redirection"));
        }
        let response = VerifyResponse::parse_body(&answer.body, &self.config.limits)
            .map_err(|error| unjudged(&answer, &error.to_string()))?;
        let payer = call.request.payload.scheme_payload().payer();
        if response.payer.is_some_and(|told| told != payer) {
            return Err(FacilitatorError::Unknown(
                "it names another payer".to_owned(),
            ));
        }
        if response.is_valid && !answer.status.is_success() {
            return Err(unjudged(
                &answer,
                "valid, with a status that says otherwise",
            ));
        }
        Ok(response)
    }

    async fn settle(&self, call: &Call) -> Result<Settled, FacilitatorError> {
        if !call.may_begin {
            // It cannot be asked over HTTP without beginning one.
            return Err(FacilitatorError::NotBegun);
        }
        let answer = self
            .ask(Method::POST, "/settle", call.request.to_json())
            .await?;
        if answer.status.is_redirection() {
            return Err(unjudged(&answer, "a redirection"));
        }
        let response = SettleResponse::parse_body(&answer.body, &self.config.limits)
            .map_err(|error| unjudged(&answer, &error.to_string()))?;
        contradiction(call, &response).map_or(Ok(()), |what| {
            Err(FacilitatorError::Unknown(what.to_owned()))
        })?;
        let pending =
            response.error_reason.as_deref() == Some(ErrorCode::SettlementPending.as_str());
        let stage = match (response.success, pending, answer.status) {
            (true, _, status) if status.is_success() => Stage::Done,
            (true, ..) => {
                return Err(unjudged(
                    &answer,
                    "success, with a status that says otherwise",
                ));
            }
            (false, true, _) => Stage::Pending,
            (false, false, StatusCode::CONFLICT) => Stage::Conflict,
            (false, false, _) => Stage::Refused,
        };
        Ok(Settled {
            response,
            stage,
            fresh: true,
        })
    }

    async fn supported(&self) -> Result<SupportedResponse, FacilitatorError> {
        let answer = self.ask(Method::GET, "/supported", String::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(unjudged(&answer, "what it supports is not told"));
        }
        SupportedResponse::parse_body(&answer.body, &self.config.limits)
            .map_err(|error| unjudged(&answer, &error.to_string()))
    }

    async fn health(&self) -> Result<(), FacilitatorError> {
        let answer = self.ask(Method::GET, "/health", String::new()).await?;
        if answer.status == StatusCode::OK {
            Ok(())
        } else {
            Err(unjudged(&answer, "it is not well"))
        }
    }

    fn gas(&self, _: &Call) -> u64 {
        0
    }
}

/// What a settlement's answer says that cannot be an answer to the question.
fn contradiction(call: &Call, response: &SettleResponse) -> Option<&'static str> {
    let (payload, requirements) = (&call.request.payload, &call.request.requirements);
    if response.network != requirements.network {
        return Some("it names another network");
    }
    let payer = payload.scheme_payload().payer();
    if response.payer.is_some_and(|told| told != payer) {
        return Some("it names another payer");
    }
    if response.success {
        if response.transaction.is_none() && !requirements.amount.is_zero() {
            return Some("it tells of a success without a transaction");
        }
        if response
            .amount
            .is_some_and(|told| told != requirements.amount)
        {
            return Some("it settled another amount");
        }
    }
    None
}
