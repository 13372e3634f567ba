//! JSON-RPC errors.

use serde::Serialize;
use serde_json::Value;

use crate::{error::ReorgError, pool::Refused};

/// The `error` member of a JSON-RPC 2.0 answer.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// The code: -32000 for refusals of the node, 3 for a revert, 4 for a
    /// timeout of `eth_sendRawTransactionSync` (EIP-7966), and those of
    /// JSON-RPC 2.0.
    pub code: i64,
    /// What is wrong.
    pub message: String,
    /// The revert's data, or the hash of a transaction that may still be
    /// included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// A refusal by the node.
    pub(crate) fn node(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(crate) fn with_data(mut self, data: impl Into<Value>) -> Self {
        self.data = Some(data.into());
        self
    }
}

impl From<Refused> for RpcError {
    fn from(refused: Refused) -> Self {
        Self::node(refused.to_string())
    }
}

impl From<ReorgError> for RpcError {
    fn from(error: ReorgError) -> Self {
        Self::node(error.to_string())
    }
}
