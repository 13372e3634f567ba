//! The crate's public behaviour.

mod clients;
mod common;
mod mismatches;
mod offers;
mod properties;
mod refusals;
