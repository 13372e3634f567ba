//! Faults: each does what it says, as often as it says, and no more.

use alloy_provider::Provider as _;
use serde_json::json;
use tollgate_devchain::{Fault, RpcError};

use crate::common::*;

#[tokio::test]
async fn the_next_calls_fail_and_the_one_after_does_not() {
    let chain = instant();
    chain.faults().fail_next("eth_sendRawTransaction", 2);
    for _ in 0..2 {
        let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
        assert_eq!(error.code, -32603);
        assert_eq!(chain.nonce(address(0)), 0, "not executed");
    }
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert_eq!(chain.rpc_counts()["eth_sendRawTransaction"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_was_executed() {
    let chain = instant();
    chain.faults().lose_answers("eth_sendRawTransaction", 2);
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(error.message, "no answer: HTTP status 504 (injected)");
    assert_eq!(chain.nonce(address(0)), 1);
    // Over HTTP it is an error of the transport, not of the node.
    let client = client(&chain, 0).await;
    let (raw, _) = signed(0, tx(&chain, 1));
    let error = client.send_raw_transaction(&raw).await.unwrap_err();
    assert!(error.as_error_resp().is_none(), "{error}");
    assert_eq!(chain.nonce(address(0)), 2);
}

#[tokio::test]
async fn a_call_that_arrives_twice_gets_the_second_answer() {
    let chain = manual();
    chain.faults().answer_twice("eth_sendRawTransaction", 1);
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(error.message, "already known");
    assert_eq!(chain.waiting(), 1);
}

#[tokio::test]
async fn a_dropped_transaction_was_acknowledged_and_can_be_sent_again() {
    let chain = instant();
    chain.faults().drop_transactions(1);
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert!(receipt(&chain, hash).await.is_null());
    assert_eq!(chain.waiting(), 0);
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert_eq!(receipt(&chain, hash).await["status"], "0x1");
}

#[tokio::test]
async fn a_transaction_that_would_be_refused_is_refused_and_not_dropped() {
    let chain = instant();
    chain.faults().drop_transactions(1);
    let mut cheap = tx(&chain, 0);
    cheap.max_fee_per_gas = 1;
    cheap.max_priority_fee_per_gas = 1;
    let error = send(&chain, 0, cheap).await.unwrap_err();
    assert!(error.message.starts_with("transaction underpriced"));
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert!(receipt(&chain, hash).await.is_null(), "the fault was kept");
}

#[tokio::test]
async fn a_delayed_transaction_comes_that_many_blocks_later() {
    let chain = manual();
    chain.faults().delay_inclusion(1, 3);
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    let other = send(&chain, 1, tx(&chain, 0)).await.unwrap();
    chain.mine_blocks(3);
    assert_eq!(receipt(&chain, other).await["blockNumber"], "0x1");
    assert!(receipt(&chain, hash).await.is_null());
    chain.mine();
    assert_eq!(receipt(&chain, hash).await["blockNumber"], "0x4");
}

#[tokio::test]
async fn lagging_reads_see_the_past_in_every_method() {
    let chain = instant();
    let first = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    let second = send(&chain, 0, tx(&chain, 1)).await.unwrap();
    chain.faults().lag_reads(1);
    assert_eq!(get(&chain, "eth_blockNumber", json!([])).await, "0x1");
    assert!(!receipt(&chain, first).await.is_null());
    assert!(receipt(&chain, second).await.is_null());
    let payee = alloy_primitives::Address::repeat_byte(0x42);
    for tag in ["latest", "pending"] {
        let balance = get(&chain, "eth_getBalance", json!([payee, tag])).await;
        assert_eq!(balance, "0x1");
    }
    let nonce = get(&chain, "eth_getTransactionCount", json!([address(0)])).await;
    assert_eq!(nonce, "0x1");
    let block = get(&chain, "eth_getBlockByNumber", json!(["0x2", false])).await;
    assert!(block.is_null());
    let logs = get(&chain, "eth_getLogs", json!([{ "fromBlock": "0x0" }])).await;
    assert_eq!(logs, json!([]));
    // Sending does not lag.
    send(&chain, 0, tx(&chain, 2)).await.unwrap();
    chain.faults().lag_reads(0);
    assert_eq!(get(&chain, "eth_blockNumber", json!([])).await, "0x3");
}

#[tokio::test]
async fn a_raised_price_refuses_what_was_good_before() {
    let chain = instant();
    chain.faults().min_gas_price(FLOOR * 2);
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(
        error.message,
        "transaction underpriced: gas tip cap 50000000, minimum needed 100000000"
    );
    assert_eq!(get(&chain, "eth_gasPrice", json!([])).await, "0x5f5e100");
    chain.faults().min_gas_price(1);
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn held_mining_makes_no_block_until_told() {
    let chain = instant();
    chain.faults().hold_mining(true);
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert!(receipt(&chain, hash).await.is_null());
    assert_eq!(chain.head(), 0);
    chain.mine();
    assert!(!receipt(&chain, hash).await.is_null());
    chain.faults().hold_mining(false);
    send(&chain, 0, tx(&chain, 1)).await.unwrap();
    assert_eq!(chain.head(), 2);
}

#[tokio::test]
async fn a_method_can_be_refused_until_cleared() {
    let chain = manual();
    let limit = RpcError::new(-32005, "limit exceeded");
    chain
        .faults()
        .always("eth_getLogs", Fault::Error(limit.clone()));
    for _ in 0..3 {
        let error = chain.request("eth_getLogs", json!([{}])).await.unwrap_err();
        assert_eq!(error, limit);
    }
    chain.faults().clear();
    assert_eq!(get(&chain, "eth_getLogs", json!([{}])).await, json!([]));
    assert_eq!(chain.rpc_counts()["eth_getLogs"], 4, "counts are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_can_be_forged_cut_short_or_replaced_by_a_status() {
    let chain = manual();
    let client = client(&chain, 0).await;
    let faults = chain.faults();
    faults.next("eth_chainId", 1, Fault::Forge(json!("0x38")));
    faults.next("eth_chainId", 1, Fault::Truncate);
    faults.next("eth_chainId", 1, Fault::Status(503));
    assert_eq!(client.get_chain_id().await.unwrap(), 56);
    for _ in 0..2 {
        let error = client.get_chain_id().await.unwrap_err();
        assert!(error.as_error_resp().is_none(), "{error}");
    }
    assert_eq!(client.get_chain_id().await.unwrap(), 31_337);
}

#[tokio::test]
async fn finality_freezes_over_json_rpc_too() {
    let chain = manual();
    chain.mine_blocks(4);
    get(&chain, "dev_freezeFinality", json!([true])).await;
    chain.mine_blocks(4);
    assert_eq!(chain.finalized(), 2);
    get(&chain, "dev_freezeFinality", json!([false])).await;
    assert_eq!(chain.finalized(), 6);
}

#[tokio::test]
async fn a_peer_sees_the_same_chain_with_faults_and_counts_of_its_own() {
    let chain = instant();
    let peer = chain.peer();
    peer.faults().lag_reads(1);
    peer.faults().fail_next("eth_chainId", 1);
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert_eq!(get(&chain, "eth_blockNumber", json!([])).await, "0x1");
    assert_eq!(get(&peer, "eth_blockNumber", json!([])).await, "0x0");
    assert_eq!(get(&chain, "eth_chainId", json!([])).await, "0x7a69");
    assert!(receipt(&peer, hash).await.is_null());
    assert_eq!(peer.rpc_total(), 2);
    assert_eq!(chain.rpc_total(), 3);
    // What is sent to one is known to the other.
    send(&peer, 0, tx(&chain, 1)).await.unwrap();
    let error = send(&chain, 0, tx(&chain, 1)).await.unwrap_err();
    assert_eq!(error.message, "already known");
}

#[tokio::test]
async fn a_node_that_is_down_answers_nothing_until_it_is_lifted() {
    let chain = instant();
    chain.faults().always("*", Fault::Status(503));
    for method in ["eth_chainId", "eth_getLogs", "eth_nothing"] {
        let error = chain.request(method, json!([{}])).await.unwrap_err();
        assert_eq!(error.message, "no answer: HTTP status 503 (injected)");
    }
    chain.faults().lift("*");
    get(&chain, "eth_chainId", json!([])).await;
}

#[tokio::test]
async fn peeking_is_not_counted_and_meets_no_faults() {
    let chain = instant();
    chain.faults().always("*", Fault::Status(503));
    chain.faults().lag_reads(5);
    chain.mine_blocks(3);
    assert_eq!(chain.peek("eth_blockNumber", json!([])).unwrap(), "0x3");
    assert_eq!(chain.rpc_total(), 0);
    assert_eq!(chain.balance(address(0)), fortune());
}
