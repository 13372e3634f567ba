use alloy_primitives::{U256, keccak256};
use serde_json::json;
use tollgate_bsc::{
    Chain, Check, Doctor, Outcome, SettlerTerms, check_account, check_agreement, check_chain,
    check_gas_money, check_gas_price, check_logs, check_proxies, check_settler, check_token,
    doctor,
};
use tollgate_contracts::{
    abi::TestUsd1,
    addresses,
    tokens::{self, USD1},
};
use tollgate_devchain::{BlockTime, DevChain, Development, Fault, Genesis, RpcError, START_TIME};
use tollgate_x402::{Address, B256, Timestamp};

use crate::common::*;

fn terms() -> SettlerTerms {
    SettlerTerms {
        ledger_id: B256::ZERO,
        treasury: TREASURY,
        operators: vec![account(OPERATOR)],
    }
}

fn outcome(checks: &[Check], name: &str) -> Option<Outcome> {
    checks
        .iter()
        .filter(|check| check.name == name)
        .map(|check| check.outcome)
        .max()
}

#[tokio::test]
async fn the_development_chain_passes_every_check() {
    let (_dev, chain) = manual().await;
    let all = Doctor {
        tokens: tokens::on_chain(tokens::DEVCHAIN).copied().collect(),
        receivers: vec![TREASURY, SETTLER],
        settler: Some((SETTLER, terms())),
        permit2: true,
        senders: vec![account(OPERATOR)],
        least_balance: U256::from(1),
        now: Some(Timestamp(START_TIME)),
    };
    let checks = doctor(&chain, &all).await;
    let bad: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome != Outcome::Ok)
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(checks.len() > 15);
    for (name, at) in [
        ("permit2-code", addresses::PERMIT2),
        ("exact-proxy", addresses::EXACT_PROXY),
        ("upto-proxy", addresses::UPTO_PROXY),
    ] {
        let hash = keccak256(chain.code(at).await.unwrap()).to_string();
        let check = checks.iter().find(|check| check.name == name).unwrap();
        assert!(check.detail.contains(&hash), "{check}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_fails() {
    let (_dev, chain) = manual().await;
    for now in [START_TIME - 31, START_TIME + 31] {
        let checks = check_chain(&chain, Some(Timestamp(now))).await;
        assert_eq!(outcome(&checks, "clock"), Some(Outcome::Fail));
    }
}

#[tokio::test]
async fn finality_that_stalls_warns() {
    let (dev, chain) = manual().await;
    dev.mine_blocks(5);
    dev.freeze_finality(true);
    let mut told = Vec::new();
    for more in [18, 10] {
        dev.mine_blocks(more);
        told.push(outcome(&check_chain(&chain, None).await, "finality"));
    }
    assert_eq!(told, [Some(Outcome::Ok), Some(Outcome::Warn)]);
}

#[tokio::test]
async fn gas_above_what_is_paid_at_most_warns() {
    let (dev, chain) = manual().await;
    for (asked, outcome) in [(2 * PRICE, Outcome::Ok), (2 * PRICE + 1, Outcome::Warn)] {
        dev.faults().min_gas_price(asked);
        let check = check_gas_price(&chain, PRICE, 2 * PRICE).await;
        assert_eq!(check.outcome, outcome, "{check}");
        assert!(check.detail.contains(&asked.to_string()), "{check}");
    }
}

#[tokio::test]
async fn an_operators_money_is_counted_in_batches() {
    let (dev, chain) = manual().await;
    let batch = 1_000_000_u64;
    let one = U256::from(PRICE) * U256::from(batch);
    for (batches, short, outcome) in [
        (50, 0, Outcome::Ok),
        (50, 1, Outcome::Warn),
        (1, 0, Outcome::Warn),
        (1, 1, Outcome::Fail),
    ] {
        dev.set_balance(account(3), one * U256::from(batches) - U256::from(short));
        let check = check_gas_money(&chain, account(3), PRICE, batch).await;
        assert_eq!(check.outcome, outcome, "{check}");
    }
}

#[tokio::test]
async fn a_node_that_searches_no_events_warns() {
    let (dev, chain) = manual().await;
    assert_eq!(check_logs(&chain, SETTLER).await.outcome, Outcome::Ok);
    let lacks = RpcError::new(-32601, "the method eth_getLogs does not exist");
    dev.faults().always("eth_getLogs", Fault::Error(lacks));
    let check = check_logs(&chain, SETTLER).await;
    assert_eq!(check.outcome, Outcome::Warn, "{check}");
    assert!(check.detail.contains("ledger reconcile"), "{check}");
}

/// Nodes of one network that make their blocks alone, each with a client of its own.
async fn alone<const N: usize>() -> ([DevChain; N], Vec<(String, Chain)>) {
    let (mut nodes, mut chains) = (Vec::new(), Vec::new());
    for number in 1..=N {
        let genesis = Genesis::development(&Development::default());
        let node = serving(BlockTime::Manual, genesis).await;
        let chain = Chain::connect(config([&node])).await.unwrap();
        chains.push((format!("endpoint {number}"), chain));
        nodes.push(node);
    }
    (nodes.try_into().unwrap(), chains)
}

#[tokio::test]
async fn endpoints_that_have_different_final_blocks_fail() {
    let (nodes, chains) = alone::<3>().await;
    for node in &nodes {
        node.mine_blocks(5);
    }
    let checks = check_agreement(&chains).await;
    assert_eq!(outcome(&checks, "agreement"), Some(Outcome::Ok));
    let transaction = signed_with(0, approve(USD1, SETTLER, U256::from(1)), 0, PRICE);
    nodes[1]
        .request("eth_sendRawTransaction", json!([transaction.raw]))
        .await
        .unwrap();
    for node in &nodes {
        node.mine_blocks(5);
    }
    let checks = check_agreement(&chains).await;
    assert_eq!(outcome(&checks, "agreement"), Some(Outcome::Fail));
    assert_eq!(outcome(&checks, "endpoint"), Some(Outcome::Ok));
}

#[tokio::test]
async fn an_endpoint_that_is_behind_warns_and_one_that_does_not_answer_fails() {
    let (nodes, chains) = alone::<2>().await;
    let of = |checks: &[Check], name: &str| {
        let its = checks.iter().find(|check| check.detail.starts_with(name));
        its.map(|check| check.outcome)
    };
    nodes[0].mine_blocks(21);
    let checks = check_agreement(&chains).await;
    assert_eq!(of(&checks, "endpoint 1"), Some(Outcome::Ok));
    assert_eq!(of(&checks, "endpoint 2"), Some(Outcome::Warn));
    nodes[1].shutdown();
    let checks = check_agreement(&chains).await;
    assert_eq!(of(&checks, "endpoint 1"), Some(Outcome::Ok));
    assert_eq!(of(&checks, "endpoint 2"), Some(Outcome::Fail));
}

#[tokio::test]
async fn a_settler_of_another_ledger_treasury_or_operator_fails() {
    let (_dev, chain) = manual().await;
    let other = Address::repeat_byte(0x99);
    for (name, wrong) in [
        (
            "settler-ledger",
            SettlerTerms {
                ledger_id: B256::repeat_byte(1),
                ..terms()
            },
        ),
        (
            "settler-treasury",
            SettlerTerms {
                treasury: other,
                ..terms()
            },
        ),
        (
            "settler-operator",
            SettlerTerms {
                operators: vec![other],
                ..terms()
            },
        ),
    ] {
        let checks = check_settler(&chain, SETTLER, &wrong).await;
        assert_eq!(outcome(&checks, name), Some(Outcome::Fail));
    }
    let checks = check_settler(&chain, other, &terms()).await;
    assert_eq!(outcome(&checks, "settler-code"), Some(Outcome::Fail));
    let checks = check_settler(&chain, USD1, &terms()).await;
    assert_eq!(outcome(&checks, "settler-ledger"), Some(Outcome::Fail));
}

#[tokio::test]
async fn a_paused_token_or_a_frozen_receiver_fails() {
    let (dev, chain) = manual().await;
    let usd1 = tokens::token(tokens::DEVCHAIN, USD1).unwrap();
    let freeze = TestUsd1::freezeCall { account: TREASURY };
    settled(&dev, &chain, ADMIN, call(USD1, &freeze)).await;
    settled(&dev, &chain, ADMIN, call(USD1, &TestUsd1::pauseCall {})).await;
    let checks = check_token(&chain, usd1, &[TREASURY, SETTLER]).await;
    assert_eq!(outcome(&checks, "token-paused"), Some(Outcome::Fail));
    assert_eq!(outcome(&checks, "receiver-frozen"), Some(Outcome::Fail));
    assert_eq!(outcome(&checks, "token-separator"), Some(Outcome::Ok));
}

#[tokio::test]
async fn a_token_that_is_not_what_was_pinned_fails() {
    let (_dev, chain) = manual().await;
    let usd1 = *tokens::token(tokens::DEVCHAIN, USD1).unwrap();
    let mut six = usd1;
    six.decimals = 6;
    let checks = check_token(&chain, &six, &[]).await;
    assert_eq!(outcome(&checks, "token-decimals"), Some(Outcome::Fail));
    let mut plain = usd1;
    plain.address = tokens::USDT;
    let checks = check_token(&chain, &plain, &[]).await;
    assert_eq!(outcome(&checks, "token-separator"), Some(Outcome::Fail));
    assert_eq!(outcome(&checks, "token-eip3009"), Some(Outcome::Fail));
    let elsewhere = tokens::token(tokens::BSC, USD1).unwrap();
    let checks = check_token(&chain, elsewhere, &[]).await;
    assert_eq!(outcome(&checks, "token-chain"), Some(Outcome::Fail));
}

#[tokio::test]
async fn a_chain_without_proxies_warns_and_an_account_without_money_fails() {
    let dev = serving(
        BlockTime::Manual,
        Genesis::empty().fund(account(0), U256::from(5)),
    )
    .await;
    let chain = Chain::connect(config([&dev])).await.unwrap();
    let checks = check_proxies(&chain).await;
    assert_eq!(outcome(&checks, "exact-proxy"), Some(Outcome::Warn));
    assert_eq!(outcome(&checks, "upto-proxy"), Some(Outcome::Warn));
    let permit2 = tollgate_bsc::check_permit2(&chain).await;
    assert_eq!(outcome(&permit2, "permit2-code"), Some(Outcome::Warn));
    let rich = check_account(&chain, account(0), U256::from(5)).await;
    let poor = check_account(&chain, account(0), U256::from(6)).await;
    let broke = check_account(&chain, account(1), U256::from(0)).await;
    assert_eq!(
        (rich.outcome, poor.outcome, broke.outcome),
        (Outcome::Ok, Outcome::Warn, Outcome::Fail)
    );
}
