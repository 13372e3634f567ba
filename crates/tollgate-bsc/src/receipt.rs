//! What a node tells of an included transaction.

use tollgate_x402::{Address, B256, Bytes};

use crate::BlockId;

/// The receipt of an included transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReceipt {
    /// The transaction.
    pub hash: B256,
    /// The block that it is in.
    pub block: BlockId,
    /// The transaction's status: with `false` it reverted, and nothing moved.
    pub success: bool,
    /// Who sent it.
    pub from: Address,
    /// Whom it called.
    pub to: Option<Address>,
    /// Gas used.
    pub gas_used: u64,
    /// The price, in wei a unit of gas.
    pub gas_price: u128,
    /// What the contracts said, in order.
    pub logs: Vec<Log>,
}

/// One event of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// The event's signature hash and its indexed fields.
    pub topics: Vec<B256>,
    /// The other fields, ABI-encoded.
    pub data: Bytes,
    /// The place of the log in its block.
    pub index: u64,
    /// The transaction.
    pub transaction: B256,
    /// The block.
    pub block: BlockId,
}

impl Log {
    /// The event, if the log is one of this type, wholly and strictly. Who said it is the caller's to check.
    pub(crate) fn decode<E: alloy_sol_types::SolEvent>(&self) -> Option<E> {
        E::decode_raw_log_validate(self.topics.iter().copied(), &self.data).ok()
    }
}
