//! The crate's public behaviour.

mod properties;
mod tables;
