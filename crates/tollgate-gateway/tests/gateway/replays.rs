//! Requests that come again: one call of the model server, one charge, one answer.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tollgate_client::{Asset, ChainFacts, FactsError, Pay, Payer, Policy, TokenSignatures};
use tollgate_eip712::{LocalWallet, TokenDomain};
use tollgate_price::BillableUsage;
use tollgate_x402::{
    Address, Amount, ChainId, ErrorCode, Limits, PaymentIdentifier, PaymentPayload,
    PaymentRequired, PaymentState, SettleResponse, U256,
};
use tower::{ServiceExt, service_fn};

use crate::{
    mock::{Do, Mock, delta, done, finish, usage},
    shop::{FixedClock, Shop, ShopGateway, Whole, cents, rates, request},
};

const STORY: &str = r#"{"messages":[{"role":"user","content":"Tell me a story"}]}"#;
const PLAIN: &str = r#"{"stream":false,"messages":[{"role":"user","content":"Tell me a story"}]}"#;

fn cost(input: u64, output: u64) -> Amount {
    rates().cost(BillableUsage::new(input, output))
}

fn story() -> [Do; 5] {
    [
        delta("Once"),
        delta(" upon\n"),
        finish("stop"),
        usage(20, 4),
        done(),
    ]
}

/// The payment header for a body under a name: what a client makes of the 402's header.
async fn named(shop: &Shop, body: &str, name: &str) -> (&'static str, String) {
    let answer = shop.ask(Method::POST, "/x402/v1", body.to_owned()).await;
    let offer = answer.headers["payment-required"].as_bytes();
    let offer = PaymentRequired::parse_header(offer, &Limits::DEFAULT).unwrap();
    let asked = offer.extensions.payment_identifier().cloned();
    assert_eq!(asked, Some(PaymentIdentifier::default()), "it is offered");
    let signed = shop.sign(cents(99)).await;
    let payload = PaymentPayload::answering(&offer, &offer.accepts[0], &signed);
    let identifier = PaymentIdentifier {
        required: false,
        id: Some(format!("pay_0123456789_{name}").parse().unwrap()),
    };
    let extensions = payload.extensions().clone();
    let payload = payload.with_extensions(extensions.with_payment_identifier(identifier));
    (payload.header().name(), payload.to_header_value())
}

async fn send(shop: &Shop, body: &str, payment: &(&'static str, String)) -> Whole {
    let body = body.to_owned().into();
    let request = request(Method::POST, "/x402/v1", body, Some(payment.clone()));
    Whole::of(shop.call(request).await).await
}

#[tokio::test]
async fn a_stream_comes_again_byte_for_byte_with_its_payments_present_state() {
    let mock = Mock::new(story()).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, STORY, "a").await;
    let first = send(&shop, STORY, &payment).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    assert_eq!(first.said(), "Once upon\n");
    mock.asked().await;
    let again = send(&shop, STORY, &payment).await;
    assert_eq!(again.text(), first.text());
    for name in [
        "content-type",
        "cache-control",
        "vary",
        "x-payment-id",
        "x-vercel-ai-ui-message-stream",
        "x-accel-buffering",
        "access-control-allow-origin",
    ] {
        assert_eq!(again.headers[name], first.headers[name], "{name}");
    }
    assert!(first.headers.get("x-payment-replayed").is_none());
    assert_eq!(again.headers["x-payment-replayed"], "true");
    let exposed = again.headers["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("X-PAYMENT-REPLAYED"), "{exposed}");
    let told = again.headers["payment-response"].as_bytes();
    let told = SettleResponse::parse_header(told, &Limits::DEFAULT).unwrap();
    assert_eq!(told.amount, Some(cost(20, 4)));
    mock.nothing_was_asked().await;
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}

#[tokio::test]
async fn a_plain_answer_comes_again_byte_for_byte() {
    let mock = Mock::new(story()).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, PLAIN, "a").await;
    let first = send(&shop, PLAIN, &payment).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    mock.asked().await;
    let again = send(&shop, PLAIN, &payment).await;
    assert_eq!(again.text(), first.text());
    assert_eq!(
        again.headers["payment-response"],
        first.headers["payment-response"]
    );
    mock.nothing_was_asked().await;
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}

#[tokio::test]
async fn sixty_four_equal_requests_at_once_are_one() {
    let gate = Arc::new(Semaphore::new(0));
    let script = [
        vec![delta("Once"), Do::Gate(Arc::clone(&gate))],
        story()[1..].to_vec(),
    ];
    let mock = Mock::new(script.concat()).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, STORY, "a").await;
    let all = (0..64).map(|_| send(&shop, STORY, &payment));
    let open = async {
        mock.asked().await;
        gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(all), open);
    let (served, early): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status == StatusCode::OK);
    assert!(!served.is_empty());
    for answer in &served {
        assert_eq!(answer.said(), "Once upon\n");
        assert_eq!(
            answer.headers["x-payment-id"],
            served[0].headers["x-payment-id"]
        );
    }
    for answer in early {
        assert_eq!(answer.status, StatusCode::TOO_EARLY, "{}", answer.text());
        assert_eq!(answer.json()["error"], ErrorCode::PaymentInFlight.as_str());
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    mock.nothing_was_asked().await;
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}

