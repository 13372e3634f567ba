//! Model servers that fail, before and after the first token.

use std::time::Duration;

use http::StatusCode;
use tollgate_price::BillableUsage;
use tollgate_x402::{Amount, PaymentState};

use crate::{
    mock::{Do, Mock, delta},
    shop::{Setup, Shop, Whole, rates},
};

const STORY: &str = r#"{"messages":[{"role":"user","content":"Tell me a story"}]}"#;

fn cost(input: u64, output: u64) -> Amount {
    rates().cost(BillableUsage::new(input, output))
}

async fn refused(script: Vec<Do>, status: StatusCode, code: &str) {
    let mock = Mock::new(script).await;
    let shop = Shop::with(
        &mock,
        Setup {
            first_token: Duration::from_millis(200),
            ..Setup::default()
        },
    );
    for body in [
        STORY.to_owned(),
        STORY.replace("\"messages\"", "\"stream\":false,\"messages\""),
    ] {
        let answer = Whole::of(shop.buy(&body).await).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["error"], code);
        assert!(
            !answer.text().contains("secret-host"),
            "what the server said is not passed on"
        );
        assert!(answer.headers.contains_key("x-payment-id"));
        let payment = shop.payment_of(&answer.headers).await;
        assert_eq!(payment.state, PaymentState::Released);
        assert_eq!(payment.charge, Some(Amount::ZERO));
    }
}

fn error(status: u16) -> Vec<Do> {
    vec![
        Do::Head(status, "application/json"),
        Do::Send(r#"{"error":{"message":"secret-host is out of memory","code":"oom"}}"#.to_owned()),
    ]
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_a_502_and_costs_nothing() {
    for status in [500, 503, 401, 404, 302] {
        refused(error(status), StatusCode::BAD_GATEWAY, "upstream_failed").await;
    }
    refused(
        vec![Do::Send("data: {\"error\":\"secret-host\"}\n\n".to_owned())],
        StatusCode::BAD_GATEWAY,
        "upstream_failed",
    )
    .await;
    refused(
        vec![Do::Send("data: secret-host\n\n".to_owned())],
        StatusCode::BAD_GATEWAY,
        "upstream_failed",
    )
    .await;
    refused(
        vec![Do::Send(": nothing\n\n".to_owned()), Do::Break],
        StatusCode::BAD_GATEWAY,
        "upstream_failed",
    )
    .await;
    refused(
        vec![Do::Send(": nothing\n\n".to_owned())],
        StatusCode::BAD_GATEWAY,
        "upstream_failed",
    )
    .await;
}

#[tokio::test]
async fn a_request_that_the_model_server_refuses_is_the_callers_to_mend() {
    for status in [400, 413, 422] {
        refused(error(status), StatusCode::BAD_REQUEST, "invalid_request").await;
    }
}

#[tokio::test]
async fn no_first_token_in_time_is_a_504_and_costs_nothing() {
    refused(
        vec![Do::Hang],
        StatusCode::GATEWAY_TIMEOUT,
        "upstream_timeout",
    )
    .await;
    refused(
        vec![Do::Send(": still loading\n\n".to_owned()), Do::Hang],
        StatusCode::GATEWAY_TIMEOUT,
        "upstream_timeout",
    )
    .await;
}

#[tokio::test]
async fn a_model_server_that_is_not_there_is_a_502_and_costs_nothing() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mock = Mock::at(nobody.local_addr().unwrap().port());
    drop(nobody);
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    shop.nothing_is_charged().await;
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_told_and_what_was_delivered_is_charged() {
    for end in [
        Do::Send("data: {\"error\":{\"message\":\"secret-host is out of memory\"}}\n\n".to_owned()),
        Do::Send("data: {not json\n\n".to_owned()),
        Do::Send("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n".to_owned()),
        Do::Send("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\n".to_owned()),
        Do::Break,
        // The idle timeout.
        Do::Hang,
    ] {
        let mock = Mock::new([delta("Once"), delta(" upon"), end]).await;
        let shop = Shop::with(
            &mock,
            Setup {
                idle: Duration::from_millis(200),
                ..Setup::default()
            },
        );
        let answer = Whole::of(shop.buy(STORY).await).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.said(), "Once upon");
        assert!(!answer.text().contains("secret-host"));
        let events = answer.events();
        assert!(
            events.iter().any(|event| event["type"] == "error"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.finish()["finishReason"], "error");
        assert_eq!(
            answer.finish()["messageMetadata"]["realPriceWei"],
            cost(4, 2).to_string()
        );
        assert_eq!(shop.only_payment().await.charge, Some(cost(4, 2)));
    }
}

#[tokio::test]
async fn an_answer_of_a_server_that_does_not_stream_is_served_all_the_same() {
    let mock = Mock::new([
        Do::Head(200, "application/json"),
        Do::Send(
            r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Once upon"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":4}}"#
                .to_owned(),
        ),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    assert_eq!(answer.said(), "Once upon");
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}
