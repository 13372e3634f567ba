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

mod batch;
pub mod command;
mod history;
mod key;
mod menu;
mod offer;
mod policy;
pub mod port;
mod refusal;
mod row;
mod store;
mod view;

pub use history::{DailySums, PaidHistory};
pub use key::{
    AuthorizationKey, BatchId, ExposureKey, IdentifierKey, OwnerKey, PaymentKeys, RowKey,
    SignerKey, SpenderKey,
};
pub use menu::Menu;
pub use offer::{Ask, Offer, Permit2Terms, Pricing, RequestBinding, Terms};
pub use policy::{Credit, Retention};
pub use refusal::{CreditBound, FundsBound, Refusal};
pub use row::{
    AuthorizationRow, BatchItem, BatchRow, BatchState, Counter, ExposureRow, Halt, IdentifierRow,
    Instruction, Lease, Limit, LossReason, OutcomeRow, OwnerRow, PaymentRow, PaymentState, Permit,
    ReleaseReason, Row, SignerRow, SpenderRow, StoredBody, Submission, Superseded,
};
pub use store::{Account, Command, Decision, Entry, RowSet, Rows};
pub use view::{Settled, View};
