//! What callers of the service can rely on.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tollgate_facilitator::{
    AnswerBody, Caller, CallerName, Callers, FacilitatorError, FacilitatorService, GasBudget,
    KeyHash, ServiceConfig, Stage,
};
use tollgate_x402::{Address, ErrorCode, Limits, SettleResponse, VerifyResponse, X402Version};
use tower::ServiceExt;

use crate::common::*;

const KEY: &str = "the-shops-key";

struct Desk {
    told: Told,
    clock: Hand,
    service: FacilitatorService<Told>,
}

fn desk() -> Desk {
    let (told, clock) = (Told::default(), Hand::default());
    clock.0.store(86_400, Ordering::SeqCst);
    let caller = |name: &str, key: &str| Caller {
        name: CallerName::new(name).unwrap(),
        key: Some(KeyHash::of(key)),
        pay_to: Some([PAY_TO].into()),
        budget: Some(GasBudget {
            gas: 150,
            period: 86_400,
        }),
    };
    let mut stranger = caller("stranger", "another-key");
    stranger.pay_to = Some([Address::repeat_byte(1)].into());
    let callers = Callers::new([caller("shop", KEY), caller("bakery", "bakery"), stranger]);
    let service = FacilitatorService::new(
        told.clone(),
        callers,
        Arc::new(clock.clone()),
        ServiceConfig::default(),
    );
    Desk {
        told,
        clock,
        service,
    }
}

fn post(path: &str, key: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Full::new(body.into()))
        .unwrap()
}

impl Desk {
    async fn ask<B>(&self, request: Request<B>) -> (Response<()>, String)
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let response: Response<AnswerBody> = self.service.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (Response::from_parts(head, ()), text)
    }

    async fn settle(&self, key: &str) -> (Response<()>, String) {
        let body = request(X402Version::V2).to_json();
        self.ask(post("/settle", key, body)).await
    }
}

