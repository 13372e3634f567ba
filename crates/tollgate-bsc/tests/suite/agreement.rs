use alloy_primitives::U256;
use serde_json::json;
use tollgate_bsc::{Chain, ChainConfig, ChainError, Finality, PayerQuery};
use tollgate_contracts::{addresses::PERMIT2, tokens::USD1};
use tollgate_devchain::{BlockTime, DevChain, Development, Fault, Genesis};
use tollgate_x402::{Amount, Authorization};

use crate::common::*;

/// Chains that make the same blocks, as nodes of one network, and a client that needs two of them to agree.
async fn nodes<const N: usize>() -> ([DevChain; N], Chain) {
    let mut nodes = Vec::new();
    for _ in 0..N {
        let genesis = Genesis::development(&Development::default());
        nodes.push(serving(BlockTime::Manual, genesis).await);
    }
    let config = ChainConfig {
        agreement: 2,
        ..config(&nodes)
    };
    let chain = Chain::connect(config).await.unwrap();
    (nodes.try_into().unwrap(), chain)
}

fn query() -> PayerQuery {
    PayerQuery::of(
        &Authorization::Allowance(allowance(0, SETTLER, 1_000, 0)),
        Some(SETTLER),
    )
}

/// The same transaction in the same block of every node.
async fn everywhere(nodes: &[DevChain], call: tollgate_bsc::Call) -> tollgate_bsc::RawTransaction {
    let transaction = signed_with(0, call, 0, PRICE);
    for node in nodes {
        node.request("eth_sendRawTransaction", json!([transaction.raw]))
            .await
            .unwrap();
        node.mine();
    }
    transaction
}

