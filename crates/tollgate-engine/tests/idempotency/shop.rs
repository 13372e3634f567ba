//! A till without a chain: over any store, with real signatures, and a payer who is always rich.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain,
    sign_allowance, sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_engine::{
    Cashier, CashierConfig, EngineHold, GasMoney, Health, Market, Markets, recover,
};
use tollgate_ledger::{MemoryStore, PostgresConfig, PostgresStore, RUN_LEASE, SqliteStore, Store};
use tollgate_payment::{
    Ask, Credit, Permit2Terms, Pricing, RequestBinding, Retention, StoredBody, Terms,
    command::{Answer, Charge, Funds, SpenderFunds, Told},
    port::{Admission, AdmitError, Hold, Till, Verifier, VerifyError},
};
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Clock, Exact, Extensions, Identifier, PaymentId,
    PaymentIdentifier, PaymentPayload, ResourceInfo, Timestamp, U256,
};

pub(crate) const PAY_TO: Address = Address::repeat_byte(0x5e);
pub(crate) const START: u64 = 1_800_000_000;

/// A clock that the test sets.
#[derive(Clone)]
pub(crate) struct TestClock(pub(crate) Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Everybody has a lot, and what was asked is counted.
#[derive(Clone)]
pub(crate) struct Rich(pub(crate) Arc<AtomicU64>, TestClock);

impl Verifier for Rich {
    async fn funds(&self, authorization: &Authorization) -> Result<Funds, VerifyError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Funds {
            block: 1,
            at: self.1.now(),
            balance: Amount::from(u64::MAX),
            spender: match authorization {
                Authorization::Allowance(a) => SpenderFunds::Counter {
                    nonce: a.nonce,
                    allowance: Amount::ZERO,
                    counter: Some(Amount::ZERO),
                },
                Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)) => {
                    SpenderFunds::Seen {
                        allowance: Amount::MAX,
                    }
                }
                Authorization::Exact(Exact::Eip3009(_)) => SpenderFunds::None,
            },
        })
    }
}

/// Stores that can be left and opened again, as a process that dies leaves them.
pub(crate) trait Place {
    type Store: Store;
    fn open(&mut self, clock: TestClock) -> impl Future<Output = Self::Store>;
}

/// In memory: what is durable survives in a copy.
#[derive(Default)]
pub(crate) struct InMemory(Option<MemoryStore>);

impl Place for InMemory {
    type Store = MemoryStore;

    async fn open(&mut self, clock: TestClock) -> MemoryStore {
        let store = match &self.0 {
            Some(store) => store.fork(),
            None => MemoryStore::new(B256::ZERO, Arc::new(clock)),
        };
        self.0 = Some(store.clone());
        store
    }
}

/// In a file. A process that is killed leaves its files as they are, and no destructor runs: so they are copied while
/// the store is open.
pub(crate) struct OnDisk(pub(crate) tempfile::TempDir);

impl Place for OnDisk {
    type Store = SqliteStore;

    async fn open(&mut self, clock: TestClock) -> SqliteStore {
        let next = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.0.path()).unwrap() {
            let file = entry.unwrap().path();
            std::fs::copy(&file, next.path().join(file.file_name().unwrap())).unwrap();
        }
        self.0 = next;
        let file = self.0.path().join("ledger.db");
        SqliteStore::open(file, B256::repeat_byte(1), Arc::new(clock)).unwrap()
    }
}

/// In PostgreSQL, where `cargo xtask postgres` has started one: a ledger of the test's own. What a process that died
/// committed is there, and it is taken for dead when its lease has ended.
pub(crate) struct OnServer {
    ledger: String,
    began: bool,
}

impl OnServer {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = RandomState::new().hash_one((std::process::id(), number));
        Self {
            ledger: format!("i{name:x}"),
            began: false,
        }
    }
}

impl Place for OnServer {
    type Store = PostgresStore;

    async fn open(&mut self, clock: TestClock) -> PostgresStore {
        if std::mem::replace(&mut self.began, true) {
            clock.0.fetch_add(RUN_LEASE + 1, Ordering::SeqCst);
        }
        let url = std::env::var("TOLLGATE_POSTGRES_URL").expect("run it by `cargo xtask postgres`");
        let config = PostgresConfig::new(&url)
            .unwrap()
            .schema(&self.ledger)
            .unwrap()
            .with_clock(Arc::new(clock));
        PostgresStore::open(config, B256::repeat_byte(1))
            .await
            .unwrap()
    }
}

