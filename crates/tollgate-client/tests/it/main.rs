//! The promises of the paying client, held against sellers in this process.

mod hostile;
mod limits;
mod lost;
mod pays;
#[cfg(feature = "http")]
mod ready;
mod receipts;
mod reuse;
mod seller;
