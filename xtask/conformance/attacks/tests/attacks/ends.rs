//! Ends that are not the usual one: nothing delivered, a deadline in mid-stream, a caller that leaves or reads nothing.

use std::{sync::Arc, time::Duration};

use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tollgate_ledger::{Status, Store};
use tollgate_payment::PaymentState;
use tollgate_x402::{Amount, U256, X402Version};

use crate::kit::{CHAT, PATIENCE, Payer, Setup, Step, Untouched, World, cents, chat, tokens};

/// PROTOCOL 3; RELIABILITY 15. An answer that failed before its first token costs nothing, and its authorization stays
/// burned: it is no ticket for free attempts, now, for another prompt, or after a restart. Lost: 0; charged: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_was_charged_nothing_is_served_nothing_more() {
    let mut world = World::new().await;
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    world.upstream.play([Step::Fail]);
    let signed = world.once(&payer, cents(99), 1).await;
    let body = chat(20);
    let other = body.replace("Hello", "Something else");
    let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let answer = world.request(CHAT, &body, Some(&payment)).await;
    assert!(!answer.text().contains("word"));
    assert_eq!(world.upstream.asked(), 1);
    world.upstream.play([Step::Say(20)]);
    for round in 0..2 {
        for body in [&body, &other] {
            for _ in 0..3 {
                let answer = world.request(CHAT, body, Some(&payment)).await;
                assert!(!answer.text().contains("word"), "{}", answer.text());
            }
        }
        assert_eq!(world.upstream.asked(), 1, "round {round}");
        world = world.restart().await;
    }
    world.settle().await;
    assert_eq!(world.received().await, Amount::ZERO);
    world.books_equal_the_chain().await;
}

/// Way 7 of RELIABILITY §0.2; PROTOCOL 6; RELIABILITY 26. A payment whose deadline would pass while it is served is
/// refused from the bytes; one that is just good enough is cut when its time is up, charged for what was delivered, and
/// in a block before its deadline. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_deadline_nears_is_cut_and_settled_before_it() {
    let mut setup = Setup::default();
    setup.bounds.serving = Duration::from_millis(700);
    let margin = setup.margin;
    let mut world = World::with(setup).await;
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let never = Arc::new(Semaphore::new(0));
    world
        .upstream
        .play([Step::Say(10), Step::Gate(never), Step::Say(90)]);
    let body = chat(100);
    let mut terms = world.once_terms(cents(99), 1);
    terms.deadline = world.now().plus(margin - 1);
    let late = world.sign_once(&payer, &terms).await;
    let late = world.payment(CHAT, &body, X402Version::V2, &late).await;
    let untouched = Untouched::begin(&world);
    assert_eq!(world.request(CHAT, &body, Some(&late)).await.status, 402);
    untouched.check("a deadline that is too near");

    let mut served = Vec::new();
    for kind in ["once", "allowance"] {
        let deadline = world.now().plus(margin + 1);
        let signed = if kind == "once" {
            terms.deadline = deadline;
            world.sign_once(&payer, &terms).await
        } else {
            world.allowance_until(&payer, cents(99), 0, deadline).await
        };
        let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
        let answer = world.request(CHAT, &body, Some(&payment)).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        served.push((answer.payment().unwrap().to_owned(), deadline));
    }
    assert_eq!(world.upstream.live(), 0, "the model server was let go");
    world.settle().await;
    for (id, deadline) in served {
        let row = world
            .store
            .payment(id.parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        let PaymentState::Final { block, .. } = row.state else {
            panic!("{:?}", row.state);
        };
        assert_eq!(row.charge, tokens(10), "what was delivered");
        let number = format!("0x{block:x}");
        let block = world
            .chain
            .rpc("eth_getBlockByNumber", serde_json::json!([number, false]));
        let time = block.await["timestamp"].as_str().unwrap().to_owned();
        let time = u64::from_str_radix(time.trim_start_matches("0x"), 16).unwrap();
        assert!(time <= deadline.0, "in a block {time}, by {}", deadline.0);
    }
    assert_eq!(world.sum(Status::Lost).await.payments, 0);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 5; RELIABILITY 32. Who hangs up in the middle pays for what was generated until then, and the model server
/// is let go. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_pays_for_what_was_delivered() {
    let mut world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    world
        .upstream
        .play([Step::Say(10), Step::Gate(gate), Step::Say(90)]);
    let signed = world.allowance(&Payer::rich(0), cents(99), 0).await;
    let body = chat(100);
    let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let request = Request::post(CHAT)
        .header(payment.name, &payment.value)
        .body(Full::new(body.into()))
        .unwrap();
    let mut answer = world.call(request).await;
    let mut words = 0;
    while words < 10 {
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        let text = String::from_utf8_lossy(frame.data_ref().unwrap()).into_owned();
        words += text.matches(" word").count();
    }
    drop(answer);
    tokio::time::timeout(PATIENCE, world.end_of_service())
        .await
        .unwrap();
    assert_eq!(world.upstream.live(), 0);
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.charge, tokens(10));
    world.books_equal_the_chain().await;
}

/// RELIABILITY 36. Who reads nothing of a paid stream holds it for the bound and no longer, and pays for what was taken
/// from the model server. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_is_cut_and_charged() {
    let mut setup = Setup::default();
    setup.bounds.write_timeout = Duration::from_millis(200);
    let mut world = World::with(setup).await;
    world.upstream.play([Step::Say(900)]);
    let mut stalled = Vec::new();
    let body = chat(900);
    for number in 0..8 {
        let payer = Payer::rich(number % 4);
        let signed = world.allowance(&payer, cents(99_000), 0).await;
        let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
        let request = Request::post(CHAT)
            .header(payment.name, &payment.value)
            .body(Full::new(body.clone().into()))
            .unwrap();
        let answer = world.call(request).await;
        assert_eq!(answer.status(), 200);
        stalled.push(answer);
    }
    tokio::time::timeout(PATIENCE, world.end_of_service())
        .await
        .unwrap();
    assert_eq!(world.upstream.live(), 0);
    drop(stalled);
    world.settle().await;
    let paid = world.sum(Status::Final).await;
    assert_eq!(paid.payments, 8);
    assert!(
        paid.charge < tokens(8 * 900),
        "they were cut: {}",
        paid.charge
    );
    assert_eq!(world.sum(Status::Lost).await.payments, 0);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 12; RELIABILITY 35. A model server that says more than was asked for: the charge is never above what was
/// reserved. Lost: 0; overcharged: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_charged_above_its_reservation() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(5_000)]);
    let signed = world.allowance(&Payer::rich(0), cents(99), 0).await;
    for asked in [1, 16, 100, 900] {
        let answer = world.buy(asked, &signed).await;
        if answer.status != 200 {
            continue;
        }
        let status = world.status(answer.payment().unwrap()).await;
        assert!(status.charge.unwrap() <= tokens(u64::from(asked)));
    }
    world.settle().await;
    assert!(world.sum(Status::Final).await.charge <= cents(99));
    world.books_equal_the_chain().await;
}
