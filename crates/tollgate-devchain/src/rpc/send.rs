//! Methods that send transactions.

use std::time::Duration;

use alloy_consensus::{TxEnvelope, TxType, transaction::SignerRecoverable as _};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{B256, Bytes};
use serde_json::Value;

use super::{RpcError, params::Params, read::Seen, read::to_json};
use crate::{faults::Sent, node::Node, pool::Refused};

/// How long `eth_sendRawTransactionSync` waits if it is not told, and at most,
/// in milliseconds (BSC's client: 5 s and 10 s).
const SYNC_TIMEOUT_MS: u64 = 5_000;
const SYNC_TIMEOUT_MAX_MS: u64 = 10_000;

pub(super) fn send(node: &Node, params: &Params) -> Result<Value, RpcError> {
    to_json(submit(node, params.required(0)?)?)
}

fn submit(node: &Node, raw: Bytes) -> Result<B256, RpcError> {
    let mut rest = raw.as_ref();
    let tx = TxEnvelope::decode_2718(&mut rest)
        .map_err(|error| RpcError::node(format!("rlp: {error}")))?;
    if !rest.is_empty() {
        return Err(RpcError::node("rlp: input contains more than one value"));
    }
    // Blob transactions have no place on this chain.
    if tx.tx_type() == TxType::Eip4844 {
        return Err(Refused::UnsupportedType.into());
    }
    // Outside of the lock: recovery is the costly part.
    let tx = tx
        .try_into_recovered()
        .map_err(|_| RpcError::from(Refused::Sender))?;
    let hash = *tx.tx_hash();
    let floor = node.floor();
    let mut chain = node.write();
    chain.check(&tx, floor)?;
    match node.faults.sent() {
        Sent::Pool { delay } => chain.submit(tx, delay),
        // Lost after it was acknowledged.
        Sent::Drop => return Ok(hash),
    }
    if node.instant() {
        node.mine_locked(&mut chain);
    }
    Ok(hash)
}

/// EIP-7966: send, and answer with the receipt. If it does not come in time,
/// error 4 with the hash: the transaction is in the pool all the same.
pub(super) async fn send_sync(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let raw = params.required(0)?;
    let timeout = params
        .number(1)?
        .filter(|ms| *ms > 0)
        .unwrap_or(SYNC_TIMEOUT_MS)
        .min(SYNC_TIMEOUT_MAX_MS);
    // Subscribed before sending, so that no block is missed.
    let mut heads = node.heads();
    let hash = submit(node, raw)?;
    let included = async {
        loop {
            if let Some(receipt) = receipt(node, hash) {
                return receipt;
            }
            if heads.changed().await.is_err() {
                // The chain is shutting down; the timeout answers.
                std::future::pending::<()>().await;
            }
        }
    };
    match tokio::time::timeout(Duration::from_millis(timeout), included).await {
        Ok(receipt) => receipt,
        Err(_) => {
            let message = format!(
                "The transaction was added to the transaction pool but wasn't processed in {}.{:03}s",
                timeout / 1000,
                timeout % 1000
            );
            Err(RpcError::new(4, message).with_data(hash.to_string()))
        }
    }
}

fn receipt(node: &Node, hash: B256) -> Option<Result<Value, RpcError>> {
    let chain = node.read();
    let (block, index) = Seen::new(&chain, node).place(hash)?;
    Some(to_json(block.receipt(index)))
}
