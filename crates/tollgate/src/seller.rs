//! A running seller: chain, ledger, till, settlement worker and gateway, opened from a plan.

use std::{sync::Arc, time::Duration};

use alloy_sol_types::SolCall;
use anyhow::{Context, bail};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tollgate_bsc::{
    BlockTag, CallRequest, Chain, ChainConfig, SettlerTerms, check_account, check_chain,
    check_settler, check_token,
};
use tollgate_contracts::abi::Settler;
use tollgate_eip712::{LocalWallet, Signed, UsageReceipt};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Health, Market, Markets, Notary, OwnRail, Pace, Policy,
    RailConfig, Worker, WorkerConfig, Worth, tell,
};
use tollgate_gateway::{
    AnyUpstream, Check, EchoUpstream, Gateway, GatewayConfig, Limits, ModelConfig, OpenAiConfig,
    OpenAiUpstream, ReadMemo, Receipts, ReceiptsError, Told, upstream::ApiKey,
};
use tollgate_ledger::{CurrentRun, SqliteStore, Store};
use tollgate_payment::{SignerKey, Terms, port::Rail};
use tollgate_price::amount_from_dollars;
use tollgate_x402::{Address, Amount, B256, Clock, PaymentId, U256};

use crate::{
    clock::SystemClock,
    opening,
    plan::{ECHO, LedgerPlan, OwnPlan, Plan, Settling, TokenPlan, prices},
    remote::Remote,
    run::{self, Heartbeat},
    store::AnyStore,
};

pub(crate) type Till = Cashier<AnyStore, ChainVerifier>;
pub(crate) type SellersGateway = Gateway<Till, Books>;

/// Seconds that serving (600 at most, the paywall's bound) and settling may take: payments whose deadline is nearer are refused.
const MARGIN: u64 = 720;
/// Seconds between looks at the payer of a stream that goes on for longer.
const RECHECK: u64 = 30;
/// A node whose newest block is older than so many seconds is not believed.
const MAX_HEAD_AGE: u64 = 30;

/// Tells of payments, from the ledger.
#[derive(Clone)]
pub(crate) struct Books {
    store: AnyStore,
    markets: Markets,
    /// Signs receipts, where an account of ours settles: a facilitator somewhere else has the key that could.
    notary: Option<Notary<LocalWallet>>,
}

impl Receipts for Books {
    type Receipt = Signed<UsageReceipt>;

    async fn status(
        &self,
        id: PaymentId,
        read: ReadMemo,
    ) -> Result<Option<Told<Self::Receipt>>, ReceiptsError> {
        let told = tell(&self.store, &self.markets, self.notary.as_ref(), id, read).await;
        let told = told.map_err(|error| ReceiptsError(error.to_string()))?;
        Ok(told.map(|(status, receipt)| Told { status, receipt }))
    }
}

/// A seller whose worker runs.
pub(crate) struct Seller {
    pub(crate) gateway: SellersGateway,
    pub(crate) store: AnyStore,
    pub(crate) chain: Chain,
    pub(crate) markets: Markets,
    pub(crate) pay_to: Address,
    pub(crate) treasury: Address,
    /// Payments of a run that died, concluded at the start.
    pub(crate) recovered: usize,
    stop: watch::Sender<bool>,
    worker: JoinHandle<()>,
    end: watch::Sender<bool>,
    heart: JoinHandle<()>,
}

impl Seller {
    /// Opens everything, and refuses to where money could be lost: a wrong chain, a token that is not what it should
    /// be, a Settler of another ledger.
    pub(crate) async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let chain = opening::connect(&plan.chain).await?;
        let gateways = plan.ledger.gateways();
        let store = opening::ledger(&plan.ledger, &clock).await?;
        let payee = payee(plan, &chain).await?;
        check(plan, &chain, store.ledger_id(), &payee).await?;
        let markets = Markets::new(markets(plan, &chain, &payee).await?);
        let (run, current) = run::begin(&store, gateways).await?;

