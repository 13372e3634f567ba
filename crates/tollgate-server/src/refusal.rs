//! The answers to requests that are not served.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;
use tollgate_payment::{
    Offer,
    port::{AdmitError, HoldError},
};
use tollgate_x402::{ErrorCode, Json};

use crate::{Bounds, PaywallBody, Problem, headers};

/// What x402's reference servers say in the 402 of a request without a payment.
const UNPAID: &str = "Payment required";

/// The 402 of a request without a payment.
pub(crate) fn unpaid<B>(offer: &Offer) -> Response<PaywallBody<B>> {
    required(offer, UNPAID, ErrorCode::PaymentRequired.advice())
}

/// The 402 of a payment that is no good, with a fresh offer; or the code's own status.
pub(crate) fn refused<B>(
    offer: &Offer,
    code: ErrorCode,
    message: &str,
    retry_after: Option<u64>,
    bounds: &Bounds,
) -> Response<PaywallBody<B>> {
    if code.status() == StatusCode::PAYMENT_REQUIRED.as_u16() {
        return required(
            offer,
            code.as_str(),
            &format!("{message}. {}", code.advice()),
        );
    }
    let problem = Problem::new(code, message);
    match retry_after.or_else(|| waiting_helps(code).then_some(bounds.retry_after)) {
        Some(seconds) => problem.retry_after(seconds).to_response(),
        None => problem.to_response(),
    }
}

pub(crate) fn not_admitted<B>(
    offer: &Offer,
    error: &AdmitError,
    bounds: &Bounds,
) -> Response<PaywallBody<B>> {
    let message = match error.code {
        // What went wrong behind us names nodes and files: that is for the operator's log alone.
        ErrorCode::ChainUnavailable => "the chain cannot be read now; nothing was charged",
        ErrorCode::LedgerUnavailable => "the ledger cannot be used now; nothing was charged",
        _ => return refused(offer, error.code, &error.message, error.retry_after, bounds),
    };
    tracing::warn!(code = %error.code, detail = %error.message, "a payment was not admitted");
    refused(offer, error.code, message, error.retry_after, bounds)
}

/// 503 to everything that has a price, while the server shuts down.
pub(crate) fn draining<B>(bounds: &Bounds) -> Response<PaywallBody<B>> {
    Problem::new(ErrorCode::Draining, "this server takes no more payments")
        .retry_after(bounds.retry_after)
        .to_response()
}

/// 503: what should have been written was not, and nothing was delivered.
pub(crate) fn ledger<B>(bounds: &Bounds) -> Response<PaywallBody<B>> {
    Problem::new(
        ErrorCode::LedgerUnavailable,
        "the payment could not be recorded",
    )
    .retry_after(bounds.retry_after)
    .to_response()
}

/// The answer to a request whose answer is withheld, since its charge is not written.
pub(crate) fn withheld<B>(
    error: &HoldError,
    again: bool,
    bounds: &Bounds,
) -> Response<PaywallBody<B>> {
    match error {
        HoldError::Undecided(_) if again => Problem::new(
            ErrorCode::ChargeUndecided,
            "the charge could not be written yet",
        )
        .retry_after(bounds.retry_after)
        .to_response(),
        HoldError::Unavailable(_) => ledger(bounds),
        // To ask again would be another payment.
        _ => Problem::new(
            ErrorCode::UnexpectedSettleError,
            "it is not known whether the answer, which is withheld, is charged",
        )
        .to_response(),
    }
}

fn waiting_helps(code: ErrorCode) -> bool {
    matches!(code.status(), 425 | 429 | 503)
}

/// One 402 for all clients: the v1 offer is the body, the v2 offer is the header (x402 v2 transports/http; v1 §"402").
fn required<B>(offer: &Offer, error: &str, message: &str) -> Response<PaywallBody<B>> {
    let written = offer.written(error);
    let mut body = written.body_v1;
    // One more key of the v1 object, which has no member for a text beside the code.
    if body.pop() == Some('}') {
        body.push_str(",\"errorMessage\":");
        body.push_str(&Json::from(message).to_string());
        body.push('}');
    }
    let mut response = Response::new(PaywallBody::from(Bytes::from(body)));
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    let head = response.headers_mut();
    head.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // Base64 is good in a header; it is looked at again, and not copied.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(written.header_v2)) {
        head.insert(headers::PAYMENT_REQUIRED, value);
    }
    headers::unpaid(head);
    response
}

/// The same answer to `HEAD`: its head alone.
pub(crate) fn without_body<B>(response: Response<PaywallBody<B>>) -> Response<PaywallBody<B>>
where
    PaywallBody<B>: Body,
{
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| PaywallBody::empty());
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
