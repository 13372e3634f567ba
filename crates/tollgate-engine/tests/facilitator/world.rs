//! A chain, a ledger, a worker and a desk over them.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, sync::watch, task::JoinHandle};
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    slots,
    tokens::USD1,
};
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DevChain, Development, Genesis};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, LocalWallet, OnceTerms, Permit2ExactTerms, TokenDomain,
    sign_allowance, sign_eip3009, sign_once, sign_permit2_exact,
};
use tollgate_engine::{
    ChainVerifier, Desk, DeskConfig, Health, Market, Markets, OwnRail, Payees, Policy, RailConfig,
    Worker, WorkerConfig,
};
use tollgate_facilitator::Call;
use tollgate_ledger::{CurrentRun, Store};
use tollgate_payment::{Credit, Permit2Terms, SignerKey, Terms};
use tollgate_x402::{
    Address, Amount, AssetTransferMethod, Authorization, B256, ChainId, Clock, Exact,
    FacilitatorRequest, Network, PaymentPayload, PaymentRequired, PaymentRequirements, PrimaryType,
    ResourceInfo, Scheme, Timestamp, U256, X402Version,
};

pub(crate) const DOLLAR: u128 = 1_000_000_000_000_000_000;
pub(crate) const PAYER: usize = 0;
pub(crate) const SELLER: Address = Address::repeat_byte(0x5e);
pub(crate) const OPERATOR: usize = 7;

pub(crate) fn cents(cents: u64) -> Amount {
    Amount::from(u128::from(cents) * (DOLLAR / 100))
}

pub(crate) fn wallet(account: usize) -> LocalWallet {
    LocalWallet::from_bytes(&DEV_ACCOUNTS[account].private_key.0).unwrap()
}

/// Time is the newest block's.
#[derive(Clone)]
pub(crate) struct ChainClock(pub(crate) Arc<DevChain>);

impl Clock for ChainClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.timestamp())
    }
}

/// A chain whose blocks the test makes.
pub(crate) fn chain() -> Arc<DevChain> {
    let chain = DevChain::builder()
        .block_time(BlockTime::Manual)
        .genesis(Genesis::development(&Development::default()))
        .start()
        .unwrap();
    for account in &DEV_ACCOUNTS {
        let slot = slots::mapped_twice(slots::usd1::ALLOWANCES, account.address, PERMIT2);
        chain.set_storage(USD1, slot, U256::MAX);
    }
    chain.mine_blocks(3);
    Arc::new(chain)
}

pub(crate) fn domain() -> TokenDomain {
    TokenDomain::new("World Liberty Financial USD", "1", ChainId::DEV, USD1)
}

pub(crate) fn markets(pay_to: Address, facilitator: Address, credit: Credit) -> Markets {
    Markets::new(vec![Market {
        terms: Terms {
            chain: ChainId::DEV,
            token: USD1,
            name: Some("World Liberty Financial USD".to_owned()),
            version: Some("1".to_owned()),
            pay_to,
            amount: cents(99),
            max_timeout: 3_600,
            permit: false,
            eip3009: true,
            permit2: Some(Permit2Terms {
                permit2: PERMIT2,
                upto_proxy: Some(UPTO_PROXY),
                exact_proxy: Some(EXACT_PROXY),
                facilitator,
            }),
        },
        domain: domain(),
        credit,
        settler: false,
        treasury: pay_to,
    }])
}

pub(crate) struct World<S: Store> {
    pub(crate) chain: Arc<DevChain>,
    pub(crate) reader: Chain,
    pub(crate) store: S,
    pub(crate) desk: Desk<S, ChainVerifier>,
    pub(crate) health: Health,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
}

impl<S: Store> World<S> {
    pub(crate) async fn open(chain: &Arc<DevChain>, store: S) -> Self {
        if chain.rpc_url().is_none() {
            chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
        }
        let url = chain.rpc_url().unwrap();
        let reader = Chain::connect(ChainConfig::new(ChainId::DEV, [url]))
            .await
            .unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ChainClock(Arc::clone(chain)));
        let operator = DEV_ACCOUNTS[OPERATOR].address;
        let credit = Credit::for_dollar(Amount::from(DOLLAR));
        let markets = markets(operator, operator, credit);
        let run = CurrentRun::from(store.begin_run(1).await.unwrap());
        let work = Arc::new(Notify::new());
        let verifier = ChainVerifier::new(reader.clone(), markets.clone(), clock.clone(), 60);
        let mut config = DeskConfig::new(markets, operator, run);
        config.poll = Duration::from_millis(10);
        let desk = Desk::new(
            store.clone(),
            verifier,
            clock.clone(),
            config,
            Arc::clone(&work),
            || async { Ok(()) },
        );
        let rail = OwnRail::new(
            reader.clone(),
            wallet(OPERATOR),
            clock.clone(),
            RailConfig {
                settler: None,
                treasury: operator,
                gas_floor: 50_000_000,
                gas_cap: 5_000_000_000,
            },
        );
        let signer = SignerKey {
            chain: ChainId::DEV,
            operator,
        };
        let mut config = WorkerConfig::new(signer, None, Policy::AtOnce, Duration::from_millis(20));
        config.payees = Payees::Anyone;
        config.attempts = 1;
        config.sole = true;
        config.idle = Duration::from_millis(20);
        let worker = Worker::new(store.clone(), rail, clock, config, work);
        let health = worker.health();
        let desk = desk.with_health(health.clone());
        let (stop, stopped) = watch::channel(false);
        Self {
            chain: Arc::clone(chain),
            reader,
            store,
            desk,
            health,
            stop,
            worker: tokio::spawn(worker.run(stopped)),
        }
    }

    /// Ends the process, as far as the ledger and the chain can see.
    pub(crate) async fn close(self) -> S {
        self.stop.send(true).unwrap();
        self.worker.await.unwrap();
        self.store
    }

    /// Makes blocks until the future is ready.
    pub(crate) async fn mining<T>(&self, future: impl Future<Output = T>) -> T {
        mining(&self.chain, future).await
    }

    pub(crate) fn earned(&self) -> Amount {
        self.balance(SELLER)
    }

    pub(crate) fn balance(&self, of: Address) -> Amount {
        Amount::new(self.chain.token_balance(USD1, of).unwrap())
    }

    /// Transactions that the facilitator's account has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.chain.nonce(DEV_ACCOUNTS[OPERATOR].address)
    }
}