        let work = Arc::new(Notify::new());
        let verifier = ChainVerifier::new(
            chain.clone(),
            markets.clone(),
            Arc::clone(&clock),
            MAX_HEAD_AGE,
        );
        let config = CashierConfig {
            markets: markets.clone(),
            run: current.clone(),
            margin: MARGIN,
            retention: plan.retention,
        };
        let till = Cashier::new(
            store.clone(),
            verifier,
            Arc::clone(&clock),
            config,
            Arc::clone(&work),
        );
        let till = till
            .with_recheck(RECHECK)
            .with_prices(&prices(&plan.models));
        let (stop, stopped) = watch::channel(false);
        let parts = Parts {
            chain: &chain,
            store: &store,
            clock: &clock,
            work,
        };
        let working = match (&plan.settling, &payee.remote) {
            (Settling::Own(own), _) => {
                let worker = worker(plan, own, &parts, payee.treasury)?;
                launch(worker, run.epoch, stopped).await?
            }
            (Settling::Remote(..), Some(remote)) => {
                let worker = remote.worker(plan, &parts, &markets).await?;
                launch(worker, run.epoch, stopped).await?
            }
            (Settling::Remote(..), None) => bail!("the facilitator was not asked"),
        };
        let (health, recovered, worker) = working;
        let till = till
            .with_health(health.clone())
            .with_pace(pace(plan, &health)?);
        let (end, ended) = watch::channel(false);
        let heart = Heartbeat::new(store.clone(), current.clone(), run, gateways).start(ended);

        let books = Books {
            store: store.clone(),
            markets: markets.clone(),
            notary: match &plan.settling {
                Settling::Own(own) => Some(Notary::new(own.operator.clone())),
                Settling::Remote(..) => None,
            },
        };
        let gateway = gateway(plan, till, books, chain.clone(), clock, current, health)?;
        Ok(Self {
            gateway,
            store,
            chain,
            markets,
            pay_to: payee.pay_to,
            treasury: payee.treasury,
            recovered,
            stop,
            worker,
            end,
            heart,
        })
    }

    /// Stops the worker, then ends the run. What is due or undecided stays in the ledger for the next start.
    pub(crate) async fn close(self) {
        // A worker that has ended already hears nothing, which is what is wanted.
        let _ = self.stop.send(true);
        let _ = self.worker.await;
        let _ = self.end.send(true);
        let _ = self.heart.await;
    }
}

/// Who is paid.
struct Payee {
    pay_to: Address,
    treasury: Address,
    /// Who brings once payments to the chain.
    facilitator: Address,
    /// Whether it is a `Settler`.
    settler: bool,
    /// The facilitator that settles, if it is not an account of ours.
    remote: Option<Remote>,
}

async fn payee(plan: &Plan, chain: &Chain) -> anyhow::Result<Payee> {
    match &plan.settling {
        Settling::Own(own) => {
            let operator = own.operator.address();
            let pay_to = own.settler.unwrap_or(operator);
            Ok(Payee {
                pay_to,
                treasury: match own.settler {
                    Some(settler) => treasury_of(chain, settler).await?,
                    None => own.treasury.unwrap_or(operator),
                },
                facilitator: pay_to,
                settler: own.settler.is_some(),
                remote: None,
            })
        }
        Settling::Remote(remote, key) => {
            let asked = Remote::ask(remote, key.as_ref(), plan.chain.id).await?;
            Ok(Payee {
                pay_to: remote.pay_to,
                treasury: remote.pay_to,
                facilitator: asked.account,
                settler: false,
                remote: Some(asked),
            })
        }
    }
}

/// What a settlement worker works with.
pub(crate) struct Parts<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) store: &'a AnyStore,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) work: Arc<Notify>,
}

