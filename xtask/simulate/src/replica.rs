//! One gateway: the real till and the real worker, on a runtime of its own, which dies with it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
};
use tollgate_bsc::{Chain, ChainConfig, Node};
use tollgate_contracts::addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY};
use tollgate_eip712::{TokenDomain, Wallet, WalletError};
use tollgate_engine::{
    Cashier, CashierConfig, ChainVerifier, Market, Markets, OwnRail, Policy, RailConfig, Worker,
    WorkerConfig, recover,
};
use tollgate_ledger::{CurrentRun, RENEW_EVERY, Run, Store, StoreError};
use tollgate_payment::{Permit2Terms, Retention, SignerKey, Terms};
use tollgate_x402::{Address, Amount, B256, ChainId, Clock, Signature65};

use crate::{
    books::units,
    chain::{BLOCK_MS, node::SimNode},
    mutants::{Mutant, SimRail, SimVerifier},
    names::{SETTLER, TOKEN, TREASURY, operator},
    payers::seller,
    setting::{Keeping, Setting},
    store::{Server, SimStore},
    tasks::{Spawner, Tasks},
    world::{SimClock, Who, World, note},
};

/// Hashed once.
static DOMAIN: OnceLock<TokenDomain> = OnceLock::new();

pub(crate) type Till = Cashier<SimStore, SimVerifier>;

/// A gateway that runs.
pub(crate) struct Replica {
    /// What the product spawns, and its time.
    runtime: Runtime,
    tasks: Tasks,
    pub(crate) till: Till,
    /// Milliseconds of the world until which the runtime's clock was moved.
    clock: u64,
}

/// A wallet whose signatures name the account and prove nothing: the simulated chain believes them.
#[derive(Clone, Debug)]
pub(crate) struct SimWallet(Address);

impl Wallet for SimWallet {
    fn address(&self) -> Address {
        self.0
    }

    async fn sign_hash(&self, _digest: &B256) -> Result<Signature65, WalletError> {
        Ok(crate::names::signature(self.0.into_word()))
    }
}

impl Replica {
    pub(crate) fn start(world: &Arc<World>, server: &Arc<Server>, who: Who) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap_or_else(|error| unreachable!("a runtime without I/O: {error}"));
        let setting = world.with(|core| core.setting.clone());
        let store = server.connect(world, who);
        let clock = SimClock {
            world: Arc::clone(world),
            replica: Some(who.replica),
        };
        let markets = markets(&setting);
        let work = Arc::new(Notify::new());
        let chain = connect(world, who, &setting);
        let verifier = SimVerifier::new(
            ChainVerifier::new(chain.clone(), markets.clone(), Arc::new(clock.clone()), 20),
            Arc::clone(world),
        );
        let run = lease(world);
        let config = CashierConfig {
            markets: markets.clone(),
            run: run.clone(),
            margin: setting.margin,
            retention: Retention::default(),
        };
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let cashier = Cashier::with_ids(
            store.clone(),
            verifier,
            Arc::clone(&shared),
            config,
            Arc::clone(&work),
            world.ids(),
        );
        let account = if setting.accounts { who.replica } else { 0 };
        let signer = SignerKey {
            chain: ChainId::DEV,
            operator: operator(account),
        };
        let settler = setting.settler.then_some(SETTLER);
        let rail = OwnRail::new(
            chain,
            SimWallet(signer.operator),
            shared,
            RailConfig {
                settler,
                treasury: TREASURY,
                gas_floor: 50_000_000,
                gas_cap: 5_000_000_000,
            },
        );
        let rail = SimRail::new(rail, Arc::clone(world));
        let policy = if setting.max_age == 0 {
            Policy::AtOnce
        } else {
            Policy::Aggregate {
                max_unsettled: Amount::from(250u64),
                max_age: setting.max_age,
            }
        };
        let mut config =
            WorkerConfig::new(signer, settler, policy, Duration::from_millis(BLOCK_MS));
        config.credit.insert(TOKEN, setting.credit.clone());
        config.sole = setting.keeping == Keeping::Owned;
        let worker = Worker::new(store.clone(), rail, clock, config, work).with_ids(world.ids());
        // Who settles elsewhere has nothing to tell.
        let till = if setting.health {
            cashier.with_health(worker.health())
        } else {
            cashier
        };
        let tasks = Tasks::default();
        tasks.spawner.spawn(live(
            Arc::clone(world),
            who,
            store,
            run,
            worker,
            (setting.replicas, tasks.spawner.clone()),
        ));
        Self {
            runtime,
            tasks,
            till,
            clock: 0,
        }
    }

    /// Adds something that it does.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.tasks.spawner.spawn(future);
    }

    /// Runs whatever can run now. `foreign`: a task of tokio's among it.
    pub(crate) fn step(&mut self, world: &World, mut foreign: bool) {
        loop {
            let known = self.spawned();
            let entered = self.runtime.enter();
            let ran = self.tasks.run();
            drop(entered);
            if let Err(panic) = ran {
                world.with(|core| core.violate(7, || format!("a task panicked: {panic}")));
                return;
            }
            if !foreign && self.spawned() == known {
                return;
            }
            self.runtime.block_on(tokio::task::yield_now());
            if self.tasks.rest() {
                return;
            }
            foreign = false;
        }
    }

    /// The product's tasks.
    fn spawned(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// Moves the runtime's clock on: what the engine itself waits for goes by it.
    pub(crate) fn tick(&mut self, world: &World) {
        let now = world.now() / 1_000;
        let passed = now.saturating_sub(self.clock);
        self.clock = now;
        let spawned = self.spawned() > 0;
        self.runtime.block_on(async {
            tokio::time::advance(Duration::from_millis(passed)).await;
            if spawned {
                tokio::task::yield_now().await;
            }
        });
        self.step(world, false);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // What is dropped may want to spawn, as in a runtime that shuts down.
        let _entered = self.runtime.enter();
        self.tasks.clear();
    }
}

