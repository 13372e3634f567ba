//! What each fuzz target does with its bytes, and must never fail.
//!
//! The targets of `fuzz_targets/` are one line each, so that the same functions run over the committed corpora as
//! ordinary tests (`xtask/tests/corpora.rs`).

pub mod facilitator_body;
pub mod payment_body;
pub mod payment_header;
pub mod request_body;
pub mod required_body;
pub mod sse_decoder;
pub mod upstream_stream;
