//! Payments in one PostgreSQL database, for many gateways.
//!
//! One connection writes groups of steps, a second one steps that must wait for a row, a third one signs of life, and
//! some read. It knows tables, and no rule of payments.

mod config;
mod failure;
mod group;
mod lane;
mod open;
mod query;
mod rows;
mod runs;
mod session;
mod table;
mod tls;

use core::fmt;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tollgate_payment::{BatchId, BatchRow, Command, PaymentRow, Row, RowKey, RowSet, Rows};
use tollgate_x402::{B256, PaymentId};

pub use self::{
    config::PostgresConfig,
    open::{PostgresError, ServerReport},
};
use self::{
    failure::Trouble,
    lane::{Asked, Job, Lane, NO_RUN},
    session::{Session, Use},
};
use crate::{
    error::{Outage, StoreError},
    log::{LogFilter, PaymentLog},
    query::{BookedEntry, Due, Queue},
    run::Run,
    scan::RowKind,
    store::{Executed, Store},
    totals::Totals,
};

/// Steps that may wait. Beyond it the database does not keep up, and to wait longer helps nobody.
const QUEUE: usize = 16_384;
/// Connections that read.
const READERS: usize = 3;

/// Payments in one PostgreSQL database, for many gateways.
///
/// Clones share its connections. It works on the runtime on which it was opened.
///
/// * `execute` returns when the step is decided and its writes are taken; its [`Durable`](crate::Durable) resolves when
///   PostgreSQL has committed. If the connection is lost meanwhile, a new one looks whether the group is there before
///   anybody is told: an error of `Durable` means that the step is undone, except
///   [`Outage::Unknown`](crate::Outage::Unknown), which is told where the database could not be asked for two minutes.
/// * Steps see what other gateways have committed, and the open group of their own gateway.
/// * The present moment of commands and of leases is the server's, read after the rows were locked.
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    config: PostgresConfig,
    ledger_id: B256,
    report: ServerReport,
    run: Arc<AtomicU64>,
    jobs: mpsc::Sender<Box<dyn Job>>,
    readers: [Mutex<Option<Session>>; READERS],
    next: AtomicUsize,
    /// Runs begin, live and end here.
    desk: Mutex<Option<Session>>,
}

impl PostgresStore {
    /// Opens a ledger, or creates it with `new_ledger_id`, 32 random bytes that name it from then on. Tables of an older
    /// version are brought to this one's, beside gateways of the older version that go on.
    ///
    /// # Errors
    /// Why it is not open, and what to do.
    pub async fn open(config: PostgresConfig, new_ledger_id: B256) -> Result<Self, PostgresError> {
        let opened = open::open(&config, new_ledger_id).await?;
        let run = Arc::new(AtomicU64::new(NO_RUN));
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (patient, held) = mpsc::channel(QUEUE);
        let lane = Lane::new(config.clone(), Arc::clone(&run), waiting, Some(patient));
        tokio::spawn(lane.run());
        tokio::spawn(Lane::new(config.clone(), Arc::clone(&run), held, None).run());
        Ok(Self(Arc::new(Inner {
            config,
            ledger_id: opened.ledger_id,
            report: opened.report,
            run,
            jobs,
            readers: Default::default(),
            next: AtomicUsize::new(0),
            desk: Mutex::new(Some(opened.session)),
        })))
    }

    /// What the server said of itself when the ledger was opened.
    pub fn report(&self) -> &ServerReport {
        &self.0.report
    }

    async fn reader(&self) -> Result<Busy<'_>, StoreError> {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        let at = next.checked_rem(READERS).unwrap_or_default();
        let reader = self.0.readers.get(at).ok_or(Outage::Closed)?;
        Busy::new(reader, &self.0.config, Use::Read).await
    }

    async fn desk(&self) -> Result<Busy<'_>, StoreError> {
        Busy::new(&self.0.desk, &self.0.config, Use::Write(5_000)).await
    }
}

/// A connection that somebody uses.
struct Busy<'a>(MutexGuard<'a, Option<Session>>);

impl<'a> Busy<'a> {
    async fn new(
        session: &'a Mutex<Option<Session>>,
        config: &PostgresConfig,
        uses: Use,
    ) -> Result<Self, StoreError> {
        let mut session = session.lock().await;
        let usable = match session.as_mut() {
            Some(session) => !session.is_closed() && session.tidy().await.is_ok(),
            None => false,
        };
        if !usable {
            *session = None;
            let new = Session::connect(config, uses)
                .await
                .map_err(Trouble::told)?;
            *session = Some(new);
        }
        Ok(Self(session))
    }

    fn get(&mut self) -> Result<&mut Session, StoreError> {
        self.0.as_mut().ok_or_else(|| Outage::Closed.into())
    }
}

/// Reads on a connection of its own.
macro_rules! look {
    ($store:expr, $($query:ident)::+ ($($value:expr),*)) => {{
        let mut reader = $store.reader().await?;
        $($query)::+(reader.get()?, $($value),*).await.map_err(Trouble::told)
    }};
}

/// Writes what is not a command.
macro_rules! desk {
    ($store:expr, $query:ident ($($value:expr),*)) => {{
        let mut desk = $store.desk().await?;
        let now = $store.0.config.now();
        runs::$query(desk.get()?, now, $($value),*).await.map_err(Trouble::told)
    }};
}

impl Store for PostgresStore {
    fn ledger_id(&self) -> B256 {
        self.0.ledger_id
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Asked::new(command, reply));
        self.0.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Outage::Busy,
            mpsc::error::TrySendError::Closed(_) => Outage::Closed,
        })?;
        let (outcome, durable) = answer.await.map_err(|_| Outage::Closed)??;
        Ok(Executed { outcome, durable })
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        let names: RowSet = [RowKey::Payment(id)].into_iter().collect();
        let rows = Store::read(self, names).await?;
        Ok(rows.payment(&id).cloned())
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        let names: RowSet = [RowKey::Batch(id)].into_iter().collect();
        let rows = Store::read(self, names).await?;
        Ok(rows.batch(&id).cloned())
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        look!(self, query::named(&names))
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        look!(self, query::due(&filter, limit))
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        look!(self, query::queues())
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        desk!(self, abandoned(epoch))
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        look!(self, query::undecided())
    }

    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        let run = desk!(self, begin(gateways))?;
        self.0.run.store(run.epoch, Ordering::SeqCst);
        Ok(run)
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        desk!(self, renew(epoch))
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        desk!(self, end(epoch))
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        // The tables of which it forgets came with version 2.
        if self.0.config.known < 2 {
            return Ok(0);
        }
        desk!(self, prune(limit))
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        look!(self, query::entries(after_seq, limit))
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        look!(self, query::logs(&filter, limit))
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        look!(self, query::scan(kind, after.as_ref(), limit))
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        look!(self, query::totals())
    }
}

/// It says where it is, and nothing of what it holds or how it gets in.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("place", &self.0.config.place())
            .field("ledger_id", &self.0.ledger_id)
            .finish_non_exhaustive()
    }
}
