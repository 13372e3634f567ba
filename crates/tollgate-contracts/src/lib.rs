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
#[cfg_attr(
    not(test),
    expect(
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "it is evaluated while the crate is compiled: what goes wrong there is an error of the build"
    )
)]
pub mod bytecode;
pub mod lens;
pub mod settler;
pub mod slots;
pub mod tokens;

pub use tokens::{TokenDomain, TokenInfo, by_symbol, token};
