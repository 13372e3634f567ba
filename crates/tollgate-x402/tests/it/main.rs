//! The crate's public behaviour.

mod clients;
mod common;
mod offers;
mod properties;
mod refusals;
