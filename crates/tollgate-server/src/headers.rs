//! The headers of the paywall's answers beside those of x402, and what a browser must be allowed.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tollgate_x402::{SettleResponse, header as x402};

/// `X-PAYMENT-ID`, on every answer to an admitted payment: the payment's id, 32 hexadecimal digits. Whoever knows it
/// may read the payment's state.
pub const PAYMENT_ID: HeaderName = HeaderName::from_static("x-payment-id");
/// `X-PAYMENT-REPLAYED: true`, on an answer that was kept: the same request was paid for before, and nothing more is
/// charged.
pub const PAYMENT_REPLAYED: HeaderName = HeaderName::from_static("x-payment-replayed");
/// `Preference-Applied: wait=N` (RFC 7240 §3), on an answer that was held back for its payment's block, for `N` seconds at
/// most.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// `PAYMENT-REQUIRED`, on a 402.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static(x402::PAYMENT_REQUIRED);

/// The value of `Access-Control-Expose-Headers`: what a browser's program reads of the answers.
pub const EXPOSED: HeaderValue = HeaderValue::from_static(
    "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-PAYMENT-ID, X-PAYMENT-REPLAYED, Retry-After, Preference-Applied",
);
/// The value of `Access-Control-Allow-Headers`: what a paying browser sends. Paying clients send the *response*
/// header's name `Access-Control-Expose-Headers` on their request, so a preflight asks for it; the AI SDK sets its `User-Agent`.
pub const ALLOWED: HeaderValue = HeaderValue::from_static(
    "Content-Type, Authorization, X-PAYMENT, PAYMENT-SIGNATURE, Access-Control-Expose-Headers, User-Agent, Prefer",
);
/// What `Vary` has on every answer: a cache must not give one payer's answer to another.
pub const VARY: HeaderValue = HeaderValue::from_static("PAYMENT-SIGNATURE, X-PAYMENT");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The marks of an answer that no cache may keep: the 402, and every refusal.
pub(crate) fn unpaid(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.append(header::VARY, VARY);
}

/// The marks of an answer to an admitted payment. Of the inner service's `Cache-Control` only what forbids more stays.
pub(crate) fn paid(headers: &mut HeaderMap, id: tollgate_x402::PaymentId) {
    let inner = |directive: &str| {
        headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split(',')
                    .any(|one| one.trim().eq_ignore_ascii_case(directive))
            })
        })
    };
    let control = match (inner("no-cache"), inner("no-transform")) {
        (false, false) => "private, no-store",
        (true, false) => "private, no-store, no-cache",
        (false, true) => "private, no-store, no-transform",
        (true, true) => "private, no-store, no-cache, no-transform",
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
    headers.append(header::VARY, VARY);
    named(headers, id);
    // The inner service cannot speak of the payment.
    for name in [
        x402::PAYMENT_REQUIRED,
        x402::PAYMENT_RESPONSE,
        x402::X_PAYMENT_RESPONSE,
    ] {
        headers.remove(name);
    }
    headers.remove(PAYMENT_REPLAYED);
}

/// Tells the payment's id.
pub(crate) fn named(headers: &mut HeaderMap, id: tollgate_x402::PaymentId) {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(PAYMENT_ID, value);
    }
}

/// Tells how long the caller's wait was.
pub(crate) fn waited(headers: &mut HeaderMap, seconds: u64) {
    if let Ok(value) = HeaderValue::try_from(format!("wait={seconds}")) {
        // The inner service may have honoured another preference.
        headers.append(PREFERENCE_APPLIED, value);
    }
}

/// What became of the payment, in the header of the client's version.
pub(crate) fn settled(headers: &mut HeaderMap, version: u8, response: &SettleResponse) {
    let name = if version == 1 {
        x402::X_PAYMENT_RESPONSE
    } else {
        x402::PAYMENT_RESPONSE
    };
    if let Ok(value) = HeaderValue::try_from(response.to_header_value()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
