//! The headers of x402 over HTTP, and their base64 codec.
//!
//! Names are in lower case, as HTTP/2 sends them and as `http::HeaderName::from_static` wants them.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{JsonError, Limits, json};

/// `PAYMENT-REQUIRED`, server to client on a 402, v2: base64 of the JSON of [`PaymentRequired`](crate::PaymentRequired).
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// `PAYMENT-SIGNATURE`, client to server, v2: base64 of the JSON of [`PaymentPayload`](crate::PaymentPayload).
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// `PAYMENT-RESPONSE`, server to client, v2: base64 of the JSON of [`SettleResponse`](crate::SettleResponse).
pub const PAYMENT_RESPONSE: &str = "payment-response";
/// `X-PAYMENT`, client to server, v1: base64 of the JSON of [`PaymentPayload`](crate::PaymentPayload).
pub const X_PAYMENT: &str = "x-payment";
/// `X-PAYMENT-RESPONSE`, server to client, v1: base64 of the JSON of [`SettleResponse`](crate::SettleResponse).
pub const X_PAYMENT_RESPONSE: &str = "x-payment-response";
/// `EXTENSION-RESPONSES`, facilitator to server, v2: base64 of JSON.
pub const EXTENSION_RESPONSES: &str = "extension-responses";
/// `SIGN-IN-WITH-X`, client to server, v2 extension: base64 of JSON.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";
/// What a browser may read of our answers: the value of `Access-Control-Expose-Headers`.
pub const EXPOSED: &str = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE";

/// The two headers in which a payment comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaymentHeader {
    /// `X-PAYMENT`, v1.
    XPayment,
    /// `PAYMENT-SIGNATURE`, v2.
    PaymentSignature,
}

/// Why a header's value could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Longer than [`Limits::header_bytes`], or decoded longer than [`Limits::decoded_bytes`].
    #[error("the header is too long")]
    TooLong,
    /// Not base64 of the standard alphabet (RFC 4648 §4).
    #[error(
        "the header is not base64 of the standard alphabet (+ and /, never - and _) on one line"
    )]
    Base64,
    /// Base64, but not of JSON that we read.
    #[error("the header's base64 does not hold good JSON: {0}")]
    Json(#[from] JsonError),
}

impl PaymentHeader {
    /// The header of this name, in whatever case.
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case(X_PAYMENT) {
            Some(Self::XPayment)
        } else if name.eq_ignore_ascii_case(PAYMENT_SIGNATURE) {
            Some(Self::PaymentSignature)
        } else {
            None
        }
    }

    /// The header's name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XPayment => X_PAYMENT,
            Self::PaymentSignature => PAYMENT_SIGNATURE,
        }
    }

    /// The header that answers it: `X-PAYMENT-RESPONSE` or `PAYMENT-RESPONSE`, in lower case.
    pub const fn response_name(self) -> &'static str {
        match self {
            Self::XPayment => X_PAYMENT_RESPONSE,
            Self::PaymentSignature => PAYMENT_RESPONSE,
        }
    }
}

/// Padding is written, and may be missing on reading: Node's and Go's readers differ in it.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 as the headers have it: standard alphabet, padded, one line.
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// The bytes of a header's base64: standard alphabet, padded or not, blanks around it ignored.
///
/// # Errors
/// [`HeaderError::TooLong`], [`HeaderError::Base64`].
pub fn decode(value: &[u8], limits: &Limits) -> Result<Vec<u8>, HeaderError> {
    if value.len() > limits.header_bytes {
        return Err(HeaderError::TooLong);
    }
    let bytes = ENGINE
        .decode(value.trim_ascii())
        .map_err(|_| HeaderError::Base64)?;
    if bytes.len() > limits.decoded_bytes {
        return Err(HeaderError::TooLong);
    }
    Ok(bytes)
}

/// The JSON within a header.
pub(crate) fn decode_json(value: &[u8], limits: &Limits) -> Result<serde_json::Value, HeaderError> {
    Ok(json::parse(&decode(value, limits)?, limits.depth)?)
}

/// A value as a header carries it.
pub(crate) fn encode_json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    encode(json::to_ascii(value).as_bytes())
}
