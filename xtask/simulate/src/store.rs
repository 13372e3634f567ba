//! The ledger: the real commands over the memory store's semantics, kept as SQLite or as PostgreSQL would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tollgate_ledger::{
    BookedEntry, Due, Durable, Executed, LogFilter, MemoryStore, Outage, PaymentLog, Queue,
    RUN_LEASE, RowKind, Run, Store, StoreError, Totals,
};
use tollgate_payment::{
    BatchId, BatchRow, Command, Decision, Entry, PaymentRow, PaymentState, Refusal, Row, RowSet,
    Rows,
};
use tollgate_x402::{B256, PaymentId, Timestamp};

use crate::{
    books::Truth,
    mutants::Mutant,
    setting::Keeping,
    world::{Core, Event, Fault, Gate, SimClock, Waiting, Who, World, note},
};

mod tell;

use self::tell::tell;

/// What a step decided.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) writes: Vec<Row>,
    pub(crate) entries: Vec<Entry>,
}

/// The ledger's machine, which outlives the replicas.
pub(crate) struct Server {
    keeping: Keeping,
    inside: Mutex<Inside>,
}

struct Inside {
    /// Every step, those included that are not on the disk.
    live: MemoryStore,
    /// What a crash leaves.
    disk: MemoryStore,
    /// The open group.
    group: Vec<Step>,
    waiting: Vec<(Arc<Gate>, Arc<Mutex<bool>>)>,
    /// When runs last gave a sign of life, in microseconds of the world.
    signs: BTreeMap<u64, u64>,
}

impl Server {
    pub(crate) fn new(world: &Arc<World>, keeping: Keeping) -> Self {
        let clock = || {
            Arc::new(SimClock {
                world: Arc::clone(world),
                // A file's clock is its process's; a server has one of its own, which is right.
                replica: (keeping == Keeping::Owned).then_some(0),
            })
        };
        let name = B256::repeat_byte(0x1d);
        let live = match keeping {
            Keeping::Owned => MemoryStore::new(name, clock()),
            Keeping::Shared => MemoryStore::shared(name, clock()),
        };
        let disk = MemoryStore::new(name, clock());
        Self {
            keeping,
            inside: Mutex::new(Inside {
                live,
                disk,
                group: Vec::new(),
                waiting: Vec::new(),
                signs: BTreeMap::new(),
            }),
        }
    }

    fn with<T>(&self, see: impl FnOnce(&mut Inside) -> T) -> T {
        see(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The group is on the disk, or (`good: false`) is undone. Whether a task of tokio's has waited for it.
    pub(crate) fn flush(&self, world: &World, good: bool) -> bool {
        let waiting = self.with(|inside| {
            for step in core::mem::take(&mut inside.group) {
                if good {
                    let written = now(inside.disk.execute(Written(step)));
                    debug_assert!(written.is_ok());
                }
            }
            if !good {
                inside.live = inside.disk.fork();
            }
            core::mem::take(&mut inside.waiting)
        });
        if good {
            world.with(|core| {
                core.books.on_disk = core.books.group;
                core.books.group += 1;
            });
        } else {
            self.reread(world);
        }
        let mut foreign = false;
        for (gate, done) in waiting {
            *done.lock().unwrap_or_else(PoisonError::into_inner) = good;
            foreign |= gate.open();
        }
        foreign
    }

    /// The process that owns the ledger died: what was not on the disk is gone.
    pub(crate) fn crash(&self, world: &World) {
        if self.keeping == Keeping::Shared {
            return;
        }
        self.with(|inside| {
            inside.group.clear();
            inside.waiting.clear();
            inside.live = inside.disk.fork();
        });
        self.reread(world);
    }

    fn reread(&self, world: &World) {
        let (rows, entries) = self.with(|inside| {
            let rows: Vec<Row> = inside.disk.rows().iter().cloned().collect();
            let entries = now(inside.disk.entries(0, usize::MAX)).unwrap_or_default();
            (rows, entries)
        });
        world.with(|core| {
            core.books.reread(rows, &entries);
            let missing = core
                .served
                .iter()
                .find(|(id, served)| served.delivered > 0 && !core.books.payments.contains_key(*id))
                .map(|(id, served)| (*id, served.delivered));
            if let Some((id, delivered)) = missing {
                core.violate(20, || {
                    format!("{delivered} of {id:?} were delivered, and the disk does not know it")
                });
            }
        });
    }

    /// The ledger as a replica reaches it.
    pub(crate) fn connect(self: &Arc<Self>, world: &Arc<World>, who: Who) -> SimStore {
        let own = match self.keeping {
            Keeping::Shared => Some(self.with(|inside| inside.live.replica())),
            Keeping::Owned => None,
        };
        SimStore {
            world: Arc::clone(world),
            server: Arc::clone(self),
            who,
            own,
        }
    }
}

/// Writes what was decided.
struct Written(Step);

impl Command for Written {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        self.0.writes.iter().map(Row::key).collect()
    }

    fn decide(&self, _rows: &Rows, _now: Timestamp) -> Result<Decision<()>, Refusal> {
        Ok(Decision {
            writes: self.0.writes.clone(),
            entries: self.0.entries.clone(),
            outcome: (),
        })
    }
}

/// A command that is listened to, and perhaps led astray by a seeded bug.
struct Tapped<C> {
    command: C,
    world: Arc<World>,
    step: Arc<Mutex<Step>>,
}

impl<C: Command> Command for Tapped<C> {
    type Outcome = C::Outcome;

