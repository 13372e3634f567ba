//! JSON-RPC objects as nodes write them: only the fields that are read, so that a new one breaks nothing.

use alloy_primitives::{U64, U128};
use serde::Deserialize;
use tollgate_x402::{Address, B256, Bytes, Timestamp};

use crate::{BlockId, BlockRef, Log, TxReceipt};

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Block {
    number: U64,
    hash: B256,
    timestamp: U64,
}

impl From<Block> for BlockRef {
    fn from(block: Block) -> Self {
        Self {
            number: block.number.to(),
            hash: block.hash,
            timestamp: Timestamp(block.timestamp.to()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: U64,
    from: Address,
    to: Option<Address>,
    gas_used: U64,
    #[serde(default)]
    effective_gas_price: Option<U128>,
    logs: Vec<WireLog>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    log_index: Option<U64>,
    transaction_hash: Option<B256>,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    #[serde(default)]
    removed: bool,
}

impl Receipt {
    /// The receipt, if it is of a block.
    pub(crate) fn included(self) -> Option<TxReceipt> {
        let block = BlockId {
            number: self.block_number?.to(),
            hash: self.block_hash?,
        };
        Some(TxReceipt {
            hash: self.transaction_hash,
            block,
            success: self.status == U64::from(1),
            from: self.from,
            to: self.to,
            gas_used: self.gas_used.to(),
            gas_price: self.effective_gas_price.unwrap_or_default().to(),
            logs: self
                .logs
                .into_iter()
                .filter_map(|log| log.located(Some(block), Some(self.transaction_hash)))
                .collect(),
        })
    }
}

impl WireLog {
    /// The log, if a block has it; `block` and `transaction` are those of the receipt that holds it.
    pub(crate) fn located(self, block: Option<BlockId>, transaction: Option<B256>) -> Option<Log> {
        let own = self
            .block_number
            .zip(self.block_hash)
            .map(|(number, hash)| BlockId {
                number: number.to(),
                hash,
            });
        let block = block.or(own)?;
        (!self.removed).then_some(Log {
            address: self.address,
            topics: self.topics,
            data: self.data,
            index: self.log_index.unwrap_or_default().to(),
            transaction: transaction.or(self.transaction_hash)?,
            block,
        })
    }
}
