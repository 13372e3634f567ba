//! A gateway that sells two models, and a payer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::Notify;
use tollgate_eip712::{
    AllowanceTerms, LocalWallet, Signed, TokenDomain, UsageReceipt, Wallet, WalletError,
    sign_allowance,
};
use tollgate_engine::{
    Cashier, CashierConfig, Health, Market, Markets, Notary, Pace, Policy, tell,
};
use tollgate_gateway::{
    AnyUpstream, Check, EchoUpstream, Gateway, GatewayBody, GatewayConfig, Limits, ModelConfig,
    OpenAiConfig, OpenAiUpstream, ReadMemo, Receipts, ReceiptsError, Tokenizer, Told,
};
use tollgate_ledger::{MemoryStore, Run};
use tollgate_payment::{
    Credit, Terms,
    command::{Funds, SpenderFunds},
    port::{Verifier, VerifyError},
};
use tollgate_price::{DollarRates, Rates};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Clock, PaymentId, PaymentPayload,
    PaymentRequired, PaymentState, PaymentStatus, Signature65, Timestamp, U256,
};
use tower::ServiceExt;

use crate::mock::Mock;

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const MODEL: &str = "acme/storyteller";

pub(crate) fn cents(cents: u64) -> Amount {
    Amount::from(u128::from(cents) * 10_000_000_000_000_000)
}

#[derive(Clone, Copy)]
pub(crate) struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// A chain that says that every payer has 100 dollars and has signed no permit before.
pub(crate) struct Chain(Arc<AtomicUsize>);

impl Verifier for Chain {
    async fn funds(&self, _: &Authorization) -> Result<Funds, VerifyError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Funds {
            block: 100,
            at: NOW,
            balance: cents(10_000),
            spender: SpenderFunds::Counter {
                nonce: U256::ZERO,
                allowance: Amount::ZERO,
                counter: Some(Amount::ZERO),
            },
        })
    }
}

#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) store: MemoryStore,
    markets: Markets,
    pub(crate) key: Key,
    notary: Notary<Key>,
}

impl Receipts for Books {
    type Receipt = Signed<UsageReceipt>;

    async fn status(
        &self,
        id: PaymentId,
        read: ReadMemo,
    ) -> Result<Option<Told<Self::Receipt>>, ReceiptsError> {
        let told = tell(&self.store, &self.markets, Some(&self.notary), id, read).await;
        let told = told.map_err(|error| ReceiptsError(error.to_string()))?;
        Ok(told.map(|(status, receipt)| Told { status, receipt }))
    }
}

/// The key that settles, kept somewhere else: it counts what it signs.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    local: LocalWallet,
    pub(crate) signed: Arc<AtomicUsize>,
    pub(crate) answers: Arc<Mutex<Answers>>,
}

/// What a key that is somewhere else does when it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    Signs,
    Fails,
    Never,
}

impl Key {
    fn new() -> Self {
        Self {
            local: LocalWallet::from_bytes(&[9; 32]).unwrap(),
            signed: Arc::default(),
            answers: Arc::new(Mutex::new(Answers::Signs)),
        }
    }
}

impl Wallet for Key {
    fn address(&self) -> Address {
        self.local.address()
    }

    async fn sign_hash(&self, digest: &B256) -> Result<Signature65, WalletError> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        let answers = *self.answers.lock().unwrap();
        match answers {
            Answers::Signs => self.local.sign_hash(digest).await,
            Answers::Fails => Err(WalletError::Unavailable("no route".into())),
            Answers::Never => std::future::pending().await,
        }
    }
}

pub(crate) type ShopGateway = Gateway<Cashier<MemoryStore, Chain>, Books>;
pub(crate) type Body = GatewayBody<AnyUpstream>;

pub(crate) struct Shop {
    pub(crate) gateway: ShopGateway,
    pub(crate) books: Books,
    pub(crate) wallet: LocalWallet,
    pub(crate) chain_calls: Arc<AtomicUsize>,
    domain: TokenDomain,
    pay_to: Address,
}

/// What differs between shops.
pub(crate) struct Setup {
    pub(crate) first_token: Duration,
    pub(crate) idle: Duration,
    pub(crate) echo: EchoUpstream,
    pub(crate) max_output: u32,
    pub(crate) ready: bool,
    pub(crate) body_bytes: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            first_token: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            echo: EchoUpstream::new(),
            max_output: 1000,
            ready: true,
            body_bytes: 64 * 1024,
        }
    }
}

