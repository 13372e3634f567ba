//! What went wrong, and who is to blame.

use core::fmt;

use http::StatusCode;
use tollgate_eip712::SignError;
use tollgate_x402::{AuthorizationKind, ErrorCode, PaymentRequired, ReadError, Timestamp};

use crate::{FactsError, Origin, Refusals};

/// An error of the HTTP client beneath.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no paid answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayError {
    /// This client does not pay that. Nothing was signed in this call.
    #[error("not paid: {0}")]
    Refused(#[from] Refusals),
    /// The seller's 402 cannot be read. Nothing was signed in this call.
    #[error("the seller's 402 cannot be read ({0}); this is no x402 offer that a client can pay")]
    Offer(#[from] ReadError),
    /// The seller's 402 could not be received.
    #[error("the seller's 402 could not be received: {0}")]
    OfferBody(#[source] BoxError),
    /// The seller does not take the payment.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// A payment was sent, and no answer came: it may be charged. Whether sending the same request again can be a
    /// second charge tells `again`.
    #[error("the payment was sent and no answer came ({source}): it may be charged{}", again.advice(*until))]
    AnswerLost {
        /// What the HTTP client says.
        source: BoxError,
        /// What was sent.
        kind: AuthorizationKind,
        /// Until when it can be submitted.
        until: Timestamp,
        /// What sending the same request again would be.
        again: Again,
    },
    /// The request failed before anything was paid.
    #[error("the request failed before anything was paid: {0}")]
    Transport(#[source] BoxError),
    /// The answer to a payment sends the payer to another origin. The payment did not follow.
    #[error(
        "the answer to the payment is a redirect to {to}, another origin; the payment did not follow. Ask that address itself if you trust it"
    )]
    Redirected {
        /// Where to.
        to: String,
    },
    /// The wallet did not sign.
    #[error("the payment was not signed: {0}")]
    Sign(#[from] SignError),
    /// The chain did not tell the permit's nonce. Nothing was signed.
    #[error(transparent)]
    Chain(#[from] FactsError),
    /// Too many payments to this seller stand without an answer. Nothing was sent. Other sellers are paid as before.
    #[error(
        "too many payments to {origin} stand whose end is not known; wait until some of them expire"
    )]
    TooManyOpen {
        /// The seller.
        origin: Origin,
    },
    /// The answer broke off, with an error of the connection or before the end that its format has. What was delivered
    /// may be charged. A payment that is bound to its request (once, exact, or named by a `payment-identifier`) stays
    /// known: the same request sends it again, and a gateway gives the answer that it kept.
    #[error("the answer broke off: {0}")]
    Broken(#[source] BoxError),
    /// The seller, or something before it, answered with an error. Whether it was paid, it says itself.
    #[error("the answer is {status}: {text}")]
    Answer {
        /// The status.
        status: StatusCode,
        /// The beginning of what it says.
        text: String,
    },
    /// Not an absolute URL of http or https.
    #[error("{0:?} is no URL; write it with http:// or https://")]
    Url(String),
    /// The seller's offer asks for something that no HTTP header can hold.
    #[error("the payment does not fit a header; the seller's offer is too odd to be answered")]
    Header,
}

/// What it would be to send a request again whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// The same payment: the very same request sends the same authorization under the same name until its deadline, and
    /// none other is signed for it. It is charged once.
    SamePayment,
    /// A new payment. An allowance without a `payment-identifier` does not say which request it is for, so each sending
    /// can be charged.
    NewPayment,
}

impl Again {
    fn advice(self, until: Timestamp) -> String {
        match self {
            Self::SamePayment => format!(
                ". Send the very same request again to use the same authorization; it stands until {until} (Unix time)"
            ),
            Self::NewPayment => {
                ", and sending it again can be charged again: this seller cannot tell that it is the same request".into()
            }
        }
    }
}

/// An answer that ended before the end that its format has.
#[cfg(feature = "http")]
#[derive(Debug, thiserror::Error)]
#[error("the connection ended before the answer's end")]
pub(crate) struct Unfinished;

/// A seller's 402 to a request that was paid.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rejection {
    /// The seller's code, if it is one that this project knows.
    pub code: Option<ErrorCode>,
    /// The seller's word for it (`error` of its 402).
    pub reason: String,
    /// The seller's sentence (`errorMessage`), at most 500 characters.
    pub message: Option<String>,
    /// What was sent.
    pub kind: AuthorizationKind,
    /// Whether a permit was forgotten: the next request signs a new one.
    pub permit_dropped: bool,
    /// The offer that came with it, if it can be read.
    pub offer: Option<Box<PaymentRequired>>,
    /// Always 402.
    pub status: StatusCode,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the seller does not take the payment: {}", self.reason)?;
        match (&self.message, self.code) {
            (Some(message), _) => write!(f, " ({message})")?,
            (None, Some(code)) => write!(f, " ({})", code.advice())?,
            (None, None) => {}
        }
        if self.code == Some(ErrorCode::Permit2Amount) {
            f.write_str(
                ". This seller wants the offered amount: turn right_size off in the policy",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}

impl PayError {
    /// The seller's rejection, if that is it.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Why this client refused, if it did.
    pub fn refusals(&self) -> Option<&Refusals> {
        match self {
            Self::Refused(refusals) => Some(refusals),
            _ => None,
        }
    }
}
