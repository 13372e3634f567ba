//! JSON-RPC over HTTP, driven by alloy, and what only raw requests show.

use crate::common::*;
use alloy_network::TransactionBuilder as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy_provider::Provider as _;
use serde_json::json;
use tollgate_devchain::BlockTime;

type Request = <alloy_network::Ethereum as alloy_network::Network>::TransactionRequest;

const PAYEE: Address = Address::repeat_byte(0x42);
const CONTRACT: Address = Address::repeat_byte(0x33);

/// `Error(string)` with "no", returned by REVERT: the data follows the code.
fn reverts() -> Vec<u8> {
    let mut code = hex!("6064600c60003960646000fd").to_vec();
    code.extend(hex!("08c379a0"));
    code.extend(B256::with_last_byte(32));
    code.extend(B256::with_last_byte(2));
    let mut text = [0; 32];
    text[..2].copy_from_slice(b"no");
    code.extend(text);
    code
}

/// Logs the first word of the input as a topic and the second as data.
fn logs() -> Vec<u8> {
    hex!("60405f5f375f5160206020a100").to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn alloy_pays_and_sees_the_receipt() {
    let chain = instant();
    let client = client(&chain, 0).await;
    assert_eq!(client.get_chain_id().await.unwrap(), 31_337);
    let request = Request::default().with_to(PAYEE).with_value(U256::from(7));
    let receipt = client
        .send_transaction(request)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(client.get_balance(PAYEE).await.unwrap(), U256::from(7));
    let block = client
        .get_block_by_number(1.into())
        .full()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(block.header.hash, block.header.inner.hash_slow());
    assert_eq!(block.transactions.len(), 1);
    assert_eq!(block.header.base_fee_per_gas, Some(0));
    let by_hash = client
        .get_transaction_by_hash(receipt.transaction_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(by_hash.block_number, Some(1));
    let receipts = client.get_block_receipts(1.into()).await.unwrap().unwrap();
    assert_eq!(receipts, [receipt]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployless_call_runs_the_code_it_is_given() {
    let chain = manual();
    let client = client(&chain, 0).await;
    let request = Request::default().with_input(hex!("602a5f5260205ff3"));
    let output = client.call(request).await.unwrap();
    assert_eq!(output, Bytes::from(B256::with_last_byte(42)));
}

#[tokio::test]
async fn data_and_input_are_the_same_field() {
    let chain = manual();
    for name in ["data", "input"] {
        let call = json!([{ name: "0x602a5f5260205ff3" }]);
        let output = get(&chain, "eth_call", call).await;
        assert_eq!(output, json!(B256::with_last_byte(42)));
    }
    let error = chain
        .request("eth_call", json!([{ "data": "0x01", "input": "0x02" }]))
        .await
        .unwrap_err();
    assert!(error.message.contains("not equal"));
}

#[tokio::test]
async fn a_call_runs_in_the_state_of_its_block() {
    let chain = manual();
    chain.set_code(CONTRACT, hex!("475f5260205ff3").to_vec());
    for nonce in 0..4 {
        let mut pay = tx(&chain, nonce);
        pay.to = TxKind::Call(CONTRACT);
        pay.gas_limit = 50_000;
        send(&chain, 0, pay).await.unwrap();
        chain.mine();
    }
    for (tag, wei) in [
        ("0x1", 1),
        ("0x3", 3),
        ("latest", 4),
        ("safe", 3),
        ("finalized", 2),
    ] {
        let output = get(&chain, "eth_call", json!([{ "to": CONTRACT }, tag])).await;
        assert_eq!(output, json!(B256::with_last_byte(wei)), "{tag}");
    }
    let hash = get(&chain, "eth_getBlockByNumber", json!(["0x2", false])).await["hash"].clone();
    let output = get(&chain, "eth_call", json!([{ "to": CONTRACT }, hash])).await;
    assert_eq!(output, json!(B256::with_last_byte(2)));
    let at = json!({ "blockHash": hash });
    let output = get(&chain, "eth_call", json!([{ "to": CONTRACT }, at])).await;
    assert_eq!(output, json!(B256::with_last_byte(2)));
}

#[tokio::test]
async fn a_call_can_come_from_a_contract_and_carry_value_only_if_it_is_there() {
    let chain = manual();
    // Returns its caller.
    chain.set_code(CONTRACT, hex!("335f5260205ff3").to_vec());
    let call = json!([{ "from": CONTRACT, "to": CONTRACT }]);
    let output = get(&chain, "eth_call", call).await;
    assert_eq!(output, json!(CONTRACT.into_word()));
    let call = json!([{ "from": PAYEE, "to": CONTRACT, "value": "0x1" }]);
    let error = chain.request("eth_call", call).await.unwrap_err();
    assert_eq!(
        error.message,
        format!("insufficient funds for gas * price + value: address {PAYEE} have 0 want 1")
    );
}

#[tokio::test]
async fn a_call_takes_overrides_of_state_and_block() {
    let chain = manual();
    let overrides = json!({ CONTRACT.to_string(): {
        "code": "0x5f545f5260205ff3",
        "stateDiff": { B256::ZERO.to_string(): B256::with_last_byte(9) },
    } });
    let call = json!([{ "to": CONTRACT }, "latest", overrides]);
    let output = get(&chain, "eth_call", call).await;
    assert_eq!(output, json!(B256::with_last_byte(9)));
    // timestamp()
    let overrides = json!({ CONTRACT.to_string(): { "code": "0x425f5260205ff3" } });
    let call = json!([{ "to": CONTRACT }, "latest", overrides, { "time": "0x7" }]);
    let output = get(&chain, "eth_call", call).await;
    assert_eq!(output, json!(B256::with_last_byte(7)));
    assert_eq!(get(&chain, "eth_getCode", json!([CONTRACT])).await, "0x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_is_code_3_with_its_reason_and_data() {
    let chain = manual();
    chain.set_code(CONTRACT, reverts());
    for method in ["eth_call", "eth_estimateGas"] {
        let error = chain
            .request(method, json!([{ "to": CONTRACT }]))
            .await
            .unwrap_err();
        assert_eq!(error.code, 3, "{method}");
        assert_eq!(error.message, "execution reverted: no");
        assert_eq!(
            error.data,
            Some(json!(Bytes::from(reverts()[12..].to_vec())))
        );
    }
    let client = client(&chain, 0).await;
    let request = Request::default().with_to(CONTRACT);
    let error = client.estimate_gas(request).await.unwrap_err();
    let payload = error.as_error_resp().unwrap();
    assert_eq!(payload.code, 3);
    assert_eq!(payload.as_revert_data().unwrap(), reverts()[12..]);
    // No data, no reason.
    chain.set_code(CONTRACT, hex!("5f5ffd").to_vec());
    let error = chain
        .request("eth_call", json!([{ "to": CONTRACT }]))
        .await
        .unwrap_err();
    assert_eq!(error.message, "execution reverted");
    assert_eq!(error.data, Some(json!("0x")));
    // Panic(0x11)
    let mut code = hex!("6024600c60003960246000fd4e487b71").to_vec();
    code.extend(B256::with_last_byte(0x11));
    chain.set_code(CONTRACT, code);
    let error = chain
        .request("eth_call", json!([{ "to": CONTRACT }]))
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "execution reverted: arithmetic underflow or overflow"
    );
}

#[tokio::test]
async fn an_endless_call_runs_out_of_gas() {
    let chain = manual();
    chain.set_code(CONTRACT, hex!("5b5f56").to_vec());
    let error = chain
        .request("eth_call", json!([{ "to": CONTRACT, "gas": "0xf4240" }]))
        .await
        .unwrap_err();
    assert_eq!((error.code, &*error.message), (-32000, "out of gas"));
    let error = chain
        .request(
            "eth_estimateGas",
            json!([{ "to": CONTRACT, "gas": "0xf4240" }]),
        )
        .await
        .unwrap_err();
    assert_eq!(error.message, "gas required exceeds allowance (1000000)");
}

#[tokio::test]
async fn an_estimate_is_enough_and_not_much_more() {
    let chain = instant();
    // sstore(0, calldataload(0)), then a call that keeps a 64th behind.
    chain.set_code(CONTRACT, hex!("5f355f5500").to_vec());
    let input = Bytes::from(B256::with_last_byte(1));
    let call = json!([{ "from": address(0), "to": CONTRACT, "data": input }]);
    let gas: U256 = serde_json::from_value(get(&chain, "eth_estimateGas", call).await).unwrap();
    let mut store = tx(&chain, 0);
    store.to = TxKind::Call(CONTRACT);
    store.value = U256::ZERO;
    store.input = input;
    store.gas_limit = gas.to();
    let hash = send(&chain, 0, store).await.unwrap();
    let receipt = receipt(&chain, hash).await;
    assert_eq!(receipt["status"], "0x1");
    let used: U256 = serde_json::from_value(receipt["gasUsed"].clone()).unwrap();
    assert!(
        gas >= used && gas <= used * U256::from(107) / U256::from(100),
        "{gas} {used}"
    );
    let transfer = json!([{ "from": address(0), "to": PAYEE, "value": "0x1" }]);
    assert_eq!(get(&chain, "eth_estimateGas", transfer).await, "0x5208");
    let too_much = json!([{
        "from": PAYEE, "to": address(0), "value": "0x2", "gasPrice": "0x2faf080"
    }]);
    let error = chain
        .request("eth_estimateGas", too_much)
        .await
        .unwrap_err();
    assert_eq!(error.message, "insufficient funds for transfer");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_found_by_range_address_topic_and_block() {
    let chain = manual();
    chain.set_code(CONTRACT, logs());
    chain.set_code(PAYEE, logs());
    for (nonce, to) in [CONTRACT, PAYEE, CONTRACT].into_iter().enumerate() {
        let nonce = u8::try_from(nonce).unwrap();
        let mut call = tx(&chain, nonce.into());
        call.to = TxKind::Call(to);
        call.gas_limit = 100_000;
        call.value = U256::ZERO;
        let words = [
            B256::with_last_byte(nonce),
            B256::with_last_byte(100 + nonce),
        ];
        call.input = words.concat().into();
        send(&chain, 0, call).await.unwrap();
        if nonce > 0 {
            chain.mine();
        }
    }
    // Block 1 holds the first two, block 2 the third.
    let client = client(&chain, 0).await;
    let all = alloy_filter().from_block(0);
    let found = client.get_logs(&all).await.unwrap();
    assert_eq!(found.len(), 3);
    let places: Vec<_> = found
        .iter()
        .map(|log| (log.block_number, log.transaction_index, log.log_index))
        .collect();
    assert_eq!(
        places,
        [
            (Some(1), Some(0), Some(0)),
            (Some(1), Some(1), Some(1)),
            (Some(2), Some(0), Some(0)),
        ]
    );
    let count = async |filter| client.get_logs(&filter).await.unwrap().len();
    assert_eq!(count(all.clone().address(CONTRACT)).await, 2);
    assert_eq!(
        count(all.clone().event_signature(B256::with_last_byte(2))).await,
        1
    );
    assert_eq!(
        count(all.clone().event_signature(B256::with_last_byte(9))).await,
        0
    );
    assert_eq!(count(alloy_filter().from_block(2)).await, 1);
    assert_eq!(count(alloy_filter().from_block(0).to_block(1)).await, 2);
    assert_eq!(count(alloy_filter()).await, 1, "from latest to latest");
    let hash = found[0].block_hash.unwrap();
    assert_eq!(count(alloy_filter().at_block_hash(hash)).await, 2);
    let error = client
        .get_logs(&alloy_filter().at_block_hash(B256::ZERO))
        .await
        .unwrap_err();
    assert_eq!(error.as_error_resp().unwrap().message, "unknown block");
    let error = client
        .get_logs(&alloy_filter().from_block(2).to_block(1))
        .await
        .unwrap_err();
    assert_eq!(
        error.as_error_resp().unwrap().message,
        "invalid block range params"
    );
}

fn alloy_filter() -> alloy_rpc_types_eth::Filter {
    alloy_rpc_types_eth::Filter::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn send_sync_answers_with_the_receipt_once_it_is_mined() {
    let chain = manual();
    let (raw, hash) = signed(0, tx(&chain, 0));
    let waiting = chain.clone();
    let answer =
        tokio::spawn(
            async move { get(&waiting, "eth_sendRawTransactionSync", json!([raw])).await },
        );
    while chain.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    chain.mine();
    assert_eq!(answer.await.unwrap()["transactionHash"], json!(hash));
}

#[tokio::test]
async fn send_sync_that_times_out_is_code_4_with_the_hash_and_the_transaction_stays() {
    let chain = manual();
    let (raw, hash) = signed(0, tx(&chain, 0));
    let error = chain
        .request("eth_sendRawTransactionSync", json!([raw, 20]))
        .await
        .unwrap_err();
    assert_eq!(error.code, 4);
    assert_eq!(error.data, Some(json!(hash)));
    assert_eq!(
        error.message,
        "The transaction was added to the transaction pool but wasn't processed in 0.020s"
    );
    chain.mine();
    assert_eq!(receipt(&chain, hash).await["status"], "0x1");
}

#[tokio::test]
async fn a_batch_runs_in_order_and_answers_each_call() {
    let chain = instant();
    let (first, _) = signed(0, tx(&chain, 0));
    let (second, _) = signed(0, tx(&chain, 1));
    let answer = chain
        .handle(json!([
            { "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [first] },
            { "jsonrpc": "2.0", "id": "x", "method": "eth_blockNumber" },
            { "jsonrpc": "2.0", "id": 3, "method": "eth_sendRawTransaction", "params": [second] },
            { "jsonrpc": "2.0", "id": 4, "method": "eth_nothing" },
            5,
            { "jsonrpc": "2.0", "id": 6, "method": "eth_blockNumber", "params": [] },
        ]))
        .await;
    assert_eq!(
        answer[1],
        json!({ "jsonrpc": "2.0", "id": "x", "result": "0x1" })
    );
    assert_eq!(answer[3]["error"]["code"], -32601);
    assert_eq!(answer[4]["error"]["code"], -32600);
    assert_eq!(answer[5]["result"], "0x2");
    let empty = chain.handle(json!([])).await;
    assert_eq!(empty["error"]["message"], "empty batch");
}

#[tokio::test]
async fn malformed_requests_get_errors_that_name_the_fault() {
    let chain = manual();
    for (request, code) in [
        (json!(null), -32600),
        (json!({ "id": 1 }), -32600),
        (json!({ "id": 1, "method": 5 }), -32600),
        (
            json!({ "id": 1, "method": "eth_getBalance", "params": {} }),
            -32602,
        ),
        (
            json!({ "id": 1, "method": "eth_getBalance", "params": [] }),
            -32602,
        ),
        (
            json!({ "id": 1, "method": "eth_getBalance", "params": ["0x12"] }),
            -32602,
        ),
        (
            json!({ "id": 1, "method": "eth_call", "params": [{ "to": 7 }] }),
            -32602,
        ),
        (
            json!({ "id": 1, "method": "debug_traceTransaction" }),
            -32601,
        ),
    ] {
        let answer = chain.handle(request.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{request} -> {answer}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_in_process_and_over_http() {
    let chain = manual();
    assert_eq!(chain.rpc_total(), 0);
    get(&chain, "eth_blockNumber", json!([])).await;
    let client = client(&chain, 0).await;
    client.get_block_number().await.unwrap();
    client.get_balance(PAYEE).await.unwrap();
    assert_eq!(chain.rpc_counts()["eth_blockNumber"], 2);
    assert_eq!(chain.rpc_counts()["eth_getBalance"], 1);
    assert_eq!(chain.rpc_total(), 3);
    chain.reset_rpc_counts();
    assert!(chain.rpc_counts().is_empty());
}

#[tokio::test]
async fn price_oracles_say_the_floor() {
    let chain = manual();
    assert_eq!(get(&chain, "eth_gasPrice", json!([])).await, "0x2faf080");
    let tip = get(&chain, "eth_maxPriorityFeePerGas", json!([])).await;
    assert_eq!(tip, "0x2faf080");
    chain.mine_blocks(3);
    let history = get(
        &chain,
        "eth_feeHistory",
        json!(["0x2", "latest", [10.0, 50.0]]),
    )
    .await;
    assert_eq!(history["oldestBlock"], "0x2");
    assert_eq!(history["baseFeePerGas"], json!(["0x0", "0x0", "0x0"]));
    let floor = json!(["0x2faf080", "0x2faf080"]);
    assert_eq!(history["reward"], json!([floor, floor]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_closes_with_the_last_handle() {
    let chain = manual();
    let listen = chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
    let other = chain.clone();
    // A connection that is kept alive does not keep the port.
    let client = client(&chain, 0).await;
    client.get_chain_id().await.unwrap();
    drop(chain);
    client.get_chain_id().await.unwrap();
    drop(other);
    let closed = async {
        while tokio::net::TcpListener::bind(listen).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), closed)
        .await
        .expect("the listener is gone");
    client.get_chain_id().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_shut_down_serves_nobody_and_can_still_be_read() {
    let chain = builder(BlockTime::Interval(std::time::Duration::from_millis(5)))
        .start()
        .unwrap();
    let client = client(&chain, 0).await;
    client.get_chain_id().await.unwrap();
    chain.shutdown();
    let refused = async {
        while client.get_chain_id().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), refused)
        .await
        .expect("nobody answers");
    assert_eq!(chain.balance(address(0)), fortune());
}

#[tokio::test]
async fn a_delegation_is_set_by_a_type_4_transaction() {
    use alloy_consensus::{SignableTransaction as _, TxEip7702, TxEnvelope};
    use alloy_eips::{eip2718::Encodable2718 as _, eip7702::Authorization};
    use alloy_network::TxSignerSync as _;
    use alloy_signer::SignerSync as _;

    let chain = instant();
    let authorization = Authorization {
        chain_id: U256::from(chain.chain_id()),
        address: CONTRACT,
        nonce: 0,
    };
    let signature = signer(1)
        .sign_hash_sync(&authorization.signature_hash())
        .unwrap();
    let mut delegate = TxEip7702 {
        chain_id: chain.chain_id(),
        gas_limit: 100_000,
        max_fee_per_gas: FLOOR,
        max_priority_fee_per_gas: FLOOR,
        to: PAYEE,
        authorization_list: vec![authorization.into_signed(signature)],
        ..TxEip7702::default()
    };
    let signature = signer(0).sign_transaction_sync(&mut delegate).unwrap();
    let raw = Bytes::from(TxEnvelope::from(delegate.into_signed(signature)).encoded_2718());
    let hash = get(&chain, "eth_sendRawTransaction", json!([raw])).await;
    let receipt = get(&chain, "eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["type"], "0x4");
    assert_eq!(receipt["status"], "0x1");
    // The same as anvil takes for it.
    assert_eq!(receipt["gasUsed"], "0x8fc0");
    let designator = [&hex!("ef0100")[..], CONTRACT.as_slice()].concat();
    let code = get(&chain, "eth_getCode", json!([address(1)])).await;
    assert_eq!(code, json!(Bytes::from(designator)));
    // A delegated account still sends (EIP-3607 makes an exception for it).
    send(&chain, 1, tx(&chain, 1)).await.unwrap();
}

#[tokio::test]
async fn blob_transactions_are_refused() {
    use alloy_consensus::{SignableTransaction as _, TxEip4844, TxEnvelope};
    use alloy_eips::eip2718::Encodable2718 as _;
    use alloy_network::TxSignerSync as _;

    let chain = instant();
    let mut blob = TxEip4844 {
        chain_id: chain.chain_id(),
        gas_limit: 21_000,
        max_fee_per_gas: FLOOR,
        max_priority_fee_per_gas: FLOOR,
        blob_versioned_hashes: vec![B256::with_last_byte(1)],
        ..TxEip4844::default()
    };
    let signature = signer(0).sign_transaction_sync(&mut blob).unwrap();
    let raw = Bytes::from(TxEnvelope::from(blob.into_signed(signature)).encoded_2718());
    let error = chain
        .request("eth_sendRawTransaction", json!([raw]))
        .await
        .unwrap_err();
    assert_eq!(error.message, "transaction type not supported");
}

#[tokio::test]
async fn static_facts_are_answered() {
    let chain = manual();
    for (method, answer) in [
        ("net_version", json!("31337")),
        ("eth_chainId", json!("0x7a69")),
        ("eth_syncing", json!(false)),
        ("eth_accounts", json!([])),
        ("eth_blockNumber", json!("0x0")),
    ] {
        assert_eq!(get(&chain, method, json!([])).await, answer);
    }
}
