//! What the development chain promises to its clients.

mod chain;
mod common;
mod development;
mod faults;
mod pool;
mod properties;
mod rpc;
