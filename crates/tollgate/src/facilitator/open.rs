//! A running facilitator: chain, ledger, desk and settlement worker, opened from a plan.

use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tollgate_bsc::{Chain, check_account, check_chain, check_token};
use tollgate_engine::{
    ChainVerifier, Desk, DeskConfig, Market, Markets, OwnRail, Payees, Policy, RailConfig, Worker,
    WorkerConfig,
};
use tollgate_facilitator::{Callers, FacilitatorService, ServiceConfig};
use tollgate_ledger::Store;
use tollgate_payment::{Credit, SignerKey, Terms};
use tollgate_x402::{Address, Amount, Clock, Timestamp, U256};

use super::config::FacilitatorPlan;
use crate::{
    clock::SystemClock,
    opening,
    run::{self, Heartbeat},
    store::AnyStore,
};

pub(super) type Service = FacilitatorService<Desk<AnyStore, ChainVerifier>>;

/// A node whose newest block is older than so many seconds is not believed.
const MAX_HEAD_AGE: u64 = 30;
/// Settlements of the past that are looked through for what callers have spent.
const RECALLED: usize = 100_000;

/// A facilitator whose worker runs.
pub(super) struct Open {
    pub(super) service: Service,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
    end: watch::Sender<bool>,
    heart: JoinHandle<()>,
}

impl Open {
    /// Opens everything, and refuses to where something is not what it should be.
    pub(super) async fn new(plan: &FacilitatorPlan) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let chain = opening::connect(&plan.chain).await?;
        let processes = plan.ledger.gateways();
        let store = opening::ledger(&plan.ledger, &clock).await?;
        check(plan, &chain).await?;
        let operator = plan.operator.address();
        let markets = Markets::new(markets(plan, &chain).await?);
        let (run, current) = run::begin(&store, processes).await?;
        let callers = Callers::new(plan.callers.iter().cloned());
        recall(&store, &callers, run.slot, clock.now()).await?;

        let work = Arc::new(Notify::new());
        let mut worker = worker(plan, &chain, &store, &clock, operator, Arc::clone(&work));
        worker
            .recover(run.epoch)
            .await
            .context("payments of the last run cannot be concluded")?;
        // Before anybody asks: whether the account may settle is known.
        if let Err(error) = worker.tick().await {
            tracing::warn!(%error, "settlement waits");
        }
        let verifier = ChainVerifier::new(
            chain.clone(),
            markets.clone(),
            Arc::clone(&clock),
            MAX_HEAD_AGE,
        );
        let mut config = DeskConfig::new(markets, operator, current.clone());
        config.wait = plan.wait;
        config.poll = plan.chain.block_time / 2;
        let probed = chain.clone();
        let desk = Desk::new(
            store.clone(),
            verifier,
            Arc::clone(&clock),
            config,
            work,
            move || {
                let chain = probed.clone();
                async move { probe(&chain).await }
            },
        )
        .with_health(worker.health());
        let (stop, stopped) = watch::channel(false);
        let worker = tokio::spawn(worker.run(stopped));
        let (end, ended) = watch::channel(false);
        let heart = Heartbeat::new(store, current, run, processes).start(ended);
        Ok(Self {
            service: FacilitatorService::new(desk, callers, clock, ServiceConfig::default()),
            stop,
            worker,
            end,
            heart,
        })
    }

    /// Stops the worker, then ends the run. What is not settled stays in the ledger for the next start.
    pub(super) async fn close(self) {
        // What has ended already hears nothing, which is what is wanted.
        let _ = self.stop.send(true);
        let _ = self.worker.await;
        let _ = self.end.send(true);
        let _ = self.heart.await;
    }
}

/// Why the chain cannot be worked on now.
async fn probe(chain: &Chain) -> Result<(), String> {
    let heads = chain
        .heads()
        .await
        .map_err(|_| "no node answers".to_owned())?;
    let age = SystemClock.now().since(heads.latest.timestamp);
    if age > MAX_HEAD_AGE {
        return Err(format!("the newest block is {age} s old"));
    }
    Ok(())
}

/// Looks at everything that money depends on.
async fn check(plan: &FacilitatorPlan, chain: &Chain) -> anyhow::Result<()> {
    let operator = plan.operator.address();
    let mut checks = check_chain(chain, Some(SystemClock.now())).await;
    for token in &plan.tokens {
        checks.extend(check_token(chain, token, &[]).await);
    }
    // Enough for some hundred settlements at the floor price.
    let least = U256::from(plan.chain.gas_floor).saturating_mul(U256::from(20_000_000_u64));
    checks.push(check_account(chain, operator, least).await);
    opening::hold(&checks, "nothing is settled")
}

async fn markets(plan: &FacilitatorPlan, chain: &Chain) -> anyhow::Result<Vec<Market>> {
    let operator = plan.operator.address();
    let permit2 = opening::permit2(chain, operator).await?;
    let market = |info: &&'static tollgate_contracts::TokenInfo| {
        let domain = opening::domain(info, plan.chain.id);
        let unit = Amount::from(info.unit().unwrap_or(u128::MAX));
        Market {
            terms: Terms {
                chain: plan.chain.id,
                token: info.address,
                name: domain.name().map(str::to_owned),
                version: domain.version().map(str::to_owned),
                // Each payment has its own.
                pay_to: operator,
                amount: Amount::MAX,
                max_timeout: u64::MAX,
                permit: false,
                eip3009: info.eip3009,
                permit2,
            },
            domain,
            credit: Credit::for_dollar(unit),
            settler: false,
            treasury: operator,
        }
    };
    Ok(plan.tokens.iter().map(market).collect())
}

fn worker(
    plan: &FacilitatorPlan,
    chain: &Chain,
    store: &AnyStore,
    clock: &Arc<dyn Clock>,
    operator: Address,
    work: Arc<Notify>,
) -> Worker<AnyStore, OwnRail<tollgate_eip712::LocalWallet>, Arc<dyn Clock>> {
    let rail = RailConfig {
        settler: None,
        treasury: operator,
        gas_floor: plan.chain.gas_floor,
        gas_cap: plan.chain.gas_cap,
    };
    let rail = OwnRail::new(
        chain.clone(),
        plan.operator.clone(),
        Arc::clone(clock),
        rail,
    );
    let signer = SignerKey {
        chain: plan.chain.id,
        operator,
    };
    let mut config = WorkerConfig::new(signer, None, Policy::AtOnce, plan.chain.block_time);
    config.payees = Payees::Anyone;
    // Each attempt costs our gas, and nothing was served on the strength of it: one is what a seller gets.
    config.attempts = 1;
    config.sole = plan.ledger.shared.is_none();
    Worker::new(store.clone(), rail, Arc::clone(clock), config, work)
}

/// What the desk remembers of a settlement.
#[derive(Deserialize)]
struct Memo {
    caller: Option<String>,
    gas: u64,
}

/// Counts what callers have spent in this period before the start, of the share that goes with this slot: of several
/// facilitators each has its own.
async fn recall(
    store: &AnyStore,
    callers: &Callers,
    slot: u32,
    now: Timestamp,
) -> anyhow::Result<()> {
    let logs = store
        .logs(Default::default(), RECALLED)
        .await
        .context("past settlements cannot be read")?;
    let day = now.0.checked_div(86_400);
    let today = logs
        .iter()
        .take_while(|log| log.created.0.checked_div(86_400) == day);
    for log in today.filter(|log| log.slot == slot) {
        if let Ok(memo) = serde_json::from_str::<Memo>(&log.memo)
            && let Some(caller) = memo.caller
        {
            callers.recall(&caller, memo.gas, now);
        }
    }
    Ok(())
}
