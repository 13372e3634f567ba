//! A whole seller over a real EVM, as `tollgate serve` assembles it: gateway, till, SQLite ledger, reader of the chain,
//! settlement worker. The worker's ticks are the test's, so that nothing depends on a pace.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tempfile::TempDir;
use tokio::sync::Notify;
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{LocalWallet, Signed, TokenDomain, UsageReceipt};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Market, Markets, Notary, OwnRail, Policy, RailConfig,
    Worker, WorkerConfig, tell,
};
use tollgate_gateway::{
    Gateway, GatewayConfig, Limits, ModelConfig, ReadMemo, Receipts, ReceiptsError, Tokenizer, Told,
};
use tollgate_ledger::{OpenError, Run, SqliteStore, Store};
use tollgate_payment::{
    Ask, Credit, Permit2Terms, Pricing, Retention, SignerKey, Terms, command::Charge,
};
use tollgate_price::{DollarRates, Rates};
use tollgate_server::{Bounds, BoxError, Drain, Ending, Meter, PaywallLayer, Tariff, Unpriced};
use tollgate_x402::{Address, Amount, B256, Clock, PaymentId, ResourceInfo, U256};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{
    chain::{Backend, ChainClock},
    upstream::{Script, Step},
};

/// Atomic units of a dollar.
pub(crate) const DOLLAR: u128 = 1_000_000_000_000_000_000;
/// An output token costs so much; input costs nothing.
pub(crate) const TOKEN: u128 = DOLLAR / 1_000;
/// What the fixed-price route costs.
pub(crate) const FIXED: u128 = DOLLAR / 10;

pub(crate) const OPERATOR: usize = 7;
pub(crate) const ADMIN: usize = 8;
pub(crate) const TREASURY: usize = 9;

pub(crate) fn cents(cents: u64) -> Amount {
    Amount::from(u128::from(cents) * (DOLLAR / 100))
}

/// What so many output tokens cost.
pub(crate) fn tokens(tokens: u64) -> Amount {
    Amount::from(u128::from(tokens) * TOKEN)
}

pub(crate) type TestTill = Cashier<SqliteStore, ChainVerifier>;
pub(crate) type TestGateway = Gateway<TestTill, Books, Script>;
type TestWorker = Worker<SqliteStore, OwnRail<LocalWallet>, Arc<ChainClock>>;
/// The body of any answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
type Fixed = BoxCloneSyncService<Request<Full<Bytes>>, Response<AnswerBody>, Infallible>;

/// Tells of payments, from the ledger.
#[derive(Clone)]
pub(crate) struct Books {
    store: SqliteStore,
    markets: Markets,
    notary: Notary<LocalWallet>,
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

/// What differs between sellers.
#[derive(Clone)]
pub(crate) struct Setup {
    /// Whether a `Settler` is paid, or the operator's plain account.
    pub(crate) settler: bool,
    pub(crate) credit: Credit,
    pub(crate) allowances: Policy,
    /// Seconds that serving and settling may take before a deadline.
    pub(crate) margin: u64,
    pub(crate) bounds: Bounds,
    /// The ledger's id, of a new one.
    pub(crate) ledger_id: B256,
    /// Gateways that sell from one ledger, 1 or 2: each may lend its slice of the bound for all.
    pub(crate) gateways: u32,
}

impl Default for Setup {
    fn default() -> Self {
        let mut bounds = Bounds::default();
        bounds.serving = Duration::from_secs(50);
        Self {
            settler: true,
            credit: generous(),
            allowances: Policy::AtOnce,
            margin: 60,
            bounds,
            ledger_id: B256::ZERO,
            gateways: 1,
        }
    }
}

/// So much credit that it bounds nothing in the tests of other bounds.
pub(crate) fn generous() -> Credit {
    let mut credit = Credit::for_dollar(Amount::from(DOLLAR));
    credit.floor = cents(100_000);
    credit.ceiling = cents(100_000);
    credit.in_flight = 256;
    credit.in_flight_proven = 256;
    credit.exposure = cents(10_000_000);
    credit
}

pub(crate) struct World {
    pub(crate) chain: Backend,
    pub(crate) setup: Setup,
    pub(crate) reader: Chain,
    pub(crate) store: SqliteStore,
    pub(crate) gateway: TestGateway,
    /// The second, if there are two: it takes every other payment.
    second: Option<TestGateway>,
    turn: AtomicUsize,
    pub(crate) worker: TestWorker,
    pub(crate) upstream: Arc<Script>,
    pub(crate) domain: TokenDomain,
    pub(crate) pay_to: Address,
    pub(crate) treasury: Address,
    fixed: Fixed,
    fixed_drain: Drain,
    directory: Option<TempDir>,
    /// The ledger's file.
    pub(crate) ledger: PathBuf,
    /// What the seller's accounts held at the beginning.
    pub(super) began: Amount,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::on(Backend::start().await, setup).await
    }

