//! The gateway over a real till, a ledger in memory and a model server of our own that speaks HTTP.

mod failures;
mod http2;
mod mock;
mod plain;
mod receipts;
mod replays;
mod routes;
mod server;
mod shop;
mod stream;
mod waits;
