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

mod answer;
mod asked;
mod body;
mod callers;
mod catalogue;
mod config;
mod connection;
mod cors;
mod course;
mod gateway;
mod handover;
mod memo;
mod models;
mod plain;
mod receipts;
mod serve;
mod tariff;
mod tokens;

pub mod upstream;

pub use body::AnswerBody;
pub use catalogue::shortest_request;
pub use config::{ConfigError, GatewayConfig, Limits, ModelConfig};
pub use gateway::{Gateway, GatewayBody, RouteFuture};
pub use receipts::{Check, ReadMemo, Receipts, ReceiptsError, Told};
pub use serve::{Drained, ServeConfig, serve};
pub use tariff::{InferenceMeter, InferenceTariff};
pub use tokens::Tokenizer;
pub use upstream::{
    AnyUpstream, EchoUpstream, OpenAiConfig, OpenAiUpstream, Upstream, UpstreamError,
};
