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

pub mod abi;
pub mod addresses;
pub mod bytecode;
pub mod lens;
pub mod settler;
pub mod slots;
pub mod tokens;

pub use tokens::{TokenDomain, TokenInfo, by_symbol, token};