pub(crate) async fn mining<T>(chain: &DevChain, future: impl Future<Output = T>) -> T {
    let mut blocks = tokio::time::interval(Duration::from_millis(25));
    let work = async {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                done = &mut future => return done,
                _ = blocks.tick() => { chain.mine(); }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work)
        .await
        .expect("it takes less than a minute")
}

/// The offer of a foreign seller.
pub(crate) fn offered(scheme: Scheme, amount: Amount, permit2: bool) -> PaymentRequirements {
    let mut entry = PaymentRequirements::new(
        scheme,
        Network::from(ChainId::DEV),
        amount,
        USD1,
        SELLER,
        300,
    );
    entry.extra.name = Some("World Liberty Financial USD".to_owned());
    entry.extra.version = Some("1".to_owned());
    if permit2 {
        entry.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
        entry.extra.facilitator_address = Some(DEV_ACCOUNTS[OPERATOR].address);
    }
    entry
}

pub(crate) async fn once(chain: &DevChain, amount: Amount, nonce: u64) -> Authorization {
    once_of(PAYER, chain, amount, nonce).await
}

pub(crate) async fn once_of(
    payer: usize,
    chain: &DevChain,
    amount: Amount,
    nonce: u64,
) -> Authorization {
    let terms = OnceTerms {
        amount,
        spender: UPTO_PROXY,
        nonce: U256::from(nonce),
        deadline: Timestamp(chain.timestamp()).plus(3_000),
        to: SELLER,
        facilitator: DEV_ACCOUNTS[OPERATOR].address,
        valid_after: Timestamp(0),
    };
    let signed = sign_once(&wallet(payer), &domain(), &terms).await.unwrap();
    Authorization::Once(signed)
}

pub(crate) async fn permit2_exact(chain: &DevChain, amount: Amount, nonce: u64) -> Authorization {
    let terms = Permit2ExactTerms {
        amount,
        spender: EXACT_PROXY,
        nonce: U256::from(nonce),
        deadline: Timestamp(chain.timestamp()).plus(3_000),
        to: SELLER,
        valid_after: Timestamp(0),
    };
    let signed = sign_permit2_exact(&wallet(PAYER), &domain(), &terms)
        .await
        .unwrap();
    Authorization::Exact(Exact::Permit2(signed))
}

pub(crate) async fn transfer(chain: &DevChain, value: Amount, nonce: u8) -> Authorization {
    transfer_of(PAYER, chain, value, nonce).await
}

pub(crate) async fn transfer_of(
    payer: usize,
    chain: &DevChain,
    value: Amount,
    nonce: u8,
) -> Authorization {
    let terms = Eip3009Terms {
        to: SELLER,
        value,
        valid_after: Timestamp(0),
        valid_before: Timestamp(chain.timestamp()).plus(3_000),
        nonce: B256::repeat_byte(nonce),
    };
    let signed = sign_eip3009(&wallet(payer), &domain(), &terms)
        .await
        .unwrap();
    Authorization::Exact(Exact::Eip3009(signed))
}

pub(crate) async fn permit(chain: &DevChain, value: Amount) -> Authorization {
    let terms = AllowanceTerms {
        spender: SELLER,
        value,
        nonce: U256::ZERO,
        deadline: Timestamp(chain.timestamp()).plus(3_000),
    };
    let signed = sign_allowance(&wallet(PAYER), &domain(), &terms)
        .await
        .unwrap();
    Authorization::Allowance(signed)
}

/// What a seller asks the facilitator: the payment answers `offered`, and `asked` is what it is held against.
pub(crate) fn call(
    version: X402Version,
    signed: &Authorization,
    offered: &PaymentRequirements,
    asked: &PaymentRequirements,
) -> Call {
    let mut required = PaymentRequired::new(
        ResourceInfo::new("https://seller.example/answer"),
        vec![offered.clone()],
    );
    required.version = version;
    let payload = PaymentPayload::answering(&required, offered, signed);
    // As it arrives.
    let request = FacilitatorRequest {
        version,
        payload,
        requirements: asked.clone(),
    };
    let body = request.to_json();
    let limits = tollgate_x402::Limits::DEFAULT;
    Call::new(FacilitatorRequest::parse_body(body.as_bytes(), &limits).unwrap())
}

/// A settlement of a once payment for `amount`.
pub(crate) fn settlement(signed: &Authorization, amount: Amount) -> Call {
    let scheme = match signed {
        Authorization::Exact(_) => Scheme::Exact,
        _ => Scheme::Upto,
    };
    let permit2 = !matches!(signed, Authorization::Exact(Exact::Eip3009(_)));
    let mut entry = offered(scheme, signed.cap(), permit2);
    if let Authorization::Allowance(_) = signed {
        entry.extra.primary_type = Some(PrimaryType::Permit);
    }
    let mut asked = entry.clone();
    asked.amount = amount;
    call(X402Version::V2, signed, &entry, &asked)
}
