use alloy_primitives::{U256, keccak256};
use tollgate_bsc::{
    Chain, Check, Doctor, Outcome, SettlerTerms, check_account, check_proxies, check_settler,
    check_token, doctor,
};
use tollgate_contracts::{
    abi::TestUsd1,
    addresses,
    tokens::{self, USD1},
};
use tollgate_devchain::{BlockTime, Genesis, START_TIME};
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
        let checks = tollgate_bsc::check_chain(&chain, Some(Timestamp(now))).await;
        assert_eq!(outcome(&checks, "clock"), Some(Outcome::Fail));
    }
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
