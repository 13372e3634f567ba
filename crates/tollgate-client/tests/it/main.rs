//! The promises of the paying client, held against sellers in this process.

mod bounds;
#[cfg(feature = "http")]
mod closed;
mod cut;
mod hostile;
mod limits;
mod lost;
mod pays;
#[cfg(feature = "http")]
mod proxy;
#[cfg(feature = "http")]
mod ready;
mod receipts;
mod reuse;
mod seller;
mod signed;
