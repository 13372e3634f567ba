//! The crate's public behaviour against the development chain over real HTTP.

mod agreement;
mod checks;
mod common;
mod failures;
mod reads;
mod settling;
