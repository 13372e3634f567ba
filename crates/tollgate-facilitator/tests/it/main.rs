//! The service and the client, over bytes.

mod client;
mod common;
mod service;
