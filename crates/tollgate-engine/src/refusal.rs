//! How the till tells that a payment is not admitted.

use tollgate_ledger::StoreError;
use tollgate_payment::{
    FundsBound, Refusal,
    port::{AdmitError, VerifyError},
};
use tollgate_x402::{Authorization, ErrorCode, Exact, MatchError};

/// What a refusal of the ledger's means to the payer.
pub(crate) fn explain(refusal: &Refusal, authorization: &Authorization) -> AdmitError {
    let payer = Some(authorization.owner());
    let with = |code: ErrorCode, message: String, retry_after| AdmitError {
        code,
        message,
        retry_after,
        payer,
    };
    let message = refusal.to_string();
    match *refusal {
        Refusal::Insufficient { bound, .. } => {
            with(short_code(authorization, bound), message, None)
        }
        Refusal::Limited { retry_after, .. } => {
            with(ErrorCode::CreditExhausted, message, Some(retry_after))
        }
        Refusal::Blocked { .. } => with(ErrorCode::InsufficientFunds, message, None),
        Refusal::PermitNonce { .. } => with(ErrorCode::InvalidPermitNonce, message, None),
        Refusal::Barred => with(ErrorCode::PayerBarred, message, None),
        Refusal::Used => with(ErrorCode::DuplicateSettlement, message, None),
        Refusal::IdentifierUsed => with(ErrorCode::PaymentIdentifierConflict, message, None),
        Refusal::FundsNeeded => with(
            ErrorCode::ChainUnavailable,
            "the node's answer is older than what is known already".to_owned(),
            Some(1),
        ),
        Refusal::CounterAhead { .. } | Refusal::Books(_) | Refusal::Missing(_) => {
            tracing::error!(%message, "the ledger needs a person");
            with(ErrorCode::LedgerUnavailable, message, Some(30))
        }
        _ => with(ErrorCode::LedgerUnavailable, message, Some(1)),
    }
}

pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> AdmitError {
    AdmitError {
        code,
        message: message.into(),
        retry_after: None,
        payer: None,
    }
}

pub(crate) fn unrecorded(error: &StoreError, authorization: &Authorization) -> AdmitError {
    AdmitError {
        code: ErrorCode::LedgerUnavailable,
        message: error.to_string(),
        retry_after: Some(2),
        payer: Some(authorization.owner()),
    }
}

pub(crate) fn in_flight(authorization: &Authorization) -> AdmitError {
    AdmitError {
        code: ErrorCode::PaymentInFlight,
        message: "this payment is being served".to_owned(),
        retry_after: Some(1),
        payer: Some(authorization.owner()),
    }
}

/// The allowance stays good: the payer is to know what it pays from now on.
pub(crate) fn repriced(authorization: &Authorization) -> AdmitError {
    AdmitError {
        code: ErrorCode::PriceChanged,
        message: "the prices are others than when this allowance was last used".to_owned(),
        retry_after: None,
        payer: Some(authorization.owner()),
    }
}

/// A nonce is burned here even where nothing was charged: else whoever hangs up early is served again and again.
pub(crate) fn used_up(authorization: &Authorization) -> AdmitError {
    AdmitError {
        code: ErrorCode::DuplicateSettlement,
        message: "this payment has ended, and nothing was charged".to_owned(),
        retry_after: None,
        payer: Some(authorization.owner()),
    }
}

pub(crate) fn unverified(error: VerifyError, authorization: &Authorization) -> AdmitError {
    let payer = Some(authorization.owner());
    match error {
        VerifyError::Refused { code, message } => AdmitError {
            code,
            message,
            retry_after: None,
            payer,
        },
        VerifyError::Unavailable(message) => AdmitError {
            code: ErrorCode::ChainUnavailable,
            message,
            retry_after: Some(2),
            payer,
        },
    }
}

pub(crate) const fn signature_code(authorization: &Authorization) -> ErrorCode {
    match authorization {
        Authorization::Allowance(_) => ErrorCode::InvalidPermitSignature,
        Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
            ErrorCode::Permit2Signature
        }
        Authorization::Exact(Exact::Eip3009(_)) => ErrorCode::InvalidEip3009Signature,
    }
}

pub(crate) const fn short_code(authorization: &Authorization, bound: FundsBound) -> ErrorCode {
    match (authorization, bound) {
        (Authorization::Allowance(_), FundsBound::Allowance) => ErrorCode::AllowanceExhausted,
        (Authorization::Allowance(_), _) => ErrorCode::InsufficientFunds,
        (
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)),
            FundsBound::Allowance,
        ) => ErrorCode::Permit2Allowance,
        (Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)), FundsBound::Balance) => {
            ErrorCode::Permit2Balance
        }
        (
            Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)),
            FundsBound::Authorization,
        ) => ErrorCode::Permit2Amount,
        (Authorization::Exact(Exact::Eip3009(_)), _) => ErrorCode::Eip3009Balance,
    }
}

/// How surely a mismatch is of the entry that the client meant.
pub(crate) const fn meant(error: MatchError) -> u8 {
    match error {
        MatchError::Scheme | MatchError::Network | MatchError::Echo => 0,
        MatchError::Kind(_) => 1,
        _ => 2,
    }
}
