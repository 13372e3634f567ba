//! The vocabulary of x402 on EVM chains: what goes over the wire, validated on parsing.
//!
//! This crate opens no socket, reads no clock and knows no price, token or database.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects
    )
)]

mod amount;
mod authorization;
pub mod canonical;
mod error_code;
mod extensions;
mod facilitator;
mod field;
mod form;
pub mod header;
mod json;
mod limits;
mod matching;
mod network;
mod payload;
mod payment_id;
mod read;
mod required;
mod requirements;
mod resource;
mod scheme;
mod scheme_payload;
mod settle;
mod status;
mod time;

pub use amount::{Amount, ParseAmountError};
pub use authorization::{
    Allowance, Authorization, Eip3009, Exact, Once, ParseSignatureError, Permit2Exact, Signature65,
};
pub use error_code::{ErrorCode, UnknownErrorCode};
pub use extensions::{
    Eip2612GasSponsoring, Extensions, Identifier, ParseIdentifierError, PaymentIdentifier,
    SponsoredPermit,
};
pub use facilitator::{FacilitatorRequest, SupportedKind, SupportedResponse};
pub use field::{FieldError, FieldProblem};
pub use form::{OfferForm, WrittenOffer};
pub use header::{HeaderError, PaymentHeader};
pub use json::{Json, JsonError, JsonObject};
pub use limits::Limits;
pub use matching::MatchError;
pub use network::{ChainId, Network, ParseNetworkError};
pub use payload::{PayloadError, PaymentPayload, Selector};
pub use payment_id::{ParsePaymentIdError, PaymentId};
pub use read::ReadError;
pub use required::{PaymentRequired, UnreadableEntry};
pub use requirements::{Extra, PaymentRequirements};
pub use resource::ResourceInfo;
pub use scheme::{AssetTransferMethod, PrimaryType, Scheme, X402Version};
pub use scheme_payload::{PayloadKind, SchemePayload, SignedAuthorization, SignedPermit2};
pub use settle::{SettleResponse, VerifyResponse};
pub use status::{
    AuthorizationKind, Interval, PaymentAmounts, PaymentState, PaymentStatus, TokenUsage,
};
pub use time::{Clock, Timestamp};

pub use alloy_primitives::{Address, B256, Bytes, U256};
