//! Bad input over the wire: each case gets its status, its code and a sentence that helps; nothing is served, and
//! nothing is charged, which is looked at when a good payment that came after them all is final.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tollgate_bsc::{BlockTag, CallRequest, Chain, ChainConfig};
use tollgate_contracts::tokens::USD1;
use tollgate_eip712::{
    AllowanceTerms, LocalWallet, OnceTerms, TokenDomain, sign_allowance, sign_once,
};
use tollgate_x402::{
    Address, Amount, Authorization, ChainId, Limits, PaymentPayload, PaymentRequired, Timestamp,
    U256, canonical, header,
};

/// Development account 2. Everybody has this key.
const PAYER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
/// Development account 3.
const OTHER: &str = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";
const DAY: u64 = 86_400;
/// How long a settlement may take to be final.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shop {
    child: Child,
    api: String,
    http: reqwest::Client,
    chain: Chain,
    offer: PaymentRequired,
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn question() -> Value {
    json!({"messages": [{"role": "user", "content": "Hello"}]})
}

impl Shop {
    async fn open() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([
                "serve",
                "--dev",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--rpc-listen",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let api = format!("{}/x402/v1", ready["gateway"].as_str().unwrap());
        let rpc = ready["rpc"].as_str().unwrap().to_owned();
        let http = reqwest::Client::new();
        let answer = http.post(&api).json(&question()).send().await.unwrap();
        assert_eq!(answer.status(), 402);
        let head = answer.headers()[header::PAYMENT_REQUIRED]
            .as_bytes()
            .to_vec();
        let body = answer.bytes().await.unwrap();
        let offer = PaymentRequired::from_response(Some(&head), &body, &Limits::DEFAULT).unwrap();
        let chain = Chain::connect(ChainConfig::new(ChainId::DEV, [rpc]))
            .await
            .unwrap();
        Self {
            child,
            api,
            http,
            chain,
            offer,
        }
    }

    async fn now(&self) -> Timestamp {
        self.chain.heads().await.unwrap().latest.timestamp
    }

    fn domain() -> TokenDomain {
        TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
    }

    async fn permit(&self, change: impl FnOnce(&mut AllowanceTerms)) -> Authorization {
        let mut terms = AllowanceTerms {
            spender: self.offer.accepts[0].pay_to,
            value: self.offer.accepts[0].amount,
            nonce: U256::ZERO,
            deadline: self.now().await.plus(DAY),
        };
        change(&mut terms);
        Authorization::Allowance(
            sign_allowance(
                &PAYER.parse::<LocalWallet>().unwrap(),
                &Self::domain(),
                &terms,
            )
            .await
            .unwrap(),
        )
    }

    async fn once(&self, change: impl FnOnce(&mut OnceTerms)) -> Authorization {
        let entry = &self.offer.accepts[0];
        let mut terms = OnceTerms {
            amount: entry.amount,
            spender: canonical::UPTO_PERMIT2_PROXY,
            nonce: U256::from(7),
            deadline: self.now().await.plus(DAY),
            to: entry.pay_to,
            facilitator: entry.extra.facilitator_address.unwrap(),
            valid_after: Timestamp(0),
        };
        change(&mut terms);
        Authorization::Once(
            sign_once(
                &PAYER.parse::<LocalWallet>().unwrap(),
                &Self::domain(),
                &terms,
            )
            .await
            .unwrap(),
        )
    }

    /// The payment as JSON, to be spoilt.
    fn payment(&self, signed: &Authorization) -> Value {
        let payload = PaymentPayload::answering(&self.offer, &self.offer.accepts[0], signed);
        serde_json::from_str(&payload.to_json()).unwrap()
    }

    async fn send(&self, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Value) {
        let mut request = self.http.post(&self.api).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    async fn pay(&self, payment: &Value) -> (u16, Value) {
        let value = header::encode(payment.to_string().as_bytes());
        self.send(
            &[("payment-signature", &value)],
            question().to_string().into_bytes(),
        )
        .await
    }

    /// Pays for an answer with a good payment, waits until that is final on the chain, and returns what it cost. What was
    /// charged before it would be settled by then: the worker takes what a payer owes in the order of its commits.
    async fn settled(&self, payment: &str) -> Amount {
        let mut question = question();
        question["stream"] = json!(false);
        let (status, answer) = self
            .send(
                &[("payment-signature", payment)],
                question.to_string().into_bytes(),
            )
            .await;
        assert_eq!(status, 200, "a good payment is refused: {answer}");
        let id = answer["messageMetadata"]["paymentId"].as_str().unwrap();
        let url = format!("{}/payments/{id}", self.api);
        let begin = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let receipt = self.http.get(&url).send().await.unwrap();
            let receipt: Value = receipt.json().await.unwrap();
            if receipt["state"] == "final" {
                return receipt["charge"].as_str().unwrap().parse().unwrap();
            }
            assert!(begin.elapsed() < PATIENCE, "not final: {receipt}");
        }
    }

    async fn balance(&self, key: &str) -> Amount {
        let owner = key.parse::<LocalWallet>().unwrap().address();
        let mut input = vec![0x70, 0xa0, 0x82, 0x31];
        input.extend_from_slice(owner.into_word().as_slice());
        let request = CallRequest {
            to: Some(USD1),
            input: input.into(),
            ..CallRequest::default()
        };
        Amount::new(U256::from_be_slice(
            &self.chain.call(&request, BlockTag::Latest).await.unwrap(),
        ))
    }
}

fn refused((status, body): (u16, Value), expected: u16, code: &str, case: &str) {
    assert_eq!(
        (status, body["error"].as_str()),
        (expected, Some(code)),
        "{case}: {body}"
    );
    let sentence = body["errorMessage"].as_str().unwrap_or_default();
    assert!(
        sentence.len() > 20,
        "{case}: no sentence that helps: {body}"
    );
    if status == 402 {
        assert_eq!(
            body["accepts"][0]["scheme"], "upto",
            "{case}: a 402 brings a fresh offer"
        );
    }
}

#[tokio::test]
async fn every_bad_payment_gets_its_status_and_code_and_is_charged_nothing() {
    let shop = Shop::open().await;
    let before = (shop.balance(PAYER).await, shop.balance(OTHER).await);
    let good = shop.payment(&shop.permit(|_| {}).await);
    let spoilt = |pointer: &str, value: Value| {
        let mut payment = good.clone();
        *payment
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer} in {good}")) = value;
        payment
    };
    // The payload says these twice, and a contradiction is refused as such.
    let spoilt_twice = |key: &str, value: Value| {
        let mut payment = spoilt(&format!("/accepted/{key}"), value.clone());
        if let Some(field) = payment.get_mut(key) {
            *field = value;
        }
        payment
    };
    let authorization = "/payload/authorization";
    let stranger = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
    let signature = good["payload"]["signature"].as_str().unwrap().to_owned();
    let high_s = {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let order = U256::from_str_radix(order, 16).unwrap();
        let s = U256::from_str_radix(&signature[66..130], 16).unwrap();
        format!(
            "{}{:064x}{}",
            &signature[..66],
            order - s,
            &signature[130..]
        )
    };
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "another chain",
            spoilt_twice("network", json!("eip155:97")),
            "invalid_network",
        ),
        (
            "another token",
            spoilt("/accepted/asset", json!(stranger)),
            "invalid_payment_requirements",
        ),
        (
            "another payee in the echo",
            spoilt("/accepted/payTo", json!(stranger)),
            "invalid_payment_requirements",
        ),
        (
            "another spender",
            spoilt(&format!("{authorization}/to"), json!(stranger)),
            "invalid_exact_evm_recipient_mismatch",
        ),
        (
            "another owner",
            spoilt(&format!("{authorization}/from"), json!(stranger)),
            "invalid_exact_evm_payload_signature",
        ),
        (
            "another value",
            spoilt(
                &format!("{authorization}/value"),
                json!("980000000000000000"),
            ),
            "invalid_exact_evm_payload_signature",
        ),
        (
            "nothing",
            spoilt(&format!("{authorization}/value"), json!("0")),
            "invalid_payment_amount",
        ),
        (
            "hexadecimal",
            spoilt(&format!("{authorization}/value"), json!("0x10")),
            "invalid_payload",
        ),
        (
            "a sign",
            spoilt(&format!("{authorization}/value"), json!("+1")),
            "invalid_payload",
        ),
        (
            "an exponent",
            spoilt(&format!("{authorization}/value"), json!("1e18")),
            "invalid_payload",
        ),
        (
            "above 2^256",
            spoilt(
                &format!("{authorization}/value"),
                json!(
                    "115792089237316195423570985008687907853269984665640564039457584007913129639936"
                ),
            ),
            "invalid_payload",
        ),
        (
            "a short address",
            spoilt(&format!("{authorization}/from"), json!("0x12")),
            "invalid_payload",
        ),
        (
            "high s",
            spoilt("/payload/signature", json!(high_s)),
            "invalid_payload",
        ),
        (
            "a short signature",
            spoilt("/payload/signature", json!("0x1234")),
            "invalid_payload",
        ),
        (
            "another version",
            spoilt("/x402Version", json!(3)),
            "invalid_x402_version",
        ),
        (
            "another scheme",
            spoilt_twice("scheme", json!("exact")),
            "invalid_scheme",
        ),
    ];
    for (case, payment, code) in cases {
        refused(shop.pay(&payment).await, 402, code, case);
    }
    let expired = shop
        .permit(|terms| terms.deadline = Timestamp(terms.deadline.0 - DAY - 60))
        .await;
    refused(
        shop.pay(&shop.payment(&expired)).await,
        402,
        "payment_expired",
        "expired",
    );
    let early = shop.once(|terms| terms.valid_after = terms.deadline).await;
    refused(
        shop.pay(&shop.payment(&early)).await,
        402,
        "permit2_not_yet_valid",
        "not yet valid",
    );
    let facilitator = shop
        .once(|terms| terms.facilitator = Address::repeat_byte(1))
        .await;
    refused(
        shop.pay(&shop.payment(&facilitator)).await,
        402,
        "upto_facilitator_mismatch",
        "another facilitator",
    );
    let future = shop.permit(|terms| terms.nonce = U256::from(9)).await;
    refused(
        shop.pay(&shop.payment(&future)).await,
        402,
        "invalid_permit_nonce",
        "a future nonce",
    );
    let unapproved = shop.once(|_| {}).await;
    refused(
        shop.pay(&shop.payment(&unapproved)).await,
        402,
        "permit2_allowance_required",
        "no approval",
    );
    let good = header::encode(good.to_string().as_bytes());
    let charge = shop.settled(&good).await;
    assert_eq!(
        (
            shop.balance(PAYER).await.get() + charge.get(),
            shop.balance(OTHER).await
        ),
        (before.0.get(), before.1),
        "something was charged for what was refused"
    );
}

