//! Shared caches between payers and the gateway (RFC 9111).

use std::collections::HashMap;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tollgate_x402::{U256, X402Version};

use crate::kit::{Answer, CHAT, FIXED_PATH, Header, Payer, Step, World, cents, chat};

/// Whether a shared cache, or with `private` a browser's, may keep this answer (RFC 9111 §3). Strict: a cache that
/// understands every status and every method, and is only kept by what the answer says.
fn may_keep(answer: &Answer, private: bool) -> bool {
    let control = answer
        .headers
        .get_all("cache-control")
        .iter()
        .map(|value| value.to_str().unwrap().to_lowercase())
        .collect::<Vec<_>>()
        .join(",");
    let says = |directive: &str| {
        control
            .split(',')
            .any(|one| one.trim().split('=').next() == Some(directive))
    };
    !says("no-store") && (private || !says("private"))
}

/// Whether two requests may get the same stored answer: its `Vary` names what parts them.
fn parts(answer: &Answer, header: &str) -> bool {
    answer.headers.get_all("vary").iter().any(|value| {
        value
            .to_str()
            .unwrap()
            .split(',')
            .any(|one| one.trim() == "*" || one.trim().eq_ignore_ascii_case(header))
    })
}

/// A caching proxy that keeps all that it may, of any method and status.
#[derive(Default)]
struct Proxy {
    kept: HashMap<(String, String), Answer>,
}

impl Proxy {
    async fn ask(
        &mut self,
        world: &World,
        path: &str,
        body: &str,
        payment: Option<&Header>,
    ) -> Answer {
        let key = (path.to_owned(), body.to_owned());
        if let Some(kept) = self.kept.get(&key) {
            return kept.clone();
        }
        let answer = world.request(path, body, payment).await;
        if may_keep(&answer, false) {
            self.kept.insert(key, answer.clone());
        }
        answer
    }
}

/// PROTOCOL 31; RELIABILITY 77, P1 III. Behind a proxy that keeps everything it may, nobody gets what another paid for,
/// or another's offer. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_cache_nobody_gets_what_another_paid_for() {
    let world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let mut proxy = Proxy::default();
    let plain = chat(20).replace("{\"max_tokens\"", "{\"stream\":false,\"max_tokens\"");
    for (nonce, path, body) in [
        (1, CHAT, chat(20)),
        (2, CHAT, plain),
        (3, FIXED_PATH, chat(20)),
    ] {
        let signed = match path {
            CHAT => world.once(&payer, cents(99), nonce).await,
            _ => world.eip3009(&payer, cents(10), nonce).await,
        };
        assert_eq!(proxy.ask(&world, path, &body, None).await.status, 402);
        let payment = world.payment(path, &body, X402Version::V2, &signed).await;
        for paid in [true, false, true, false] {
            let answer = proxy
                .ask(&world, path, &body, paid.then_some(&payment))
                .await;
            let served = answer.status == 200;
            assert!(!served || paid, "{path}: the unpaid request was served");
            assert!(!may_keep(&answer, true), "{path}: {:?}", answer.headers);
            assert!(parts(&answer, "payment-signature") && parts(&answer, "x-payment"));
        }
    }
    assert!(proxy.kept.is_empty());
}

/// Refusals of every kind, statuses of payments and the replayed answer are kept by no cache; what may be kept has no
/// secret in it. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cache_may_keep_has_no_secret_in_it() {
    let world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let signed = world.once(&payer, cents(99), 1).await;
    let body = chat(20);
    let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let paid = world.request(CHAT, &body, Some(&payment)).await;
    assert_eq!(paid.status, StatusCode::OK);
    let id = paid.payment().unwrap().to_owned();
    let secrets = [
        id.clone(),
        payment.value.clone(),
        payer.address().to_string(),
    ];

    let broken = Header {
        name: "x-payment",
        value: "!!".to_owned(),
    };
    let other = body.replace("Hello", "Other");
    let mut answers = vec![
        paid,
        world.request(CHAT, &body, None).await,
        world.request(CHAT, "{", None).await,
        world.request(CHAT, &body, Some(&broken)).await,
        world.request(CHAT, &body, Some(&payment)).await,
        world.request(CHAT, &other, Some(&payment)).await,
        world.get(&format!("/x402/v1/payments/{id}")).await,
        world.get("/readyz").await,
    ];
    for answer in &answers {
        assert!(
            !may_keep(answer, true),
            "{} {:?}",
            answer.status,
            answer.headers
        );
    }
    for path in [
        "/",
        "/v1/models",
        "/healthz",
        "/x402/v1/payments/00000000000000000000000000000000",
    ] {
        answers.push(world.get(path).await);
    }
    for method in [Method::HEAD, Method::OPTIONS, Method::PUT] {
        let request = Request::builder().method(method).uri(CHAT);
        let request = request.header(payment.name, &payment.value);
        answers.push(world.ask(request.body(Full::default()).unwrap()).await);
    }
    for answer in answers.iter().filter(|answer| may_keep(answer, false)) {
        let all = format!("{:?}{}", answer.headers, answer.text());
        for secret in &secrets {
            assert!(!all.contains(secret.as_str()), "{} {all}", answer.status);
        }
    }
}

/// PROTOCOL 33, 36; RELIABILITY 71, 79. No answer names a node's URL, a key or the model server, and the head of a 402
/// stays below what proxies take, 4 KiB. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_tell_nothing_of_what_is_behind_and_stay_small() {
    let world = World::new().await;
    let body = chat(20);
    let signed = world.allowance(&Payer::rich(0), cents(99), 0).await;
    let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let mut answers = vec![
        world.request(CHAT, &body, None).await,
        world.request(FIXED_PATH, &body, None).await,
        world.request(CHAT, "{\"messages\":7}", None).await,
    ];
    if let Some(faults) = world.chain.faults() {
        // The node is down: what it said is not passed on.
        faults.always("*", tollgate_devchain::Fault::Status(503));
        let answer = world.request(CHAT, &body, Some(&payment)).await;
        assert_eq!(answer.status, 503);
        answers.push(answer);
        faults.clear();
    }
    world.upstream.play([Step::Fail]);
    answers.push(world.request(CHAT, &body, Some(&payment)).await);
    let key = tollgate_devchain::DEV_ACCOUNTS[crate::kit::OPERATOR].private_key;
    let node = world.chain.url.trim_start_matches("http://");
    for answer in answers {
        let head: usize = answer
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        assert!(head < 4_096, "{head} bytes");
        let all = format!("{:?}{}", answer.headers, answer.text());
        let inner = [
            node,
            &key.to_string()[2..],
            "as the test wants",
            "ledger.db",
        ];
        for secret in inner {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
}
