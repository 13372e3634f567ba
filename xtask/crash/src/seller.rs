//! One life of a seller, in a process of its own: the real till, ledger, worker and paywall, and its callers.

use std::{
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, watch};
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_eip712::LocalWallet;
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Market, Markets, OwnRail, Policy, RailConfig, Worker,
    WorkerConfig,
};
use tollgate_ledger::{CurrentRun, Store};
use tollgate_payment::{Credit, Permit2Terms, SignerKey, Terms};
use tollgate_x402::{Address, Amount, B256, ChainId, Clock, Timestamp};

use crate::{
    caller,
    journal::{Event, Journal},
    place::{Place, with_store},
    ports::{MortalRail, MortalStore},
    site::Site,
    trigger::Trigger,
    work::Signer,
};

/// Development account 7, from which the Settler takes settlements. Everybody has this key.
pub(crate) const OPERATOR_KEY: &str =
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356";

/// The variable in which a process is told what it is.
pub(crate) const LIFE: &str = "TOLLGATE_CRASH_LIFE";

/// The time between two looks of the worker, and between two blocks.
const POLL: Duration = Duration::from_millis(30);

/// What a process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    /// Its number, from 0.
    pub(crate) life: u32,
    /// The seed of the history: payers and requests.
    pub(crate) seed: u64,
    pub(crate) rpc: String,
    /// The contract that settles, or nothing where the operator's account is paid itself.
    pub(crate) settler: Option<Address>,
    /// Who is paid: the contract or the account.
    pub(crate) pay_to: Address,
    pub(crate) treasury: Address,
    pub(crate) ledger_id: B256,
    pub(crate) place: Place,
    pub(crate) journal: PathBuf,
    /// The deadline of everything that is signed.
    pub(crate) deadline: Timestamp,
    /// Where it dies, and at the how manieth time.
    pub(crate) dies: Option<(Site, u32)>,
    /// It is paused there, and not killed.
    pub(crate) sleeps: bool,
    /// Requests with a number in this range are asked for.
    pub(crate) requests: (u32, u32),
    /// Whether it settles.
    pub(crate) settles: bool,
    /// Seconds by which its clock is ahead: the leases of the lives before it have ended.
    pub(crate) ahead: u64,
    /// Seconds after which a transaction in no block is replaced.
    pub(crate) replace_after: u64,
    /// After each look, the worker waits for a line from its parent, and for no time.
    pub(crate) steps: bool,
}

/// The system's clock, so many seconds ahead.
#[derive(Clone, Copy)]
pub(crate) struct Ahead(pub(crate) u64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| since.as_secs())).plus(self.0)
    }
}

/// Says a line to the parent.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that has gone hears nothing, and its end is ours (`listen`).
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Counts the lines that the parent writes, and ends this process when it has gone.
fn listen(steps: Arc<Semaphore>) {
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            steps.add_permits(1);
        }
        std::process::exit(3);
    });
}

/// Lives the life that the environment tells.
pub(crate) fn live() -> anyhow::Result<()> {
    let steps = Arc::new(Semaphore::new(0));
    listen(Arc::clone(&steps));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let life: Life = serde_json::from_str(&std::env::var(LIFE)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let clock = Arc::new(Ahead(life.ahead));
        with_store!(&life.place, life.ledger_id, clock, |store| {
            sell(&life, store, &steps).await
        })
    })
}

/// What is sold for, and how it is settled.
pub(crate) fn market(life: &Life) -> Market {
    let terms = Terms {
        chain: ChainId::DEV,
        token: USD1,
        name: Signer::domain().name().map(str::to_owned),
        version: Signer::domain().version().map(str::to_owned),
        pay_to: life.pay_to,
        amount: Amount::from(990_000_000_000_000_000_u64),
        max_timeout: 86_400,
        permit: true,
        eip3009: true,
        permit2: Some(Permit2Terms {
            permit2: PERMIT2,
            upto_proxy: Some(UPTO_PROXY),
            exact_proxy: Some(EXACT_PROXY),
            facilitator: life.pay_to,
        }),
    };
    // Credit is not what is tried here: it never stands in the way.
    let dollar = Amount::from(1_000_000_000_000_000_000_u64);
    let mut credit = Credit::for_dollar(dollar);
    credit.floor = Amount::from(u128::MAX);
    credit.exposure = Amount::from(u128::MAX);
    credit.in_flight = 1_000;
    Market {
        terms,
        domain: Signer::domain(),
        credit,
        settler: life.settler.is_some(),
        treasury: life.treasury,
    }
}

/// Tries a few times: a busy machine may keep the chain from answering for a while, and that is not what is tried here.
pub(crate) async fn connect(config: ChainConfig) -> anyhow::Result<Chain> {
    for _ in 0..5 {
        if let Ok(chain) = Chain::connect(config.clone()).await {
            return Ok(chain);
        }
    }
    Ok(Chain::connect(config).await?)
}

