//! What browsers must be told: any origin may ask, since a request carries its own payment and no cookie.

use http::{HeaderMap, HeaderValue, header};
use tollgate_server::headers;

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
/// Two hours: the longest that Chromium keeps a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// On every answer.
pub(crate) fn answer(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, headers::EXPOSED);
}

/// On the answer to a preflight.
pub(crate) fn preflight(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers::ALLOWED);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}