pub(crate) struct Shop<P: Place> {
    place: P,
    pub(crate) clock: TestClock,
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) retention: Retention,
    /// What an exact payment costs, in atomic units.
    pub(crate) price: u64,
    parts: Option<Parts<P::Store>>,
}

struct Parts<S> {
    store: S,
    till: Cashier<S, Rich>,
}

pub(crate) type Got<P> = Result<Admission<EngineHold<<P as Place>::Store>>, AdmitError>;

pub(crate) fn wallet() -> LocalWallet {
    LocalWallet::from_bytes(&[7; 32]).unwrap()
}

pub(crate) fn domain() -> TokenDomain {
    TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
}

fn markets() -> Markets {
    let domain = domain();
    let mut credit = Credit::for_dollar(Amount::from(1_000_000u64));
    credit.in_flight = 100;
    Markets::new(vec![Market {
        terms: Terms {
            chain: ChainId::DEV,
            token: USD1,
            name: domain.name().map(str::to_owned),
            version: domain.version().map(str::to_owned),
            pay_to: PAY_TO,
            amount: Amount::from(50_000u64),
            max_timeout: 86_400,
            permit: true,
            eip3009: true,
            permit2: Some(Permit2Terms {
                permit2: PERMIT2,
                upto_proxy: Some(UPTO_PROXY),
                exact_proxy: Some(EXACT_PROXY),
                facilitator: PAY_TO,
            }),
        },
        domain,
        credit,
        settler: true,
        treasury: PAY_TO,
    }])
}

impl<P: Place> Shop<P> {
    pub(crate) async fn new(place: P) -> Self {
        let mut shop = Self {
            place,
            clock: TestClock(Arc::new(AtomicU64::new(START))),
            asked: Arc::default(),
            retention: Retention {
                bytes: 64,
                ..Retention::default()
            },
            price: 1_000,
            parts: None,
        };
        shop.start().await;
        shop
    }

    /// A new start: what the store holds is left, and what was served is concluded by its last checkpoint.
    pub(crate) async fn start(&mut self) {
        let store = self.place.open(self.clock.clone()).await;
        let run = store.begin_run(1).await.unwrap();
        recover(&store, run.epoch).await.unwrap();
        let config = CashierConfig {
            markets: markets(),
            run: run.into(),
            margin: 60,
            retention: self.retention,
        };
        let verifier = Rich(Arc::clone(&self.asked), self.clock.clone());
        let clock = Arc::new(self.clock.clone());
        let till = Cashier::new(store.clone(), verifier, clock, config, Arc::default());
        let till = till.with_prices(&self.price.to_string());
        self.parts = Some(Parts { store, till });
    }

    pub(crate) fn store(&self) -> &P::Store {
        &self.parts.as_ref().unwrap().store
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) async fn allowance(&self) -> Authorization {
        let terms = AllowanceTerms {
            spender: PAY_TO,
            value: Amount::from(50_000u64),
            nonce: U256::ZERO,
            deadline: self.now().plus(86_400),
        };
        Authorization::Allowance(sign_allowance(&wallet(), &domain(), &terms).await.unwrap())
    }

    pub(crate) async fn once(&self, nonce: u64) -> Authorization {
        let terms = OnceTerms {
            amount: Amount::from(1_000u64),
            spender: UPTO_PROXY,
            nonce: U256::from(nonce),
            deadline: self.now().plus(3_600),
            to: PAY_TO,
            facilitator: PAY_TO,
            valid_after: Timestamp(0),
        };
        Authorization::Once(sign_once(&wallet(), &domain(), &terms).await.unwrap())
    }

    pub(crate) async fn transfer(&self, nonce: u64) -> Authorization {
        let terms = Eip3009Terms {
            to: PAY_TO,
            value: Amount::from(1_000u64),
            valid_after: Timestamp(0),
            valid_before: self.now().plus(3_600),
            nonce: B256::from(U256::from(nonce)),
        };
        let signed = sign_eip3009(&wallet(), &domain(), &terms).await.unwrap();
        Authorization::Exact(Exact::Eip3009(signed))
    }

