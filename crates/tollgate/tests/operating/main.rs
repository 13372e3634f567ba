//! Operating money, as an operator does it: the real program over a chain of the test's own.
#![cfg(unix)]

mod books;
mod debts;
mod deploy;
mod facilitated;
mod facilitator;
mod keys;
mod remote;
mod restored;
mod waits;
mod world;
