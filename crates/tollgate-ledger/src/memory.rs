//! A store that forgets: for tests, simulations, and embedding without a file.

use core::fmt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tollgate_payment::{
    BatchId, BatchRow, Command, OwnerKey, PaymentRow, PaymentState, Row, RowKey, RowSet, Rows,
};
use tollgate_x402::{Address, B256, Clock, PaymentId, Timestamp};

use crate::{
    decide::{Decided, decide},
    error::{Outage, StoreError},
    log::{LogFilter, PaymentLog, batch_of},
    query::{BookedEntry, Due, Queue},
    run::{RUN_LEASE, Run},
    scan::RowKind,
    store::{Durable, Executed, Store},
    totals::Totals,
};

/// Payments in memory. What it acknowledged is as durable as the process.
///
/// Clones share the books and the run, as the parts of one gateway do; [`replica`](MemoryStore::replica) is another
/// gateway's store on the same books. It is the model that other stores are checked against, so it does everything
/// in the simplest way.
#[derive(Clone)]
pub struct MemoryStore {
    ledger_id: B256,
    clock: Arc<dyn Clock>,
    books: Arc<Mutex<Books>>,
    /// Whether several gateways use the books: then runs live by leases.
    shared: bool,
    /// The run for which this gateway writes.
    run: Arc<AtomicU64>,
}

/// No run is numbered so.
const NO_RUN: u64 = 0;

/// A run that has begun.
#[derive(Clone, Copy)]
struct Life {
    slot: u32,
    gateways: u32,
    until: Timestamp,
    dead: bool,
}

#[derive(Clone, Default)]
struct Books {
    rows: Rows,
    entries: Vec<BookedEntry>,
    epoch: u64,
    runs: BTreeMap<u64, Life>,
    /// What is known of payments beside their rows.
    payments: BTreeMap<PaymentId, Beside>,
    /// Payments that are due, in the order of their commits.
    due: BTreeMap<u64, PaymentId>,
    /// Payments that are being served.
    serving: BTreeSet<(u64, u64, PaymentId)>,
    /// Batches that are not concluded, in the order of their claims.
    undecided: Vec<BatchId>,
    /// Payments by number.
    numbers: BTreeMap<u64, PaymentId>,
    commits: u64,
    outage: Option<Outage>,
}

#[derive(Clone, Copy, Default)]
struct Beside {
    seq: u64,
    commit: Option<u64>,
    batch: Option<BatchId>,
}

impl MemoryStore {
    /// An empty ledger with this (random) name.
    pub fn new(ledger_id: B256, clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger_id,
            clock,
            books: Arc::default(),
            shared: false,
            run: Arc::new(AtomicU64::new(NO_RUN)),
        }
    }

    /// An empty ledger for several gateways: their runs live by leases of [`RUN_LEASE`] seconds.
    pub fn shared(ledger_id: B256, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: true,
            ..Self::new(ledger_id, clock)
        }
    }

    /// The same books as another gateway sees them: with a run of its own.
    #[must_use]
    pub fn replica(&self) -> Self {
        Self {
            run: Arc::new(AtomicU64::new(NO_RUN)),
            ..self.clone()
        }
    }

    /// A ledger of its own with the same books: what a crash at this moment would leave.
    pub fn fork(&self) -> Self {
        Self {
            ledger_id: self.ledger_id,
            clock: Arc::clone(&self.clock),
            books: Arc::new(Mutex::new(self.lock().clone())),
            shared: self.shared,
            run: Arc::new(AtomicU64::new(NO_RUN)),
        }
    }

    /// Fails everything from now on, as a full disk or a lost connection would; `None` ends it.
    pub fn interrupt(&self, outage: Option<Outage>) {
        self.lock().outage = outage;
    }

    /// Every row, in the order of names.
    pub fn rows(&self) -> Rows {
        self.lock().rows.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // A command decides before anything is written: a panic leaves the books as they were.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(
        &self,
        ask: impl FnOnce(&mut Books) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut books = self.lock();
        match &books.outage {
            Some(outage) => Err(outage.clone().into()),
            None => ask(&mut books),
        }
    }
}

impl Books {
    fn named(&self, names: &RowSet) -> Rows {
        names.iter().filter_map(|name| self.row(name)).collect()
    }

    fn row(&self, name: &RowKey) -> Option<Row> {
        let rows = &self.rows;
        match name {
            RowKey::Owner(key) => rows.owner(key).cloned().map(Row::Owner),
            RowKey::Spender(key) => rows.spender(key).cloned().map(Row::Spender),
            RowKey::Authorization(key) => rows.authorization(key).cloned().map(Row::Authorization),
            RowKey::Payment(key) => rows.payment(key).cloned().map(Row::Payment),
            RowKey::Batch(key) => rows.batch(key).cloned().map(Row::Batch),
            RowKey::Signer(key) => rows.signer(key).cloned().map(Row::Signer),
            RowKey::Exposure(key) => rows.exposure(key).cloned().map(Row::Exposure),
            RowKey::Identifier(key) => rows.identifier(key).cloned().map(Row::Identifier),
            RowKey::Outcome(key) => rows.outcome(key).cloned().map(Row::Outcome),
        }
    }

