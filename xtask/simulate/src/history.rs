//! One history: a seed, lived to its end.

use std::{collections::BTreeMap, sync::Arc};

use alloy_sol_types::SolCall as _;
use tollgate_contracts::abi::Settler;

use crate::{
    books::Truth,
    chain::{Act, BLOCK_MS, Body, Chain, Signed3009, state::small},
    mutants::{Bug, Mutant},
    names::SETTLER,
    payers,
    replica::Replica,
    request,
    rng::Rng,
    setting::{Kind, Setting},
    store::Server,
    world::{Core, EPOCH, Event, Fault, REPLICAS, Violation, Who, World, note},
};

mod weather;

/// Seconds that payments may take to be decided once all faults are over.
const PATIENCE: u64 = 1_500;

/// Events after which a history is given up: something goes round in circles.
const MOST_EVENTS: u64 = 400_000;

/// How a history ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Payments that were admitted.
    pub payments: u64,
    /// Things that happened.
    pub events: u64,
    /// A digest of all that happened: the same seed has the same.
    pub digest: u64,
    /// What happened, in words, where it was asked for.
    pub trace: Vec<String>,
    /// Of the payments so many ended final, lost and released.
    pub ends: (u64, u64, u64),
    /// Of the lost ones so many by each reason.
    pub losses: BTreeMap<String, u64>,
    /// Virtual milliseconds.
    pub lasted: u64,
}

struct History {
    world: Arc<World>,
    server: Arc<Server>,
    replicas: Vec<Option<Replica>>,
    /// When all faults end, in microseconds; then when it is given up.
    calm_at: Option<u64>,
    quiet_since: Option<u64>,
}

/// Lives the history of a seed.
#[must_use]
pub fn live(seed: u64, kind: Kind, bug: Bug, traced: bool) -> Ended {
    let setting = Setting::draw(seed, kind, bug);
    let mut rng = Rng::new(seed ^ 0xfeed);
    let (payers, purses) = payers::draw(&setting, &mut rng);
    let chain = Chain::new(purses, EPOCH, setting.lag);
    let (replicas, keeping) = (setting.replicas, setting.keeping);
    let world = Arc::new(World::new(setting, chain, payers, traced));
    let server = Arc::new(Server::new(&world, keeping));
    let mut history = History {
        world: Arc::clone(&world),
        server,
        replicas: (0..REPLICAS).map(|_| None).collect(),
        calm_at: None,
        quiet_since: None,
    };
    for replica in 0..replicas {
        world.schedule(replica as u64 * 3_000, Event::Start(replica));
    }
    // Blocks below every one that is asked for.
    world.with(|core| {
        for _ in 0..24 {
            core.chain.mine(EPOCH, 1000, &mut rng, true);
        }
        let tip = core.chain.tip();
        core.nodes.iter_mut().for_each(|node| node.tip = tip);
        if let Some(liar) = core.setting.liar {
            core.nodes[liar].lies = true;
        }
    });
    world.schedule(100_000, Event::Block);
    world.schedule(60_000, Event::Arrive);
    world.schedule(500_000, Event::Weather);
    history.run();
    let lasted = world.now() / 1_000;
    // Nobody is left to do anything before the world is looked at.
    history.replicas.clear();
    world.with(|core| {
        let ends = core.books.ends();
        Ended {
            violation: core.violation.clone(),
            payments: core.admitted,
            events: core.events,
            digest: core.fold.0,
            trace: core.trace.take().unwrap_or_default(),
            ends,
            losses: core.books.losses(),
            lasted,
        }
    })
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the history of {:?}", self.setting)
    }
}

impl History {
    fn run(&mut self) {
        while let Some(event) = self.world.next() {
            match event {
                Event::Wake(who, gate) => self.wake(who, gate),
                Event::Block => self.block(),
                Event::Arrives(letter) => {
                    let now = self.world.now();
                    self.world.with(|core| letter.arrive(core, now));
                }
                Event::Arrive => self.arrive(),
                Event::Crash(replica) => self.crash(replica),
                Event::Start(replica) => self.start(replica),
                Event::Freeze(replica, until) => {
                    self.world.with(|core| {
                        if core.frozen[replica] > self.world.now() || core.calm {
                            return;
                        }
                        core.frozen[replica] = until;
                        for served in core.served.values_mut() {
                            let here = served.by.is_some_and(|by| by.replica == replica);
                            served.broken |= here && !served.ended;
                        }
                        note!(
                            core,
                            until,
                            "{:>10} r{replica} stands still until {until}",
                            self.world.now()
                        );
                    });
                }
                Event::Flush(life) => self.flush(life),
                Event::Weather => self.weather(),
                Event::Mend(fault) => self.mend(fault),
            }
            let (violated, events) = self
                .world
                .with(|core| (core.violation.is_some(), core.events));
            if violated || self.is_over() {
                return;
            }
            if events > MOST_EVENTS {
                self.world.with(|core| {
                    core.violate(7, || format!("{events} events, and no end"));
                });
                return;
            }
        }
    }

