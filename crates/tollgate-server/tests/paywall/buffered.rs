//! Answers that are charged before their first byte goes out.

use std::sync::atomic::Ordering;

use crate::shop::{
    Attached, CAP, Fed, Upstream, ask, header, paid, paid_by, refusal, settle, shop, shop_within,
    text,
};
use crate::till::{End, Event, MemoryTill, PAYER};
use http::Response;
use tollgate_payment::{Retention, port::Admitted};
use tollgate_server::Delivery;
use tollgate_x402::{Amount, ErrorCode, Json, Limits, SettleResponse, X402Version};

#[tokio::test]
async fn an_answer_is_charged_and_its_header_says_so_in_the_clients_version() {
    for (version, name, other) in [
        (X402Version::V1, "x-payment-response", "payment-response"),
        (X402Version::V2, "payment-response", "x-payment-response"),
    ] {
        let till = MemoryTill::new();
        let upstream = Upstream::new().answers(
            200,
            "application/json",
            Fed::whole(&till, ["{\"a\":", "1}"]),
        );
        let answer = ask(&shop(&till, upstream.clone()), paid_by(&till, version, 1)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "cache-control"), "private, no-store");
        assert_eq!(header(&answer, "vary"), "PAYMENT-SIGNATURE, X-PAYMENT");
        assert_eq!(header(&answer, other), "");
        let id = till.payment().id.to_string();
        assert_eq!(header(&answer, "x-payment-id"), id);
        let settled =
            SettleResponse::parse_header(header(&answer, name).as_bytes(), &Limits::DEFAULT)
                .unwrap();
        assert!(settled.success);
        assert_eq!((settled.payer, settled.transaction), (Some(PAYER), None));
        assert_eq!(settled.network.to_string(), "eip155:31337");
        assert_eq!(settled.amount, Some(Amount::from(7_u64)));
        assert_eq!(
            settled.extra.value("paymentId"),
            Some(Json::from(id.as_str()))
        );
        assert_eq!(settled.extra.value("state"), Some(Json::from("accepted")));
        // What `closing` gives replaces the body.
        assert_eq!(text(answer).await, "<Complete 7>");
        assert_eq!(till.charged(), 7);
        assert_eq!(till.payment().memo, "7 bytes");

        let asked = upstream.asked.lock().unwrap();
        assert_eq!(asked[0].body(), "hello");
        assert_eq!(asked[0].uri(), "/paid?by=byte");
        assert_eq!(
            asked[0].extensions().get::<Attached>().unwrap().cap,
            Amount::from(CAP)
        );
        assert_eq!(
            asked[0].extensions().get::<Admitted>().unwrap().payer,
            PAYER
        );
        let (parts, ()) = crate::shop::unpaid().map(drop).into_parts();
        assert_eq!(
            till.payment().digest,
            tollgate_server::request_digest(&parts, b"hello")
        );
    }
}

#[tokio::test]
async fn nothing_goes_out_before_the_hold_is_durable() {
    let till = MemoryTill::new();
    let gate = till.gate();
    let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["answer"]));
    let shop = shop(&till, upstream.clone());
    let answer = tokio::spawn({
        let request = paid(&till);
        async move { ask(&shop, request).await }
    });
    settle().await;
    assert_eq!(upstream.times_asked(), 1, "the service is called at once");
    assert!(!answer.is_finished());
    assert_eq!(till.end(), None);
    gate.send_replace(true);
    assert_eq!(text(answer.await.unwrap()).await, "<Complete 6>");
    assert_eq!(
        till.log(),
        [
            Event::Durable,
            Event::Note("upstream dropped"),
            Event::Charged(6)
        ]
    );
}

