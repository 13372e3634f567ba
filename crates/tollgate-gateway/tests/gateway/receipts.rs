//! Signed receipts, in the state of a payment.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tollgate_eip712::{Signed, TokenCounts, UsageReceipt, Wallet};
use tollgate_price::BillableUsage;

use crate::{
    mock::{Do, Mock, delta, done, finish, usage},
    shop::{Answers, Shop, Whole, rates},
};

const STORY: &str = r#"{"messages":[{"role":"user","content":"Tell me a story"}]}"#;

async fn story() -> Mock {
    Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await
}

#[tokio::test]
async fn the_state_of_a_charge_has_a_receipt_with_what_was_billed_signed_once() {
    let shop = Shop::new(&story().await);
    let answer = Whole::of(shop.buy(STORY).await).await;
    // Nothing is signed where money is made, and nothing more is told there.
    assert_eq!(shop.books.key.signed.load(Ordering::Relaxed), 0);
    assert!(!answer.text().contains("eip712"));

    let told = shop.told_of(&answer.headers).await;
    assert_eq!(told["receipt"]["format"], "eip712");
    let receipt: Signed<UsageReceipt> = serde_json::from_value(told["receipt"].clone()).unwrap();
    assert_eq!(receipt.signer(), Ok(shop.books.key.address()));
    let said = &receipt.payload;
    assert_eq!(said.amount, rates().cost(BillableUsage::new(20, 4)));
    assert_eq!(said.payer, shop.payer());
    assert_eq!(said.model, "acme/storyteller");
    let tokens = TokenCounts {
        input: 20,
        output: 4,
    };
    assert_eq!(said.tokens, tokens);

    // The state is told as before, with that beside it.
    let status = shop.payment_of(&answer.headers).await;
    assert_eq!(status.charge, Some(said.amount));
    assert_eq!(said.payment, UsageReceipt::payment_digest(status.id));
    assert_eq!(said.issued_at, status.updated_at);
    assert_eq!(shop.told_of(&answer.headers).await, told);
    assert_eq!(shop.books.key.signed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn while_it_is_served_and_when_it_is_released_there_is_no_receipt() {
    let gate = Arc::new(Semaphore::new(0));
    let script = [
        delta("Once"),
        Do::Gate(Arc::clone(&gate)),
        finish("stop"),
        done(),
    ];
    let shop = Shop::new(&Mock::new(script).await);
    let (parts, mut body) = shop.buy(STORY).await.into_parts();
    let mut seen = String::new();
    while !seen.contains("Once") {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(str::from_utf8(&frame).unwrap());
    }
    let told = shop.told_of(&parts.headers).await;
    assert_eq!(told["state"], "accepted");
    assert_eq!(told.get("receipt"), None);
    gate.add_permits(1);
    body.collect().await.unwrap();
    assert!(shop.told_of(&parts.headers).await["receipt"].is_object());

    let broken = Shop::new(&Mock::new([Do::Break]).await);
    let answer = broken.buy(STORY).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    broken.nothing_is_charged().await;
    assert_eq!(broken.books.key.signed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_key_that_fails_or_never_answers_leaves_the_state_without_a_receipt() {
    let shop = Shop::new(&story().await);
    let answer = Whole::of(shop.buy(STORY).await).await;
    for trouble in [Answers::Fails, Answers::Never] {
        *shop.books.key.answers.lock().unwrap() = trouble;
        let asked = tokio::time::timeout(Duration::from_secs(20), shop.told_of(&answer.headers));
        let told = asked.await.expect("a status waits for no key");
        assert_eq!(told["charge"], "120000000000000", "{trouble:?}");
        assert_eq!(told.get("receipt"), None, "{trouble:?}");
        assert_eq!(told["state"], "accepted", "{trouble:?}");
    }
    // It is back, and so is the receipt.
    *shop.books.key.answers.lock().unwrap() = Answers::Signs;
    assert!(shop.told_of(&answer.headers).await["receipt"].is_object());
}
