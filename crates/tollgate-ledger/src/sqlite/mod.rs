//! Payments in one SQLite file.
//!
//! One thread writes to the disk, two read. It knows tables, and no rule of payments.

mod copy;
mod failure;
mod known;
mod open;
mod query;
mod reader;
mod rows;
mod scan;
mod writer;

#[cfg(all(test, feature = "kit"))]
mod tests;

use core::fmt;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::oneshot;
use tollgate_payment::{BatchId, BatchRow, Command, PaymentRow, Row, RowKey, RowSet, Rows};
use tollgate_x402::{B256, Clock, PaymentId};

pub use open::OpenError;

use self::{
    reader::Readers,
    writer::{Group, Jobs, Writer},
};
use crate::{
    error::{Outage, StoreError},
    log::{LogFilter, PaymentLog},
    query::{BookedEntry, Due, Queue},
    run::Run,
    scan::RowKind,
    store::{Durable, Executed, Store},
    totals::Totals,
};

/// No run is numbered so.
const NO_RUN: u64 = 0;

/// Threads that read.
const READERS: usize = 2;

/// Payments in one SQLite file, for one process.
///
/// Clones share it. When the last one is dropped, what was asked is still written, and the file is closed
/// and unlocked when the drop returns.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    file: PathBuf,
    ledger_id: B256,
    /// The run that lives: the lock says that there is no other.
    run: AtomicU64,
    /// Both ways end before the threads are joined.
    ways: Option<(Jobs, Readers)>,
    threads: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens a ledger, or creates it with `new_ledger_id`, 32 random bytes that name it from then on.
    ///
    /// `clock` is what commands are given as the present moment. It blocks for a few disk writes.
    ///
    /// # Errors
    /// Why it is not open, and what to do.
    pub fn open(
        path: impl AsRef<Path>,
        new_ledger_id: B256,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let opened = open::open(path.as_ref(), new_ledger_id)?;
        let file = opened.file;
        let because = |error: StoreError| match error {
            StoreError::Corrupt(what) => OpenError::Corrupt {
                file: file.clone(),
                what,
            },
            other => OpenError::Io {
                file: file.clone(),
                what: other.to_string(),
            },
        };
        let (writer, jobs) = Writer::new(opened.books, opened.lock, clock).map_err(because)?;
        let (readers, mut threads) = Readers::start(&file, READERS).map_err(because)?;
        let thread = std::thread::Builder::new()
            .name("ledger writer".into())
            .spawn(move || writer.run())
            .map_err(|error| because(Outage::Io(error.to_string()).into()))?;
        threads.push(thread);
        Ok(Self(Arc::new(Inner {
            file,
            ledger_id: opened.ledger_id,
            run: AtomicU64::new(NO_RUN),
            ways: Some((jobs, readers)),
            threads,
        })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.file
    }

    /// Checks the file's structure (`PRAGMA integrity_check`). It reads everything.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with what SQLite found.
    pub async fn check_integrity(&self) -> Result<(), StoreError> {
        self.look(query::integrity).await
    }

    /// Has something written: by the thread, or, what is short, by whoever is quicker.
    async fn write<T: Send + 'static>(
        &self,
        short: bool,
        write: impl FnOnce(&mut Group<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Durable), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = move |group: Result<&mut Group<'_>, StoreError>| {
            let result = group.and_then(|group| {
                let outcome = write(group)?;
                Ok((outcome, group.durable()))
            });
            // The asker may have gone: what it asked is done nevertheless.
            drop(reply.send(result));
        };
        match &self.0.ways {
            Some((jobs, _)) if short => jobs.send(job)?,
            Some((jobs, _)) => jobs.queue(job)?,
            None => return Err(Outage::Closed.into()),
        }
        answer.await.map_err(|_| Outage::Closed)?
    }

    async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.0.ways {
            Some((_, readers)) => readers.read(read).await,
            None => Err(Outage::Closed.into()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.ways.take());
        let this = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // A command may hold the last handle: then its own thread drops it, and ends by itself.
            if thread.thread().id() != this {
                let _ = thread.join();
            }
        }
    }
}

impl Store for SqliteStore {
    fn ledger_id(&self) -> B256 {
        self.0.ledger_id
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        let (outcome, durable) = self
            .write(true, move |group| group.execute(&command))
            .await?;
        Ok(Executed { outcome, durable })
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        let rows = self.read_one(RowKey::Payment(id)).await?;
        Ok(rows.payment(&id).cloned())
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        let rows = self.read_one(RowKey::Batch(id)).await?;
        Ok(rows.batch(&id).cloned())
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        self.look(move |books| rows::named(books, &names)).await
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        self.look(move |books| query::due(books, &filter, limit))
            .await
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        self.look(query::queues).await
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        let living = match self.0.run.load(Ordering::SeqCst) {
            NO_RUN => [epoch, epoch],
            run => [epoch, run],
        };
        self.look(move |books| query::abandoned(books, living))
            .await
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        self.look(query::undecided).await
    }

    /// The file's lock says that every run before is dead.
    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        if gateways == 0 {
            return Err(Outage::NoSlot(0).into());
        }
        let (epoch, durable) = self
            .write(false, |group| {
                group.atomically(|books, _| query::begin_epoch(books))
            })
            .await?;
        durable.await?;
        self.0.run.fetch_max(epoch, Ordering::SeqCst);
        Ok(Run { epoch, slot: 0 })
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        Ok(self.0.run.load(Ordering::SeqCst) == epoch)
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        let run = &self.0.run;
        // Another has begun, or this one has ended: nothing is left to do.
        let _ = run.compare_exchange(epoch, NO_RUN, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        let (pruned, durable) = self
            .write(false, move |group| {
                let now = group.now();
                group.atomically(|books, _| query::prune(books, now, limit))
            })
            .await?;
        durable.await?;
        Ok(pruned)
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        self.look(move |books| query::entries(books, after_seq, limit))
            .await
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        self.look(move |books| query::logs(books, &filter, limit))
            .await
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.look(move |books| scan::scan(books, kind, after.as_ref(), limit))
            .await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.look(query::totals).await
    }
}

impl SqliteStore {
    async fn read_one(&self, name: RowKey) -> Result<Rows, StoreError> {
        let names: RowSet = [name].into_iter().collect();
        Store::read(self, names).await
    }
}

/// It says where it is, and nothing of what it holds.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("file", &self.0.file)
            .field("ledger_id", &self.0.ledger_id)
            .finish_non_exhaustive()
    }
}