    pub(crate) async fn permit2(&self, nonce: u64) -> Authorization {
        let terms = Permit2ExactTerms {
            amount: Amount::from(1_000u64),
            spender: EXACT_PROXY,
            nonce: U256::from(nonce),
            deadline: self.now().plus(3_600),
            to: PAY_TO,
            valid_after: Timestamp(0),
        };
        let signed = sign_permit2_exact(&wallet(), &domain(), &terms)
            .await
            .unwrap();
        Authorization::Exact(Exact::Permit2(signed))
    }

    fn till(&self) -> &Cashier<P::Store, Rich> {
        &self.parts.as_ref().unwrap().till
    }

    /// The settling account has no gas money from now on.
    pub(crate) fn out_of_gas(&mut self) {
        let health = Health::default();
        health.tell(|report| {
            report.gas = Some(GasMoney {
                batches: 0,
                needed: 0,
            });
        });
        let _ = self.till().clone().with_health(health);
    }

    /// Sends a request with a payment, and perhaps with a name for it.
    pub(crate) async fn ask(
        &self,
        signed: &Authorization,
        name: Option<&str>,
        request: u8,
    ) -> Got<P> {
        let till = self.till();
        let pricing = match signed {
            Authorization::Exact(_) => Pricing::Fixed(Amount::from(self.price)),
            Authorization::Allowance(_) | Authorization::Once(_) => Pricing::Metered {
                worst: Amount::from(1_000u64),
                least: Amount::from(1u64),
            },
        };
        let offer = till.offer(Ask {
            resource: ResourceInfo::new("https://seller.example/"),
            pricing,
        });
        let required = offer.required("");
        let mut then = required.clone();
        if let Authorization::Exact(_) = signed {
            then.accepts
                .iter_mut()
                .for_each(|entry| entry.amount = signed.cap());
        }
        let good = |entry: &&_| {
            let payload = PaymentPayload::answering(&required, entry, signed);
            payload.authorization_for(entry).as_ref() == Ok(signed)
        };
        let entry = then.accepts.iter().find(good).unwrap();
        let mut payload = PaymentPayload::answering(&required, entry, signed);
        let offered = payload.extensions().payment_identifier();
        assert_eq!(offered, Some(&PaymentIdentifier::default()));
        payload = payload.with_extensions(match name {
            None => Extensions::new(),
            Some(name) => Extensions::new().with_payment_identifier(PaymentIdentifier {
                required: false,
                id: Some(identifier(name)),
            }),
        });
        let binding = RequestBinding {
            digest: B256::repeat_byte(request),
            memo: String::new(),
        };
        till.admit(&offer, payload, binding).await
    }

    /// Serves an admitted request: its answer tells its charge. Returns its name.
    pub(crate) async fn serve(&self, got: Got<P>, used: u64, text: &'static str) -> PaymentId {
        let mut hold = got.unwrap().hold().expect("a new request");
        hold.durable().await.unwrap();
        let id = hold.id();
        if let Some(retention) = hold.retention() {
            hold.keep(Answer::new(retention, move |charge| {
                Some(told(text, charge))
            }));
        }
        hold.commit(Amount::from(used), None).await.unwrap();
        id
    }

    /// Every charge in the books, in atomic units.
    pub(crate) async fn charged(&self) -> Vec<u64> {
        let logs = self.store().logs(Default::default(), 100).await.unwrap();
        let mut charges: Vec<u64> = logs
            .iter()
            .map(|log| log.charge.get().to::<u64>())
            .filter(|charge| *charge > 0)
            .collect();
        charges.sort_unstable();
        charges
    }
}

pub(crate) fn identifier(name: &str) -> Identifier {
    format!("pay_0123456789_{name}").parse().unwrap()
}

pub(crate) fn told(text: &str, charge: &Charge) -> Told {
    Told {
        status: 200,
        content_type: "text/plain".to_owned(),
        body: StoredBody::Whole(format!("{text} for {}", charge.amount).into_bytes().into()),
    }
}