fn connect(world: &Arc<World>, who: Who, setting: &Setting) -> Chain {
    let mut config = ChainConfig::new(ChainId::DEV, Vec::<String>::new());
    config.agreement = setting.agreement;
    let nodes = (0..setting.nodes)
        .map(|place| {
            let node: Arc<dyn Node> = Arc::new(SimNode {
                world: Arc::clone(world),
                who,
                place,
            });
            node
        })
        .collect();
    Chain::of_nodes(&config, nodes)
}

fn markets(setting: &Setting) -> Markets {
    let pay_to = seller(setting);
    let mut credit = setting.credit.clone();
    if setting.mutant != Some(Mutant::SliceWhole) {
        // The slices of all gateways together are the bound.
        credit.exposure = Amount::from(units(credit.exposure) / setting.replicas as u64);
    }
    let terms = Terms {
        chain: ChainId::DEV,
        token: TOKEN,
        name: Some("Simulated".to_owned()),
        version: Some("1".to_owned()),
        pay_to,
        amount: Amount::from(1_000u64),
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
    Markets::new(vec![Market {
        terms,
        domain: DOMAIN
            .get_or_init(|| TokenDomain::new("Simulated", "1", ChainId::DEV, TOKEN))
            .clone(),
        credit,
        settler: setting.settler,
        treasury: TREASURY,
    }])
}

/// A gateway's life, as the program lives it: a run, what others left, the worker, signs of life.
async fn live(
    world: Arc<World>,
    who: Who,
    store: SimStore,
    current: CurrentRun,
    mut worker: Worker<SimStore, SimRail, SimClock>,
    (replicas, spawner): (usize, Spawner),
) {
    let gateways = u32::try_from(replicas).unwrap_or(1);
    let mut run = begin(&world, who, &store, &current, gateways).await;
    let recovered = recover(&store, run.epoch).await;
    world.with(|core| {
        note!(
            core,
            run.epoch,
            "{:>10} r{} begins run {}: {recovered:?} recovered",
            world.now(),
            who.replica,
            run.epoch
        );
    });
    let beating = Arc::clone(&world);
    spawner.spawn(async move {
        let world = beating;
        let mut wait = RENEW_EVERY;
        loop {
            world.pause(who, wait * 1_000_000).await;
            let asked = current.now();
            match store.renew(run.epoch).await {
                Ok(true) => current.renew(run, asked),
                Ok(false) => {
                    current.end();
                    run = begin(&world, who, &store, &current, gateways).await;
                }
                Err(_) => {
                    wait = 1;
                    continue;
                }
            }
            wait = RENEW_EVERY;
            let _ = recover(&store, run.epoch).await;
        }
    });
    loop {
        let done = worker.tick().await;
        let wait = world.with(|core| {
            if let Err(error) = &done {
                note!(
                    core,
                    3,
                    "{:>10} r{} worker: {error}",
                    world.now(),
                    who.replica
                );
            }
            core.rng.range(150_000, 900_000)
        });
        world.pause(who, wait).await;
    }
}

/// The run of a gateway, by the world's true time.
fn lease(world: &Arc<World>) -> CurrentRun {
    let (world, mutant) = (
        Arc::clone(world),
        world.with(|core| core.setting.mutant == Some(Mutant::LeaseForgotten)),
    );
    CurrentRun::with_time(move || Duration::from_micros(if mutant { 0 } else { world.now() }))
}

async fn begin(
    world: &World,
    who: Who,
    store: &SimStore,
    current: &CurrentRun,
    gateways: u32,
) -> Run {
    loop {
        let asked = current.now();
        match store.begin_run(gateways).await {
            Ok(run) => {
                current.renew(run, asked);
                return run;
            }
            Err(StoreError::Unavailable(_)) => world.pause(who, 1_000_000).await,
            Err(error) => {
                world.with(|core| core.violate(15, || format!("a run cannot begin: {error}")));
                core::future::pending::<()>().await;
            }
        }
    }
}
