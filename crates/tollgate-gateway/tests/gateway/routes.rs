//! What each route answers, paid or not.

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use serde_json::Value;
use tollgate_gateway::EchoUpstream;
use tollgate_x402::{Amount, Limits, PaymentRequired};

use crate::{
    mock::{Mock, delta, done, finish},
    shop::{Setup, Shop, cents, rates, request},
};

const HELLO: &str = r#"{"messages":[{"role":"user","content":"Hello"}]}"#;

#[tokio::test]
async fn without_a_payment_every_method_and_both_routes_answer_402_with_an_offer() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let mut bodies = Vec::new();
    for path in ["/x402/v1", "/x402/v1/responses"] {
        for (method, body) in [(Method::GET, ""), (Method::HEAD, ""), (Method::POST, HELLO)] {
            let answer = shop.ask(method.clone(), path, body).await;
            assert_eq!(
                answer.status,
                StatusCode::PAYMENT_REQUIRED,
                "{method} {path}"
            );
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
            let header = answer.headers["payment-required"].as_bytes();
            let v2 = PaymentRequired::parse_header(header, &Limits::DEFAULT).unwrap();
            assert_eq!(v2.accepts[0].amount, cents(99));
            assert_eq!(
                v2.resource.as_ref().unwrap().url,
                "https://tokens.example/x402/v1"
            );
            if method == Method::HEAD {
                assert!(answer.body.is_empty());
            } else {
                let v1 = PaymentRequired::parse_body(&answer.body, &Limits::DEFAULT).unwrap();
                assert_eq!(v1.accepts, v2.accepts);
            }
            bodies.push((method, answer.body));
        }
    }
    let (first, second) = bodies.split_at(3);
    assert_eq!(first, second, "both routes are the same");
    mock.nothing_was_asked().await;
    assert_eq!(shop.chain_calls.load(Ordering::Relaxed), 0);
    assert!(shop.settled().await.is_empty());
}

#[tokio::test]
async fn the_402_names_the_worst_case_of_this_very_request() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let minimum = async |body: &str| {
        let answer = shop.ask(Method::POST, "/x402/v1", body.to_owned()).await;
        let offer = PaymentRequired::parse_body(&answer.body, &Limits::DEFAULT).unwrap();
        offer.accepts[0].extra.min_amount_required.unwrap()
    };
    // "Hello" is one token; a message and a conversation are bounded by 16 and 64 tokens of template.
    assert_eq!(minimum(HELLO).await, rates().worst_case(1 + 16 + 64, 1000));
    let short = r#"{"messages":[{"role":"user","content":"Hello"}],"max_tokens":10}"#;
    assert_eq!(minimum(short).await, rates().worst_case(1 + 16 + 64, 10));
    // Above 2 KiB each byte counts as a token.
    let text = "word ".repeat(1000);
    let long = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":10}}"#);
    assert_eq!(minimum(&long).await, rates().worst_case(5001 + 16 + 64, 10));
}

#[tokio::test]
async fn what_is_no_chat_is_refused_with_a_code_and_a_sentence_before_any_payment() {
    let mock = Mock::idle().await;
    let shop = Shop::with(
        &mock,
        Setup {
            body_bytes: 2000,
            ..Setup::default()
        },
    );
    let large = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "a".repeat(3000)
    );
    let cases = [
        ("", 400, "invalid_request"),
        ("{", 400, "invalid_request"),
        ("[]", 400, "invalid_request"),
        ("{}", 400, "invalid_request"),
        (r#"{"messages":[]}"#, 400, "invalid_request"),
        (
            r#"{"messages":[{"role":"user","content":""}]}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"messages":[{"role":"user","content":"a"}],"temperature":3}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"model":"acme/other","messages":[{"role":"user","content":"a"}]}"#,
            400,
            "unknown_model",
        ),
        (
            r#"{"messages":[{"role":"user","parts":[{"type":"text","text":"a"},{"type":"file","mediaType":"image/png","url":"data:image/png;base64,AAAA"}]}]}"#,
            400,
            "invalid_request",
        ),
        (
            r#"{"messages":[{"role":"user","parts":[{"type":"text","text":"a"},{"type":"file","mediaType":"image/png","url":"http://169.254.169.254/"}]}]}"#,
            400,
            "invalid_request",
        ),
        (&large, 413, "request_too_large"),
    ];
    let payment = shop.payment(HELLO, cents(99)).await;
    for (body, status, code) in cases {
        for payment in [None, Some(payment.clone())] {
            let answer = shop
                .call(request(
                    Method::POST,
                    "/x402/v1",
                    body.to_owned().into(),
                    payment,
                ))
                .await;
            let answer = crate::shop::Whole::of(answer).await;
            assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text());
            let problem = answer.json();
            assert_eq!(problem["error"], code, "{body}");
            assert!(problem["errorMessage"].as_str().unwrap().len() > 10);
            assert!(!answer.text().contains("169.254"));
        }
    }
    mock.nothing_was_asked().await;
    assert_eq!(shop.chain_calls.load(Ordering::Relaxed), 0);
    assert!(shop.settled().await.is_empty());
}

