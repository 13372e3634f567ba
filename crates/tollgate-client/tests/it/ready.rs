//! The ready client over real connections.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tollgate_client::{
    AuthorizationKind, ChatPart, Origin, PayError, Policy, Refusal, TollgateClient,
};
use tollgate_x402::{
    ChainId, Network, PaymentAmounts, PaymentStatus, Timestamp, header::PAYMENT_REQUIRED,
};

use crate::seller::{
    Counting, PAYEE, Sevens, Standing, USD1, cents, counted, required, stream, upto,
};

fn dev() -> tollgate_x402::PaymentRequirements {
    let mut entry = upto();
    entry.network = ChainId::DEV.into();
    entry
}

async fn chat(headers: HeaderMap, body: Bytes) -> Response {
    if !headers.contains_key("payment-signature") {
        let offer = required(vec![dev()], "Payment required");
        let head = [(PAYMENT_REQUIRED, offer.to_header_v2())];
        return (StatusCode::PAYMENT_REQUIRED, head, offer.to_body_v1()).into_response();
    }
    if body.windows(14).any(|part| part == b"\"stream\":false") {
        let json = format!(
            r#"{{"choices":[{{"message":{{"role":"assistant","content":"plain"}},"finish_reason":"stop"}}],"messageMetadata":{{"realPriceWei":"{}"}}}}"#,
            cents(1)
        );
        return ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    }
    if body.windows(8).any(|part| part == b"\"bad\":12") {
        return (StatusCode::BAD_REQUEST, "bad\u{1b}[31m request").into_response();
    }
    let (parts, body) = stream(cents(1), cents(98)).unwrap().into_parts();
    let body = http_body_util::BodyExt::collect(body)
        .await
        .unwrap()
        .to_bytes();
    Response::from_parts(parts, Body::from(body))
}

async fn payment(Path(id): Path<String>) -> String {
    let amounts = PaymentAmounts {
        authorized: cents(99),
        reserved: cents(1),
        calculated: None,
    };
    PaymentStatus::accepted(
        id.parse().unwrap(),
        AuthorizationKind::Allowance,
        Network::Eip155(ChainId::DEV),
        USD1,
        tollgate_eip712::Wallet::address(&Counting::development()),
        PAYEE,
        amounts,
        Timestamp(1),
    )
    .to_json()
}

pub(crate) async fn serve() -> String {
    let app = Router::new()
        .route("/x402/v1", post(chat))
        .route("/x402/v1/payments/{id}", get(payment))
        .route(
            "/moved",
            post(|| async {
                (
                    StatusCode::TEMPORARY_REDIRECT,
                    [(header::LOCATION, "/x402/v1")],
                )
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

pub(crate) fn client(wallet: &Counting) -> TollgateClient<Counting, Sevens> {
    TollgateClient::builder()
        .wallet(wallet.clone())
        .policy(Policy::default())
        .facts(Sevens)
        .clock(Standing::new())
        .nonces(counted())
        .build()
        .unwrap()
}

#[tokio::test]
async fn chat_streams_text_and_ends_with_a_receipt() {
    let origin = serve().await;
    let url = format!("{origin}/x402/v1");
    let wallet = Counting::development();
    let client = client(&wallet);
    for _ in 0..2 {
        let mut answer = client.chat(&url, r#"{"messages":[]}"#).await.unwrap();
        let mut parts = Vec::new();
        while let Some(part) = answer.next().await {
            parts.push(part.unwrap());
        }
        assert_eq!(
            parts,
            [
                ChatPart::Text("hi".into()),
                ChatPart::Finish(Some("stop".into()))
            ]
        );
        let receipt = answer.receipt().unwrap();
        assert_eq!(receipt.charge, Some(cents(1)));
        assert_eq!(answer.findings(), []);
        let paid = answer.paid().unwrap();
        let told = client
            .payment(&paid.origin, receipt.payment_id.unwrap())
            .await
            .unwrap();
        assert_eq!(told.status.payer, paid.payer);
        assert_eq!(client.audit(paid, &receipt, Some(&told.status)), []);
        // This seller signs none, which is nothing to be found.
        assert_eq!(told.receipt, None);
        assert_eq!(client.audit_receipt(paid, &told), []);
    }
    assert_eq!(wallet.count(), 1);
}

#[tokio::test]
async fn plain_answers_come_in_one_piece_and_as_chat() {
    let url = format!("{}/x402/v1", serve().await);
    let client = client(&Counting::development());
    let answer = client.post_json(&url, r#"{"stream":false}"#).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.receipt.unwrap().charge, Some(cents(1)));
    let mut answer = client.chat(&url, r#"{"stream":false}"#).await.unwrap();
    let part = answer.next().await.unwrap().unwrap();
    assert_eq!(part, ChatPart::Text("plain".into()));
}

#[tokio::test]
async fn errors_of_the_seller_are_told_without_control_characters() {
    let url = format!("{}/x402/v1", serve().await);
    let client = client(&Counting::development());
    let error = client.chat(&url, r#"{"bad":12}"#).await.unwrap_err();
    let PayError::Answer { status, text } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (status, &*text),
        (StatusCode::BAD_REQUEST, "bad[31m request")
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let origin = serve().await;
    let client = client(&Counting::development());
    let answer = client
        .post_json(&format!("{origin}/moved"), "{}")
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert!(answer.paid.is_none());
}

#[tokio::test]
async fn an_ordinary_key_does_not_pay_a_development_gateway() {
    let url = format!("{}/x402/v1", serve().await);
    let wallet = Counting::ordinary();
    let error = client(&wallet).chat(&url, "{}").await.unwrap_err();
    let refused = error.refusals().unwrap().first();
    assert!(
        matches!(refused, Refusal::DevelopmentKey { .. }),
        "{refused}"
    );
    assert_eq!(wallet.count(), 0);
}

#[tokio::test]
async fn a_url_without_an_origin_is_an_error() {
    let client = client(&Counting::development());
    for url in ["/x402/v1", "ftp://example.com/", "not a url"] {
        let error = client.post_json(url, "{}").await.unwrap_err();
        assert!(matches!(error, PayError::Url(_)), "{error}");
    }
    assert!(Origin::of(&"https://a.example/".parse().unwrap()).is_some());
}
