//! Streamed answers: their bytes, their metering, their ends.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::Semaphore;
use tollgate_gateway::Tokenizer;
use tollgate_price::BillableUsage;
use tollgate_x402::{Amount, PaymentState};

use crate::{
    mock::{Do, Mock, delta, done, finish, usage},
    shop::{Body, Setup, Shop, Whole, cents, rates, request},
};

const STORY: &str = r#"{"messages":[{"role":"user","content":"Tell me a story"}]}"#;
const ECHO: &str =
    r#"{"model":"tollgate/echo","messages":[{"role":"user","content":"What a lovely day it is"}]}"#;

fn cost(input: u64, output: u64) -> Amount {
    rates().cost(BillableUsage::new(input, output))
}

async fn read_until(body: &mut Body, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(str::from_utf8(&frame).unwrap());
    }
}

#[tokio::test]
async fn a_paid_stream_is_these_bytes() {
    let mock = Mock::new([
        delta("Once"),
        delta(" upon\n"),
        finish("stop"),
        usage(20, 4),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    assert_eq!(answer.status, StatusCode::OK);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "private, no-store, no-cache"),
        ("x-vercel-ai-ui-message-stream", "v1"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    let id = answer.headers["x-payment-id"].to_str().unwrap();
    // 20 tokens at 3 dollars a million and 4 at 15: 120 millionths of a dollar.
    let left = cents(99).checked_sub(cost(20, 4)).unwrap();
    let expected = [
        r#"data: {"type":"start"}"#,
        r#"data: {"type":"text-start","id":"txt-0"}"#,
        r#"data: {"type":"text-delta","id":"txt-0","delta":"Once"}"#,
        r#"data: {"type":"text-delta","id":"txt-0","delta":" upon\n"}"#,
        r#"data: {"type":"text-end","id":"txt-0"}"#,
        &format!(
            r#"data: {{"type":"finish","finishReason":"stop","messageMetadata":{{"totalTokens":24,"allowanceLeft":"{left}","calculatedPriceWei":"120000000000000","realPriceWei":"120000000000000","paymentId":"{id}"}}}}"#
        ),
        "data: [DONE]",
    ];
    assert_eq!(
        answer.text(),
        expected.map(|event| format!("{event}\n\n")).concat()
    );

    let payment = shop.payment_of(&answer.headers).await;
    assert_eq!(payment.state, PaymentState::Accepted);
    assert_eq!(payment.payer, shop.payer());
    assert_eq!(payment.charge, Some(cost(20, 4)));
    assert_eq!(payment.amounts.calculated, Some(cost(20, 4)));
    assert_eq!(payment.model.as_deref(), Some("acme/storyteller"));
    let used = payment.usage.unwrap();
    assert_eq!((used.input_tokens, used.output_tokens), (20, 4));
}

#[tokio::test]
async fn the_model_server_is_asked_for_what_was_paid_under_its_own_name_and_key() {
    let mock = Mock::new([delta("Once"), finish("stop"), done()]).await;
    let shop = Shop::new(&mock);
    Whole::of(shop.buy(STORY).await).await;
    let asked = mock.asked().await;
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.headers["authorization"], "Bearer sk-secret");
    assert_eq!(
        asked.body,
        json!({
            "model": "story-7b",
            "messages": [{"role": "user", "content": "Tell me a story"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": 1000,
            "temperature": 1.0, "top_p": 1.0, "top_k": 40,
        })
    );
}

#[tokio::test]
async fn both_routes_and_any_content_type_are_served() {
    let mock = Mock::new([delta("Once"), finish("stop"), done()]).await;
    let shop = Shop::new(&mock);
    for path in ["/x402/v1", "/x402/v1/responses"] {
        let payment = shop.payment(STORY, cents(99)).await;
        let mut paid = request(Method::POST, path, STORY.into(), Some(payment));
        paid.headers_mut()
            .insert("content-type", "text/plain;charset=UTF-8".parse().unwrap());
        let answer = Whole::of(shop.call(paid).await).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.said(), "Once");
    }
}

#[tokio::test]
async fn an_alias_is_its_model() {
    let mock = Mock::new([delta("Once"), finish("stop"), done()]).await;
    let shop = Shop::new(&mock);
    let answer = shop
        .buy(r#"{"model":"storyteller","messages":[{"role":"user","content":"a"}]}"#)
        .await;
    let answer = Whole::of(answer).await;
    assert_eq!(
        shop.payment_of(&answer.headers).await.model.as_deref(),
        Some("acme/storyteller")
    );
}

#[tokio::test]
async fn the_echo_engine_repeats_and_says_that_it_is_no_model() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(ECHO).await).await;
    let said = answer.said();
    assert!(said.contains("echo engine, not a language model"), "{said}");
    assert!(said.ends_with(" What a lovely day it is"), "{said}");
    let tokenizer = Tokenizer::load_blocking();
    let (input, output) = (
        tokenizer.count("What a lovely day it is"),
        tokenizer.count(&said),
    );
    let finish = answer.finish();
    assert_eq!(finish["finishReason"], "stop");
    assert_eq!(finish["messageMetadata"]["totalTokens"], input + output);
    assert_eq!(
        finish["messageMetadata"]["realPriceWei"],
        cost(input, output).to_string()
    );
    mock.nothing_was_asked().await;
    // Deterministic: once more, the same but for the payment.
    let again = Whole::of(shop.buy(ECHO).await).await;
    assert_eq!(again.said(), said);
}

#[tokio::test]
async fn an_answer_ends_with_length_at_the_most_tokens_that_were_asked_for() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let body = ECHO.replace("\"messages\"", "\"max_tokens\":7,\"messages\"");
    let answer = Whole::of(shop.buy(&body).await).await;
    assert_eq!(answer.finish()["finishReason"], "length");
    let output = Tokenizer::load_blocking().count(&answer.said());
    assert!((1..=7).contains(&output), "{output}");
}

