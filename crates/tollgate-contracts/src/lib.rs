#![doc = include_str!("../README.md")]

pub mod abi;
pub mod addresses;
pub mod tokens;

pub use tokens::{TokenInfo, by_symbol, token};
