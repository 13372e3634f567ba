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

mod digest;
mod domain;
mod local;
mod offer_receipt;
mod recover;
mod sign;
mod statement;
pub mod typed;
mod usage;
mod wallet;

pub use digest::{Envelope, SigningDomain, TypedData, digest};
pub use domain::{PERMIT2, TokenDomain, permit2_separator};
pub use local::{LocalWallet, ParseKeyError};
pub use offer_receipt::{Offer, Receipt};
pub use recover::{RecoverError, VerifyError, recover, verify};
pub use sign::{
    AllowanceTerms, Eip3009Terms, OnceTerms, Permit2ExactTerms, SignError, sign_allowance,
    sign_eip3009, sign_once, sign_permit2_exact,
};
pub use statement::{Signed, Statement, StatementError, Version1, sign_statement};
pub use usage::{CounterInterval, PaymentKind, TokenCounts, UsageReceipt};
pub use wallet::{Wallet, WalletError};
