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

mod asset;
mod attempts;
mod audit;
mod body;
mod chat;
mod choose;
mod development;
mod dollars;
mod error;
mod facts;
mod hosts;
mod origin;
mod paid;
mod payer;
mod permits;
mod policy;
mod quotes;
mod receipt;
mod refusal;
mod replay;
mod service;
mod signed;
mod sources;
mod state;
mod tap;
mod target;
mod watch;

#[cfg(feature = "chain")]
mod chain;
#[cfg(feature = "http")]
mod client;
#[cfg(feature = "http")]
mod transport;

pub use asset::{Asset, TokenSignatures};
pub use audit::{Finding, audit};
pub use body::PaidBody;
pub use chat::{ChatPart, ChatReader};
pub use development::{DEVELOPMENT_ACCOUNTS, is_development_account};
pub use dollars::Dollars;
pub use error::{Again, BoxError, PayError, Rejection};
pub use facts::{ChainFacts, FactsError, NoFacts};
pub use origin::Origin;
pub use paid::Paid;
pub use payer::{Payer, PayerBuilder};
pub use policy::Policy;
pub use receipt::{Receipt, ReceiptError, ReceiptHandle};
pub use refusal::{Priced, Refusal, Refusals};
pub use replay::ReplayBody;
pub use service::{Pay, PayFuture, PayLayer};
pub use signed::{PaymentTold, SignedReceipt, audit_receipt};
pub use sources::{Nonces, OsNonces, SystemClock};

#[cfg(feature = "chain")]
pub use chain::{ChainRpc, verify_on_chain, verify_signer};
#[cfg(feature = "http")]
pub use client::{Answer, BuildError, ClientBuilder, PaidStream, TollgateClient};
#[cfg(feature = "http")]
pub use transport::Transport;

#[cfg(feature = "chain")]
pub use tollgate_bsc::{Chain, ChainConfig, ChainError, Unproven, Verdict};
pub use tollgate_x402::AuthorizationKind;
