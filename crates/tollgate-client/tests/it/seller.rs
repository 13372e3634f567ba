//! A seller in this process: what it answers is scripted, what it is sent is checked and kept.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use alloy_primitives::{Address, B256, U256, address, keccak256};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tollgate_client::{
    Asset, BoxError, ChainFacts, FactsError, PaidBody, Pay, PayError, Payer, PayerBuilder, Policy,
};
use tollgate_eip712::{LocalWallet, Wallet, WalletError, verify};
use tollgate_x402::{
    Amount, AssetTransferMethod, Authorization, AuthorizationKind, ChainId, Clock, Extensions,
    Interval, Limits, Network, PaymentAmounts, PaymentId, PaymentIdentifier, PaymentPayload,
    PaymentRequired, PaymentRequirements, PaymentState, PaymentStatus, PrimaryType, ResourceInfo,
    Scheme, Signature65, Timestamp, TokenUsage,
};
use tower::{Service, ServiceExt};

pub(crate) const USD1: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
pub(crate) const USDT: Address = address!("55d398326f99059fF775485246999027B3197955");
pub(crate) const PAYEE: Address = address!("209693Bc6afc0C5328bA36FaF03C514EF312287C");
pub(crate) const FACILITATOR: Address = address!("00000000000000000000000000000000000fac17");
pub(crate) const URL: &str = "https://api.example.com/x402/v1";
pub(crate) const NOW: u64 = 1_800_000_000;

/// So many cents of an 18-decimals dollar.
pub(crate) fn cents(cents: u64) -> Amount {
    Amount::new(U256::from(cents) * U256::from(10_000_000_000_000_000_u64))
}

/// The unified entry: an allowance or a once payment, for 0.99 at most, this request for 0.01.
pub(crate) fn upto() -> PaymentRequirements {
    let mut entry =
        PaymentRequirements::new(Scheme::Upto, Network::BSC, cents(99), USD1, PAYEE, 86_400);
    entry.extra.name = Some("World Liberty Financial USD".into());
    entry.extra.version = Some("1".into());
    entry.extra.primary_type = Some(PrimaryType::Permit);
    entry.extra.min_amount_required = Some(cents(1));
    entry.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
    entry.extra.facilitator_address = Some(FACILITATOR);
    entry
}

/// The unified entry without the permit's half.
pub(crate) fn once() -> PaymentRequirements {
    let mut entry = upto();
    entry.extra.primary_type = None;
    entry
}

pub(crate) fn exact(method: Option<AssetTransferMethod>) -> PaymentRequirements {
    let mut entry =
        PaymentRequirements::new(Scheme::Exact, Network::BSC, cents(5), USD1, PAYEE, 300);
    entry.extra.name = Some("World Liberty Financial USD".into());
    entry.extra.version = Some("1".into());
    entry.extra.asset_transfer_method = method;
    entry
}

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Reply = Result<Response<Body>, BoxError>;

pub(crate) fn chunks(chunks: Vec<Result<Bytes, BoxError>>) -> Body {
    let mut chunks = VecDeque::from(chunks);
    let frames = std::iter::from_fn(move || chunks.pop_front().map(|chunk| chunk.map(Frame::data)));
    StreamBody::new(futures_iter(frames)).boxed_unsync()
}

fn futures_iter<I: Iterator + Unpin>(mut iter: I) -> impl futures_core::Stream<Item = I::Item> {
    struct Iter<F>(F);
    impl<T, F: FnMut() -> Option<T> + Unpin> futures_core::Stream for Iter<F> {
        type Item = T;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
            Poll::Ready((self.0)())
        }
    }
    Iter(move || iter.next())
}

pub(crate) fn ok(body: &'static str) -> Reply {
    Ok(Response::new(chunks(vec![Ok(Bytes::from(body))])))
}