#[tokio::test]
async fn another_request_under_a_known_name_is_refused_and_says_what_to_do() {
    let mock = Mock::new(story()).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, STORY, "a").await;
    send(&shop, STORY, &payment).await;
    mock.asked().await;
    let other = STORY.replace("story", "joke");
    let refused = send(&shop, &other, &payment).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let code = ErrorCode::PaymentIdentifierConflict;
    assert_eq!(refused.json()["error"], code.as_str());
    assert_eq!(refused.json()["advice"], code.advice());
    mock.nothing_was_asked().await;
    assert_eq!(shop.only_payment().await.charge, Some(cost(20, 4)));
}

#[tokio::test]
async fn who_hangs_up_in_mid_stream_comes_back_for_what_was_charged() {
    let mock = Mock::new([delta("Once"), delta(" upon"), Do::Hang]).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, STORY, "a").await;
    let asked = request(
        Method::POST,
        "/x402/v1",
        STORY.into(),
        Some(payment.clone()),
    );
    let mut answer = shop.call(asked).await.into_body();
    let mut seen = String::new();
    while !seen.contains(" upon") {
        let frame = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(str::from_utf8(&frame).unwrap());
    }
    drop(answer);
    let charged = shop.only_payment().await.charge.unwrap();
    assert!(!charged.is_zero());
    let again = send(&shop, STORY, &payment).await;
    assert_eq!(again.status, StatusCode::OK);
    assert!(again.text().starts_with(&seen), "{}", again.text());
    assert_eq!(again.said(), "Once upon");
    assert_eq!(again.finish()["finishReason"], "error");
    let told = &again.finish()["messageMetadata"]["realPriceWei"];
    assert_eq!(*told, charged.to_string());
    assert_eq!(shop.only_payment().await.charge, Some(charged));
}

#[tokio::test]
async fn a_request_that_the_model_server_failed_is_served_under_its_name_when_it_comes_again() {
    let mock = Mock::new([Do::Head(500, "application/json"), Do::Send("{}".to_owned())]).await;
    let shop = Shop::new(&mock);
    let payment = named(&shop, STORY, "a").await;
    for _ in 0..2 {
        assert_eq!(
            send(&shop, STORY, &payment).await.status,
            StatusCode::BAD_GATEWAY
        );
        mock.asked().await;
    }
    for payment in shop.settled().await {
        assert_eq!(payment.state, PaymentState::Released);
    }
}

/// The token's nonces: nobody has signed a permit.
#[derive(Clone)]
struct Fresh;

impl ChainFacts for Fresh {
    async fn permit_nonce(&self, _: ChainId, _: Address, _: Address) -> Result<U256, FactsError> {
        Ok(U256::ZERO)
    }
}

/// Who pays on a development chain: its first account, whose key is public.
fn buyer(retries: u32) -> Payer<LocalWallet, Fresh> {
    let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let wallet = LocalWallet::from_hex(key).unwrap();
    let token = Address::repeat_byte(0x11);
    let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, token);
    let signatures = TokenSignatures {
        permit: true,
        eip3009: false,
    };
    let asset = Asset::new("USD1", 18, domain, signatures);
    let policy = Policy::default().with_asset(asset).retries(retries);
    let payer = Payer::builder(wallet).policy(policy).facts(Fresh);
    payer.clock(FixedClock).build()
}

/// What a network swallowed of paid answers.
type Lost = Arc<Mutex<Vec<Bytes>>>;

/// The gateway behind a network that loses the first paid answers, after they came to their end.
async fn lossy(
    gateway: ShopGateway,
    lost: Lost,
    losses: usize,
    request: Request<Bytes>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let paid = request.headers().contains_key("payment-signature");
    let answer = gateway.oneshot(request.map(Full::new)).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut lost = lost.lock().unwrap();
    if paid && lost.len() < losses {
        lost.push(body);
        return Err(std::io::Error::other("the connection was reset"));
    }
    Ok(Response::from_parts(head, Full::new(body)))
}

fn question(body: &'static str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "https://tokens.example/x402/v1".parse().unwrap();
    request
}

#[tokio::test]
async fn our_client_gets_a_lost_stream_again_and_pays_once() {
    for body in [STORY, PLAIN] {
        let mock = Mock::new(story()).await;
        let shop = Shop::new(&mock);
        let lost = Lost::default();
        let (gateway, swallowed) = (shop.gateway.clone(), Arc::clone(&lost));
        let network =
            service_fn(move |request| lossy(gateway.clone(), Arc::clone(&swallowed), 2, request));
        // It sends again by itself; one that does not is asked again by its user.
        for retries in [2, 0] {
            lost.lock().unwrap().clear();
            let pay = Pay::new(network.clone(), buyer(retries));
            let mut tries = 0;
            let answer = loop {
                tries += 1;
                match pay.clone().oneshot(question(body)).await {
                    Ok(answer) => break answer,
                    Err(error) => assert!(error.to_string().contains("no answer came"), "{error}"),
                }
            };
            assert_eq!(tries, if retries == 2 { 1 } else { 3 });
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["x-payment-replayed"], "true");
            let got = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(
                lost.lock()
                    .unwrap()
                    .iter()
                    .all(|swallowed| *swallowed == got)
            );
            mock.asked().await;
            mock.nothing_was_asked().await;
        }
        let charges: Vec<_> = shop
            .settled()
            .await
            .iter()
            .map(|paid| paid.charge)
            .collect();
        assert_eq!(charges, [Some(cost(20, 4)); 2], "one charge a question");
    }
}