#[tokio::test]
async fn headers_and_bodies_that_cannot_be_read_are_refused_before_any_payment() {
    let shop = Shop::open().await;
    let before = shop.balance(PAYER).await;
    let body = question().to_string().into_bytes();
    let good = header::encode(
        shop.payment(&shop.permit(|_| {}).await)
            .to_string()
            .as_bytes(),
    );
    let bomb = header::encode(format!("{}1{}", "[".repeat(4_000), "]".repeat(4_000)).as_bytes());
    let twice = header::encode(br#"{"x402Version":1,"x402Version":2,"scheme":"upto"}"#);
    for (case, value) in [
        ("no base64", "%%%"),
        ("no JSON", "aGVsbG8="),
        ("an empty header", ""),
        ("a JSON bomb", bomb.as_str()),
        ("a key twice", twice.as_str()),
    ] {
        let answer = shop
            .send(&[("payment-signature", value)], body.clone())
            .await;
        refused(answer, 402, "invalid_payload", case);
    }
    let both = [
        ("payment-signature", good.as_str()),
        ("x-payment", good.as_str()),
    ];
    refused(
        shop.send(&both, body.clone()).await,
        400,
        "multiple_payments",
        "both headers",
    );
    let large = "A".repeat(17 * 1024);
    let answer = shop
        .send(&[("x-payment", large.as_str())], body.clone())
        .await;
    refused(answer, 431, "payment_header_too_large", "a large header");

    let paid = [("payment-signature", good.as_str())];
    let with = |value: Value| value.to_string().into_bytes();
    for (case, body, status, code) in [
        ("no JSON", b"hello".to_vec(), 400, "invalid_request"),
        (
            "no messages",
            with(json!({"messages": []})),
            400,
            "invalid_request",
        ),
        (
            "an unknown model",
            with(json!({"model": "nobody/knows", "messages": [{"role": "user", "content": "x"}]})),
            400,
            "unknown_model",
        ),
        (
            "a large body",
            vec![b' '; 5 * 1024 * 1024],
            413,
            "request_too_large",
        ),
    ] {
        refused(shop.send(&paid, body.clone()).await, status, code, case);
        refused(shop.send(&[], body).await, status, code, case);
    }
    let charge = shop.settled(&good).await;
    assert_eq!(
        shop.balance(PAYER).await.get() + charge.get(),
        before.get(),
        "something was charged for what was refused"
    );
}