#[tokio::test]
async fn a_hold_that_does_not_become_durable_serves_nothing() {
    for kind in ["text/plain", "text/event-stream"] {
        let till = MemoryTill::new();
        till.books().durable_fails = true;
        let upstream = Upstream::new().answers(200, kind, Fed::whole(&till, ["answer"]));
        let answer = ask(&shop(&till, upstream), paid(&till)).await;
        assert_eq!(header(&answer, "retry-after"), "2");
        assert_eq!(refusal(answer).await.1, ErrorCode::LedgerUnavailable);
        assert_eq!(till.end(), Some(End::Released));
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_cancelled_when_the_hold_fails() {
    let till = MemoryTill::new();
    till.books().durable_fails = true;
    let (_never, upstream) = Upstream::new().gated();
    assert_eq!(
        refusal(ask(&shop(&till, upstream), paid(&till)).await)
            .await
            .1,
        ErrorCode::LedgerUnavailable
    );
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn a_refusal_of_the_service_passes_and_releases() {
    for status in [400, 404, 429, 500, 503] {
        for kind in ["application/json", "text/event-stream"] {
            let till = MemoryTill::new();
            let upstream = Upstream::new().answers(status, kind, Fed::whole(&till, ["no ", "way"]));
            let answer = ask(&shop(&till, upstream), paid(&till)).await;
            assert_eq!(answer.status(), status);
            assert_eq!(header(&answer, "payment-response"), "");
            assert_eq!(
                till.end(),
                Some(End::Released),
                "released before the answer goes out"
            );
            assert_eq!(text(answer).await, "no way");
        }
    }
}

#[tokio::test]
async fn after_work_has_begun_there_is_no_402() {
    let till = MemoryTill::new();
    let mut refused = Response::new(Fed::whole(&till, ["pay me"]));
    *refused.status_mut() = http::StatusCode::PAYMENT_REQUIRED;
    refused
        .headers_mut()
        .insert("payment-required", "forged".parse().unwrap());
    let answer = ask(
        &shop(&till, Upstream::new().responds(Ok(refused))),
        paid(&till),
    )
    .await;
    assert_eq!(header(&answer, "payment-required"), "");
    assert_eq!(refusal(answer).await.1, ErrorCode::UpstreamFailed);
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn a_service_that_fails_or_panics_charges_nothing() {
    let till = MemoryTill::new();
    let upstream = Upstream::new().responds(Err("connection refused: 10.0.0.7".into()));
    let answer = ask(&shop(&till, upstream), paid(&till)).await;
    let status = answer.status();
    let body = text(answer).await;
    assert_eq!(status, 502);
    assert!(
        body.contains("upstream_failed") && !body.contains("10.0.0.7"),
        "{body}"
    );
    assert_eq!(till.end(), Some(End::Released));

    // It has no answer left. The hold is about to become durable, which goes on.
    let till = MemoryTill::new();
    till.books().yields = 5;
    assert_eq!(
        refusal(ask(&shop(&till, Upstream::new()), paid(&till)).await)
            .await
            .1,
        ErrorCode::InternalError
    );
    assert_eq!(till.log(), [Event::Durable, Event::Released]);

    for panics in ["panic in the meter", "upstream panics"] {
        let till = MemoryTill::new();
        till.books().yields = 5;
        let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, [panics]));
        assert_eq!(
            refusal(ask(&shop(&till, upstream), paid(&till)).await)
                .await
                .1,
            ErrorCode::InternalError
        );
        assert_eq!(till.end(), Some(End::Released));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_too_long_charges_nothing() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    feed.frame("half");
    feed.fail();
    let upstream = Upstream::new().answers(200, "text/plain", body);
    assert_eq!(
        refusal(ask(&shop(&till, upstream), paid(&till)).await)
            .await
            .1,
        ErrorCode::UpstreamFailed
    );
    assert_eq!(till.end(), Some(End::Released));

    let till = MemoryTill::new();
    let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["1234", "56789"]));
    let shop = shop_within(&till, upstream, |bounds| bounds.response_bytes = 8);
    assert_eq!(
        refusal(ask(&shop, paid(&till)).await).await.1,
        ErrorCode::UpstreamFailed
    );
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn an_answer_whose_charge_is_not_written_is_withheld_and_tells_whether_it_may_be_charged() {
    let retention = Retention {
        bytes: 1000,
        ..Retention::default()
    };
    for (retention, code) in [
        (None, ErrorCode::LedgerUnavailable),
        // Once it is written, the same request gets its answer.
        (Some(retention), ErrorCode::ChargeUndecided),
    ] {
        let till = MemoryTill::new();
        till.books().commit_fails = true;
        till.books().retention = retention;
        let upstream = Upstream::new().answers(200, "text/plain", Fed::whole(&till, ["answer"]));
        let answer = ask(&shop(&till, upstream), paid(&till)).await;
        assert_eq!(header(&answer, "retry-after"), "2");
        assert_eq!(
            header(&answer, "x-payment-id"),
            till.payment().id.to_string()
        );
        assert_eq!(refusal(answer).await.1, code);
        assert_eq!(till.end(), Some(End::Failed));
    }
}

#[tokio::test]
async fn an_answer_without_a_body_costs_what_the_meter_says() {
    let till = MemoryTill::new();
    let upstream = Upstream::new().answers(204, "text/plain", Fed::whole(&till, []));
    let answer = ask(&shop(&till, upstream), paid(&till)).await;
    let settled = header(&answer, "payment-response").as_bytes();
    let settled = SettleResponse::parse_header(settled, &Limits::DEFAULT).unwrap();
    assert_eq!(settled.extra.value("state"), Some(Json::from("released")));
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn more_than_the_cap_is_not_charged() {
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    feed.bytes(12_000);
    drop(feed);
    let upstream = Upstream::new().answers(200, "text/plain", body);
    assert_eq!(
        text(ask(&shop(&till, upstream), paid(&till)).await).await,
        "<Complete 10000>"
    );
    let (amount, used) = (Amount::from(CAP), Amount::from(12_000_u64));
    assert_eq!(till.end(), Some(End::Charged { amount, used }));
}

#[tokio::test]
async fn a_service_may_have_a_stream_collected() {
    let till = MemoryTill::new();
    let mut response = Response::new(Fed::whole(&till, ["a", "b"]));
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response.extensions_mut().insert(Delivery::Buffered);
    let answer = ask(
        &shop(&till, Upstream::new().responds(Ok(response))),
        paid(&till),
    )
    .await;
    assert_ne!(header(&answer, "payment-response"), "");
    assert_eq!(text(answer).await, "<Complete 2>");
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_the_service_and_ends_the_payment() {
    // While the service has not answered.
    let till = MemoryTill::new();
    let (_never, upstream) = Upstream::new().gated();
    let answer = tokio::spawn({
        let (shop, request) = (shop(&till, upstream.clone()), paid(&till));
        async move { ask(&shop, request).await }
    });
    settle().await;
    assert_eq!((upstream.times_asked(), till.end()), (1, None));
    answer.abort();
    settle().await;
    assert_eq!(till.end(), Some(End::Released));

    // While its answer is collected.
    let till = MemoryTill::new();
    let (feed, body) = Fed::new(&till);
    feed.frame("half");
    let upstream = Upstream::new().answers(200, "text/plain", body);
    let answer = tokio::spawn({
        let (shop, request) = (shop(&till, upstream), paid(&till));
        async move { ask(&shop, request).await }
    });
    settle().await;
    assert!(!feed.is_cancelled());
    answer.abort();
    feed.cancelled().await;
    settle().await;
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn a_caller_that_hangs_up_during_admission_is_not_served() {
    let till = MemoryTill::new();
    till.books().yields = 20;
    let upstream = Upstream::new();
    let answer = tokio::spawn({
        let (shop, request) = (shop(&till, upstream.clone()), paid(&till));
        async move { ask(&shop, request).await }
    });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    answer.abort();
    settle().await;
    assert_eq!(upstream.times_asked(), 0);
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_takes_too_long_charges_nothing() {
    let till = MemoryTill::new();
    let (_never, upstream) = Upstream::new().gated();
    assert_eq!(
        refusal(ask(&shop(&till, upstream), paid(&till)).await)
            .await
            .1,
        ErrorCode::UpstreamTimeout
    );
    assert_eq!(till.end(), Some(End::Released));
}

#[tokio::test]
async fn what_forbids_more_of_the_services_cache_control_stays() {
    let till = MemoryTill::new();
    let mut response = Response::new(Fed::whole(&till, ["a"]));
    response.headers_mut().insert(
        "cache-control",
        "public, No-Cache, max-age=60, no-transform"
            .parse()
            .unwrap(),
    );
    let answer = ask(
        &shop(&till, Upstream::new().responds(Ok(response))),
        paid(&till),
    )
    .await;
    assert_eq!(
        header(&answer, "cache-control"),
        "private, no-store, no-cache, no-transform"
    );
}

#[tokio::test]
async fn a_caller_that_hangs_up_pays_for_the_work_that_the_meter_knows_of() {
    // As when a gateway collects a stream of its upstream into one answer.
    for answered in [false, true] {
        let till = MemoryTill::new();
        let (feed, body) = Fed::new(&till);
        let (gate, upstream) = Upstream::new().answers(200, "text/plain", body).gated();
        gate.send_replace(answered);
        let answer = tokio::spawn({
            let (shop, request) = (shop(&till, upstream.clone()), paid(&till));
            async move { ask(&shop, request).await }
        });
        settle().await;
        let asked = upstream.asked.lock().unwrap().pop().unwrap();
        asked
            .extensions()
            .get::<Attached>()
            .unwrap()
            .work
            .store(42, Ordering::Relaxed);
        answer.abort();
        settle().await;
        assert_eq!(till.charged(), 42);
        drop(feed);
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_made_ready_charges_nothing() {
    let till = MemoryTill::new();
    let mut upstream = Upstream::new();
    upstream.overloaded = true;
    assert_eq!(
        refusal(ask(&shop(&till, upstream), paid(&till)).await)
            .await
            .1,
        ErrorCode::UpstreamFailed
    );
    assert_eq!(till.end(), Some(End::Released));
}
