//! A node that is asked in our own types: a simulated one, inside of this process.

use core::{future::Future, pin::Pin};

use alloy_json_rpc::{ErrorPayload, RpcError};
use alloy_transport::TransportErrorKind;
use tollgate_x402::{Address, B256};

use crate::{BlockRef, BlockTag, PayerQuery, PayerState, TxReceipt, endpoint::RpcFailure};

/// An answer under way.
pub type NodeAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, NodeError>> + Send + 'a>>;

/// A node that is no HTTP endpoint. Everything above one node's word is as with real ones: agreement, which is asked
/// next, what an error means, what is evidence.
pub trait Node: Send + Sync + 'static {
    /// A payer's state.
    fn payer<'a>(&'a self, query: &'a PayerQuery, block: BlockTag) -> NodeAnswer<'a, PayerState>;

    /// Receipts, in the order of the hashes; of transactions in blocks alone.
    fn receipts<'a>(&'a self, hashes: &'a [B256]) -> NodeAnswer<'a, Vec<Option<TxReceipt>>>;

    /// Blocks of the node's own canonical chain, in the order of the tags.
    fn blocks<'a>(&'a self, tags: &'a [BlockTag]) -> NodeAnswer<'a, Vec<Option<BlockRef>>>;

    /// An account's transaction count.
    fn transaction_count(&self, account: Address, block: BlockTag) -> NodeAnswer<'_, u64>;

    /// Takes a signed transaction; its hash.
    fn send<'a>(&'a self, raw: &'a [u8]) -> NodeAnswer<'a, B256>;

    /// Any other request, as JSON-RPC has it: the method, and the array of parameters as JSON; the result as JSON.
    fn ask(&self, method: &'static str, params: String) -> NodeAnswer<'_, String>;
}

/// Why a node did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeError {
    /// No answer in time: what was asked for may have been done.
    Timeout,
    /// The connection failed.
    Broken,
    /// A JSON-RPC error.
    Refused {
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
}

impl From<NodeError> for RpcFailure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Timeout => Self::Timeout,
            NodeError::Broken => Self::Rpc(TransportErrorKind::custom_str("the connection broke")),
            NodeError::Refused { code, message } => Self::Rpc(RpcError::ErrorResp(ErrorPayload {
                code,
                message: message.into(),
                data: None,
            })),
        }
    }
}
