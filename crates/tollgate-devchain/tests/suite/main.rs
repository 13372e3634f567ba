//! What the development chain promises to its clients.

mod chain;
mod common;
mod pool;
mod rpc;