#[tokio::test]
async fn an_allowance_that_does_not_cover_the_worst_case_buys_a_shorter_answer_that_ends_with_length()
 {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    // 6 tokens in, 80 of template at most, and 20 out.
    let value = rates().worst_case(6 + 80, 20);
    let answer = Whole::of(shop.buy_within(ECHO, value).await).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.finish()["finishReason"], "length");
    let output = Tokenizer::load_blocking().count(&answer.said());
    assert!((10..=20).contains(&output), "{output}");
    let payment = shop.payment_of(&answer.headers).await;
    assert_eq!(payment.amounts.reserved, value);
    assert!(payment.charge.unwrap() <= value);
}

#[tokio::test]
async fn an_allowance_below_the_least_that_makes_sense_is_answered_402() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let answer = shop.buy_within(ECHO, rates().worst_case(6 + 80, 15)).await;
    assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
}

#[tokio::test]
async fn a_model_server_that_ignores_the_limit_is_cut_and_nobody_pays_for_its_mistake() {
    let script = (0..200)
        .map(|_| delta(" word"))
        .chain([finish("stop"), usage(5, 200), done()]);
    let mock = Mock::new(script).await;
    let shop = Shop::new(&mock);
    let body = STORY.replace("\"messages\"", "\"max_tokens\":20,\"messages\"");
    let answer = Whole::of(shop.buy(&body).await).await;
    assert_eq!(mock.asked().await.body["max_tokens"], 20);
    assert_eq!(answer.finish()["finishReason"], "length");
    let output = Tokenizer::load_blocking().count(&answer.said());
    // Our own count may be off by a quarter and a little.
    assert!((20..=41).contains(&output), "{output}");
    let payment = shop.payment_of(&answer.headers).await;
    assert_eq!(payment.charge, Some(cost(4, output)));
    assert!(payment.charge.unwrap() <= payment.amounts.reserved);
}