pub(crate) fn status(status: u16) -> Reply {
    let mut response = ok("no").unwrap();
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// A stream that ends with the facts of the charge.
pub(crate) fn stream(charge: Amount, left: Amount) -> Reply {
    let text = "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"hi\"}\n\n";
    let finish = format!(
        "data: {{\"type\":\"finish\",\"finishReason\":\"stop\",\"messageMetadata\":{{\"totalTokens\":12,\"allowanceLeft\":\"{left}\",\
         \"calculatedPriceWei\":\"{charge}\",\"realPriceWei\":\"{charge}\",\"paymentId\":\"000102030405060708090a0b0c0d0e0f\"}}}}\n\ndata: [DONE]\n\n"
    );
    let (a, b) = finish.split_at(41);
    let parts = [text.to_owned(), a.to_owned(), b.to_owned()];
    let mut response = Response::new(chunks(parts.into_iter().map(|p| Ok(p.into())).collect()));
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    Ok(response)
}

pub(crate) fn required(entries: Vec<PaymentRequirements>, error: &str) -> PaymentRequired {
    let mut offer = PaymentRequired::new(ResourceInfo::new(URL), entries);
    offer.error = Some(error.into());
    offer
}

/// The unified 402: v2 in the header, v1 in the body.
pub(crate) fn demand(entries: Vec<PaymentRequirements>, error: &str) -> Reply {
    let offer = required(entries, error);
    let mut response = Response::new(chunks(vec![Ok(offer.to_body_v1().into())]));
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    let header = offer.to_header_v2().parse().unwrap();
    response.headers_mut().insert("payment-required", header);
    Ok(response)
}

/// A 402 of a seller that knows requests by their names.
pub(crate) fn named(entries: Vec<PaymentRequirements>) -> Reply {
    let mut offer = required(entries, "Payment required");
    offer.extensions = Extensions::new().with_payment_identifier(PaymentIdentifier::default());
    let mut response = demand(vec![], "")?;
    let header = offer.to_header_v2().parse().unwrap();
    response.headers_mut().insert("payment-required", header);
    Ok(response)
}

/// A request as the seller saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) request: Request<Bytes>,
    pub(crate) payment: Option<PaymentPayload>,
}

impl Seen {
    /// What was signed, held against an entry of the seller's own; the signature recovers to the payer.
    pub(crate) fn authorization(&self, entry: &PaymentRequirements) -> Authorization {
        let payment = self.payment.as_ref().expect("a payment");
        let authorization = payment
            .authorization_for(entry)
            .expect("an answer to the offer");
        let chain = entry.network.chain_id().unwrap();
        let known = Asset::known();
        let asset = known
            .iter()
            .find(|a| a.chain() == chain && a.token() == entry.asset)
            .unwrap();
        verify(&authorization, asset.domain()).expect("the payer's signature");
        authorization
    }
}