/// Concludes what runs that died have left, and starts the worker.
async fn launch<R: Rail>(
    worker: Worker<AnyStore, R, Arc<dyn Clock>>,
    epoch: u64,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<(Health, usize, JoinHandle<()>)> {
    let health = worker.health();
    let recovered = worker
        .recover(epoch)
        .await
        .context("payments of the last run cannot be concluded")?;
    Ok((health, recovered, tokio::spawn(worker.run(stopped))))
}

pub(crate) fn open_ledger(plan: &LedgerPlan, clock: Arc<dyn Clock>) -> anyhow::Result<SqliteStore> {
    let id = plan
        .id
        .unwrap_or_else(|| B256::from(rand::random::<[u8; 32]>()));
    let store = SqliteStore::open(&plan.path, id, clock)?;
    if plan.id.is_some_and(|id| id != store.ledger_id()) {
        bail!(
            "{} is the ledger {}, not the one that ledger.id names: set ledger.id to it if your Settler was deployed for it; if the file is new and empty, remove it",
            plan.path.display(),
            store.ledger_id()
        );
    }
    Ok(store)
}

pub(crate) async fn treasury_of(chain: &Chain, settler: Address) -> anyhow::Result<Address> {
    let input = Settler::treasuryCall {}.abi_encode().into();
    let request = CallRequest {
        to: Some(settler),
        input,
        ..CallRequest::default()
    };
    let answer = chain
        .call(&request, BlockTag::Latest)
        .await
        .context("the Settler cannot be read")?;
    Settler::treasuryCall::abi_decode_returns_validate(&answer)
        .with_context(|| format!("{settler} is no Settler: correct seller.settler, or deploy one"))
}

/// Looks at everything that money depends on.
async fn check(plan: &Plan, chain: &Chain, ledger_id: B256, payee: &Payee) -> anyhow::Result<()> {
    let mut checks = check_chain(chain, Some(SystemClock.now())).await;
    for token in &plan.tokens {
        let mut receivers = vec![payee.pay_to, payee.treasury];
        receivers.dedup();
        checks.extend(check_token(chain, token.info, &receivers).await);
    }
    if let Settling::Own(own) = &plan.settling {
        let operator = own.operator.address();
        if let Some(settler) = own.settler {
            let terms = SettlerTerms {
                ledger_id,
                treasury: payee.treasury,
                operators: vec![operator],
            };
            checks.extend(check_settler(chain, settler, &terms).await);
        }
        // Enough for some hundred settlements at the floor price.
        let least = U256::from(plan.chain.gas_floor).saturating_mul(U256::from(20_000_000_u64));
        checks.push(check_account(chain, operator, least).await);
    }
    opening::hold(&checks, "nothing is sold")
}

async fn markets(plan: &Plan, chain: &Chain, payee: &Payee) -> anyhow::Result<Vec<Market>> {
    let permit2 = opening::permit2(chain, payee.facilitator).await?;
    let upto = permit2.is_some_and(|terms| terms.upto_proxy.is_some());
    if payee.remote.is_some() && !upto {
        bail!(
            "nothing can be sold: a facilitator settles chats by Permit2 and x402's upto proxy, and chain {} does not have their code",
            plan.chain.id
        );
    }
    plan.tokens
        .iter()
        .map(
            |TokenPlan {
                 info,
                 amount,
                 max_timeout,
             }| {
                let domain = opening::domain(info, plan.chain.id);
                let terms = Terms {
                    chain: plan.chain.id,
                    token: info.address,
                    name: domain.name().map(str::to_owned),
                    version: domain.version().map(str::to_owned),
                    pay_to: payee.pay_to,
                    amount: *amount,
                    max_timeout: *max_timeout,
                    // An allowance can be drawn by its spender alone, which is no facilitator's account.
                    permit: info.permit && payee.remote.is_none(),
                    eip3009: info.eip3009,
                    permit2,
                };
                let mut credit = plan.credit.of(info.decimals)?;
                // The slices of all gateways together are the bound.
                let gateways = U256::from(plan.ledger.gateways());
                let slice = credit.exposure.get().checked_div(gateways);
                credit.exposure = Amount::new(slice.unwrap_or_default());
                Ok(Market {
                    terms,
                    domain,
                    credit,
                    settler: payee.settler,
                    treasury: payee.treasury,
                })
            },
        )
        .collect()
}

fn worker(
    plan: &Plan,
    own: &OwnPlan,
    parts: &Parts<'_>,
    treasury: Address,
) -> anyhow::Result<Worker<AnyStore, OwnRail<LocalWallet>, Arc<dyn Clock>>> {
    let rail = RailConfig {
        settler: own.settler,
        treasury,
        gas_floor: plan.chain.gas_floor,
        gas_cap: plan.chain.gas_cap,
    };
    let mut rail = OwnRail::new(
        parts.chain.clone(),
        own.operator.clone(),
        Arc::clone(parts.clock),
        rail,
    );
    for token in &plan.tokens {
        let worth = Worth {
            wei: U256::from(1_000_000_000_000_000_000_u64),
            units: amount_from_dollars(&plan.sending.bnb_usd, token.info.decimals)?.get(),
        };
        rail = rail.with_worth(token.info.address, worth);
    }
    if !plan.sending.private_rpc.is_empty() {
        let config = ChainConfig::new(plan.chain.id, plan.sending.private_rpc.clone());
        // Some take transactions and answer nothing else.
        let private = Chain::relay(config)?;
        rail = rail.with_private(private, plan.sending.private_seconds);
    }
    let signer = SignerKey {
        chain: plan.chain.id,
        operator: own.operator.address(),
    };
    let decimals = plan.tokens.first().map_or(18, |token| token.info.decimals);
    let mut config = WorkerConfig::new(
        signer,
        own.settler,
        plan.allowances.of(decimals)?,
        plan.chain.block_time,
    );
    // A file is one process's: whoever led the account before is dead.
    config.sole = matches!(parts.store, AnyStore::File(_));
    for token in &plan.tokens {
        config
            .credit
            .insert(token.info.address, plan.credit.of(token.info.decimals)?);
    }
    Ok(Worker::new(
        parts.store.clone(),
        rail,
        Arc::clone(parts.clock),
        config,
        Arc::clone(&parts.work),
    ))
}

/// How soon the worker settles what is charged: once and exact payments at once.
fn pace(plan: &Plan, health: &Health) -> anyhow::Result<Pace> {
    let decimals = plan.tokens.first().map_or(18, |token| token.info.decimals);
    Ok(Pace {
        allowances: plan.allowances.of(decimals)?,
        claims: Policy::AtOnce,
        block_time: plan.chain.block_time,
        health: health.clone(),
    })
}

fn gateway(
    plan: &Plan,
    till: Till,
    books: Books,
    chain: Chain,
    clock: Arc<dyn Clock>,
    run: CurrentRun,
    health: Health,
) -> anyhow::Result<SellersGateway> {
    let decimals = plan.tokens.first().map_or(18, |token| token.info.decimals);
    let mut upstreams = vec![(
        ECHO.to_owned(),
        Arc::new(AnyUpstream::Echo(EchoUpstream::with_delay(ECHO_DELAY))),
    )];
    for upstream in &plan.upstreams {
        let mut config = OpenAiConfig::new(upstream.url.clone());
        config.api_key = match &upstream.key {
            Some(key) => Some(ApiKey::new(&key.0)?),
            None => None,
        };
        config.options.top_k = upstream.top_k;
        config.first_token_timeout = upstream.first_token;
        config.idle_timeout = upstream.idle;
        upstreams.push((
            upstream.name.clone(),
            Arc::new(AnyUpstream::OpenAi(OpenAiUpstream::new(config)?)),
        ));
    }
    let mut models = Vec::new();
    for model in &plan.models {
        let (_, upstream) = upstreams
            .iter()
            .find(|(name, _)| *name == model.upstream)
            .with_context(|| format!("no upstream is named {:?}", model.upstream))?;
        let rates = model
            .rates
            .of(decimals)
            .map_err(|(key, error)| anyhow::anyhow!("{}: {key}: {error}", model.name))?;
        models.push(ModelConfig {
            name: model.name.clone(),
            aliases: model.aliases.clone(),
            description: (model.upstream == ECHO)
                .then(|| "tollgate's built-in echo engine: it repeats what it is told and is no language model".to_owned()),
            upstream: Arc::clone(upstream),
            upstream_model: model.upstream_model.clone(),
            rates,
            max_output_tokens: model.max_output_tokens,
        });
    }
    let default_model = plan
        .models
        .first()
        .map(|model| model.name.clone())
        .unwrap_or_default();
    let max_charge = plan
        .tokens
        .iter()
        .map(|token| token.amount)
        .min()
        .unwrap_or(amount_from_dollars("0.99", decimals)?);
    let mut limits = Limits::default();
    limits.request.max_body = plan.body_bytes;
    limits.paywall.request_bytes = plan.body_bytes;
    limits.paywall.wait = plan.wait;
    let config = GatewayConfig {
        public_url: plan.public_url.clone(),
        description: plan.description.clone(),
        models,
        default_model,
        max_charge,
        limits,
    };
    let reader = books.clone();
    let ready = move || {
        let (chain, books, run) = (chain.clone(), reader.clone(), run.clone());
        let health = health.clone();
        async move { readiness(&chain, &books, &run, &health).await }
    };
    Ok(Gateway::with(config, till, books, clock, ready)?)
}

/// The pace of the built-in engine: fast, and slow enough to be seen streaming.
const ECHO_DELAY: Duration = Duration::from_millis(20);

async fn readiness(chain: &Chain, books: &Books, run: &CurrentRun, health: &Health) -> Vec<Check> {
    let head = match chain.heads().await {
        Ok(heads) => {
            let age = SystemClock.now().since(heads.latest.timestamp);
            Check::new("chain", age <= MAX_HEAD_AGE)
                .detail(format!("the newest block is {age} s old"))
        }
        Err(_) => Check::new("chain", false).detail("no node answers"),
    };
    let ledger = Check::new("ledger", books.store.queues().await.is_ok());
    let ledger = match books.store.warning() {
        Some(warning) => ledger.detail(warning),
        None => ledger,
    };
    let run = Check::new("run", run.get().is_some());
    let settlement = match health.ready() {
        Ok(()) => Check::new("settlement", true),
        Err(what) => Check::new("settlement", false).detail(what),
    };
    vec![head, ledger, run, settlement]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_to_its_last_second_can_still_be_settled() {
        let serving = tollgate_server::Bounds::default().serving;
        let settling = Duration::from_secs(120);
        assert!(Duration::from_secs(MARGIN) >= serving.saturating_add(settling));
    }
}
