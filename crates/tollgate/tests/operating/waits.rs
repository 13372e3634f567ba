//! A caller that asks to wait for its payment's block is told its transaction, and the chain has it.

use std::time::{Duration, Instant};

use alloy_sol_types::SolCall;
use serde_json::Value;
use tollgate_client::{AuthorizationKind, Policy, TollgateClient};
use tollgate_contracts::{abi::IErc20, addresses::PERMIT2, tokens::USD1};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::LocalWallet;
use tollgate_x402::{ChainId, Json, Limits, SettleResponse, U256};

use crate::world::{Gateway, OPERATOR, World, text};

const PAYER: usize = 1;

/// What a once payment's answer says, to a request with this preference.
struct Told {
    applied: String,
    settlement: SettleResponse,
    took: Duration,
}

fn once(gateway: &Gateway, prefer: &str, stream: bool) -> Option<Told> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let wallet = LocalWallet::from_bytes(&DEV_ACCOUNTS[PAYER].private_key.0).unwrap();
    let client = TollgateClient::builder()
        .wallet(wallet)
        .policy(
            Policy::new()
                .networks([ChainId::DEV])
                .kinds([AuthorizationKind::Once]),
        )
        .build()
        .unwrap();
    let body = format!(r#"{{"stream":{stream},"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    runtime.block_on(async {
        let began = Instant::now();
        let prefer = ("prefer".parse().unwrap(), prefer.parse().unwrap());
        let url = format!("{}/x402/v1", gateway.url());
        let headers = [prefer].into_iter().collect();
        let mut answer = client.chat_with(&url, headers, body).await.unwrap();
        let took = began.elapsed();
        while let Some(part) = answer.next().await {
            part.unwrap();
        }
        assert_eq!(answer.findings(), []);
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        let settlement = header("payment-response").map(str::as_bytes)?;
        Some(Told {
            applied: header("preference-applied").unwrap_or_default().to_owned(),
            settlement: SettleResponse::parse_header(settlement, &Limits::DEFAULT).unwrap(),
            took,
        })
    })
}

#[test]
fn who_waits_for_a_block_is_told_the_transaction_that_the_chain_has() {
    // Allowances are settled after ten minutes, once payments at once.
    let world = World::new("");
    let gateway = world.serve(OPERATOR);
    let approve = IErc20::approveCall {
        spender: PERMIT2,
        value: U256::MAX,
    };
    world.send(PAYER, USD1, approve.abi_encode().into());
    let before = world.balance(DEV_ACCOUNTS[PAYER].address);

    let told = once(&gateway, "respond-async, wait=20", false).unwrap();
    assert_eq!(told.applied, "wait=20");
    let state = told.settlement.extra.value("state").unwrap();
    assert!(
        state == Json::from("included") || state == Json::from("final"),
        "{state:?}"
    );
    assert!(told.took < Duration::from_secs(20), "{:?}", told.took);
    let hash = told.settlement.transaction.unwrap();
    let receipt = world.receipt(hash).expect("the chain has it");
    assert!(receipt.success);
    let after = world.balance(DEV_ACCOUNTS[PAYER].address);
    let charge = told.settlement.amount.unwrap();
    assert_eq!(before - after, charge.get(), "it moved the charge");

    // A stream has no such header, and does not wait.
    assert!(once(&gateway, "wait=20", true).is_none());

    // An allowance is settled with others, some time: it is answered at once.
    let began = Instant::now();
    let asked = gateway.chat_with(PAYER, "Hi", &["--no-stream", "--wait", "60"]);
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert!(began.elapsed() < Duration::from_secs(50));
    let report: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(report["transaction"], Value::Null);
    assert_eq!(report["findings"], serde_json::json!([]));
    gateway.stop();
}

#[test]
fn a_gateway_that_lets_nobody_wait_answers_at_once() {
    let world = World::new("[limits]\nwait_seconds = 0");
    let gateway = world.serve(OPERATOR);
    let approve = IErc20::approveCall {
        spender: PERMIT2,
        value: U256::MAX,
    };
    world.send(PAYER, USD1, approve.abi_encode().into());
    let told = once(&gateway, "wait=20", false).unwrap();
    assert_eq!(
        (told.applied.as_str(), told.settlement.transaction),
        ("", None)
    );
    assert!(told.took < Duration::from_secs(20));
    gateway.stop();
}