#[tokio::test]
async fn two_payment_headers_at_once_are_refused() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let (_, value) = shop.payment(HELLO, cents(99)).await;
    let mut two = request(Method::POST, "/x402/v1", HELLO.into(), None);
    for name in ["x-payment", "payment-signature"] {
        two.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = crate::shop::Whole::of(shop.call(two).await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"], "multiple_payments");
}

#[tokio::test]
async fn a_paid_get_is_told_to_post_and_costs_nothing() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let payment = shop.payment(HELLO, cents(99)).await;
    let answer = shop
        .call(request(Method::GET, "/x402/v1", "".into(), Some(payment)))
        .await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST");
    shop.nothing_is_charged().await;
    mock.nothing_was_asked().await;
}

#[tokio::test]
async fn other_paths_and_methods_say_what_there_is() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    for path in [
        "/",
        "/x402",
        "/x402/v1/",
        "/x402/v1/chat",
        "/v1/chat/completions",
        "//x402/v1",
    ] {
        let answer = shop.ask(Method::POST, path, HELLO).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.json()["error"], "not_found");
    }
    for (method, path, allow) in [
        (Method::PUT, "/x402/v1", "GET, HEAD, POST, OPTIONS"),
        (
            Method::DELETE,
            "/x402/v1/responses",
            "GET, HEAD, POST, OPTIONS",
        ),
        (Method::POST, "/v1/models", "GET, HEAD, OPTIONS"),
        (Method::POST, "/healthz", "GET, HEAD, OPTIONS"),
        (
            Method::PUT,
            "/x402/v1/payments/00000000000000000000000000000000",
            "GET, HEAD, OPTIONS",
        ),
    ] {
        let answer = shop.ask(method, path, "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers["allow"], allow);
        assert_eq!(answer.json()["error"], "method_not_allowed");
    }
}

#[tokio::test]
async fn a_browser_may_pay_and_read_the_receipt() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    for path in [
        "/x402/v1",
        "/x402/v1/responses",
        "/v1/models",
        "/x402/v1/payments/x",
    ] {
        let answer = shop.ask(Method::OPTIONS, path, "").await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        let list = |name: &str| {
            let value = answer.headers[name].to_str().unwrap().to_ascii_lowercase();
            value
                .split(',')
                .map(|one| one.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(list("access-control-allow-methods").contains(&"post".to_owned()));
        for name in [
            "x-payment",
            "payment-signature",
            "content-type",
            "access-control-expose-headers",
            "user-agent",
            "prefer",
        ] {
            assert!(
                list("access-control-allow-headers").contains(&name.to_owned()),
                "{name}"
            );
        }
        for name in [
            "payment-required",
            "payment-response",
            "x-payment-response",
            "x-payment-id",
            "preference-applied",
        ] {
            assert!(
                list("access-control-expose-headers").contains(&name.to_owned()),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn the_models_are_listed_with_their_prices_and_the_echo_engine_says_what_it_is() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let answer = shop.ask(Method::GET, "/v1/models", "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let list = answer.json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!(model["id"], "acme/storyteller");
    assert_eq!(model["object"], "model");
    assert_eq!(model["aliases"], serde_json::json!(["storyteller"]));
    assert_eq!(model["pricing"]["inputPerMillion"], "3000000000000000000");
    assert_eq!(model["pricing"]["outputPerMillion"], "15000000000000000000");
    assert_eq!(model["default"], true);
    let echo = &list["data"][1];
    assert_eq!(echo["id"], EchoUpstream::MODEL);
    assert!(
        echo["description"]
            .as_str()
            .unwrap()
            .contains("not a language model")
    );
}

#[tokio::test]
async fn health_is_always_told_and_readiness_follows_its_checks() {
    let mock = Mock::idle().await;
    for ready in [true, false] {
        let shop = Shop::with(
            &mock,
            Setup {
                ready,
                ..Setup::default()
            },
        );
        assert_eq!(
            shop.ask(Method::GET, "/healthz", "").await.json()["status"],
            "ok"
        );
        let answer = shop.ask(Method::GET, "/readyz", "").await;
        assert_eq!(answer.status.as_u16(), if ready { 200 } else { 503 });
        let checks: Value = serde_json::json!([{"name":"chain","ok":ready,"detail":"block 100"}]);
        assert_eq!(
            answer.json(),
            serde_json::json!({"ready":ready,"draining":false,"checks":checks})
        );
    }
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready_and_sells_nothing_but_tells_of_payments() {
    let mock = Mock::new([delta("Hi"), finish("stop"), done()]).await;
    let shop = Shop::new(&mock);
    let sold = crate::shop::Whole::of(shop.buy(HELLO).await).await;
    let payment = shop.payment(HELLO, cents(99)).await;
    shop.gateway.drain().begin();
    assert_eq!(
        shop.ask(Method::GET, "/readyz", "").await.json()["draining"],
        true
    );
    let answer = shop
        .call(request(
            Method::POST,
            "/x402/v1",
            HELLO.into(),
            Some(payment),
        ))
        .await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(shop.payment_of(&sold.headers).await.charge.unwrap() > Amount::ZERO);
}

#[tokio::test]
async fn a_payment_that_does_not_exist_is_not_found() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    for id in [
        "",
        "x",
        "00000000000000000000000000000000",
        "0000000000000000000000000000000G",
        "a/b",
    ] {
        let answer = shop
            .ask(Method::GET, &format!("/x402/v1/payments/{id}"), "")
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}");
        assert_eq!(answer.json()["error"], "payment_not_found");
    }
}