    pub(crate) async fn on(chain: Backend, setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = directory.path().join("ledger.db");
        let mut this = Self::open(chain, setup, ledger, Arc::default()).await;
        this.directory = Some(directory);
        this.chain.mine().await;
        this.began = this.holdings().await;
        this
    }

    /// Opens the ledger, once the tasks of the process before have let it go.
    async fn unlocked(ledger: &Path, id: B256, clock: Arc<dyn Clock>) -> SqliteStore {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            match SqliteStore::open(ledger, id, Arc::clone(&clock)) {
                Err(OpenError::Locked { .. }) if Instant::now() < patience => {
                    tokio::task::yield_now().await;
                }
                opened => return opened.unwrap(),
            }
        }
    }

    async fn open(chain: Backend, setup: Setup, ledger: PathBuf, upstream: Arc<Script>) -> Self {
        Tokenizer::load_blocking();
        let reader = Chain::connect(ChainConfig::new(chain.chain_id, [chain.url.clone()]))
            .await
            .unwrap();
        let clock = Arc::clone(&chain.clock);
        let store = Self::unlocked(&ledger, setup.ledger_id, clock.clone()).await;
        let domain = TokenDomain::new("World Liberty Financial USD", "1", chain.chain_id, USD1);
        let treasury = DEV_ACCOUNTS[TREASURY].address;
        let pay_to = if setup.settler {
            chain.settler
        } else {
            DEV_ACCOUNTS[OPERATOR].address
        };
        let markets = Markets::new(vec![market(&setup, &domain, pay_to, treasury)]);
        let run = store.begin_run(setup.gateways).await.unwrap();
        let work = Arc::new(Notify::new());
        let verifier = ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 30);
        let config = CashierConfig {
            markets: markets.clone(),
            run: run.into(),
            margin: setup.margin,
            retention: Retention::default(),
        };
        let other = CashierConfig {
            run: Run {
                slot: run.slot + 1,
                ..run
            }
            .into(),
            ..config.clone()
        };
        let till = |config| {
            let (store, verifier) = (store.clone(), verifier.clone());
            Cashier::new(store, verifier, clock.clone(), config, work.clone())
        };
        let (till, other) = (till(config), till(other));
        let worker = worker(&setup, &reader, &clock, &store, &markets, work);
        worker.recover(run.epoch).await.unwrap();
        let books = Books {
            store: store.clone(),
            markets: markets.clone(),
            notary: Notary::new(operator_key()),
        };
        if upstream.asked() == 0 {
            upstream.play([Step::Say(1_000_000)]);
        }
        let open = |till, books: &Books| {
            let (books, clock) = (books.clone(), clock.clone());
            gateway(&setup, till, books, clock, Arc::clone(&upstream))
        };
        let second = (setup.gateways > 1).then(|| open(other, &books));
        let gateway = open(till.clone(), &books);
        let (fixed, fixed_drain) = fixed(&setup, till, Arc::clone(&upstream));
        Self {
            chain,
            setup,
            reader,
            store,
            gateway,
            second,
            turn: AtomicUsize::new(0),
            worker,
            upstream,
            domain,
            pay_to,
            treasury,
            fixed,
            fixed_drain,
            directory: None,
            ledger,
            began: Amount::ZERO,
        }
    }

    /// The gateway stops for good and starts again on what the disk has.
    pub(crate) async fn restart(self) -> Self {
        self.end_of_service().await;
        let Self {
            chain,
            setup,
            upstream,
            directory,
            ledger,
            began,
            store,
            gateway,
            second,
            worker,
            fixed,
            ..
        } = self;
        // The file's lock goes with the last handle.
        drop((store, gateway, second, worker, fixed));
        let mut this = Self::open(chain, setup, ledger, upstream).await;
        this.directory = directory;
        this.began = began;
        this
    }

    /// Sends a request to the gateway, or to the paywall of the fixed price.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Response<AnswerBody> {
        if request.uri().path().starts_with("/fixed") {
            return self.fixed.clone().oneshot(request).await.unwrap();
        }
        let paid = request.headers().contains_key("payment-signature");
        let gateway = match &self.second {
            Some(second) if paid && self.turn.fetch_add(1, Ordering::SeqCst) % 2 == 1 => second,
            _ => &self.gateway,
        };
        let answer = gateway.clone().oneshot(request).await.unwrap();
        answer.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    /// Waits until nothing is being served.
    pub(crate) async fn end_of_service(&self) {
        self.gateway.drain().wait().await;
        if let Some(second) = &self.second {
            second.drain().wait().await;
        }
        self.fixed_drain.wait().await;
    }

    /// Lets blocks pass and the worker work, until nothing is due or undecided.
    pub(crate) async fn settle(&mut self) {
        self.end_of_service().await;
        for _ in 0..60 {
            let progress = self.worker.tick().await.unwrap();
            if progress.undecided == 0
                && progress.sent == 0
                && self.store.queues().await.unwrap().is_empty()
            {
                return;
            }
            self.chain.pass(3).await;
        }
        panic!("nothing settles");
    }

    /// JSON-RPC calls of the seller so far.
    pub(crate) fn rpc_calls(&self) -> u64 {
        self.reader.rpc_counts().total()
    }
}

