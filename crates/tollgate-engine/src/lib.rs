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

mod audit;
mod elapsed;
mod facilitate;
mod health;
mod hold;
mod ids;
mod included;
mod market;
mod payees;
mod policy;
mod prices;
mod proof;
mod rail;
mod receipt;
mod reconcile;
mod recover;
mod refusal;
mod remote;
mod replay;
mod status;
mod till;
mod verifier;
mod watch;
mod worker;

pub use audit::{ChainAuditError, Invariant, PAID_OFF, Report as AuditReport, audit, audit_chain};
pub use facilitate::{Desk, DeskConfig};
pub use health::{GasMoney, Health, Report, Waits};
pub use hold::EngineHold;
pub use ids::Ids;
pub use included::Pace;
pub use market::{Market, Markets};
pub use payees::Payees;
pub use policy::Policy;
pub use rail::{OwnRail, RailConfig, Worth, batch_gas};
pub use receipt::{Notary, tell};
pub use reconcile::{Movement, ReconcileConfig, ReconcileError, Reconciled, reconcile};
pub use recover::recover;
pub use remote::{RemoteConfig, RemoteRail, facilitator_address};
pub use status::{PaymentTold, status};
pub use till::{Cashier, CashierConfig};
pub use verifier::ChainVerifier;
pub use worker::{Progress, Worker, WorkerConfig, WorkerError};