    fn wake(&mut self, who: Who, gate: Arc<crate::world::Gate>) {
        let now = self.world.now();
        let frozen = self.world.with(|core| core.frozen[who.replica]);
        if frozen > now {
            self.world
                .schedule(frozen - now + 1, Event::Wake(who, gate));
            return;
        }
        if !self.world.is_alive(who) {
            return;
        }
        let foreign = gate.open();
        self.step(who.replica, foreign);
    }

    fn step(&mut self, replica: usize, foreign: bool) {
        if let Some(replica) = self.replicas[replica].as_mut() {
            replica.step(&self.world, foreign);
        }
    }

    fn flush(&mut self, life: u64) {
        let good = self.world.with(|core| {
            if core.lives[0] != life || !core.alive[0] {
                return None;
            }
            let full = !core.calm && core.suffers(Fault::Store(None));
            note!(
                core,
                u64::from(full),
                "{:>10} the group reaches the disk: {}",
                self.world.now(),
                !full
            );
            if full {
                for served in core.served.values_mut() {
                    served.broken |= !served.ended;
                }
            }
            Some(!full)
        });
        if let Some(good) = good {
            let foreign = self.server.flush(&self.world, good);
            self.step(0, foreign);
        }
    }

    fn start(&mut self, replica: usize) {
        let who = self.world.with(|core| {
            if core.alive[replica] {
                return None;
            }
            core.lives[replica] += 1;
            core.alive[replica] = true;
            core.frozen[replica] = 0;
            core.open[replica] = 0;
            note!(
                core,
                replica as u64,
                "{:>10} r{replica} starts",
                self.world.now()
            );
            Some(Who {
                replica,
                life: core.lives[replica],
            })
        });
        if let Some(who) = who {
            self.replicas[replica] = Some(Replica::start(&self.world, &self.server, who));
            self.step(replica, false);
        }
    }

    fn crash(&mut self, replica: usize) {
        let died = self.world.with(|core| {
            let alive = core::mem::take(&mut core.alive[replica]);
            if alive {
                note!(
                    core,
                    replica as u64,
                    "{:>10} r{replica} dies",
                    self.world.now()
                );
                for served in core.served.values_mut() {
                    let here = served.by.is_some_and(|by| by.replica == replica);
                    if here && !served.ended {
                        served.broken = true;
                        served.ended = true;
                    }
                }
                core.open[replica] = 0;
            }
            alive
        });
        if died {
            self.replicas[replica] = None;
            self.server.crash(&self.world);
            let wait = self.world.with(|core| core.rng.range(10_000, 8_000_000));
            self.world.schedule(wait, Event::Start(replica));
        }
    }

    fn arrive(&mut self) {
        let now = self.world.seconds();
        let order = self.world.with(|core| {
            if core.calm || core.requests >= core.setting.requests {
                return None;
            }
            let alive: Vec<usize> = (0..REPLICAS)
                .filter(|replica| core.alive[*replica] && core.frozen[*replica] <= self.world.now())
                .collect();
            let Some(replica) = core.rng.pick(&alive).copied() else {
                return Some(None);
            };
            core.requests += 1;
            let payer = core.rng.place(core.payers.len());
            let purse = core.chain.state().purses[payer].clone();
            let setting = core.setting.clone();
            let request = core.requests;
            core.payers[payer].charged = core.books.charged(payer, payers::seller(&setting)) > 0;
            let order = core.payers[payer].order(&setting, &purse, now, request, &mut core.rng);
            if let Some(act) = core.payers[payer].submits() {
                note!(
                    core,
                    payer as u64,
                    "{:>10} payer {payer} does {act:?}",
                    self.world.now()
                );
                core.chain.act(act);
            }
            core.open[replica] += 1;
            let who = Who {
                replica,
                life: core.lives[replica],
            };
            Some(Some((who, order)))
        });
        match order {
            // The last request has come: after a while the faults end.
            None => {
                if self.calm_at.is_none() {
                    let wait = self
                        .world
                        .with(|core| core.rng.range(1_000_000, 15_000_000));
                    self.calm_at = Some(self.world.now() + wait);
                }
                return;
            }
            Some(None) => {}
            Some(Some((who, order))) => {
                if let Some(replica) = self.replicas[who.replica].as_mut() {
                    let task =
                        request::serve(Arc::clone(&self.world), who, replica.till.clone(), order);
                    replica.spawn(task);
                    replica.step(&self.world, false);
                }
            }
        }
        let wait = self.world.with(|core| {
            let pace = core.setting.pace * 1_000;
            core.rng.range(pace / 8, pace * 2)
        });
        self.world.schedule(wait, Event::Arrive);
    }