#[tokio::test]
async fn both_versions_are_verified_and_settled() {
    for version in [X402Version::V1, X402Version::V2] {
        let desk = desk();
        let body = request(version).to_json();
        let (head, text) = desk.ask(post("/verify", KEY, body.clone())).await;
        assert_eq!(head.status(), 200, "{text}");
        let verified = VerifyResponse::parse_body(text.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!((verified.is_valid, verified.payer), (true, Some(PAYER)));
        let (head, text) = desk.ask(post("/settle", KEY, body)).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()[header::CACHE_CONTROL], "no-store");
        let told = SettleResponse::parse_body(text.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!(told, settled());
        assert_eq!(*desk.told.settled.lock().unwrap(), ["shop"]);
    }
}

#[tokio::test]
async fn how_far_a_settlement_is_has_its_status() {
    for (stage, status) in [
        (Stage::Done, 200),
        (Stage::Refused, 200),
        (Stage::Pending, 202),
        (Stage::Conflict, 409),
    ] {
        let desk = desk();
        *desk.told.stage.lock().unwrap() = Some(stage);
        let (head, text) = desk.settle(KEY).await;
        assert_eq!(head.status(), status);
        let told = SettleResponse::parse_body(text.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!(told.success, stage == Stage::Done);
        if stage == Stage::Pending {
            assert_eq!(told.transaction, Some(HASH));
            assert!(head.headers().contains_key(header::RETRY_AFTER));
        }
    }
}

#[tokio::test]
async fn nobody_settles_without_a_key_or_for_another_payee() {
    let desk = desk();
    let body = || Full::new(Bytes::from(request(X402Version::V2).to_json()));
    for path in ["/verify", "/settle"] {
        let without = Request::post(path).body(body()).unwrap();
        let (head, text) = desk.ask(without).await;
        assert_eq!(head.status(), 401);
        assert_eq!(head.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert!(text.contains("\"error\":\"unauthorized\""), "{text}");
        let wrong = post(path, "the-shops-kez", request(X402Version::V2).to_json());
        assert_eq!(desk.ask(wrong).await.0.status(), 401);
        let elsewhere = post(path, "another-key", request(X402Version::V2).to_json());
        let (head, text) = desk.ask(elsewhere).await;
        assert_eq!(head.status(), 403);
        assert!(text.contains("pay_to_not_allowed"), "{text}");
    }
    let supported = Request::get("/supported").body(body()).unwrap();
    assert_eq!(desk.ask(supported).await.0.status(), 401);
    let health = Request::get("/health").body(body()).unwrap();
    assert_eq!(desk.ask(health).await.0.status(), 200);
    assert!(desk.told.settled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn gas_is_bounded_a_period_and_repetitions_cost_none() {
    let desk = desk();
    // 100 of 150 units are spent by the first.
    for _ in 0..5 {
        assert_eq!(desk.settle(KEY).await.0.status(), 200, "not begun by this");
    }
    // As if each were of another payment.
    desk.told.settled.lock().unwrap().clear();
    desk.clock.0.store(86_500, Ordering::SeqCst);
    let (head, text) = desk.settle(KEY).await;
    assert_eq!(head.status(), 429, "{text}");
    assert!(text.contains("gas_budget_spent"));
    assert_eq!(head.headers()[header::RETRY_AFTER], "86300");
    // Another caller's is its own.
    assert_eq!(desk.settle("bakery").await.0.status(), 200);
    desk.clock.0.store(2 * 86_400, Ordering::SeqCst);
    assert_eq!(desk.settle(KEY).await.0.status(), 200);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_whose_fault_it_is() {
    let desk = desk();
    let good = request(X402Version::V2).to_json();
    for (body, status, said) in [
        (String::new(), 400, "invalid_request"),
        ("{}".to_owned(), 400, "invalid_request"),
        ("[]".to_owned(), 400, "invalid_request"),
        (
            good.replace("\"x402Version\":2", "\"x402Version\":3"),
            200,
            "invalid_x402_version",
        ),
        (
            good.replacen("\"x402Version\":2", "\"x402Version\":1", 1),
            400,
            "invalid_request",
        ),
        (
            good.replace("\"nonce\":\"9\"", "\"nonce\":9"),
            200,
            "invalid_payload",
        ),
        (good.replacen("\"payTo\"", "\"payto\"", 1), 200, "true"),
        (format!("{good}{good}"), 400, "invalid_request"),
        (
            format!("{}{}", "[".repeat(200), "]".repeat(200)),
            400,
            "invalid_request",
        ),
    ] {
        let (head, text) = desk.ask(post("/verify", KEY, body.clone())).await;
        assert_eq!(head.status(), status, "{body}: {text}");
        assert!(text.contains(said), "{body}: {text}");
    }
    let requirements = good.replace("\"maxTimeoutSeconds\":60", "\"maxTimeoutSeconds\":0");
    let (head, _) = desk.ask(post("/settle", KEY, requirements)).await;
    assert_eq!(head.status(), 400);
    let (head, _) = desk.ask(post("/settle", KEY, vec![b' '; 65 * 1024])).await;
    assert_eq!(head.status(), 413);
    assert!(desk.told.settled.lock().unwrap().is_empty());
}

/// A body that never ends and never comes.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let desk = desk();
    let request = Request::post("/settle")
        .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
        .body(Never)
        .unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(20), desk.ask(request));
    assert_eq!(asked.await.unwrap().0.status(), 408);
}

#[tokio::test]
async fn routes_are_exact() {
    let desk = desk();
    for (method, path, status) in [
        (Method::GET, "/settle", 405),
        (Method::PUT, "/verify", 405),
        (Method::POST, "/supported", 405),
        (Method::POST, "/settle/", 404),
        (Method::GET, "/", 404),
        (Method::HEAD, "/health", 200),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .body(Full::<Bytes>::default())
            .unwrap();
        let (head, text) = desk.ask(request).await;
        assert_eq!(head.status(), status, "{method} {path}");
        assert!(method != Method::HEAD || text.is_empty());
    }
}

#[tokio::test]
async fn why_nothing_new_is_settled_is_told_and_costs_nothing() {
    let desk = desk();
    *desk.told.broken.lock().unwrap() = Some(FacilitatorError::Paused {
        message: "the account has no money".to_owned(),
        retry_after: 9,
    });
    let (head, text) = desk.settle(KEY).await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.headers()[header::RETRY_AFTER], "9");
    assert!(text.contains("the account has no money"), "{text}");
    *desk.told.broken.lock().unwrap() = None;
    assert_eq!(desk.settle(KEY).await.0.status(), 200);
}

#[tokio::test]
async fn what_went_wrong_inside_is_not_told() {
    let desk = desk();
    *desk.told.broken.lock().unwrap() = Some(FacilitatorError::Unavailable {
        code: ErrorCode::ChainUnavailable,
        message: "https://user:password@node.example refused".to_owned(),
        retry_after: 7,
    });
    let (head, text) = desk.settle(KEY).await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.headers()[header::RETRY_AFTER], "7");
    assert!(
        !text.contains("node.example") && text.contains("chain_unavailable"),
        "{text}"
    );
    // Nothing was begun, so nothing is spent.
    *desk.told.broken.lock().unwrap() = None;
    assert_eq!(desk.settle(KEY).await.0.status(), 200);
}
