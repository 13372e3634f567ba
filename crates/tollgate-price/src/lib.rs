#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::arithmetic_side_effects
    )
)]

mod dollars;
mod price;
mod quote;
mod rates;
mod table;
mod usage;

pub use dollars::{ParseDollarsError, amount_from_dollars, amount_to_dollars};
pub use price::PricePerMillion;
pub use quote::Quote;
pub use rates::{DollarRates, Rates};
pub use table::{Listing, PriceTable, TableError};
pub use usage::BillableUsage;
