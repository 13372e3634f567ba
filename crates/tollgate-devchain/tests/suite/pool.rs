//! Every rule of the pool, by the words that clients know it by.

use crate::common::*;
use alloy_consensus::{SignableTransaction as _, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use serde_json::json;
use tollgate_devchain::TX_GAS_CAP;

async fn refusal(index: usize, adjust: impl FnOnce(&mut alloy_consensus::TxEip1559)) -> String {
    let chain = manual();
    let mut tx = tx(&chain, 0);
    adjust(&mut tx);
    let error = send(&chain, index, tx).await.unwrap_err();
    assert_eq!(error.code, -32000);
    error.message
}

#[tokio::test]
async fn a_price_below_the_floor_is_underpriced() {
    let message = refusal(0, |tx| {
        tx.max_fee_per_gas = FLOOR - 1;
        tx.max_priority_fee_per_gas = FLOOR - 1;
    })
    .await;
    assert_eq!(
        message,
        "transaction underpriced: gas tip cap 49999999, minimum needed 50000000"
    );
}

#[tokio::test]
async fn the_last_nonce_is_refused_and_the_one_before_waits() {
    let message = refusal(0, |tx| tx.nonce = u64::MAX).await;
    assert_eq!(
        message,
        format!(
            "nonce has max value: address {}, nonce: 18446744073709551615",
            address(0)
        )
    );
    let chain = manual();
    send(&chain, 0, tx(&chain, u64::MAX - 1)).await.unwrap();
    chain.mine();
    assert_eq!(chain.waiting(), 1);
}

#[tokio::test]
async fn a_fee_above_one_bnb_is_taken_for_a_mistake() {
    let message = refusal(0, |tx| tx.max_fee_per_gas = 47_619_047_619_048).await;
    assert_eq!(
        message,
        "tx fee (1.000000000000008000 ether) exceeds the configured cap (1.00 ether)"
    );
}

#[tokio::test]
async fn a_tip_above_the_fee_is_refused() {
    let message = refusal(0, |tx| tx.max_priority_fee_per_gas = FLOOR + 1).await;
    assert_eq!(
        message,
        "max priority fee per gas higher than max fee per gas"
    );
}

#[tokio::test]
async fn the_gas_of_one_transaction_is_capped_at_2_to_the_24() {
    let message = refusal(0, |tx| tx.gas_limit = TX_GAS_CAP + 1).await;
    assert_eq!(
        message,
        "transaction gas limit too high (cap: 16777216, tx: 16777217)"
    );
    let chain = manual();
    let mut tx = tx(&chain, 0);
    tx.gas_limit = TX_GAS_CAP;
    send(&chain, 0, tx).await.unwrap();
}

#[tokio::test]
async fn too_little_gas_to_begin_with_is_refused() {
    let message = refusal(0, |tx| tx.gas_limit = 20_999).await;
    assert_eq!(
        message,
        "intrinsic gas too low: gas 20999, minimum needed 21000"
    );
    // EIP-7623: 10 gas a token, 4 tokens for each byte that is not zero.
    let message = refusal(0, |tx| {
        tx.input = Bytes::from(vec![1; 1000]);
        tx.gas_limit = 50_000;
    })
    .await;
    assert_eq!(
        message,
        "insufficient gas for floor data gas cost: gas 50000, minimum needed 61000"
    );
}

#[tokio::test]
async fn another_chains_transaction_is_refused() {
    let message = refusal(0, |tx| tx.chain_id = 56).await;
    assert_eq!(
        message,
        "invalid sender: invalid chain id for signer: have 56 want 31337"
    );
}

#[tokio::test]
async fn a_transaction_for_any_chain_is_refused() {
    let chain = manual();
    let mut tx = TxLegacy {
        chain_id: None,
        gas_price: FLOOR,
        gas_limit: 21_000,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    let signature = signer(0).sign_transaction_sync(&mut tx).unwrap();
    let raw = Bytes::from(TxEnvelope::from(tx.into_signed(signature)).encoded_2718());
    let error = chain
        .request("eth_sendRawTransaction", json!([raw]))
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "only replay-protected (EIP-155) transactions allowed over RPC"
    );
}

#[tokio::test]
async fn bytes_that_are_no_transaction_are_refused() {
    let chain = manual();
    for raw in ["0x", "0x02", "0xc0", "0x03c0", "0xdeadbeef"] {
        let error = chain
            .request("eth_sendRawTransaction", json!([raw]))
            .await
            .unwrap_err();
        assert!(error.message.starts_with("rlp: "), "{raw}: {error}");
    }
    let (raw, _) = signed(0, tx(&chain, 0));
    let long: Bytes = [&raw[..], &[0]].concat().into();
    let error = chain
        .request("eth_sendRawTransaction", json!([long]))
        .await
        .unwrap_err();
    assert!(error.message.starts_with("rlp: "), "{error}");
}

#[tokio::test]
async fn who_cannot_pay_gas_and_value_is_refused() {
    let message = refusal(0, |tx| tx.value = fortune()).await;
    assert_eq!(
        message,
        "insufficient funds for gas * price + value: balance 10000000000000000000000, tx cost 10000000001050000000000, overshot 1050000000000"
    );
}

#[tokio::test]
async fn waiting_transactions_count_against_the_balance() {
    let chain = manual();
    let half = fortune() / U256::from(2);
    for nonce in 0..2 {
        let mut tx = tx(&chain, nonce);
        tx.value = half;
        let sent = send(&chain, 0, tx).await;
        match nonce {
            0 => assert!(sent.is_ok()),
            _ => assert!(
                sent.unwrap_err().message.starts_with(
                    "insufficient funds for gas * price + value: balance 10000000000000000000000, queued cost "
                )
            ),
        }
    }
}

#[tokio::test]
async fn the_same_transaction_twice_is_already_known_before_and_after_inclusion() {
    let chain = manual();
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(error.message, "already known");
    chain.mine();
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(error.message, "already known");
}

#[tokio::test]
async fn a_used_nonce_is_too_low() {
    let chain = manual();
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.mine();
    let mut other = tx(&chain, 0);
    other.value = U256::from(2);
    let error = send(&chain, 0, other).await.unwrap_err();
    assert_eq!(error.message, "nonce too low: next nonce 1, tx nonce 0");
}

#[tokio::test]
async fn a_nonce_ahead_waits_for_the_gap_to_close() {
    let chain = manual();
    let late = send(&chain, 0, tx(&chain, 1)).await.unwrap();
    chain.mine();
    assert!(receipt(&chain, late).await.is_null());
    assert_eq!(
        get(&chain, "txpool_status", json!([])).await,
        json!({ "pending": "0x0", "queued": "0x1" })
    );
    let pending = json!([address(0), "pending"]);
    assert_eq!(
        get(&chain, "eth_getTransactionCount", pending.clone()).await,
        "0x0"
    );
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert_eq!(get(&chain, "eth_getTransactionCount", pending).await, "0x2");
    assert_eq!(
        get(
            &chain,
            "eth_getTransactionCount",
            json!([address(0), "latest"])
        )
        .await,
        "0x0"
    );
    chain.mine();
    assert_eq!(receipt(&chain, late).await["status"], "0x1");
}

#[tokio::test]
async fn a_replacement_pays_ten_percent_more_on_both_prices() {
    let chain = manual();
    let price = |fee: u128, tip: u128, value: u64| {
        let mut tx = tx(&chain, 0);
        tx.max_fee_per_gas = fee;
        tx.max_priority_fee_per_gas = tip;
        tx.value = U256::from(value);
        tx
    };
    let first = send(&chain, 0, price(100_000_000, 60_000_000, 1))
        .await
        .unwrap();
    for (fee, tip) in [
        (109_999_999, 66_000_000),
        (110_000_000, 65_999_999),
        (100_000_000, 60_000_000),
    ] {
        let error = send(&chain, 0, price(fee, tip, 2)).await.unwrap_err();
        assert_eq!(error.message, "replacement transaction underpriced");
    }
    let second = send(&chain, 0, price(110_000_000, 66_000_000, 2))
        .await
        .unwrap();
    assert!(
        get(&chain, "eth_getTransactionByHash", json!([first]))
            .await
            .is_null()
    );
    chain.mine();
    assert!(receipt(&chain, first).await.is_null());
    assert_eq!(receipt(&chain, second).await["status"], "0x1");
    assert_eq!(chain.waiting(), 0);
}

#[tokio::test]
async fn who_pays_more_comes_first_and_equal_prices_come_in_order() {
    let chain = manual();
    let priced = |price: u128| {
        let mut tx = tx(&chain, 0);
        tx.max_fee_per_gas = price;
        tx.max_priority_fee_per_gas = price;
        tx
    };
    let a = send(&chain, 0, priced(FLOOR)).await.unwrap();
    let b = send(&chain, 1, priced(FLOOR)).await.unwrap();
    let c = send(&chain, 2, priced(FLOOR + 1)).await.unwrap();
    chain.mine();
    let block = get(&chain, "eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(block["transactions"], json!([c, a, b]));
}

#[tokio::test]
async fn a_dropped_transaction_is_not_included() {
    let chain = manual();
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    assert_eq!(
        get(&chain, "anvil_dropTransaction", json!([hash])).await,
        json!(hash)
    );
    chain.mine();
    assert!(receipt(&chain, hash).await.is_null());
    assert!(!chain.drop_transaction(hash));
}

#[tokio::test]
async fn a_contract_cannot_send() {
    let chain = manual();
    chain.set_code(address(0), vec![0x00]);
    let error = send(&chain, 0, tx(&chain, 0)).await.unwrap_err();
    assert_eq!(
        error.message,
        format!("sender not an eoa: address {}", address(0))
    );
}

#[tokio::test]
async fn what_cannot_be_paid_any_more_leaves_the_pool() {
    let chain = manual();
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.set_balance(address(0), U256::ZERO);
    chain.mine();
    assert!(receipt(&chain, hash).await.is_null());
    assert_eq!(chain.waiting(), 0);
}
