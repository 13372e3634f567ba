//! The head of an answer to an admitted payment.

use http::{HeaderValue, Response, StatusCode, header, response::Parts};
use tollgate_payment::{command::Charge, port::Admitted};
use tollgate_x402::{
    ErrorCode, Json, JsonObject, Network, PaymentId, PaymentState, PaymentStatus, SettleResponse,
};

use crate::{Delivery, PaywallBody, Problem};

pub(crate) fn delivery(parts: &Parts) -> Delivery {
    parts
        .extensions
        .get::<Delivery>()
        .copied()
        .unwrap_or_else(|| {
            let kind = parts
                .headers
                .get(header::CONTENT_TYPE)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            let kind = kind
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            if kind.eq_ignore_ascii_case(b"text/event-stream") {
                Delivery::Streamed
            } else {
                Delivery::Buffered
            }
        })
}

/// The inner service's own refusal, passed on, but that after work has begun there is no 402: clients would take it
/// for ours, throw their permit away, and pay again.
pub(crate) fn failed<RB>(parts: Parts, body: RB) -> Response<PaywallBody<RB>> {
    if parts.status == StatusCode::PAYMENT_REQUIRED {
        let problem = Problem::new(
            ErrorCode::UpstreamFailed,
            "the service behind this server wants to be paid itself",
        );
        return problem.to_response();
    }
    Response::from_parts(parts, PaywallBody::inner(body))
}

/// What the header says of a charge. There is no transaction: the charge is durable, and is settled behind the answer.
pub(crate) fn settlement(admitted: &Admitted, charge: &Charge) -> SettleResponse {
    let network = Network::from(admitted.chain);
    let settled = SettleResponse::settled(network, admitted.payer, charge.amount, None);
    let state = if charge.amount.is_zero() {
        PaymentState::Released
    } else {
        PaymentState::Accepted
    };
    named(settled, admitted.id, state)
}

/// What became of a payment by now.
pub(crate) fn standing(status: &PaymentStatus) -> SettleResponse {
    let settled = SettleResponse::settled(
        status.network.clone(),
        status.payer,
        status.charge.unwrap_or_default(),
        status.transaction,
    );
    named(settled, status.id, status.state)
}

fn named(mut response: SettleResponse, id: PaymentId, state: PaymentState) -> SettleResponse {
    let state = match state {
        PaymentState::Accepted => "accepted",
        PaymentState::Included => "included",
        PaymentState::Final => "final",
        PaymentState::Released => "released",
        PaymentState::Lost => "lost",
    };
    let mut extra = JsonObject::new();
    extra.insert("paymentId", Json::from(id.to_string().as_str()));
    extra.insert("state", Json::from(state));
    response.extra = extra;
    response
}
