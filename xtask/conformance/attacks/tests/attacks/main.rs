//! Attacks on a whole gateway over a real EVM. One test is one named attack; its documentation says what was lost at
//! most, in atomic units, and the test checks it.

mod code;
mod credit;
mod kit;
mod permits;
mod races;
mod substitution;
mod void;
