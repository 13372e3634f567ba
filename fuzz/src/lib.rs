//! What each fuzz target does with its bytes, and must never fail.
//!
//! The targets of `fuzz_targets/` are one line each, so that the same functions run over the committed corpora as
//! ordinary tests (`xtask/tests/corpora.rs`).

pub mod sse_decoder;