    fn execute<C: Command>(
        &mut self,
        command: &C,
        now: Timestamp,
    ) -> Result<C::Outcome, StoreError> {
        let names = command.rows();
        let Decided {
            writes,
            entries,
            outcome,
        } = decide(command, &names, &self.named(&names), now)?;
        for row in writes {
            match &row {
                Row::Payment(payment) => self.index_payment(payment),
                Row::Batch(batch) => self.index_batch(batch),
                Row::Owner(_)
                | Row::Spender(_)
                | Row::Authorization(_)
                | Row::Signer(_)
                | Row::Exposure(_)
                | Row::Identifier(_)
                | Row::Outcome(_) => {}
            }
            self.rows.put(row);
        }
        for entry in entries {
            let seq = self
                .entries
                .last()
                .map_or(1, |last| last.seq.saturating_add(1));
            self.entries.push(BookedEntry {
                seq,
                at: now,
                entry,
            });
        }
        Ok(outcome)
    }

    /// Declares runs dead whose lease has expired.
    fn bury(&mut self, now: Timestamp, shared: bool) {
        for life in self.runs.values_mut().filter(|_| shared) {
            life.dead |= life.until < now;
        }
    }

    fn prune(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut expired: Vec<(bool, Timestamp, RowKey)> = self
            .rows
            .iter()
            .filter_map(|row| match row {
                Row::Identifier(row) => Some((false, row.expires, RowKey::Identifier(row.key))),
                Row::Outcome(row) => Some((true, row.expires, RowKey::Outcome(row.payment))),
                _ => None,
            })
            .filter(|(_, expires, _)| *expires <= now)
            .collect();
        expired.sort_unstable();
        expired.truncate(limit);
        let gone: BTreeSet<RowKey> = expired.into_iter().map(|(.., key)| key).collect();
        let rows = core::mem::take(&mut self.rows);
        self.rows = rows
            .iter()
            .filter(|row| !gone.contains(&row.key()))
            .cloned()
            .collect();
        gone.len()
    }

    fn index_payment(&mut self, row: &PaymentRow) {
        let id = row.keys.id;
        let mut beside = self.payments.get(&id).copied().unwrap_or_else(|| {
            let seq = self
                .numbers
                .last_key_value()
                .map_or(1, |(seq, _)| seq.saturating_add(1));
            self.numbers.insert(seq, id);
            Beside {
                seq,
                ..Beside::default()
            }
        });
        beside.batch = batch_of(&row.state, beside.batch);
        self.serving.remove(&(row.epoch, beside.seq, id));
        match row.state {
            PaymentState::Serving { .. } => {
                self.serving.insert((row.epoch, beside.seq, id));
            }
            PaymentState::Due { .. } => {
                let commit = *beside.commit.get_or_insert_with(|| {
                    self.commits = self.commits.saturating_add(1);
                    self.commits
                });
                self.due.insert(commit, id);
            }
            PaymentState::Claimed { .. }
            | PaymentState::Final { .. }
            | PaymentState::Lost { .. }
            | PaymentState::Released { .. } => {
                if let Some(commit) = beside.commit {
                    self.due.remove(&commit);
                }
            }
        }
        self.payments.insert(id, beside);
    }

    fn index_batch(&mut self, row: &BatchRow) {
        if row.concluded() {
            self.undecided.retain(|id| *id != row.id);
        } else if !self.undecided.contains(&row.id) {
            self.undecided.push(row.id);
        }
    }

    fn due(&self) -> impl Iterator<Item = &PaymentRow> {
        self.due.values().filter_map(|id| self.rows.payment(id))
    }

    fn queues(&self) -> BTreeMap<(OwnerKey, Option<Address>), Queue> {
        let mut queues: BTreeMap<(OwnerKey, Option<Address>), Queue> = BTreeMap::new();
        for payment in self.due() {
            queues
                .entry((payment.keys.owner, payment.keys.spender))
                .and_modify(|queue| queue.add(payment))
                .or_insert_with(|| Queue::begin(payment));
        }
        queues
    }
}

