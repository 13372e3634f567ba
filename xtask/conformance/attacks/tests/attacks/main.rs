//! Attacks on a whole gateway over a real EVM. One test is one named attack; its documentation says what was lost at
//! most, in atomic units, and the test checks it.

mod caches;
mod code;
mod credit;
mod ends;
mod flood;
mod headers;
mod kit;
mod permits;
mod races;
mod replay;
mod slow;
mod substitution;
mod table;
mod void;
