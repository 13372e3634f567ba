//! The vocabulary of x402 on EVM chains: what goes over the wire, validated on parsing.
//!
//! This crate opens no socket, reads no clock and knows no price, token or database.
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
mod network;
mod payment_id;
mod time;

pub use amount::{Amount, ParseAmountError};
pub use authorization::{Allowance, Authorization, Eip3009, Exact, Once, Permit2Exact, Signature65, ParseSignatureError};
pub use network::{ChainId, Network, ParseNetworkError};
pub use payment_id::{ParsePaymentIdError, PaymentId};
pub use time::{Clock, Timestamp};

pub use alloy_primitives::{Address, B256, Bytes, U256};
