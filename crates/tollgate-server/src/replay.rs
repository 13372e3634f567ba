//! The answer to a request that was paid for and answered before.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tollgate_payment::{
    StoredBody,
    command::Told,
    port::{Kept, Replay},
};
use tollgate_x402::{ErrorCode, Json, PaymentStatus};

use crate::{Meter, PaywallBody, Problem, answer, headers};

/// The kept answer with the present state of its payment; or, where it is not kept, what is known of it.
pub(crate) fn response<M: Meter, RB>(replay: Replay, meter: &mut M) -> Response<PaywallBody<RB>> {
    let Replay {
        status,
        version,
        answer: kept,
    } = replay;
    let (code, content_type, body) = match kept {
        Kept::Answer(Told {
            status,
            content_type,
            body: StoredBody::Whole(body),
        }) => {
            let code = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            (code, HeaderValue::try_from(content_type).ok(), body.0)
        }
        Kept::Answer(Told {
            body: StoredBody::TooLong,
            ..
        }) => gone(&status, "its answer is longer than what is kept"),
        Kept::BrokenOff => gone(
            &status,
            "its answer broke off, and what was made until then is charged",
        ),
        Kept::Expired => gone(&status, "its answer was kept for a time that is over"),
    };
    let mut response = Response::new(PaywallBody::from(body));
    *response.status_mut() = code;
    let head = response.headers_mut();
    if let Some(content_type) = content_type {
        head.insert(header::CONTENT_TYPE, content_type);
    }
    if code.is_success() {
        meter.replayed(head);
    }
    headers::paid(head, status.id);
    headers::settled(head, version, &answer::standing(&status));
    head.insert(headers::PAYMENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// That a payment has ended, and what it came to.
fn gone(status: &PaymentStatus, why: &str) -> (StatusCode, Option<HeaderValue>, Bytes) {
    let problem = Problem::new(
        ErrorCode::AnswerGone,
        format!("this request was paid for and has ended; {why}"),
    );
    let mut body = problem.to_json();
    // Two more keys of the object.
    if body.pop() == Some('}') {
        let charge = status.charge.unwrap_or_default();
        let (id, charge) = (status.id.to_string(), charge.to_string());
        for (key, value) in [("paymentId", id), ("charge", charge)] {
            body.push_str(&format!(",\"{key}\":{}", Json::from(value.as_str())));
        }
        body.push('}');
    }
    let json = HeaderValue::from_static("application/json");
    (problem.status(), Some(json), Bytes::from(body))
}
