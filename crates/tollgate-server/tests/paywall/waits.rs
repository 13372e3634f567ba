//! Callers that wait until their payment is in a block.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};
use tollgate_x402::{B256, Json, Limits, PaymentState, SettleResponse, X402Version};

use crate::{
    shop::{
        Answer, Fed, Shop, Upstream, ask, header, layer, paid, paid_by, settle, shop, shop_within,
        text,
    },
    till::{End, Event, MemoryTill},
};
use http::Request;
use http_body_util::Full;
use tower::Layer;

const ANSWER: &str = "<Complete 6>";

fn upstream(till: &MemoryTill) -> Upstream {
    Upstream::new().answers(200, "text/plain", Fed::whole(till, ["answer"]))
}

fn preferring(till: &MemoryTill, prefer: &'static str) -> Request<Full<bytes::Bytes>> {
    let mut request = paid(till);
    request
        .headers_mut()
        .insert("prefer", prefer.parse().unwrap());
    request
}

/// Asks in a task of its own, and lets it come as far as it can.
async fn asking(shop: &Shop, request: Request<Full<bytes::Bytes>>) -> JoinHandle<Answer> {
    let shop = shop.clone();
    let answer = tokio::spawn(async move { ask(&shop, request).await });
    settle().await;
    answer
}

/// The state that the header tells, and the transaction.
fn told(answer: &Answer) -> (String, Option<B256>) {
    let told = header(answer, "payment-response").as_bytes();
    let told = SettleResponse::parse_header(told, &Limits::DEFAULT).unwrap();
    assert!(told.success);
    let state = told.extra.value("state").unwrap();
    (state.as_str().unwrap().to_owned(), told.transaction)
}

fn accepted() -> (String, Option<B256>) {
    ("accepted".to_owned(), None)
}