fn market(setup: &Setup, domain: &TokenDomain, pay_to: Address, treasury: Address) -> Market {
    let terms = Terms {
        chain: domain.chain(),
        token: USD1,
        name: domain.name().map(str::to_owned),
        version: domain.version().map(str::to_owned),
        pay_to,
        amount: cents(99),
        max_timeout: 86_400,
        permit: true,
        eip3009: true,
        permit2: Some(Permit2Terms {
            permit2: PERMIT2,
            upto_proxy: Some(UPTO_PROXY),
            exact_proxy: Some(EXACT_PROXY),
            facilitator: pay_to,
        }),
    };
    let mut credit = setup.credit.clone();
    // As the program divides it.
    credit.exposure = Amount::new(credit.exposure.get() / U256::from(setup.gateways));
    Market {
        terms,
        domain: domain.clone(),
        credit,
        settler: setup.settler,
        treasury,
    }
}

/// The key that settles.
fn operator_key() -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[OPERATOR].private_key.0).unwrap()
}

fn worker(
    setup: &Setup,
    reader: &Chain,
    clock: &Arc<ChainClock>,
    store: &SqliteStore,
    markets: &Markets,
    work: Arc<Notify>,
) -> TestWorker {
    let market = markets.iter().next().unwrap();
    let operator = &DEV_ACCOUNTS[OPERATOR];
    let rail = OwnRail::new(
        reader.clone(),
        operator_key(),
        clock.clone(),
        RailConfig {
            settler: market.settler(),
            treasury: market.treasury,
            gas_floor: 50_000_000,
            gas_cap: 5_000_000_000,
        },
    );
    let signer = SignerKey {
        chain: market.terms.chain,
        operator: operator.address,
    };
    let block = Duration::from_millis(450);
    let mut config = WorkerConfig::new(signer, market.settler(), setup.allowances, block);
    config.credit.insert(USD1, setup.credit.clone());
    // A seller that stopped leaves nobody at work.
    config.sole = true;
    Worker::new(store.clone(), rail, clock.clone(), config, work)
}

fn gateway(
    setup: &Setup,
    till: TestTill,
    books: Books,
    clock: Arc<ChainClock>,
    upstream: Arc<Script>,
) -> TestGateway {
    let model = |name: &str, output| ModelConfig {
        name: name.to_owned(),
        aliases: Vec::new(),
        description: None,
        upstream: Arc::clone(&upstream),
        upstream_model: None,
        rates: Rates::from_dollars(
            DollarRates {
                input: "0",
                output,
                cached_input: None,
                per_request: None,
            },
            18,
        )
        .unwrap(),
        max_output_tokens: 900,
    };
    let mut limits = Limits::default();
    limits.paywall = setup.bounds.clone();
    let config = GatewayConfig {
        public_url: "http://seller.example".to_owned(),
        description: "LLM inference".to_owned(),
        models: vec![model("cheap", "1000"), model("dear", "10000")],
        default_model: "cheap".to_owned(),
        max_charge: cents(99),
        limits,
    };
    Gateway::with(config, till, books, clock, || async { Vec::new() }).unwrap()
}

/// One price for a whole answer.
#[derive(Clone)]
struct FixedPrice;

struct FixedMeter;

impl Tariff for FixedPrice {
    type Meter = FixedMeter;

    fn ask(&self, parts: &Parts, _: &Bytes) -> Result<(Ask, FixedMeter), Unpriced> {
        let resource = ResourceInfo::new(format!("http://seller.example{}", parts.uri.path()));
        // A dearer route of the same seller.
        let price = if parts.uri.path() == "/fixed/dear" {
            FIXED * 2
        } else {
            FIXED
        };
        let pricing = Pricing::Fixed(Amount::from(price));
        Ok((Ask { resource, pricing }, FixedMeter))
    }
}

impl Meter for FixedMeter {
    fn observe(&mut self, _: &Bytes) -> Amount {
        Amount::from(FIXED)
    }

    fn closing(&mut self, ending: &Ending) -> Option<Bytes> {
        let _: &Charge = &ending.charge;
        None
    }
}

fn fixed(setup: &Setup, till: TestTill, upstream: Arc<Script>) -> (Fixed, Drain) {
    use tollgate_chat::ChatRequest;
    use tollgate_gateway::Upstream;

    let layer = PaywallLayer::new(till, FixedPrice).with_bounds(setup.bounds.clone());
    let drain = layer.drain();
    let inner = service_fn(move |_: Request<Full<Bytes>>| {
        let upstream = Arc::clone(&upstream);
        async move {
            // Counted as any other answer is.
            drop(upstream.chat(ChatRequest::new(Vec::new())).await);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"sold"))))
        }
    });
    let paywall = layer.layer(inner);
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let paywall = paywall.clone();
        async move {
            let answer = paywall.oneshot(request).await?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        }
    });
    (BoxCloneSyncService::new(service), drain)
}
