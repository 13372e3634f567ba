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

mod agreement;
mod block;
mod call;
mod chain;
mod config;
mod counts;
mod doctor;
mod endpoint;
mod error;
mod evidence;
mod found;
mod logs;
#[cfg(feature = "node")]
mod node;
mod nonces;
mod payer;
mod receipt;
mod settle;
mod submit;
mod transaction;
mod transport;
mod verify;
mod wait;
mod wire;

pub use block::{BlockId, BlockRef, BlockTag, Finality, Heads};
pub use call::{Call, CallRequest};
pub use chain::{Chain, Sight};
pub use config::ChainConfig;
pub use counts::RpcCounts;
pub use doctor::{
    Check, Doctor, Outcome, SettlerTerms, check_account, check_agreement, check_chain,
    check_gas_money, check_gas_price, check_logs, check_permit2, check_proxies, check_settler,
    check_sync_send, check_token, doctor,
};
pub use error::ChainError;
pub use evidence::{Claim, Evidence, ItemEvidence, evidence};
pub use found::{ChainTransaction, Found, SettlerEvent, TokenTransfer};
pub use logs::LogFilter;
#[cfg(feature = "node")]
pub use node::{Node, NodeAnswer, NodeError};
pub use payer::{OwnerCode, PayerQuery, PayerState};
pub use receipt::{Log, TxReceipt};
pub use settle::{
    CallError, SettleItem, exact_settle, permit, settle, simulate, sweep, transfer_from,
    transfer_with_authorization, upto_settle,
};
pub use submit::{Doubt, NotSent, NotSentReason, Submission, SyncSubmission, Unknown};
pub use transaction::{RawTransaction, TransactionRequest1559};
pub use verify::{Movement, SettlementReceipt, Unproven, Verdict, verify_settlement};
