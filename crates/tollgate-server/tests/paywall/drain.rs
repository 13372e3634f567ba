//! A shutdown that loses nothing.

use std::time::Duration;

use crate::{
    shop::{Fed, Upstream, ask, layer, paid, paid_by, refusal, request, settle, text, unpaid},
    till::{End, MemoryTill},
};
use http::Method;
use tollgate_x402::{ErrorCode, X402Version};
use tower::Layer;

#[tokio::test]
async fn a_drain_admits_no_more_and_waits_for_what_is_open() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    let layer = layer(&till);
    let free = Fed::whole(&till, ["free"]);
    let shop = layer.layer(
        Upstream::new()
            .streams(body)
            .answers(200, "text/plain", free),
    );
    let drain = layer.drain();
    assert_eq!(drain.open(), 0);
    let answer = ask(&shop, paid(&till)).await;
    assert_eq!(drain.open(), 1);
    drain.begin();
    assert!(drain.has_begun());
    for refused in [unpaid(), paid_by(&till, X402Version::V1, 2)] {
        let answer = ask(&shop, refused).await;
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(refusal(answer).await.1, ErrorCode::Draining);
    }
    assert_eq!(
        text(ask(&shop, request(Method::GET, "/free", "")).await).await,
        "free"
    );

    let waiting = tokio::spawn({
        let drain = drain.clone();
        async move { drain.wait().await }
    });
    settle().await;
    assert!(!waiting.is_finished());
    feed.frame("to the end");
    drop(feed);
    waiting.await.unwrap();
    assert_eq!(till.charged(), 10);
    assert_eq!(text(answer).await, "to the end<Complete 10>");
    assert_eq!(drain.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_that_do_not_end_in_time_are_cut_and_charged() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    let layer = layer(&till);
    let shop = layer.layer(Upstream::new().streams(body));
    let answer = ask(&shop, paid(&till)).await;
    feed.frame("so far");
    let begun = tokio::time::Instant::now();
    layer.drain().finish(Duration::from_secs(20)).await;
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(till.charged(), 6);
    assert!(feed.is_cancelled());
    assert_eq!(text(answer).await, "so far<Cut 6>");
    // Nothing open: nothing to wait for.
    layer.drain().finish(Duration::from_secs(20)).await;
    assert_eq!(begun.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn what_has_not_begun_is_released_by_a_cut() {
    for head in [false, true] {
        let till = MemoryTill::new();
        let (feed, body) = Fed::new(&till);
        feed.frame("half");
        let upstream = Upstream::new().answers(200, "text/plain", body);
        let (gate, upstream) = upstream.gated();
        gate.send_replace(head);
        let layer = layer(&till);
        let (shop, request) = (layer.layer(upstream), paid(&till));
        let answer = tokio::spawn(async move { ask(&shop, request).await });
        settle().await;
        assert_eq!(layer.drain().open(), 1);
        layer.drain().cut();
        assert_eq!(refusal(answer.await.unwrap()).await.1, ErrorCode::Draining);
        layer.drain().wait().await;
        assert_eq!(till.end(), Some(End::Released));
    }
}

#[tokio::test]
async fn an_admission_that_was_under_way_is_waited_for() {
    let till = MemoryTill::new();
    till.books().yields = 10;
    let layer = layer(&till);
    let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["text"]));
    let (shop, request) = (layer.layer(upstream), paid(&till));
    let answer = tokio::spawn(async move { ask(&shop, request).await });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(till.books().payments, []);
    layer.drain().begin();
    layer.drain().wait().await;
    assert_eq!(till.charged(), 4);
    assert_eq!(answer.await.unwrap().status(), 200);
}
