//! What the paywall promises, driven through its public interface: a till in memory, a service fed by the test, no
//! sockets, and a clock that the tests move.

mod buffered;
mod drain;
mod interleavings;
mod reading;
mod refusals;
mod replays;
mod shop;
mod stream;
mod till;
mod waits;
