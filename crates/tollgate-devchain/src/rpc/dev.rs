//! Methods for developers: `dev_*`, and the names that tools already know.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde_json::{Value, json};

use super::{RpcError, params::Params, read::to_json};
use crate::{chain::Orphans, node::Node};

type Answer = Result<Value, RpcError>;

/// The most blocks made by one call.
const MAX_MINE: u64 = 100_000;

/// Answers a development method, or says that it is none.
pub(super) fn dispatch(node: &Node, method: &str, params: &Params) -> Option<Answer> {
    // One table for the three prefixes: tools disagree on who owns a name.
    let name = ["dev_", "anvil_", "evm_", "hardhat_"]
        .iter()
        .find_map(|prefix| method.strip_prefix(prefix))?;
    Some(match name {
        "mine" => mine(node, params),
        "setBalance" => set_balance(node, params),
        "setCode" => set_code(node, params),
        "setNonce" => set_nonce(node, params),
        "setStorageAt" => set_storage(node, params),
        "increaseTime" => increase_time(node, params),
        "setNextBlockTimestamp" | "setTime" => set_time(node, params),
        "setAutomine" => set_automine(node, params),
        "snapshot" => to_json(U64::from(node.snapshot())),
        "revert" => revert(node, params),
        "reorg" => reorg(node, params),
        "dropTransaction" => drop_transaction(node, params),
        "dropAllTransactions" => {
            node.write().pool.clear();
            Ok(Value::Null)
        }
        "freezeFinality" => {
            let frozen = params.optional(0).map(|frozen| frozen.unwrap_or(true));
            frozen.map(|frozen| {
                node.freeze_finality(frozen);
                Value::Null
            })
        }
        _ => return None,
    })
}

/// `evm_mine` and `anvil_mine [blocks, seconds between them]`.
fn mine(node: &Node, params: &Params) -> Answer {
    let blocks = params.number(0)?.unwrap_or(1);
    if blocks > MAX_MINE {
        return Err(RpcError::params(format!(
            "at most {MAX_MINE} blocks at once"
        )));
    }
    let seconds = params.number(1)?;
    let mut chain = node.write();
    for block in 0..blocks {
        if let (Some(seconds), true) = (seconds, block > 0) {
            chain.clock.advance(seconds);
        }
        node.mine_locked(&mut chain);
    }
    Ok(Value::Null)
}

fn set_balance(node: &Node, params: &Params) -> Answer {
    let (address, balance): (Address, U256) = (params.required(0)?, params.required(1)?);
    let edit = |state: &mut crate::state::State| {
        state.edit_account(address, |info| info.balance = balance);
    };
    node.write().edit(edit);
    Ok(Value::Null)
}

fn set_code(node: &Node, params: &Params) -> Answer {
    let (address, code): (Address, Bytes) = (params.required(0)?, params.required(1)?);
    node.write().edit(|state| state.set_code(address, code));
    Ok(Value::Null)
}

fn set_nonce(node: &Node, params: &Params) -> Answer {
    let address: Address = params.required(0)?;
    let nonce = params.number(1)?.unwrap_or_default();
    let mut chain = node.write();
    chain.edit(|state| state.edit_account(address, |info| info.nonce = nonce));
    Ok(Value::Null)
}

fn set_storage(node: &Node, params: &Params) -> Answer {
    let (address, slot): (Address, U256) = (params.required(0)?, params.required(1)?);
    let value: B256 = params.required(2)?;
    let mut chain = node.write();
    chain.edit(|state| state.set_slot(address, slot, value.into()));
    Ok(json!(true))
}

/// Answers with the seconds by which the next block's time moved.
fn increase_time(node: &Node, params: &Params) -> Answer {
    let seconds = params.number(0)?.unwrap_or_default();
    node.write().clock.advance(seconds);
    Ok(json!(seconds))
}

fn set_time(node: &Node, params: &Params) -> Answer {
    let seconds: Option<u64> = params.number(0)?;
    let seconds = seconds.ok_or_else(|| RpcError::params("a timestamp in seconds is needed"))?;
    let mut chain = node.write();
    let head = chain.head().header.timestamp;
    if seconds < head {
        return Err(RpcError::params(format!(
            "Timestamp error: {seconds} is lower than previous block's timestamp {head}"
        )));
    }
    chain.clock.set(seconds);
    Ok(Value::Null)
}

/// `false` holds mining, `true` lets it go on.
fn set_automine(node: &Node, params: &Params) -> Answer {
    let on: bool = params.required(0)?;
    node.faults.hold_mining(!on);
    Ok(Value::Null)
}

fn revert(node: &Node, params: &Params) -> Answer {
    let id = params.number(0)?.unwrap_or_default();
    Ok(json!(node.restore(id)))
}

/// `anvil_reorg [depth, …]` and `dev_reorg [depth, "vanish" | "pool"]`.
fn reorg(node: &Node, params: &Params) -> Answer {
    let depth = params.number(0)?.unwrap_or(1);
    let orphans = match params.optional::<Value>(1)? {
        Some(Value::String(text)) if text == "pool" => Orphans::ReturnToPool,
        _ => Orphans::Vanish,
    };
    node.reorg(depth, orphans)?;
    Ok(Value::Null)
}

/// Answers with the hash, or null if it was not waiting.
fn drop_transaction(node: &Node, params: &Params) -> Answer {
    let hash: B256 = params.required(0)?;
    let removed = node.write().pool.remove(hash);
    to_json(removed.map(|waiting| waiting.hash))
}
