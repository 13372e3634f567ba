//! Answers to callers who want no stream.

use http::{Method, StatusCode};
use tollgate_price::BillableUsage;
use tollgate_x402::{Amount, Limits, PaymentState, SettleResponse};

use crate::{
    mock::{Do, Mock, delta, done, finish, usage},
    shop::{Shop, Whole, cents, rates, request},
};

const PLAIN: &str = r#"{"stream":false,"messages":[{"role":"user","content":"Tell me a story"}]}"#;

fn cost(input: u64, output: u64) -> Amount {
    rates().cost(BillableUsage::new(input, output))
}

#[tokio::test]
async fn a_plain_answer_is_a_chat_completion_with_its_receipt() {
    let mock = Mock::new([
        delta("Once"),
        delta(" upon"),
        finish("stop"),
        usage(20, 4),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(PLAIN).await).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/json");
    let id = answer.headers["x-payment-id"].to_str().unwrap();
    let left = cents(99).checked_sub(cost(20, 4)).unwrap();
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "id": format!("chatcmpl-{id}"),
            "object": "chat.completion",
            "created": 1_800_000_000,
            "model": "acme/storyteller",
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "Once upon"},
                "finish_reason": "stop",
            }],
            "usage": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24},
            "messageMetadata": {
                "totalTokens": 24,
                "allowanceLeft": left.to_string(),
                "calculatedPriceWei": "120000000000000",
                "realPriceWei": "120000000000000",
                "paymentId": id,
            },
        })
    );
    let receipt = answer
        .headers
        .get("x-payment-response")
        .or_else(|| answer.headers.get("payment-response"));
    let receipt =
        SettleResponse::parse_header(receipt.unwrap().as_bytes(), &Limits::DEFAULT).unwrap();
    assert!(receipt.success);
    assert_eq!(
        shop.payment_of(&answer.headers).await.state,
        PaymentState::Accepted
    );
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}

#[tokio::test]
async fn a_plain_answer_of_the_echo_engine_ends_with_length_at_its_limit() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let body = r#"{"model":"tollgate/echo","stream":false,"max_tokens":5,"messages":[{"role":"user","content":"a"}]}"#;
    let answer = Whole::of(shop.buy(body).await).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 5);
}

#[tokio::test]
async fn a_plain_answer_that_breaks_off_is_a_502_and_costs_nothing() {
    for end in [
        Do::Break,
        Do::Send("data: {\"error\":{\"message\":\"out of memory at 10.0.0.7\"}}\n\n".to_owned()),
        Do::Send("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n".to_owned()),
        done(),
    ] {
        // Without its finish_reason the last one is truncated too, but for [DONE], which ends an answer.
        let whole = matches!(&end, Do::Send(text) if text.contains("[DONE]"));
        let mock = Mock::new([delta("Once"), end]).await;
        let shop = Shop::new(&mock);
        let answer = Whole::of(shop.buy(PLAIN).await).await;
        if whole {
            assert_eq!(answer.status, StatusCode::OK);
            continue;
        }
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.json()["error"], "upstream_failed");
        assert!(!answer.text().contains("10.0.0.7"));
        shop.nothing_is_charged().await;
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_on_a_plain_answer_pays_for_what_was_generated() {
    let mock = Mock::new([delta("Once"), delta(" upon"), Do::Hang]).await;
    let shop = Shop::new(&mock);
    let payment = shop.payment(PLAIN, cents(99)).await;
    let gateway = shop.gateway.clone();
    let call = tokio::spawn(async move {
        tower::ServiceExt::oneshot(
            gateway,
            request(Method::POST, "/x402/v1", PLAIN.into(), Some(payment)),
        )
        .await
    });
    let asked = mock.asked().await;
    // What the gateway has taken of the answer cannot be seen from outside: it is nothing, one token or two.
    call.abort();
    asked.gone.await.unwrap();
    let charge = shop.only_payment().await.charge.unwrap();
    assert!(
        [Amount::ZERO, cost(4, 1), cost(4, 2)].contains(&charge),
        "{charge}"
    );
}
