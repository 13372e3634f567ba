//! Methods that read the chain.

use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, U64, U256};
use alloy_rpc_types_eth::{FeeHistory, Filter, FilterBlockOption, Log};
use serde::Serialize;
use serde_json::{Value, json};

use super::{RpcError, params::Params};
use crate::{
    block::{Block, pending_transaction, tip},
    chain::Chain,
    node::Node,
    state::View,
};

type Answer = Result<Value, RpcError>;

/// The chain as a caller sees it: up to a head that may lag.
pub(super) struct Seen<'a> {
    pub(super) chain: &'a Chain,
    pub(super) head: u64,
}

impl<'a> Seen<'a> {
    pub(super) fn new(chain: &'a Chain, node: &Node) -> Self {
        let lag = node.faults.switches().lag;
        Self {
            chain,
            head: chain.height().saturating_sub(lag),
        }
    }

    fn number(&self, tag: BlockNumberOrTag) -> Option<u64> {
        let number = self.chain.resolve(tag, self.head);
        (number <= self.head).then_some(number)
    }

    /// The block, unless it is above the head that is seen.
    fn visible(&self, block: &'a Block) -> Option<&'a Block> {
        (block.header.number <= self.head).then_some(block)
    }

    fn by_hash(&self, hash: B256) -> Option<&'a Block> {
        self.visible(self.chain.block_by_hash(hash)?)
    }

    pub(super) fn block(&self, id: BlockId) -> Option<&'a Block> {
        match id {
            BlockId::Hash(hash) => self.by_hash(hash.block_hash),
            BlockId::Number(tag) => self.chain.block(self.number(tag)?).map(|block| &**block),
        }
    }

    pub(super) fn place(&self, tx: B256) -> Option<(&'a Block, usize)> {
        let (block, index) = self.chain.place(tx)?;
        Some((self.visible(block)?, index))
    }

    /// The state after a block, with the block.
    pub(super) fn state(&self, id: Option<BlockId>) -> Result<(View<'a>, &'a Block), RpcError> {
        let id = id.unwrap_or_default();
        let block = self
            .block(id)
            .ok_or_else(|| RpcError::node("header not found"))?;
        let view = self.chain.view(block.header.number).ok_or_else(|| {
            RpcError::node(format!(
                "historical state {} is not available",
                block.header.number
            ))
        })?;
        Ok((view, block))
    }
}

/// Answers a reading method, or says that it is none.
pub(super) fn dispatch(node: &Node, method: &str, params: &Params) -> Option<Answer> {
    let chain = node.read();
    let seen = Seen::new(&chain, node);
    Some(match method {
        "eth_chainId" => to_json(U64::from(chain.settings.chain_id)),
        "net_version" => Ok(json!(chain.settings.chain_id.to_string())),
        "net_listening" => Ok(json!(true)),
        "web3_clientVersion" => Ok(json!(concat!(
            "tollgate-devchain/",
            env!("CARGO_PKG_VERSION")
        ))),
        "eth_syncing" => Ok(json!(false)),
        "eth_accounts" => Ok(json!([])),
        "eth_blockNumber" => to_json(U64::from(seen.head)),
        "eth_gasPrice" | "eth_maxPriorityFeePerGas" => to_json(U256::from(node.floor())),
        "eth_blobBaseFee" => to_json(U64::from(1)),
        "eth_getBalance" => state(&seen, params, 1, |view, address| {
            to_json(view.balance(address))
        }),
        "eth_getCode" => state(&seen, params, 1, |view, address| {
            to_json(view.code(address))
        }),
        "eth_getStorageAt" => storage(&seen, params),
        "eth_getTransactionCount" => transaction_count(&seen, params),
        "eth_getBlockByNumber" => block_by_number(&seen, params),
        "eth_getBlockByHash" => block_by_hash(&seen, params),
        "eth_getHeaderByNumber" => header_by_number(&seen, params),
        "eth_getFinalizedHeader" => header_at(&seen, BlockNumberOrTag::Finalized),
        "eth_getFinalizedBlock" => finalized_block(&seen, params),
        "eth_getBlockTransactionCountByNumber" => block_transaction_count(&seen, params),
        "eth_getTransactionByHash" => transaction(&seen, params),
        "eth_getTransactionReceipt" => receipt(&seen, params),
        "eth_getBlockReceipts" => block_receipts(&seen, params),
        "eth_getLogs" => logs(&seen, params),
        "eth_feeHistory" => fee_history(&seen, params, node.floor()),
        "txpool_status" => {
            let (pending, queued) = chain.pool.counts(&chain.state);
            Ok(json!({ "pending": U64::from(pending), "queued": U64::from(queued) }))
        }
        _ => return None,
    })
}

pub(super) fn to_json(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(-32603, error.to_string()))
}