type Script = dyn FnMut(&Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send;

#[derive(Clone)]
pub(crate) struct Seller {
    script: Arc<Mutex<Box<Script>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Seller {
    pub(crate) fn new(mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::slow(move |seen| {
            let reply = script(seen);
            Box::pin(async move { reply })
        })
    }

    pub(crate) fn slow(
        script: impl FnMut(&Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + 'static,
    ) -> Self {
        Self {
            script: Arc::new(Mutex::new(Box::new(script))),
            seen: Arc::default(),
        }
    }

    /// A seller with a fixed list of answers.
    pub(crate) fn scripted(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        Self::new(move |_| replies.pop_front().expect("no more requests"))
    }

    /// A seller that takes any payment for these entries.
    pub(crate) fn taking(entries: Vec<PaymentRequirements>) -> Self {
        Self::new(move |seen| match seen.payment {
            Some(_) => ok("paid"),
            None => demand(entries.clone(), "Payment required"),
        })
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn payments(&self) -> Vec<Seen> {
        let seen = self.seen();
        seen.into_iter().filter(|s| s.payment.is_some()).collect()
    }
}

impl Service<Request<Bytes>> for Seller {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let payment = PaymentPayload::find_header(headers).expect("one payment header at most");
        let payment = payment.map(|(header, value)| {
            let sent = request.headers().get(header.name()).unwrap();
            assert!(sent.is_sensitive(), "the payment header must be sensitive");
            PaymentPayload::parse_header(value, &Limits::DEFAULT).expect("a payment")
        });
        let seen = Seen { request, payment };
        self.seen.lock().unwrap().push(seen.clone());
        let mut script = self.script.lock().unwrap();
        (script)(&seen)
    }
}

/// A wallet that counts its signatures.
#[derive(Clone)]
pub(crate) struct Counting {
    wallet: LocalWallet,
    pub(crate) signed: Arc<AtomicUsize>,
}

impl Counting {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            wallet: LocalWallet::from_hex(key).unwrap(),
            signed: Arc::default(),
        }
    }

    /// An ordinary key.
    pub(crate) fn ordinary() -> Self {
        Self::new(&"46".repeat(32))
    }

    /// The first development account.
    pub(crate) fn development() -> Self {
        Self::new("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    }

    pub(crate) fn count(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }
}

impl Wallet for Counting {
    fn address(&self) -> Address {
        self.wallet.address()
    }

    async fn sign_hash(&self, digest: &B256) -> Result<Signature65, WalletError> {
        self.signed.fetch_add(1, Ordering::SeqCst);
        self.wallet.sign_hash(digest).await
    }
}

/// A clock that stands until it is set.
#[derive(Clone)]
pub(crate) struct Standing(Arc<AtomicU64>);

impl Standing {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A chain on which every nonce is 7.
pub(crate) struct Sevens;

impl ChainFacts for Sevens {
    async fn permit_nonce(&self, _: ChainId, _: Address, _: Address) -> Result<U256, FactsError> {
        // Lets others run, as a chain that is asked does.
        tokio::task::yield_now().await;
        Ok(U256::from(7))
    }
}

/// Nonces by counting.
pub(crate) fn counted() -> impl Fn() -> B256 + Send + Sync {
    let next = AtomicU64::new(0);
    move || keccak256(next.fetch_add(1, Ordering::SeqCst).to_be_bytes())
}

pub(crate) fn payer(wallet: &Counting, policy: Policy) -> PayerBuilder<Counting, Sevens> {
    Payer::builder(wallet.clone())
        .policy(policy)
        .facts(Sevens)
        .clock(Standing::new())
        .nonces(counted())
}

/// A buyer with an ordinary key, at a seller.
pub(crate) struct Buyer {
    pub(crate) wallet: Counting,
    pub(crate) clock: Standing,
    pub(crate) pay: Pay<Seller, Counting, Sevens>,
}

impl Buyer {
    pub(crate) fn at(seller: &Seller, policy: Policy) -> Self {
        Self::with(seller, policy, Counting::ordinary())
    }

    pub(crate) fn with(seller: &Seller, policy: Policy, wallet: Counting) -> Self {
        let clock = Standing::new();
        let payer = payer(&wallet, policy).clock(clock.clone()).build();
        Self {
            pay: Pay::new(seller.clone(), payer),
            wallet,
            clock,
        }
    }

    pub(crate) async fn ask(&self, body: &str) -> Result<Response<PaidBody<Body>>, PayError> {
        self.ask_at(URL, body).await
    }

    pub(crate) async fn ask_at(
        &self,
        url: &str,
        body: &str,
    ) -> Result<Response<PaidBody<Body>>, PayError> {
        let request = Request::post(url)
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        self.pay.clone().oneshot(request).await
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn read(&self, body: &str) -> String {
        let response = self.ask(body).await.expect("an answer");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.into()).unwrap()
    }
}

/// The status of a cent of USD1 that this payer's allowance paid, final.
pub(crate) fn settled(payer: Address) -> PaymentStatus {
    let amounts = PaymentAmounts {
        authorized: cents(99),
        reserved: cents(1),
        calculated: Some(cents(1)),
    };
    let mut status = PaymentStatus::accepted(
        PaymentId::from_random([7; 16]),
        AuthorizationKind::Allowance,
        Network::BSC,
        USD1,
        payer,
        PAYEE,
        amounts,
        Timestamp(NOW),
    );
    status.state = PaymentState::Final;
    status.charge = Some(cents(1));
    status.interval = Some(Interval {
        from: cents(4),
        to: cents(5),
    });
    status.model = Some("m".into());
    status.usage = Some(TokenUsage {
        input_tokens: 1_000,
        output_tokens: 100,
        ..TokenUsage::default()
    });
    status
}