impl Shop {
    pub(crate) fn new(mock: &Mock) -> Self {
        Self::with(mock, Setup::default())
    }

    pub(crate) fn with(mock: &Mock, setup: Setup) -> Self {
        Tokenizer::load_blocking();
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let store = MemoryStore::new(B256::ZERO, Arc::clone(&clock));
        let token = Address::repeat_byte(0x11);
        let pay_to = Address::repeat_byte(0x22);
        let domain = TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, token);
        // The payer's credit in these tests: 10 dollars, 64 requests in flight.
        let mut credit = Credit::for_dollar(cents(100));
        credit.floor = cents(1000);
        credit.exposure = cents(10_000);
        credit.in_flight = 64;
        let markets = Markets::new(vec![Market {
            terms: Terms {
                chain: ChainId::DEV,
                token,
                name: domain.name().map(str::to_owned),
                version: domain.version().map(str::to_owned),
                pay_to,
                amount: cents(99),
                max_timeout: 86_400,
                permit: true,
                eip3009: false,
                permit2: None,
            },
            domain: domain.clone(),
            credit,
            settler: true,
            treasury: Address::repeat_byte(0x33),
        }]);
        let chain_calls = Arc::new(AtomicUsize::new(0));
        let till = Cashier::new(
            store.clone(),
            Chain(Arc::clone(&chain_calls)),
            Arc::clone(&clock),
            CashierConfig {
                markets: markets.clone(),
                run: Run { epoch: 1, slot: 0 }.into(),
                margin: 60,
                retention: tollgate_payment::Retention::default(),
            },
            Arc::new(Notify::new()),
        )
        // Nobody settles here: who waits for a block waits until the end.
        .with_pace(Pace {
            allowances: Policy::AtOnce,
            claims: Policy::AtOnce,
            block_time: Duration::from_millis(450),
            health: Health::default(),
        });
        let key = Key::new();
        let books = Books {
            store,
            markets,
            notary: Notary::new(key.clone()),
            key,
        };
        let mut upstream = OpenAiConfig::new(mock.url());
        upstream.first_token_timeout = setup.first_token;
        upstream.idle_timeout = setup.idle;
        upstream.api_key = Some("sk-secret".parse().unwrap());
        let mut limits = Limits::default();
        limits.paywall.request_bytes = setup.body_bytes;
        let config = GatewayConfig {
            public_url: "https://tokens.example".to_owned(),
            description: "LLM inference".to_owned(),
            models: vec![
                ModelConfig {
                    name: MODEL.to_owned(),
                    aliases: vec!["storyteller".to_owned()],
                    description: None,
                    upstream: Arc::new(AnyUpstream::OpenAi(OpenAiUpstream::new(upstream).unwrap())),
                    upstream_model: Some("story-7b".to_owned()),
                    rates: rates(),
                    max_output_tokens: setup.max_output,
                },
                ModelConfig {
                    name: EchoUpstream::MODEL.to_owned(),
                    aliases: vec![],
                    description: None,
                    upstream: Arc::new(AnyUpstream::Echo(setup.echo)),
                    upstream_model: None,
                    rates: rates(),
                    max_output_tokens: setup.max_output,
                },
            ],
            default_model: MODEL.to_owned(),
            max_charge: cents(99),
            limits,
        };
        let ready = setup.ready;
        let gateway = Gateway::with(config, till, books.clone(), clock, move || async move {
            vec![Check::new("chain", ready).detail("block 100")]
        })
        .unwrap();
        let wallet = LocalWallet::from_bytes(&[7; 32]).unwrap();
        Self {
            gateway,
            books,
            wallet,
            chain_calls,
            domain,
            pay_to,
        }
    }

    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        self.gateway.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Whole {
        Whole::of(self.call(request(method, path, body.into(), None)).await).await
    }

    /// Signs an allowance of this much for what an offer asks.
    pub(crate) async fn sign(&self, value: Amount) -> Authorization {
        let terms = AllowanceTerms {
            spender: self.pay_to,
            value,
            nonce: U256::ZERO,
            deadline: NOW.plus(80_000),
        };
        Authorization::Allowance(
            sign_allowance(&self.wallet, &self.domain, &terms)
                .await
                .unwrap(),
        )
    }

    /// The payment header for a body: what a client makes of the 402.
    pub(crate) async fn payment(&self, body: &str, value: Amount) -> (&'static str, String) {
        let answer = self.ask(Method::POST, "/x402/v1", body.to_owned()).await;
        assert_eq!(
            answer.status,
            StatusCode::PAYMENT_REQUIRED,
            "{}",
            answer.text()
        );
        let required =
            PaymentRequired::parse_body(&answer.body, &tollgate_x402::Limits::DEFAULT).unwrap();
        let payload =
            PaymentPayload::answering(&required, &required.accepts[0], &self.sign(value).await);
        (payload.header().name(), payload.to_header_value())
    }

    /// Asks, pays, and returns the answer as it begins.
    pub(crate) async fn buy(&self, body: &str) -> Response<Body> {
        self.buy_within(body, cents(99)).await
    }

    /// The same with an allowance of this much.
    pub(crate) async fn buy_within(&self, body: &str, value: Amount) -> Response<Body> {
        let payment = self.payment(body, value).await;
        self.call(request(
            Method::POST,
            "/x402/v1",
            body.to_owned().into(),
            Some(payment),
        ))
        .await
    }

    /// The state of the payment of an answer, as the gateway tells it.
    pub(crate) async fn payment_of(&self, headers: &HeaderMap) -> PaymentStatus {
        let id = headers["x-payment-id"].to_str().unwrap();
        let answer = self
            .ask(Method::GET, &format!("/x402/v1/payments/{id}"), "")
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        PaymentStatus::parse_body(&answer.body, &tollgate_x402::Limits::DEFAULT).unwrap()
    }

    /// The same as JSON, as it is on the wire.
    pub(crate) async fn told_of(&self, headers: &HeaderMap) -> Value {
        let id = headers["x-payment-id"].to_str().unwrap();
        let answer = self
            .ask(Method::GET, &format!("/x402/v1/payments/{id}"), "")
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    /// Every payment that the ledger has, when none is being served any more.
    pub(crate) async fn settled(&self) -> Vec<PaymentStatus> {
        self.gateway.drain().wait().await;
        let ids: Vec<_> = self
            .books
            .store
            .rows()
            .iter()
            .filter_map(|row| match row {
                tollgate_payment::Row::Payment(payment) => Some(payment.keys.id),
                _ => None,
            })
            .collect();
        let mut all = Vec::new();
        for id in ids {
            all.push(
                self.payment_of(&HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-payment-id"),
                    id.to_string().parse().unwrap(),
                )]))
                .await,
            );
        }
        all
    }

    /// The only payment so far.
    pub(crate) async fn only_payment(&self) -> PaymentStatus {
        let mut all = self.settled().await;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    pub(crate) fn payer(&self) -> Address {
        self.wallet.address()
    }

    /// Asserts that nothing is charged.
    pub(crate) async fn nothing_is_charged(&self) {
        let payment = self.only_payment().await;
        assert_eq!(payment.state, PaymentState::Released);
        assert_eq!(payment.charge, Some(Amount::ZERO));
    }
}

/// 3 dollars a million tokens in, 15 out.
pub(crate) fn rates() -> Rates {
    let dollars = DollarRates {
        input: "3",
        output: "15",
        cached_input: None,
        per_request: None,
    };
    Rates::from_dollars(dollars, 18).unwrap()
}

pub(crate) fn request(
    method: Method,
    path: &str,
    body: Bytes,
    payment: Option<(&'static str, String)>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some((name, value)) = payment {
        request = request.header(name, value);
    }
    request.body(Full::new(body)).unwrap()
}

/// An answer that has been read to its end.
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Whole {
    pub(crate) async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `data:` of the stream's events, the last `[DONE]` checked and left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut data: Vec<&str> = self
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        assert_eq!(data.pop(), Some("[DONE]"));
        data.into_iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The text of the stream.
    pub(crate) fn said(&self) -> String {
        let deltas = self
            .events()
            .into_iter()
            .filter(|event| event["type"] == "text-delta");
        deltas
            .map(|event| event["delta"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The last event.
    pub(crate) fn finish(&self) -> Value {
        let last = self.events().pop().unwrap();
        assert_eq!(last["type"], "finish");
        last
    }
}