fn state(
    seen: &Seen<'_>,
    params: &Params,
    block: usize,
    read: impl FnOnce(&View<'_>, Address) -> Answer,
) -> Answer {
    let address = params.required(0)?;
    let (view, _) = seen.state(params.optional(block)?)?;
    read(&view, address)
}

fn storage(seen: &Seen<'_>, params: &Params) -> Answer {
    let slot: U256 = params.required(1)?;
    state(seen, params, 2, |view, address| {
        to_json(B256::from(view.slot(address, slot)))
    })
}

fn transaction_count(seen: &Seen<'_>, params: &Params) -> Answer {
    let address = params.required(0)?;
    let id: Option<BlockId> = params.optional(1)?;
    let (view, _) = seen.state(id)?;
    let nonce = view.nonce(address);
    let nonce = match id {
        Some(BlockId::Number(BlockNumberOrTag::Pending)) => {
            seen.chain.pool.next_nonce(address, nonce)
        }
        _ => nonce,
    };
    to_json(U64::from(nonce))
}

fn block_by_number(seen: &Seen<'_>, params: &Params) -> Answer {
    let tag: BlockNumberOrTag = params.required(0)?;
    let full = params.optional(1)?.unwrap_or(false);
    if tag.is_pending() {
        // The block that would be made now, made in a copy of the chain.
        let mut next = seen.chain.clone();
        return to_json(next.mine().to_rpc(full));
    }
    to_json(seen.block(tag.into()).map(|block| block.to_rpc(full)))
}

fn block_by_hash(seen: &Seen<'_>, params: &Params) -> Answer {
    let full = params.optional(1)?.unwrap_or(false);
    let block = seen.by_hash(params.required(0)?);
    to_json(block.map(|block| block.to_rpc(full)))
}

fn header_by_number(seen: &Seen<'_>, params: &Params) -> Answer {
    header_at(seen, params.required(0)?)
}

fn header_at(seen: &Seen<'_>, tag: BlockNumberOrTag) -> Answer {
    to_json(
        seen.block(tag.into())
            .map(|block| block.to_rpc(false).header),
    )
}

/// BSC's own: the first parameter tells how many validators must have voted;
/// there is one kind of finality here. The second asks for full transactions.
fn finalized_block(seen: &Seen<'_>, params: &Params) -> Answer {
    let full = params.optional(1)?.unwrap_or(false);
    let block = seen.block(BlockNumberOrTag::Finalized.into());
    to_json(block.map(|block| block.to_rpc(full)))
}

fn block_transaction_count(seen: &Seen<'_>, params: &Params) -> Answer {
    let tag: BlockNumberOrTag = params.required(0)?;
    to_json(
        seen.block(tag.into())
            .map(|block| U256::from(block.txs.len())),
    )
}

fn transaction(seen: &Seen<'_>, params: &Params) -> Answer {
    let hash = params.required(0)?;
    if let Some((block, index)) = seen.place(hash) {
        return to_json(block.transaction(index));
    }
    let waiting = seen.chain.pool.get(hash);
    to_json(waiting.map(|waiting| pending_transaction(&waiting.tx)))
}

fn receipt(seen: &Seen<'_>, params: &Params) -> Answer {
    let place = seen.place(params.required(0)?);
    to_json(place.and_then(|(block, index)| block.receipt(index)))
}

fn block_receipts(seen: &Seen<'_>, params: &Params) -> Answer {
    let block = seen.block(params.required(0)?);
    let receipts = |block: &Block| -> Vec<_> {
        (0..block.txs.len())
            .filter_map(|index| block.receipt(index))
            .collect()
    };
    to_json(block.map(receipts))
}

fn logs(seen: &Seen<'_>, params: &Params) -> Answer {
    let filter: Filter = params.required(0)?;
    let range = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = seen
                .by_hash(hash)
                .ok_or_else(|| RpcError::node("unknown block"))?;
            block.header.number..=block.header.number
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => {
            let resolve = |tag: Option<BlockNumberOrTag>| {
                seen.chain.resolve(tag.unwrap_or_default(), seen.head)
            };
            let (from, to) = (resolve(from_block), resolve(to_block));
            if from > to {
                return Err(RpcError::params("invalid block range params"));
            }
            from..=to.min(seen.head)
        }
    };
    let mut found: Vec<Log> = Vec::new();
    for block in range.filter_map(|number| seen.chain.block(number)) {
        if !filter.matches_bloom(block.header.logs_bloom) {
            continue;
        }
        for index in 0..block.txs.len() {
            let logs = block.logs(index).into_iter();
            found.extend(logs.filter(|log| filter.matches(&log.inner)));
        }
    }
    to_json(found)
}

/// Prices of the newest blocks. An empty block reports the floor as its price,
/// since on BSC there are no empty blocks to learn a price of 0 from.
fn fee_history(seen: &Seen<'_>, params: &Params, floor: u128) -> Answer {
    let count = params
        .number(0)?
        .ok_or_else(|| RpcError::params("missing value for required argument 0"))?
        .min(1024);
    let newest: BlockNumberOrTag = params.optional(1)?.unwrap_or_default();
    let percentiles: Vec<f64> = params.optional(2)?.unwrap_or_default();
    if percentiles.iter().any(|p| !(0.0..=100.0).contains(p)) {
        return Err(RpcError::node("invalid reward percentile"));
    }
    let newest = seen
        .number(newest)
        .ok_or_else(|| RpcError::node("request beyond head block"))?;
    let oldest = (newest + 1).saturating_sub(count);
    let blocks: Vec<_> = (oldest..=newest)
        .filter_map(|number| seen.chain.block(number))
        .collect();
    let reward = |block: &Block| -> Vec<u128> {
        let mut tips: Vec<u128> = block.txs.iter().map(|mined| tip(&mined.tx)).collect();
        tips.sort_unstable();
        let at = |_: &f64| tips.get(tips.len() / 2).copied().unwrap_or(floor);
        percentiles.iter().map(at).collect()
    };
    to_json(FeeHistory {
        base_fee_per_gas: vec![0; blocks.len() + 1],
        gas_used_ratio: blocks.iter().map(|block| gas_ratio(block)).collect(),
        base_fee_per_blob_gas: Vec::new(),
        blob_gas_used_ratio: Vec::new(),
        oldest_block: oldest,
        reward: (!percentiles.is_empty())
            .then(|| blocks.iter().map(|block| reward(block)).collect()),
    })
}

/// The used share of the block's gas. A statistic, so a float is what the
/// method asks for.
fn gas_ratio(block: &Block) -> f64 {
    let part = |gas: u64| u32::try_from(gas).map_or(f64::from(u32::MAX), f64::from);
    part(block.header.gas_used) / part(block.header.gas_limit)
}
