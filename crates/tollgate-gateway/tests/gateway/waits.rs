//! Callers that wait for a block, over real sockets. Nobody settles here, so no block comes.

use std::time::Duration;

use reqwest::Response;
use tokio::task::JoinHandle;
use tollgate_gateway::ServeConfig;
use tollgate_price::BillableUsage;
use tollgate_x402::{Json, Limits, SettleResponse};

use crate::{
    mock::{Mock, delta, done, finish, usage},
    server::{Server, client},
    shop::{Shop, cents, rates},
};

const PLAIN: &str = r#"{"stream":false,"messages":[{"role":"user","content":"Tell me a story"}]}"#;

/// Asks to wait as long as the gateway lets anybody, and comes back when that is charged.
async fn waiting(shop: &Shop, server: &Server, client: reqwest::Client) -> JoinHandle<Response> {
    let (name, value) = shop.payment(PLAIN, cents(99)).await;
    let request = client
        .post(server.url("/x402/v1"))
        .header(name, &value)
        .header("prefer", "wait=30")
        .body(PLAIN);
    let answer = tokio::spawn(async move { request.send().await.unwrap() });
    let charged = async {
        while shop
            .settled()
            .await
            .first()
            .is_none_or(|payment| payment.charge.is_none())
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), charged)
        .await
        .expect("it is charged before it is answered");
    assert!(!answer.is_finished());
    answer
}

async fn story() -> (Mock, Shop) {
    let mock = Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await;
    let shop = Shop::new(&mock);
    (mock, shop)
}

#[tokio::test]
async fn who_waits_when_the_gateway_shuts_down_gets_its_answer_at_once() {
    for http2 in [false, true] {
        let (_mock, shop) = story().await;
        let mut server = Server::start(&shop, ServeConfig::default()).await;
        let client = match http2 {
            true => client().http2_prior_knowledge(),
            false => client(),
        };
        let answer = waiting(&shop, &server, client.build().unwrap()).await;
        server.stop();
        let answer = tokio::time::timeout(Duration::from_secs(20), answer)
            .await
            .expect("it does not wait on")
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("preference-applied").is_none());
        let told = answer.headers()["x-payment-response"].as_bytes();
        let told = SettleResponse::parse_header(told, &Limits::DEFAULT).unwrap();
        assert_eq!(told.extra.value("state"), Some(Json::from("accepted")));
        assert_eq!(told.transaction, None);
        let text = answer.text().await.unwrap();
        assert!(text.contains("Once"), "{text}");
        let drained = server.ended.await.unwrap();
        assert_eq!((drained.open, drained.cut), (0, 0));
        let cost = rates().cost(BillableUsage::new(20, 4));
        assert_eq!(shop.only_payment().await.charge, Some(cost));
    }
}

#[tokio::test]
async fn who_leaves_while_it_waits_has_paid_once_and_holds_up_no_shutdown() {
    let (_mock, shop) = story().await;
    let mut server = Server::start(&shop, ServeConfig::default()).await;
    let answer = waiting(&shop, &server, client().build().unwrap()).await;
    answer.abort();
    server.stop();
    let drained = tokio::time::timeout(Duration::from_secs(20), server.ended);
    let drained = drained.await.expect("nothing waits on").unwrap();
    assert_eq!(drained.open, 0);
    let cost = rates().cost(BillableUsage::new(20, 4));
    assert_eq!(shop.only_payment().await.charge, Some(cost));
}
