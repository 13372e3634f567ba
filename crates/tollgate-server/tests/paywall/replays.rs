//! Answers that were lost, and are given again.

use http::StatusCode;
use tollgate_payment::Retention;
use tollgate_x402::{B256, ErrorCode, Json, Limits, SettleResponse, X402Version};
use tower_layer::Layer as _;

use crate::shop::{
    Answer, Fed, Upstream, ask, header, layer, paid, paid_by, read, refusal, settle, shop, text,
};
use crate::till::MemoryTill;

fn keeping(bytes: usize) -> MemoryTill {
    let till = MemoryTill::new();
    till.books().retention = Some(Retention {
        bytes,
        ..Retention::default()
    });
    till
}

/// What every replay has in its head.
fn check(again: &Answer, till: &MemoryTill, name: &str, charge: u64) {
    assert_eq!(header(again, "x-payment-replayed"), "true");
    assert_eq!(header(again, "cache-control"), "private, no-store");
    assert_eq!(header(again, "vary"), "PAYMENT-SIGNATURE, X-PAYMENT");
    assert_eq!(header(again, "x-payment-id"), till.payment().id.to_string());
    let told = header(again, name).as_bytes();
    let told = SettleResponse::parse_header(told, &Limits::DEFAULT).unwrap();
    assert_eq!(told.amount, Some(charge.into()));
    assert_eq!(told.transaction, Some(B256::repeat_byte(7)));
    assert_eq!(told.extra.value("state"), Some(Json::from("final")));
}

#[tokio::test]
async fn a_lost_answer_comes_again_as_it_was_and_the_service_is_not_asked() {
    let till = keeping(1000);
    let upstream = Upstream::new().answers(203, "text/x-bytes", Fed::whole(&till, ["hel", "lo"]));
    let shop = shop(&till, upstream.clone());
    let first = ask(&shop, paid(&till)).await;
    assert_eq!(header(&first, "x-payment-replayed"), "");
    let first = text(first).await;
    for (version, name) in [
        (X402Version::V2, "payment-response"),
        (X402Version::V1, "x-payment-response"),
    ] {
        let again = ask(&shop, paid_by(&till, version, 1)).await;
        assert_eq!(again.status(), StatusCode::NON_AUTHORITATIVE_INFORMATION);
        assert_eq!(header(&again, "content-type"), "text/x-bytes");
        assert_eq!(header(&again, "x-shop"), "bytes");
        check(&again, &till, name, 5);
        assert_eq!(text(again).await, first);
    }
    assert_eq!(first, "<Complete 5>");
    assert_eq!((till.charged(), upstream.times_asked()), (5, 1));
}

#[tokio::test]
async fn a_stream_comes_again_with_the_last_words_that_were_sent() {
    let till = keeping(1000);
    let upstream = Upstream::new().streams(Fed::whole(&till, ["data: a\n\n", "data: b\n\n"]));
    let shop = shop(&till, upstream.clone());
    let first = text(ask(&shop, paid(&till)).await).await;
    assert_eq!(first, "data: a\n\ndata: b\n\n<Complete 18>");
    let again = ask(&shop, paid(&till)).await;
    assert_eq!(header(&again, "content-type"), "text/event-stream");
    check(&again, &till, "payment-response", 18);
    assert_eq!(text(again).await, first);
    assert_eq!((till.charged(), upstream.times_asked()), (18, 1));
}

#[tokio::test]
async fn a_caller_that_hung_up_in_mid_stream_gets_what_was_charged_and_an_end() {
    let till = keeping(1000);
    let (feed, body) = Fed::new(&till);
    let shop = shop(&till, Upstream::new().streams(body));
    let answer = ask(&shop, paid(&till)).await;
    feed.frame("data: a\n\n");
    settle().await;
    drop(answer);
    settle().await;
    assert_eq!(till.charged(), 9);
    let again = ask(&shop, paid(&till)).await;
    check(&again, &till, "payment-response", 9);
    assert_eq!(read(again).await, ("data: a\n\n<Cut 9>".to_owned(), true));
}

#[tokio::test]
async fn an_answer_longer_than_what_is_kept_is_told_to_have_ended_and_its_charge() {
    // The stream alone fits the second, and not with its last words.
    for bytes in [5, 8, 0] {
        let till = keeping(bytes);
        let upstream = Upstream::new().streams(Fed::whole(&till, ["1234", "5678"]));
        let shop = shop(&till, upstream);
        assert_eq!(
            text(ask(&shop, paid(&till)).await).await,
            "12345678<Complete 8>"
        );
        let again = ask(&shop, paid(&till)).await;
        assert_eq!(again.status(), StatusCode::GONE);
        assert_eq!(header(&again, "content-type"), "application/json");
        assert_eq!(header(&again, "x-shop"), "");
        check(&again, &till, "payment-response", 8);
        let body = text(again).await;
        assert!(body.starts_with("{\"error\":\"answer_gone\","), "{body}");
        let id = till.payment().id;
        let facts = format!(",\"paymentId\":\"{id}\",\"charge\":\"8\"}}");
        assert!(body.ends_with(&facts), "{body}");
    }
}

#[tokio::test]
async fn the_same_payment_with_another_request_or_too_early_is_refused() {
    let till = keeping(1000);
    let (feed, body) = Fed::new(&till);
    let shop = shop(&till, Upstream::new().streams(body));
    let answer = ask(&shop, paid(&till)).await;
    feed.frame("data: a\n\n");
    settle().await;
    let early = ask(&shop, paid(&till)).await;
    assert_eq!(header(&early, "retry-after"), "2");
    assert_eq!(
        refusal(early).await,
        (StatusCode::TOO_EARLY, ErrorCode::PaymentInFlight)
    );
    drop(feed);
    text(answer).await;
    let mut other = paid(&till);
    *other.uri_mut() = "/paid?by=word".parse().unwrap();
    assert_eq!(
        refusal(ask(&shop, other).await).await,
        (StatusCode::CONFLICT, ErrorCode::DuplicateSettlement)
    );
}

#[tokio::test]
async fn a_stream_that_broke_off_worth_nothing_is_not_kept() {
    let till = keeping(1000);
    let (feed, body) = Fed::new(&till);
    let shop = shop(&till, Upstream::new().streams(body));
    let answer = ask(&shop, paid(&till)).await;
    feed.fail();
    drop(feed);
    read(answer).await;
    assert_eq!(till.payment().kept, None);
}

#[tokio::test]
async fn a_server_that_shuts_down_still_gives_the_answers_that_were_paid_for() {
    let till = keeping(1000);
    let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["text"]));
    let layer = layer(&till);
    let shop = layer.layer(upstream.clone());
    let first = text(ask(&shop, paid(&till)).await).await;
    layer.drain().begin();
    let again = ask(&shop, paid(&till)).await;
    check(&again, &till, "payment-response", 4);
    assert_eq!(text(again).await, first);
    let new = ask(&shop, paid_by(&till, X402Version::V2, 2)).await;
    assert_eq!(
        refusal(new).await,
        (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Draining)
    );
    assert_eq!((till.charged(), upstream.times_asked()), (4, 1));
    assert_eq!(layer.drain().open(), 0);
}
