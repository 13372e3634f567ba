//! What the contracts promise, tried in an EVM.

mod artifacts;
mod common;
mod lens;
mod permit2;
mod proxies;
mod settler_admin;
mod settler_allowance;
mod settler_gas;
mod settler_isolation;
mod settler_model;
mod settler_pulls;
mod tokens;
mod vectors;