#[tokio::test]
async fn without_a_report_our_own_count_is_charged() {
    let mock = Mock::new([
        delta("Once"),
        delta(" upon"),
        delta(" a time"),
        finish("stop"),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    // "Tell me a story" and "Once upon a time": 4 tokens each.
    assert_eq!(answer.finish()["messageMetadata"]["totalTokens"], 8);
    assert_eq!(shop.only_payment().await.charge, Some(cost(4, 4)));
}

#[tokio::test]
async fn a_report_above_the_reservation_is_not_believed() {
    let mock = Mock::new([
        delta("Once"),
        finish("stop"),
        usage(1_000_000, 1_000_000),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    assert_eq!(answer.finish()["messageMetadata"]["totalTokens"], 5);
    assert_eq!(shop.only_payment().await.charge, Some(cost(4, 1)));
}

#[tokio::test]
async fn reasoning_is_delivered_and_counted() {
    let reasoning =
        r#"data: {"choices":[{"index":0,"delta":{"reasoning_content":"Let me think"}}]}"#;
    let mock = Mock::new([
        Do::Send(format!("{reasoning}\n\n")),
        delta("Once"),
        finish("stop"),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let answer = Whole::of(shop.buy(STORY).await).await;
    assert!(answer.text().contains(r#""type":"reasoning-delta""#));
    let usage = shop.only_payment().await.usage.unwrap();
    assert_eq!((usage.output_tokens, usage.reasoning_tokens), (4, 3));
}

#[tokio::test]
async fn one_permit_pays_for_many_requests_and_the_chain_is_asked_once() {
    let mock = Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await;
    let shop = Shop::new(&mock);
    let payment = shop.payment(STORY, cents(99)).await;
    let mut left = cents(99);
    for _ in 0..3 {
        let paid = request(
            Method::POST,
            "/x402/v1",
            STORY.into(),
            Some(payment.clone()),
        );
        let answer = Whole::of(shop.call(paid).await).await;
        left = left.checked_sub(cost(20, 4)).unwrap();
        assert_eq!(
            answer.finish()["messageMetadata"]["allowanceLeft"],
            left.to_string()
        );
    }
    assert_eq!(
        shop.chain_calls.load(std::sync::atomic::Ordering::Relaxed),
        1
    );
}

#[tokio::test]
async fn a_stream_is_passed_on_while_it_runs() {
    let gate = Arc::new(Semaphore::new(0));
    let mock = Mock::new([
        delta("Once"),
        Do::Gate(Arc::clone(&gate)),
        delta(" upon"),
        finish("stop"),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let mut body = shop.buy(STORY).await.into_body();
    read_until(&mut body, "Once").await;
    // Only now does the model server go on.
    gate.add_permits(1);
    read_until(&mut body, " upon").await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_the_model_server_and_pays_for_what_was_delivered() {
    let mock = Mock::new([delta("Once"), delta(" upon"), Do::Hang]).await;
    let shop = Shop::new(&mock);
    let mut body = shop.buy(STORY).await.into_body();
    read_until(&mut body, " upon").await;
    drop(body);
    mock.asked().await.gone.await.unwrap();
    assert_eq!(shop.only_payment().await.charge, Some(cost(4, 2)));
}

#[tokio::test]
async fn a_caller_who_hangs_up_before_the_first_token_pays_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let head = Do::Send(": waiting\n\n".to_owned());
    let mock = Mock::new([head, Do::Gate(gate), delta("Once")]).await;
    let shop = Shop::new(&mock);
    let payment = shop.payment(STORY, cents(99)).await;
    let gateway = shop.gateway.clone();
    let call = tokio::spawn(async move {
        tower::ServiceExt::oneshot(
            gateway,
            request(Method::POST, "/x402/v1", STORY.into(), Some(payment)),
        )
        .await
    });
    let asked = mock.asked().await;
    call.abort();
    asked.gone.await.unwrap();
    shop.nothing_is_charged().await;
}

#[tokio::test(start_paused = true)]
async fn the_echo_engine_waits_between_words_if_it_is_told_to() {
    let mock = Mock::idle().await;
    let second = std::time::Duration::from_secs(1);
    let echo = tollgate_gateway::EchoUpstream::with_delay(second);
    let shop = Shop::with(
        &mock,
        Setup {
            echo,
            ..Setup::default()
        },
    );
    let began = tokio::time::Instant::now();
    let answer = Whole::of(shop.buy(ECHO).await).await;
    let words = answer.said().split_whitespace().count();
    assert_eq!(began.elapsed().as_secs(), u64::try_from(words).unwrap());
}

#[tokio::test]
async fn one_connection_to_the_model_server_serves_one_stream_after_another() {
    let mock = Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await;
    let shop = Shop::new(&mock);
    let mut connections = Vec::new();
    for _ in 0..3 {
        Whole::of(shop.buy(STORY).await).await;
        let asked = mock.asked().await;
        // The script has come to its end, and with it the answer's body.
        asked.gone.await.unwrap_err();
        connections.push(asked.connection);
    }
    assert_eq!(connections, [1, 1, 1]);
}

#[tokio::test]
async fn sixty_four_streams_at_once_on_one_allowance_never_overdraw_it() {
    let mock = Mock::new([delta("Once"), finish("stop"), done()]).await;
    let shop = Shop::new(&mock);
    // The least is 16 tokens out, so that at most 20 of them fit at once.
    let least = rates().worst_case(4 + 80, 16);
    let value = Amount::new(least.get() * tollgate_x402::U256::from(20));
    let payment = shop.payment(STORY, value).await;
    let calls = (0..64).map(|_| {
        shop.call(request(
            Method::POST,
            "/x402/v1",
            STORY.into(),
            Some(payment.clone()),
        ))
    });
    let answers = futures_util::future::join_all(calls).await;
    let mut served = 0;
    for answer in answers {
        match answer.status() {
            StatusCode::OK => served += 1,
            StatusCode::PAYMENT_REQUIRED => continue,
            status => panic!("{status}"),
        }
        Whole::of(answer).await;
    }
    assert!((1..=20).contains(&served), "{served}");
    let charged = shop
        .settled()
        .await
        .iter()
        .fold(Amount::ZERO, |sum, payment| {
            sum.checked_add(payment.charge.unwrap()).unwrap()
        });
    assert_eq!(
        charged,
        Amount::new(cost(4, 1).get() * tollgate_x402::U256::from(served))
    );
    assert!(charged <= value);
}