    fn block(&mut self) {
        let seconds = self.world.seconds();
        self.world.with(|core| {
            let Core {
                chain,
                rng,
                nodes,
                setting,
                faults,
                books,
                calm,
                ..
            } = core;
            if !faults.contains(&Fault::ChainStalls) {
                let finalize = !faults.contains(&Fault::FinalityStalls);
                let luck = if *calm { 1000 } else { setting.luck };
                let mut blocks = 1;
                if !*calm && rng.permille(setting.reorgs) {
                    let depth = usize::try_from(rng.range(1, 4)).unwrap_or(1);
                    let keep = rng.range(300, 1000);
                    blocks += chain.reorganize(depth, keep, rng);
                }
                for _ in 0..blocks {
                    chain.mine(seconds, luck, rng, finalize);
                }
                // A pool forgets.
                if !*calm && rng.permille(15) && !chain.pool.is_empty() {
                    let place = rng.place(chain.pool.len());
                    if matches!(chain.pool[place].body, Body::Ours { .. }) {
                        chain.pool.remove(place);
                    }
                }
                if !*calm {
                    run_ahead(chain, setting.strangers, rng);
                    if setting.mutant == Some(Mutant::SharedCounter) && rng.permille(60) {
                        let payer = rng.place(chain.state().purses.len());
                        chain.act(Act::Foreign(payer, 5));
                    }
                }
            }
            for node in nodes.iter_mut() {
                if node.stuck && !*calm {
                    continue;
                }
                let behind = if *calm {
                    0
                } else {
                    usize::try_from(rng.below(8).saturating_sub(5)).unwrap_or_default()
                };
                node.behind = behind;
                let height = chain.canonical.len().saturating_sub(1 + behind);
                node.tip = chain.canonical[height];
            }
            books.read_chain(chain);
            core.fold.add(core.chain.head().number);
        });
        self.world.schedule(BLOCK_MS * 1_000, Event::Block);
        for replica in 0..REPLICAS {
            let frozen = self.world.with(|core| core.frozen[replica]);
            if frozen <= self.world.now()
                && let Some(replica) = self.replicas[replica].as_mut()
            {
                replica.tick(&self.world);
            }
        }
        if self.calm_at.is_some_and(|at| at <= self.world.now())
            && !self.world.with(|core| core.calm)
        {
            self.calm();
        }
    }

    /// All faults end.
    fn calm(&mut self) {
        self.world.with(|core| {
            core.calm = true;
            core.frozen = [0; REPLICAS];
            note!(core, 4, "{:>10} all faults end", self.world.now());
        });
        for fault in self.world.with(|core| core.faults.clone()) {
            self.mend(fault);
        }
        let replicas = self.world.with(|core| core.setting.replicas);
        for replica in 0..replicas {
            self.world.schedule(1_000, Event::Start(replica));
        }
    }

    /// Whether all is decided, and looked at for the last time.
    fn is_over(&mut self) -> bool {
        let Some(calm_at) = self.calm_at else {
            return false;
        };
        let now = self.world.now();
        let (calm, quiet) = self.world.with(|core| {
            let open: u64 = core.open.iter().sum();
            (core.calm, open == 0 && core.books.quiet())
        });
        if !calm {
            return false;
        }
        if !quiet {
            self.quiet_since = None;
            if now > calm_at + PATIENCE * 1_000_000 {
                self.world.with(|core| {
                    let left: Vec<_> = core
                        .books
                        .undecided()
                        .map(|payment| format!("{:?} {:?}", payment.keys.id, payment.state))
                        .collect();
                    core.violate(7, || {
                        format!("{PATIENCE} s after the last fault these are undecided: {left:?}")
                    });
                });
                return true;
            }
            return false;
        }
        // What is on its way arrives, and blocks become final.
        let since = *self.quiet_since.get_or_insert(now);
        if now < since + 4_000_000 {
            return false;
        }
        self.world.with(|core| {
            let Core {
                books,
                chain,
                served,
                payers,
                ..
            } = core;
            let truth = Truth {
                chain,
                served,
                payers,
            };
            let foreign = books.unasked();
            if let Err((number, text)) = books.check_end_of_history(&truth, foreign) {
                core.violate(number, || text);
            }
        });
        true
    }
}

/// Strangers submit what they see in the pool.
fn run_ahead(chain: &mut Chain, strangers: u64, rng: &mut Rng) {
    let mut acts = Vec::new();
    for tx in &chain.pool {
        let Body::Ours { to, input, .. } = &tx.body else {
            continue;
        };
        if *to != SETTLER || !rng.permille(strangers) {
            continue;
        }
        let Ok(call) = Settler::settleCall::abi_decode(input) else {
            continue;
        };
        for item in call.allowances.iter().filter(|item| item.permit.v != 0) {
            acts.push(Act::Permit(
                item.owner,
                SETTLER,
                small(item.permit.value),
                small(item.permit.deadline),
                item.permit.r,
            ));
        }
        for item in &call.exacts {
            acts.push(Act::Transfer(Box::new(Signed3009 {
                owner: item.owner,
                to: SETTLER,
                amount: small(item.amount),
                valid: (small(item.validAfter), small(item.validBefore)),
                nonce: item.nonce,
                signature: item.r,
            })));
        }
    }
    for act in acts {
        chain.act(act);
    }
}
