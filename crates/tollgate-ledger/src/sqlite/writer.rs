//! The one thread that writes, and its groups.
//!
//! A write to the disk costs milliseconds, whether it carries one step or five hundred. So steps that wait
//! are executed together, in one transaction: each caller learns its outcome at once, and that it is
//! durable when the group is.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use rusqlite::Connection;
use tokio::sync::watch;
use tollgate_payment::Command;
use tollgate_x402::{Clock, Timestamp};

use super::{failure::failed, rows};
use crate::{
    decide::decide,
    error::{Outage, StoreError},
    store::Durable,
};

/// Steps of one group at most: it bounds how long the first waits for the last.
const GROUP: usize = 512;
/// Steps that may wait. Beyond it the disk does not keep up, and to wait longer helps nobody.
const QUEUE: usize = 16_384;

/// What the writer is asked: it gets the open group, or why there is none.
type Job = Box<dyn FnOnce(Result<&mut Group<'_>, StoreError>) + Send>;

/// The way to the writer.
#[derive(Debug)]
pub(super) struct Jobs {
    sender: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
}

impl Jobs {
    /// Asks the writer, and returns at once.
    pub(super) fn send(
        &self,
        job: impl FnOnce(Result<&mut Group<'_>, StoreError>) + Send + 'static,
    ) -> Result<(), Outage> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Outage::Busy);
        }
        self.sender.send(Box::new(job)).map_err(|_| Outage::Closed)
    }
}

/// The thread's state.
pub(super) struct Writer {
    books: Connection,
    clock: Arc<dyn Clock>,
    /// The number of the last commit of a payment.
    commits: i64,
    jobs: mpsc::Receiver<Job>,
    waiting: Arc<AtomicUsize>,
    /// Unlocked after the connection is closed: fields are dropped in their order.
    _lock: File,
}

impl Writer {
    /// A writer that owns this connection, and the way to it.
    pub(super) fn new(
        books: Connection,
        lock: File,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Jobs), StoreError> {
        books.set_prepared_statement_cache_capacity(64);
        let commits = books
            .query_row(
                "SELECT coalesce(max(committed), 0) FROM payments",
                [],
                |row| row.get(0),
            )
            .map_err(failed)?;
        let (sender, jobs) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Self {
            books,
            clock,
            commits,
            jobs,
            waiting: Arc::clone(&waiting),
            _lock: lock,
        };
        Ok((writer, Jobs { sender, waiting }))
    }

    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.jobs.recv().ok()) {
            next = self.group(first);
        }
    }

    /// Executes what waits, and returns a job that came too late for the group.
    fn group(&mut self, first: Job) -> Option<Job> {
        let (decided, durable) = watch::channel(None);
        // No receiver is left where nobody waits for the group.
        let decide = |result| drop(decided.send(Some(result)));

        if let Err(error) = self.books.execute_batch("BEGIN IMMEDIATE") {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            first(Err(failed(error)));
            return None;
        }
        let mut group = Group {
            books: &self.books,
            clock: &*self.clock,
            commits: &mut self.commits,
            durable,
            lost: None,
        };
        let mut next = Some(first);
        for _ in 0..GROUP {
            let Some(job) = next.take() else { break };
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            job(Ok(&mut group));
            if group.lost.is_some() {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        let lost = group.lost.take();

        let result = match lost {
            Some(error) => Err(error),
            None => self.books.execute_batch("COMMIT").map_err(failed),
        };
        if result.is_err() && !self.books.is_autocommit() {
            // It can fail only where the transaction has ended already.
            let _ = self.books.execute_batch("ROLLBACK");
        }
        decide(result);
        next
    }
}

/// The open group.
pub(super) struct Group<'a> {
    books: &'a Connection,
    clock: &'a dyn Clock,
    commits: &'a mut i64,
    durable: watch::Receiver<Option<Result<(), StoreError>>>,
    lost: Option<StoreError>,
}

impl Group<'_> {
    /// Executes a command: all of it, or nothing of it.
    pub(super) fn execute<C: Command>(&mut self, command: &C) -> Result<C::Outcome, StoreError> {
        let now = self.clock.now();
        let books = self.books;
        // A panic in a command must not end the thread that everybody else waits for.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let names = command.rows();
            let rows = rows::named(books, &names)?;
            decide(command, &names, &rows, now)
        }))
        .map_err(|_| StoreError::Corrupt("a step panicked".into()))??;
        if decided.writes.is_empty() && decided.entries.is_empty() {
            return Ok(decided.outcome);
        }
        self.atomically(|books, commits| {
            for row in &decided.writes {
                rows::put(books, row, commits)?;
            }
            for entry in &decided.entries {
                rows::book(books, entry, now)?;
            }
            Ok(())
        })?;
        Ok(decided.outcome)
    }

    /// The present moment, as commands are given it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes all or nothing, without touching what the group wrote before.
    pub(super) fn atomically<T>(
        &mut self,
        write: impl FnOnce(&Connection, &mut i64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        run(self.books, "SAVEPOINT step").map_err(failed)?;
        let result = write(self.books, self.commits);
        let ended = match &result {
            Ok(_) => run(self.books, "RELEASE step"),
            Err(_) => self.books.execute_batch("ROLLBACK TO step; RELEASE step"),
        };
        match (result, ended) {
            (result, Ok(())) => result,
            // A full disk may have ended the whole transaction, and with it the group.
            (Ok(_), Err(error)) => Err(self.lose(failed(error))),
            (Err(error), Err(_)) => Err(self.lose(error)),
        }
    }

    fn lose(&mut self, error: StoreError) -> StoreError {
        self.lost = Some(error.clone());
        error
    }

    /// Resolves when the group is durable.
    pub(super) fn durable(&self) -> Durable {
        let mut group = self.durable.clone();
        Durable::later(async move {
            match group.wait_for(Option::is_some).await {
                Ok(result) => result.clone().unwrap_or(Err(Outage::Closed.into())),
                Err(_) => Err(Outage::Closed.into()),
            }
        })
    }
}

/// A statement that is run for every step, parsed once.
fn run(books: &Connection, sql: &str) -> rusqlite::Result<()> {
    books.prepare_cached(sql)?.execute([]).map(drop)
}