#[tokio::test]
async fn one_node_that_invents_a_balance_is_outvoted_and_two_are_a_disagreement() {
    let (nodes, chain) = nodes::<3>().await;
    let honest = chain.payer(&query()).await.unwrap();
    let counts = chain.rpc_counts();
    assert_eq!(counts.of("eth_call"), 3, "one call an endpoint");
    // The lens's answer, to be changed.
    let lens = tollgate_contracts::lens::call_data(&tollgate_contracts::lens::Query {
        token: USD1,
        owner: account(0),
        spender: SETTLER,
        settler: SETTLER,
        payee: SETTLER,
        permit2Word: U256::ZERO,
        eip3009Nonce: Default::default(),
    });
    let answer = nodes[0]
        .request("eth_call", json!([{ "input": lens }, "latest"]))
        .await
        .unwrap();
    let bytes: alloy_primitives::Bytes = serde_json::from_value(answer).unwrap();
    let mut state = tollgate_contracts::lens::decode(&bytes).unwrap();
    let lie = |state: &tollgate_contracts::lens::State| {
        json!(alloy_primitives::Bytes::from(
            alloy_sol_types::SolValue::abi_encode(state)
        ))
    };
    state.balance.value = U256::from(1);
    nodes[0]
        .faults()
        .next("eth_call", 1, Fault::Forge(lie(&state)));
    assert_eq!(chain.payer(&query()).await.unwrap(), honest);
    // Each another lie: no two agree, not when asked again either.
    state.balance.value = U256::from(2);
    nodes[0]
        .faults()
        .next("eth_call", 2, Fault::Forge(lie(&state)));
    state.balance.value = U256::from(3);
    nodes[1]
        .faults()
        .next("eth_call", 2, Fault::Forge(lie(&state)));
    let error = chain.payer(&query()).await.unwrap_err();
    assert!(matches!(error, ChainError::Disagreement { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_is_a_block_ahead_agrees_if_it_says_the_same_of_the_payer() {
    let (nodes, chain) = nodes::<2>().await;
    nodes[0].mine();
    let before = chain.rpc_counts();
    let state = chain.payer(&query()).await.unwrap();
    assert_eq!(state.block, 0, "the older of the two");
    assert_eq!(chain.rpc_counts().since(&before).of("eth_call"), 2);
}

#[tokio::test]
async fn where_the_newest_block_made_a_difference_all_are_asked_of_the_same_block() {
    let (nodes, chain) = nodes::<2>().await;
    let call = approve(USD1, SETTLER, U256::from(9));
    everywhere(&nodes[..1], call).await;
    let before = chain.rpc_counts();
    let state = chain.payer(&query()).await.unwrap();
    assert_eq!((state.block, state.allowance), (0, Amount::ZERO));
    assert_eq!(chain.rpc_counts().since(&before).of("eth_call"), 4);
}

#[tokio::test]
async fn a_receipt_counts_when_enough_nodes_have_it_and_is_final_when_they_say_so() {
    let (nodes, chain) = nodes::<2>().await;
    let call = approve(USD1, PERMIT2, U256::from(9));
    let transaction = everywhere(&nodes[..1], call.clone()).await;
    assert_eq!(chain.receipt(transaction.hash).await.unwrap(), None);
    everywhere(&nodes[1..], call).await;
    let receipt = chain.receipt(transaction.hash).await.unwrap().unwrap();
    nodes[0].mine_blocks(5);
    let sight = chain.sight(&[receipt.hash]).await.unwrap();
    assert_eq!(
        sight.heads.finality(receipt.block),
        Finality::Included(receipt.block)
    );
    nodes[1].mine_blocks(3);
    let sight = chain.sight(&[receipt.hash]).await.unwrap();
    assert_eq!(
        sight.heads.finality(receipt.block),
        Finality::Final(receipt.block)
    );
}

#[tokio::test]
async fn a_forged_receipt_is_a_disagreement() {
    let (nodes, chain) = nodes::<2>().await;
    let transaction = everywhere(&nodes, approve(USD1, PERMIT2, U256::from(9))).await;
    let mut forged = nodes[0]
        .request("eth_getTransactionReceipt", json!([transaction.hash]))
        .await
        .unwrap();
    forged["logs"] = json!([]);
    nodes[0]
        .faults()
        .next("eth_getTransactionReceipt", 1, Fault::Forge(forged));
    let error = chain.receipt(transaction.hash).await.unwrap_err();
    assert!(matches!(error, ChainError::Disagreement { .. }), "{error}");
}

#[tokio::test]
async fn a_nonce_is_anothers_only_by_the_word_of_nodes_that_have_got_so_far() {
    let (nodes, chain) = nodes::<3>().await;
    // The first stands still, and the answer of the third is lost.
    let transaction = everywhere(&nodes[1..], approve(USD1, PERMIT2, U256::from(9))).await;
    let block = nodes[1]
        .request("eth_blockNumber", json!([]))
        .await
        .unwrap();
    let block: alloy_primitives::U64 = serde_json::from_value(block).unwrap();
    let (ours, foreign) = ([transaction.hash], [Default::default()]);
    let used = |hashes| chain.used_elsewhere(account(0), 0, block.to(), hashes);
    nodes[2]
        .faults()
        .next("eth_getTransactionReceipt", 1, Fault::Status(503));
    assert!(!used(&ours).await.unwrap_or(false));
    // One that has counted it and does not show it is one, and two must agree.
    nodes[2].faults().next(
        "eth_getTransactionReceipt",
        1,
        Fault::Forge(serde_json::Value::Null),
    );
    assert_eq!(used(&ours).await, Ok(false));
    assert_eq!(used(&foreign).await, Ok(true));
    let next = chain.used_elsewhere(account(0), 1, block.to(), &ours);
    assert_eq!(next.await, Ok(false));
}

#[tokio::test]
async fn too_few_answers_are_no_agreement() {
    let (nodes, chain) = nodes::<2>().await;
    nodes[1].faults().next("eth_call", 1, Fault::Status(503));
    let error = chain.payer(&query()).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn nobody_waits_for_a_deaf_node_when_the_others_agree() {
    let (nodes, _) = nodes::<2>().await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = proxy.local_addr().unwrap();
    let mut urls: Vec<_> = nodes.iter().filter_map(DevChain::rpc_url).collect();
    urls.insert(0, format!("http://{deaf}"));
    let config = ChainConfig {
        urls,
        agreement: 2,
        timeout: std::time::Duration::from_secs(3_600),
        ..config(&nodes)
    };
    // Connecting hears all of them; the deaf one hangs up on that, and says nothing afterwards.
    let hang_up = async {
        drop(proxy.accept().await.unwrap());
        std::future::pending::<()>().await;
    };
    let chain = tokio::select! {
        chain = Chain::connect(config) => chain.unwrap(),
        () = hang_up => unreachable!(),
    };
    chain.payer(&query()).await.unwrap();
    chain.heads().await.unwrap();
}

#[tokio::test]
async fn a_node_that_stands_still_keeps_nothing_from_becoming_final() {
    let (nodes, chain) = nodes::<3>().await;
    let call = approve(USD1, PERMIT2, U256::from(9));
    let transaction = everywhere(&nodes[1..], call).await;
    for node in &nodes[1..] {
        node.mine_blocks(3);
    }
    let sight = chain.sight(&[transaction.hash]).await.unwrap();
    let receipt = sight.receipts[0].as_ref().unwrap();
    assert!(sight.heads.finality(receipt.block).is_final());
}
