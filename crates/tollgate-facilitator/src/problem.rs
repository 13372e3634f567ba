//! What is wrong with a request itself: the one table of the service's errors.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tollgate_x402::Json;

use crate::AnswerBody;

tollgate_x402::codes! {
    /// Why a request was not looked at. What is wrong with a *payment* is in the answers' `invalidReason` and
    /// `errorReason`, with the codes of [`ErrorCode`](tollgate_x402::ErrorCode).
    #[doc = include_str!("../ERRORS.md")]
    pub enum ProblemCode {
        InvalidRequest = "invalid_request", 400, "Send one JSON object with x402Version, paymentPayload and paymentRequirements, each key once.";
        InvalidRequirements = "invalid_payment_requirements", 400, "Send the entry of accepts that you offered as paymentRequirements.";
        Unauthorized = "unauthorized", 401, "Send your key as Authorization: Bearer KEY.";
        PayToNotAllowed = "pay_to_not_allowed", 403, "Your key settles for other payees: ask the operator to add this payTo to it.";
        NotFound = "not_found", 404, "Ask POST /verify, POST /settle, GET /supported or GET /health.";
        MethodNotAllowed = "method_not_allowed", 405, "POST /verify and /settle, GET /supported and /health.";
        RequestTimeout = "request_timeout", 408, "Send the whole body at once.";
        RequestTooLarge = "request_too_large", 413, "Send less: a payment and its requirements are a few kilobytes.";
        GasBudgetSpent = "gas_budget_spent", 429, "Your gas for this period is spent: ask again after Retry-After, with the same payment.";
        InternalError = "internal_error", 500, "The facilitator failed; ask again with the same payment, never with a new one.";
        Unavailable = "unavailable", 503, "The facilitator cannot work now and sent nothing: ask again after Retry-After, with the same payment.";
    }
}

/// A problem in an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) code: ProblemCode,
    pub(crate) message: String,
    pub(crate) retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    pub(crate) fn to_response(&self) -> Response<AnswerBody> {
        let text = format!(
            r#"{{"error":"{}","errorMessage":{},"advice":{}}}"#,
            self.code,
            Json::from(self.message.as_str()),
            Json::from(self.code.advice())
        );
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, text);
        let head = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            head.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self.code {
            ProblemCode::Unauthorized => {
                head.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ProblemCode::MethodNotAllowed => {
                head.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
            }
            _ => {}
        }
        response
    }
}

/// An answer of JSON, which no cache may keep.
pub(crate) fn json(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::from(Bytes::from(text)));
    *response.status_mut() = status;
    let head = response.headers_mut();
    head.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_code() {
        assert_eq!(
            include_str!("../ERRORS.md"),
            ProblemCode::documented(),
            "ERRORS.md must be:\n{}",
            ProblemCode::documented()
        );
    }
}
