//! What the client makes of the answers of others.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use tollgate_facilitator::{Call, Client, ClientConfig, Facilitator, FacilitatorError, Stage};
use tollgate_x402::{
    Address, Amount, ChainId, ErrorCode, Network, SettleResponse, VerifyResponse, X402Version,
};
use tower::service_fn;

use crate::common::*;

fn config() -> ClientConfig {
    ClientConfig::new("https://facilitator.example/x402/")
        .unwrap()
        .with_key("a-secret-key")
        .unwrap()
}

/// What is made of an answer to a settlement.
async fn told(status: u16, body: impl Into<Bytes>) -> Result<Stage, FacilitatorError> {
    let body = body.into();
    let service = service_fn(move |asked: Request<Bytes>| {
        let body = body.clone();
        async move {
            assert_eq!(asked.uri(), "https://facilitator.example/x402/settle");
            assert_eq!(
                asked.headers()[header::AUTHORIZATION],
                "Bearer a-secret-key"
            );
            let response = Response::builder()
                .status(status)
                .header(header::LOCATION, "https://elsewhere.example/")
                .header(header::RETRY_AFTER, "9")
                .body(Full::new(body))
                .unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    let client = Client::new(service, config());
    let call = Call::new(request(X402Version::V2));
    client.settle(&call).await.map(|settled| settled.stage)
}

fn unknown(told: Result<Stage, FacilitatorError>) -> bool {
    matches!(told, Err(FacilitatorError::Unknown(_)))
}

#[tokio::test]
async fn an_answer_to_the_question_is_passed_on() {
    assert_eq!(told(200, settled().to_json()).await, Ok(Stage::Done));
    let pending = SettleResponse::failed(network(), ErrorCode::SettlementPending, Some(HASH));
    for status in [200, 202] {
        assert_eq!(told(status, pending.to_json()).await, Ok(Stage::Pending));
    }
    let refused = SettleResponse::failed(network(), ErrorCode::Permit2Balance, None);
    for status in [200, 400, 402] {
        assert_eq!(told(status, refused.to_json()).await, Ok(Stage::Refused));
    }
    let conflict = SettleResponse::failed(network(), ErrorCode::DuplicateSettlement, None);
    assert_eq!(told(409, conflict.to_json()).await, Ok(Stage::Conflict));
}

#[tokio::test]
async fn what_contradicts_the_question_is_not_believed() {
    let mut other_payer = settled();
    other_payer.payer = Some(Address::repeat_byte(1));
    let mut other_network = settled();
    other_network.network = Network::from(ChainId::CHAPEL);
    let mut other_amount = settled();
    other_amount.amount = Some(Amount::from(999u64));
    let mut without = settled();
    without.transaction = None;
    for lie in [other_payer, other_network, other_amount, without] {
        let body = lie.to_json();
        assert!(unknown(told(200, body.clone()).await), "{body}");
    }
    assert!(unknown(told(500, settled().to_json()).await));
    for redirect in [301, 302, 307, 308] {
        assert!(unknown(told(redirect, settled().to_json()).await));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_unknown() {
    let html = "<html><body>success: true</body></html>";
    for status in [200, 500, 502] {
        assert!(unknown(told(status, html).await), "{status}");
    }
    let cut = settled().to_json();
    assert!(unknown(told(200, cut[..cut.len() - 5].to_owned()).await));
    assert!(unknown(told(200, "").await));
    assert!(unknown(told(200, vec![b' '; 10 * 1024 * 1024]).await));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(unknown(told(200, deep).await));
}

#[tokio::test]
async fn a_refusal_of_the_request_is_told_from_silence() {
    for status in [401, 403, 429] {
        let refused = told(status, r#"{"error":"no"}"#).await;
        let Err(FacilitatorError::Refused {
            status: said,
            retry_after,
            ..
        }) = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!((said, retry_after), (status, Some(9)));
    }
    let away = told(503, "busy").await;
    assert!(matches!(
        away,
        Err(FacilitatorError::Unavailable { retry_after: 9, .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_is_not_waited_for() {
    let service = service_fn(|_: Request<Bytes>| async {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let mut config = config();
    config.timeout = Duration::from_secs(5);
    let client = Client::new(service, config);
    let call = Call::new(request(X402Version::V2));
    let asked = tokio::time::timeout(Duration::from_secs(6), client.settle(&call));
    assert!(matches!(
        asked.await.unwrap(),
        Err(FacilitatorError::Unknown(_))
    ));
}

#[tokio::test]
async fn a_verification_of_another_payer_is_not_believed() {
    let service = service_fn(|_: Request<Bytes>| async {
        let body = VerifyResponse::valid(Address::repeat_byte(1)).to_json();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
    });
    let client = Client::new(service, config());
    let verified = client.verify(&Call::new(request(X402Version::V2))).await;
    assert!(matches!(verified, Err(FacilitatorError::Unknown(_))));
}

#[test]
fn an_address_is_a_url_and_a_key_is_never_shown() {
    for bad in [
        "",
        "facilitator.example",
        "ftp://x.example",
        "https://x.example/?a=b",
    ] {
        assert!(ClientConfig::new(bad).is_err(), "{bad}");
    }
    assert!(config().with_key("a\nkey").is_err());
    assert!(!format!("{:?}", config()).contains("secret"));
}
