//! Answers that say what is wrong and what to do.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tollgate_x402::{ErrorCode, Json};

use crate::headers;

/// What is wrong with a request, or with us, in an answer without an offer.
///
/// Its body is `{"error": code, "errorMessage": message, "advice": …}` in ASCII; its status is the code's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Problem {
    /// The stable code, which has the status and the advice.
    pub code: ErrorCode,
    /// What is wrong with this very request. Callers read it: nothing secret, no addresses of upstreams.
    pub message: String,
    /// Seconds for `Retry-After`, where waiting helps.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same with a `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"error":"{}","errorMessage":{},"advice":{}}}"#,
            self.code,
            Json::from(self.message.as_str()),
            Json::from(self.code.advice())
        )
    }

    /// The answer, which no cache may keep.
    pub fn to_response<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.to_json())));
        *response.status_mut() = self.status();
        let head = response.headers_mut();
        head.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_after {
            head.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers::unpaid(head);
        response
    }
}