impl Store for MemoryStore {
    fn ledger_id(&self) -> B256 {
        self.ledger_id
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        let now = self.clock.now();
        let run = self.run.load(Ordering::SeqCst);
        let outcome = self.ask(|books| {
            if books.runs.get(&run).is_some_and(|life| life.dead) {
                return Err(Outage::RunEnded.into());
            }
            books.execute(&command, now)
        })?;
        Ok(Executed {
            outcome,
            durable: Durable::now(),
        })
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        self.ask(|books| Ok(books.rows.payment(&id).cloned()))
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        self.ask(|books| Ok(books.rows.batch(&id).cloned()))
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        self.ask(|books| Ok(books.named(&names)))
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        self.ask(|books| {
            let queues = books.queues();
            let mut due: Vec<_> = books
                .due()
                .enumerate()
                .filter(|(_, payment)| filter.admits(payment))
                .map(|(commit, payment)| {
                    let queue = (payment.keys.owner, payment.keys.spender);
                    // An EIP-3009 payment has no spender, and no order to keep.
                    let urgent = match payment.keys.spender {
                        Some(_) => queues.get(&queue).map(|queue| queue.deadline),
                        None => Some(payment.deadline),
                    };
                    (urgent, queue, commit, payment)
                })
                .collect();
            due.sort_by_key(|(urgent, queue, commit, _)| (*urgent, *queue, *commit));
            Ok(due
                .into_iter()
                .take(limit)
                .map(|(.., payment)| payment.clone())
                .collect())
        })
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        self.ask(|books| {
            let mut queues: Vec<_> = books.queues().into_values().collect();
            queues.sort_by_key(|queue| (queue.deadline, queue.owner, queue.spender));
            Ok(queues)
        })
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        let now = self.clock.now();
        self.ask(|books| {
            books.bury(now, self.shared);
            let living =
                |number| number == epoch || books.runs.get(&number).is_some_and(|life| !life.dead);
            let dead = books.serving.iter().filter(|(run, ..)| !living(*run));
            Ok(dead
                .filter_map(|(.., id)| books.rows.payment(id).cloned())
                .collect())
        })
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        self.ask(|books| {
            let batches = books.undecided.iter();
            Ok(batches
                .filter_map(|id| books.rows.batch(id).cloned())
                .collect())
        })
    }

    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        let now = self.clock.now();
        let run = self.ask(|books| {
            if self.shared {
                books.bury(now, true);
            } else {
                books.runs.values_mut().for_each(|life| life.dead = true);
            }
            let living = || books.runs.values().filter(|life| !life.dead);
            if let Some(life) = living().find(|life| life.gateways != gateways) {
                return Err(Outage::Slots {
                    living: life.gateways,
                    asked: gateways,
                }
                .into());
            }
            let slot = (0..gateways)
                .find(|slot| living().all(|life| life.slot != *slot))
                .ok_or(Outage::NoSlot(gateways))?;
            books.epoch = books
                .epoch
                .checked_add(1)
                .ok_or_else(|| StoreError::Corrupt("the runs are used up".into()))?;
            let life = Life {
                slot,
                gateways,
                until: now.plus(RUN_LEASE),
                dead: false,
            };
            books.runs.insert(books.epoch, life);
            Ok(Run {
                epoch: books.epoch,
                slot,
            })
        })?;
        self.run.store(run.epoch, Ordering::SeqCst);
        Ok(run)
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        let until = self.clock.now().plus(RUN_LEASE);
        self.ask(|books| {
            let life = books.runs.get_mut(&epoch).filter(|life| !life.dead);
            Ok(life.map(|life| life.until = until).is_some())
        })
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        self.ask(|books| {
            if let Some(life) = books.runs.get_mut(&epoch) {
                life.dead = true;
            }
            Ok(())
        })
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.ask(|books| Ok(books.prune(now, limit)))
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        self.ask(|books| {
            let begin = books
                .entries
                .partition_point(|entry| entry.seq <= after_seq);
            Ok(books
                .entries
                .iter()
                .skip(begin)
                .take(limit)
                .cloned()
                .collect())
        })
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        self.ask(|books| {
            let newest = books.numbers.iter().rev();
            Ok(newest
                .filter_map(|(seq, id)| {
                    Some((*seq, books.payments.get(id)?, books.rows.payment(id)?))
                })
                .filter(|(seq, _, payment)| filter.admits(*seq, payment))
                .take(limit)
                .map(|(seq, beside, payment)| {
                    let batch = beside.batch.and_then(|id| books.rows.batch(&id));
                    PaymentLog::of(seq, payment, batch)
                })
                .collect())
        })
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask(|books| {
            Ok(books
                .rows
                .iter()
                .filter(|row| {
                    let key = row.key();
                    RowKind::of(&key) == kind && after.is_none_or(|after| key > after)
                })
                .take(limit)
                .cloned()
                .collect())
        })
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.ask(|books| {
            let mut totals = Totals::default();
            for row in books.rows.iter() {
                match row {
                    Row::Owner(row) => totals.owner(row)?,
                    Row::Spender(row) => totals.spender(row)?,
                    Row::Payment(row) => totals.payment(row)?,
                    Row::Exposure(row) => totals.exposure(row)?,
                    Row::Authorization(_)
                    | Row::Batch(_)
                    | Row::Signer(_)
                    | Row::Identifier(_)
                    | Row::Outcome(_) => {}
                }
            }
            for entry in &books.entries {
                totals.entry(&entry.entry)?;
            }
            Ok(totals)
        })
    }
}

/// It says what it is, and nothing of what it holds.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("ledger_id", &self.ledger_id)
            .finish_non_exhaustive()
    }
}
