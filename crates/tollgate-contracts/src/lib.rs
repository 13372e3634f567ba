#![doc = include_str!("../README.md")]

pub mod abi;
pub mod addresses;
pub mod bytecode;
pub mod lens;
pub mod settler;
pub mod slots;
pub mod tokens;

pub use tokens::{TokenDomain, TokenInfo, by_symbol, token};