    fn rows(&self) -> RowSet {
        self.command.rows()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<C::Outcome>, Refusal> {
        let mutant = self.world.with(|core| core.setting.mutant);
        let decision = match mutant {
            None => self.command.decide(rows, now)?,
            Some(mutant) => mutant.decide(&self.command, rows, now, &self.world)?,
        };
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step.writes.clone_from(&decision.writes);
        step.entries = decision
            .entries
            .iter()
            .filter(|entry| !entry.amount.is_zero())
            .cloned()
            .collect();
        Ok(decision)
    }
}

/// One replica's connection.
#[derive(Clone)]
pub(crate) struct SimStore {
    world: Arc<World>,
    server: Arc<Server>,
    who: Who,
    /// A connection of its own to a shared ledger.
    own: Option<MemoryStore>,
}

impl SimStore {
    /// Where steps are decided.
    fn live(&self) -> MemoryStore {
        match &self.own {
            Some(own) => own.clone(),
            None => self.server.with(|inside| inside.live.clone()),
        }
    }

    /// What reads see.
    fn disk(&self) -> MemoryStore {
        match &self.own {
            Some(own) => own.clone(),
            None => self.server.with(|inside| inside.disk.clone()),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let out = self.world.with(|core| {
            !core.calm
                && (core.suffers(Fault::Store(None))
                    || core.suffers(Fault::Store(Some(self.who.replica))))
        });
        if out {
            return Err(Outage::Io("the connection to the ledger is lost".to_owned()).into());
        }
        Ok(())
    }

    /// Dead processes do nothing, whatever is still dropped of them.
    async fn gone(&self) {
        if !self.world.is_alive(self.who) {
            core::future::pending::<()>().await;
        }
    }

    async fn look<T>(&self, look: impl FnOnce(MemoryStore) -> T) -> Result<T, StoreError> {
        self.gone().await;
        self.check()?;
        let wait = self.world.latency() / 4;
        self.world.pause(self.who, wait).await;
        self.check()?;
        Ok(look(self.disk()))
    }

    /// A run gave a sign of life.
    fn signs(&self, epoch: u64) {
        let now = self.world.now();
        self.server.with(|inside| inside.signs.insert(epoch, now));
    }

    /// Whom others may take for dead admits nothing, whether anybody has found that out or not.
    fn check_lease(&self, step: &Step) {
        if self.own.is_none() {
            return;
        }
        let now = self.world.now();
        for row in &step.writes {
            let Row::Payment(row) = row else { continue };
            let sign = self
                .server
                .with(|inside| inside.signs.get(&row.epoch).copied());
            let late = sign.is_none_or(|sign| now.saturating_sub(sign) >= RUN_LEASE * 1_000_000);
            if !late {
                continue;
            }
            self.world.with(|core| {
                if !core.books.payments.contains_key(&row.keys.id) {
                    core.violate(4, || {
                        let (id, run) = (row.keys.id, row.epoch);
                        format!("{id:?} was admitted by run {run}, whose lease had passed")
                    });
                }
            });
        }
    }

    fn observe(&self, step: &Step, what: &'static str) {
        self.check_lease(step);
        self.world.with(|core| {
            note!(
                core,
                step.writes.len() as u64 ^ (self.who.replica as u64) << 8,
                "{:>10} r{} {what}: {}",
                self.world.now(),
                self.who.replica,
                step.writes.iter().map(tell).collect::<Vec<_>>().join("; ")
            );
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
            if let Err((number, text)) = books.step(&step.writes, &step.entries, &truth) {
                core.violate(number, || text);
            }
        });
    }

    /// The step was committed, and the server's answer did not come.
    fn unheard(&self) -> Option<Outage> {
        let lost = |core: &mut Core| !core.calm && core.rng.permille(core.setting.unheard);
        if self.own.is_none() || !self.world.with(lost) {
            return None;
        }
        let mutant = self.world.with(|core| {
            note!(
                core,
                8,
                "{:>10} r{} does not hear what became of it",
                self.world.now(),
                self.who.replica
            );
            core.setting.mutant
        });
        Some(if mutant == Some(Mutant::UnknownMeansNot) {
            Outage::Io("simulated".to_owned())
        } else {
            Outage::Unknown
        })
    }

    /// Opens a gate when the group is on the disk.
    fn durable(&self, step: Step) -> Durable {
        let hasty = self.world.with(|core| core.setting.mutant) == Some(Mutant::AnswerBeforeDisk);
        if self.own.is_some() {
            // A server's commit: it is durable, and the answer takes its way.
            let wait = self.world.latency();
            let waiting = self.world.pause(self.who, wait);
            let unheard = self.unheard();
            return Durable::later(async move {
                waiting.await;
                unheard.map_or(Ok(()), |outage| Err(outage.into()))
            });
        }
        let gate = Arc::new(Gate::default());
        let done = Arc::new(Mutex::new(false));
        let first = self.server.with(|inside| {
            inside.group.push(step);
            inside.waiting.push((Arc::clone(&gate), Arc::clone(&done)));
            inside.group.len() == 1
        });
        if first {
            let wait = self.world.latency();
            let life = self.who.life;
            self.world.schedule(wait, Event::Flush(life));
        }
        if hasty {
            return Durable::now();
        }
        Durable::later(async move {
            Waiting(gate).await;
            let good = *done.lock().unwrap_or_else(PoisonError::into_inner);
            if good {
                Ok(())
            } else {
                Err(Outage::Full("simulated".to_owned()).into())
            }
        })
    }
}

/// What is ready at once.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = core::pin::pin!(future);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        core::task::Poll::Ready(value) => value,
        core::task::Poll::Pending => unreachable!("the memory store does not wait"),
    }
}

impl Store for SimStore {
    fn ledger_id(&self) -> B256 {
        B256::repeat_byte(0x1d)
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        self.gone().await;
        self.check()?;
        let step = Arc::new(Mutex::new(Step::default()));
        let tapped = Tapped {
            command,
            world: Arc::clone(&self.world),
            step: Arc::clone(&step),
        };
        let executed = now(self.live().execute(tapped));
        let step = core::mem::take(&mut *step.lock().unwrap_or_else(PoisonError::into_inner));
        let answer = match executed {
            Ok(executed) => {
                if step.writes.is_empty() && step.entries.is_empty() {
                    Ok(Executed {
                        outcome: executed.outcome,
                        durable: Durable::now(),
                    })
                } else {
                    self.observe(&step, short(core::any::type_name::<C>()));
                    match self.unheard() {
                        Some(outage) => Err(outage.into()),
                        None => Ok(Executed {
                            outcome: executed.outcome,
                            durable: self.durable(step),
                        }),
                    }
                }
            }
            Err(error) => {
                self.world.with(|core| {
                    note!(
                        core,
                        7,
                        "{:>10} r{} {} refused: {error}",
                        self.world.now(),
                        self.who.replica,
                        short(core::any::type_name::<C>())
                    );
                    let wrong = matches!(
                        error,
                        StoreError::Corrupt(_) | StoreError::Refused(Refusal::Books(_))
                    );
                    if wrong {
                        core.violate(11, || error.to_string());
                    }
                });
                Err(error)
            }
        };
        let wait = self.world.latency() / 8;
        self.world.pause(self.who, wait).await;
        answer
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        self.look(move |store: MemoryStore| now(store.payment(id)))
            .await?
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        self.look(move |store: MemoryStore| now(store.batch(id)))
            .await?
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        self.look(move |store: MemoryStore| now(store.read(names)))
            .await?
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        self.look(move |store: MemoryStore| now(store.due(filter, limit)))
            .await?
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        self.look(move |store: MemoryStore| now(store.queues()))
            .await?
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        if self.world.with(|core| core.setting.mutant) == Some(Mutant::RecoversTheLiving) {
            let serving = |row: &&PaymentRow| matches!(row.state, PaymentState::Serving { .. });
            return Ok(self.world.with(|core| {
                let rows = core.books.payments.values();
                rows.filter(serving).cloned().collect()
            }));
        }
        let abandoned = self
            .look(move |store: MemoryStore| now(store.abandoned(epoch)))
            .await?;
        // A run that was taken for dead is a crash to those whom it serves, whether its gateway knows it yet or not.
        self.world.with(|core| {
            for row in abandoned.iter().flatten() {
                if let Some(served) = core.served.get_mut(&row.keys.id) {
                    served.broken |= !served.ended;
                }
            }
        });
        abandoned
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        self.look(move |store: MemoryStore| now(store.undecided()))
            .await?
    }

    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        self.gone().await;
        self.check()?;
        let live = self.live();
        let run = now(live.begin_run(gateways))?;
        if self.own.is_none() {
            now(self.disk().begin_run(gateways))?;
        }
        self.signs(run.epoch);
        Ok(run)
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        self.gone().await;
        self.check()?;
        let alive = now(self.live().renew(epoch))?;
        if self.own.is_none() {
            // A sign of life is a commit of its own: a group that is undone does not undo it.
            now(self.disk().renew(epoch))?;
        }
        if alive {
            self.signs(epoch);
        }
        Ok(alive)
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        self.gone().await;
        self.check()?;
        now(self.live().end_run(epoch))?;
        if self.own.is_none() {
            now(self.disk().end_run(epoch))?;
        }
        Ok(())
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        now(self.live().prune(limit))
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        self.look(move |store: MemoryStore| now(store.entries(after_seq, limit)))
            .await?
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        self.look(move |store: MemoryStore| now(store.logs(filter, limit)))
            .await?
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<tollgate_payment::RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.look(move |store: MemoryStore| now(store.scan(kind, after, limit)))
            .await?
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.look(move |store: MemoryStore| now(store.totals()))
            .await?
    }
}

fn short(name: &'static str) -> &'static str {
    name.rsplit("::").next().unwrap_or(name)
}