async fn sell<S: Store>(life: &Life, store: S, steps: &Arc<Semaphore>) -> anyhow::Result<()> {
    let journal = Journal::open(&life.journal)?;
    let trigger = Arc::new(Trigger::new(life.dies, life.sleeps, journal.clone()));
    let mut config = ChainConfig::new(ChainId::DEV, [life.rpc.clone()]);
    config.block_time = POLL;
    // Who is paused in the middle of a call has waited all the while when it goes on.
    config.timeout = Duration::from_secs(30);
    let chain = connect(config).await?;
    let clock: Arc<dyn Clock> = Arc::new(Ahead(life.ahead));
    let store = MortalStore {
        inner: store,
        trigger: Arc::clone(&trigger),
    };
    let run = store.begin_run(4).await?;
    let markets = Markets::new(vec![market(life)]);
    let work = Arc::new(Notify::new());
    // What was made in one second is in blocks whose times are one second apart, so that the chain's time runs ahead.
    let verifier = ChainVerifier::new(chain.clone(), markets.clone(), Arc::clone(&clock), 600);
    let config = CashierConfig {
        markets,
        run: CurrentRun::from(run),
        margin: 720,
        retention: tollgate_payment::Retention::default(),
    };
    let till = Cashier::new(
        store.clone(),
        verifier,
        Arc::clone(&clock),
        config,
        Arc::clone(&work),
    );
    let worker = worker(life, &chain, &store, &clock, &trigger, work)?;
    let recovered = worker.recover(run.epoch).await?;
    journal.write(&Event::Life {
        life: life.life,
        recovered,
    });
    say("ready");
    let (stop, stopped) = watch::channel(false);
    let steps = life.steps.then(|| Arc::clone(steps));
    let settling = life
        .settles
        .then(|| tokio::spawn(settle(worker, journal.clone(), steps, stopped)));
    let beating = tokio::spawn(beat(store.clone(), run.epoch));
    let signer = Signer {
        seed: life.seed,
        domain: Signer::domain(),
        pay_to: life.pay_to,
        deadline: life.deadline,
        chain,
    };
    caller::ask_for_everything(life, &till, signer, journal, trigger).await?;
    say("served");
    // Without a worker nothing comes to an end, and another life begins. The order is that of a payment's life, so that
    // none passes unseen between two looks.
    while !life.settles
        || serving(&store).await?
        || !store.queues().await?.is_empty()
        || !store.undecided().await?.is_empty()
        || !store.queues().await?.is_empty()
    {
        tokio::time::sleep(POLL).await;
        if let Err(error) = tollgate_engine::recover(&store, run.epoch).await {
            tracing::warn!(%error, "not recovered");
        }
    }
    stop.send_replace(true);
    if let Some(settling) = settling {
        settling.await?;
    }
    beating.abort();
    store.end_run(run.epoch).await?;
    say("done");
    Ok(())
}

/// Whether any gateway serves a payment.
async fn serving<S: Store>(store: &S) -> anyhow::Result<bool> {
    let totals = store.totals().await?;
    Ok(totals.0.values().any(|token| token.in_flight > 0))
}

/// Gives signs of life.
async fn beat<S: Store>(store: S, epoch: u64) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Err(error) = store.renew(epoch).await {
            tracing::warn!(%error, "no sign of life");
        }
    }
}

type Settling<S> = Worker<MortalStore<S>, MortalRail<OwnRail<LocalWallet>>, Arc<dyn Clock>>;

fn worker<S: Store>(
    life: &Life,
    chain: &Chain,
    store: &MortalStore<S>,
    clock: &Arc<dyn Clock>,
    trigger: &Arc<Trigger>,
    work: Arc<Notify>,
) -> anyhow::Result<Settling<S>> {
    let wallet: LocalWallet = OPERATOR_KEY.parse().context("the operator's key")?;
    let signer = account(wallet.address());
    let rail = RailConfig {
        settler: life.settler,
        treasury: life.treasury,
        gas_floor: 50_000_000,
        gas_cap: 5_000_000_000,
    };
    let rail = MortalRail {
        inner: OwnRail::new(chain.clone(), wallet, Arc::clone(clock), rail),
        trigger: Arc::clone(trigger),
    };
    let mut config = WorkerConfig::new(signer, life.settler, Policy::AtOnce, POLL);
    // Many batches rather than few.
    config.queues = config.queues.min(5);
    config.payments = 10;
    config.idle = POLL;
    config.resend_after = 1;
    config.replace_after = life.replace_after;
    config.lease = 2;
    config.sole = !life.place.is_shared();
    Ok(Worker::new(
        store.clone(),
        rail,
        Arc::clone(clock),
        config,
        work,
    ))
}

/// The account that settles.
pub(crate) const fn account(operator: Address) -> SignerKey {
    SignerKey {
        chain: ChainId::DEV,
        operator,
    }
}

/// The moment of the next look.
async fn next(steps: Option<&Semaphore>) {
    match steps {
        Some(steps) => {
            if let Ok(step) = steps.acquire().await {
                step.forget();
            }
        }
        None => tokio::time::sleep(POLL).await,
    }
}

/// Ticks, and says what every look came to, so that blocks can be counted against looks.
async fn settle<S: Store>(
    mut worker: Settling<S>,
    journal: Journal,
    steps: Option<Arc<Semaphore>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut said = None;
    loop {
        let error = worker.tick().await.err().map(|error| error.to_string());
        say("tick");
        if let Some(error) = &error
            && said.as_ref() != Some(error)
        {
            journal.write(&Event::Waits {
                error: error.clone(),
            });
        }
        said = error;
        tokio::select! {
            () = next(steps.as_deref()) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