/// That the only payment was charged once, before anything was waited for.
fn charged_once(till: &MemoryTill) {
    assert_eq!(till.charged(), 6);
    assert_eq!(
        till.log(),
        [
            Event::Durable,
            Event::Note("upstream dropped"),
            Event::Charged(6)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_held_back_until_its_payment_is_in_a_block_and_tells_the_transaction() {
    let hash = Some(B256::repeat_byte(7));
    for (state, name, transaction) in [
        (PaymentState::Included, "included", hash),
        (PaymentState::Final, "final", hash),
        // It came to nothing: there is no block to wait for.
        (PaymentState::Lost, "lost", None),
    ] {
        let till = MemoryTill::new();
        let chain = till.chain();
        let layer = layer(&till);
        let shop = layer.layer(upstream(&till));
        let began = Instant::now();
        let answer = asking(&shop, preferring(&till, "respond-async, wait=10")).await;
        assert!(!answer.is_finished());
        charged_once(&till);
        assert_eq!(layer.drain().open(), 0, "nothing is open of the payment");
        tokio::time::advance(Duration::from_secs(3)).await;
        chain.send_replace(Some(state));
        let answer = answer.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "preference-applied"), "wait=10");
        assert_eq!(told(&answer), (name.to_owned(), transaction));
        assert_eq!(
            header(&answer, "x-payment-id"),
            till.payment().id.to_string()
        );
        assert_eq!(text(answer).await, ANSWER);
        charged_once(&till);
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_of_a_v1_client_tells_the_transaction_too() {
    let till = MemoryTill::new();
    let chain = till.chain();
    chain.send_replace(Some(PaymentState::Included));
    let mut request = paid_by(&till, X402Version::V1, 1);
    request
        .headers_mut()
        .insert("prefer", "wait=1".parse().unwrap());
    let answer = ask(&shop(&till, upstream(&till)), request).await;
    let told = header(&answer, "x-payment-response").as_bytes();
    let told = SettleResponse::parse_header(told, &Limits::DEFAULT).unwrap();
    assert_eq!(told.transaction, Some(B256::repeat_byte(7)));
    assert_eq!(told.extra.value("state"), Some(Json::from("included")));
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_when_its_time_is_and_no_wait_is_longer_than_the_bound() {
    for (prefer, bound, applied) in [
        ("wait=10", 30, 10),
        ("wait=31", 30, 30),
        ("wait=99999999999999999999999", 30, 30),
        ("wait=10", 2, 2),
    ] {
        let till = MemoryTill::new();
        let _chain = till.chain();
        let shop = shop_within(&till, upstream(&till), |bounds| {
            bounds.wait = Duration::from_secs(bound);
        });
        let began = Instant::now();
        let answer = ask(&shop, preferring(&till, prefer)).await;
        assert_eq!(began.elapsed().as_secs(), applied);
        assert_eq!(
            header(&answer, "preference-applied"),
            format!("wait={applied}")
        );
        assert_eq!(told(&answer), accepted());
        assert_eq!(text(answer).await, ANSWER);
        charged_once(&till);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_or_asks_for_nothing_does_not_wait() {
    for (prefer, bound, settled) in [
        ("respond-async", 30, true),
        ("wait=0", 30, true),
        ("wait=x", 30, true),
        ("foo=\"a, wait=5\"", 30, true),
        // The seller does not want it.
        ("wait=10", 0, true),
        // No block is expected of the payment.
        ("wait=10", 30, false),
    ] {
        let till = MemoryTill::new();
        let _chain = settled.then(|| till.chain());
        let began = Instant::now();
        let shop = shop_within(&till, upstream(&till), |bounds| {
            bounds.wait = Duration::from_secs(bound);
        });
        let answer = ask(&shop, preferring(&till, prefer)).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "{prefer}");
        assert_eq!(header(&answer, "preference-applied"), "");
        assert_eq!(told(&answer), accepted());
        charged_once(&till);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_costs_nothing_or_whose_charge_is_not_written_is_not_held_back() {
    for fails in [false, true] {
        let till = MemoryTill::new();
        let _chain = till.chain();
        till.books().commit_fails = fails;
        let upstream = Upstream::new().answers(204, "text/plain", Fed::whole(&till, []));
        let began = Instant::now();
        let answer = ask(&shop(&till, upstream), preferring(&till, "wait=10")).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(header(&answer, "preference-applied"), "");
        if !fails {
            assert_eq!(told(&answer), ("released".to_owned(), None));
        }
        let end = if fails { End::Failed } else { End::Released };
        assert_eq!(till.end(), Some(end));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_never_waits() {
    let till = MemoryTill::new();
    let _chain = till.chain();
    let upstream = Upstream::new().streams(Fed::whole(&till, ["answer"]));
    let began = Instant::now();
    let answer = ask(&shop(&till, upstream), preferring(&till, "wait=10")).await;
    assert_eq!(header(&answer, "preference-applied"), "");
    assert_eq!(text(answer).await, "answer<Complete 6>");
    assert_eq!(began.elapsed(), Duration::ZERO);
    charged_once(&till);
}

#[tokio::test(start_paused = true)]
async fn a_drain_sends_what_is_held_back_at_once() {
    let till = MemoryTill::new();
    let _chain = till.chain();
    let layer = layer(&till);
    let shop = layer.layer(upstream(&till));
    let began = Instant::now();
    let answer = asking(&shop, preferring(&till, "wait=10")).await;
    assert!(!answer.is_finished());
    layer.drain().begin();
    let answer = answer.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(header(&answer, "preference-applied"), "");
    assert_eq!(told(&answer), accepted());
    assert_eq!(text(answer).await, ANSWER);
    charged_once(&till);
}

#[tokio::test(start_paused = true)]
async fn a_till_that_cannot_tell_any_more_holds_nothing_back() {
    let till = MemoryTill::new();
    let chain = till.chain();
    let began = Instant::now();
    let answer = asking(&shop(&till, upstream(&till)), preferring(&till, "wait=10")).await;
    assert!(!answer.is_finished());
    drop(chain);
    // The books have a receiver, and no sender is left.
    let answer = answer.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(header(&answer, "preference-applied"), "");
    assert_eq!(told(&answer), accepted());
    charged_once(&till);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_it_waits_is_charged_once_and_gives_its_place_to_another() {
    let till = MemoryTill::new();
    let chain = till.chain();
    let upstream = upstream(&till).answers(200, "text/plain", Fed::whole(&till, ["second"]));
    let shop = shop_within(&till, upstream, |bounds| bounds.waiting = 1);
    let answer = asking(&shop, preferring(&till, "wait=10")).await;
    assert!(!answer.is_finished());
    answer.abort();
    settle().await;
    charged_once(&till);

    let mut request = paid_by(&till, X402Version::V2, 2);
    request
        .headers_mut()
        .insert("prefer", "wait=10".parse().unwrap());
    let next = asking(&shop, request).await;
    assert!(!next.is_finished(), "there is a place");
    chain.send_replace(Some(PaymentState::Included));
    assert_eq!(told(&next.await.unwrap()).0, "included");
}

#[tokio::test(start_paused = true)]
async fn above_so_many_callers_none_waits() {
    let till = MemoryTill::new();
    let chain = till.chain();
    let upstream = (0..4).fold(Upstream::new(), |upstream, _| {
        upstream.answers(200, "text/plain", Fed::whole(&till, ["answer"]))
    });
    let shop = shop_within(&till, upstream, |bounds| bounds.waiting = 2);
    let mut answers = Vec::new();
    for nonce in 1..=4 {
        let mut request = paid_by(&till, X402Version::V2, nonce);
        request
            .headers_mut()
            .insert("prefer", "wait=10".parse().unwrap());
        answers.push(asking(&shop, request).await);
    }
    let waiting = answers.iter().map(|answer| !answer.is_finished());
    assert_eq!(waiting.collect::<Vec<_>>(), [true, true, false, false]);
    chain.send_replace(Some(PaymentState::Included));
    for (at, answer) in answers.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        let (state, applied) = if at < 2 {
            ("included", "wait=10")
        } else {
            ("accepted", "")
        };
        assert_eq!(told(&answer).0, state);
        assert_eq!(header(&answer, "preference-applied"), applied);
        assert_eq!(text(answer).await, ANSWER);
    }
    let charged = |payment: &crate::till::Payment| matches!(payment.end, Some(End::Charged { .. }));
    assert!(till.books().payments.iter().all(charged));
}
