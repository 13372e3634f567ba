//! The one desk at which is written, and its groups.
//!
//! A write to the disk costs milliseconds, whether it carries one step or five hundred. So steps that wait
//! are executed together, in one transaction: each caller learns its outcome at once, and that it is
//! durable when the group is.
//!
//! One thread executes what waits, and writes groups to the disk. Where nobody writes and nobody waits, the caller executes
//! its step itself, and leaves the group to the thread: to wake a thread and to be woken by it takes longer than a step.

use core::time::Duration;
use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use rusqlite::Connection;
use tokio::sync::watch;
use tollgate_payment::Command;
use tollgate_x402::{Clock, Timestamp};

use super::{failure::failed, known::Known, open::BUSY, rows};
use crate::{
    decide::decide,
    error::{Outage, StoreError},
    store::Durable,
};

/// Steps of one group at most: it bounds how long the first waits for the last.
const GROUP: usize = 512;
/// Steps that may wait. Beyond it the disk does not keep up, and to wait longer helps nobody.
const QUEUE: usize = 16_384;

/// What is asked: it gets the open group, or why there is none.
type Job = Box<dyn FnOnce(Result<&mut Group<'_>, StoreError>) + Send>;

/// What the thread is told.
enum Call {
    /// A step waits.
    Do(Job),
    /// A caller has executed a step: the group is to be written.
    Close,
}

/// The way to the desk.
pub(super) struct Jobs {
    calls: mpsc::Sender<Call>,
    waiting: Arc<AtomicUsize>,
    desk: Arc<Mutex<Desk>>,
}

impl Jobs {
    /// Has a step executed, here or by the thread; in the second case it returns at once.
    pub(super) fn send(
        &self,
        job: impl FnOnce(Result<&mut Group<'_>, StoreError>) + Send + 'static,
    ) -> Result<(), Outage> {
        // An open group waits for the thread to be written: who joins it here would keep the thread from it.
        if self.waiting.load(Ordering::Relaxed) == 0
            && let Ok(mut desk) = self.desk.try_lock()
            && desk.open.is_none()
            && desk.begin_now()
        {
            desk.run(job);
            drop(desk);
            return self.calls.send(Call::Close).map_err(|_| Outage::Closed);
        }
        self.queue(job)
    }

    /// Asks the thread, and returns at once: for what takes longer than a caller's thread may be held.
    pub(super) fn queue(
        &self,
        job: impl FnOnce(Result<&mut Group<'_>, StoreError>) + Send + 'static,
    ) -> Result<(), Outage> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Outage::Busy);
        }
        let call = Call::Do(Box::new(job));
        self.calls.send(call).map_err(|_| Outage::Closed)
    }
}

/// The thread.
pub(super) struct Writer {
    calls: mpsc::Receiver<Call>,
    waiting: Arc<AtomicUsize>,
    desk: Arc<Mutex<Desk>>,
}

impl Writer {
    /// A thread's work at a desk with this connection, and the way to it.
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
        let (sender, calls) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let desk = Arc::new(Mutex::new(Desk {
            books,
            clock,
            commits,
            known: Known::default(),
            open: None,
            _lock: lock,
        }));
        let jobs = Jobs {
            calls: sender,
            waiting: Arc::clone(&waiting),
            desk: Arc::clone(&desk),
        };
        let writer = Self {
            calls,
            waiting,
            desk,
        };
        Ok((writer, jobs))
    }

    /// Writes until nobody can ask any more.
    pub(super) fn run(self) {
        let mut next = None;
        while let Some(first) = next.take().or_else(|| self.calls.recv().ok()) {
            next = self.group(first);
        }
    }

    /// Executes what waits and writes the group, and returns a call that came too late for it.
    fn group(&self, first: Call) -> Option<Call> {
        // Whoever panicked there left a group that is lost.
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Some(first);
        for _ in 0..GROUP {
            match next.take() {
                None => break,
                Some(Call::Close) => {}
                Some(Call::Do(job)) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    desk.run(job);
                    if desk.is_lost() {
                        break;
                    }
                }
            }
            next = self.calls.try_recv().ok();
        }
        desk.close();
        next
    }
}

/// What a panic left open is undone, and whoever waits for it is told.
impl Drop for Writer {
    fn drop(&mut self) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.close();
    }
}

/// Where is written, by one at a time.
struct Desk {
    books: Connection,
    clock: Arc<dyn Clock>,
    /// The number of the last commit of a payment.
    commits: i64,
    known: Known,
    open: Option<Open>,
    /// Unlocked after the connection is closed: fields are dropped in their order.
    _lock: File,
}

/// A group that is not written yet.
struct Open {
    decided: watch::Sender<Option<Result<(), StoreError>>>,
    durable: watch::Receiver<Option<Result<(), StoreError>>>,
    lost: Option<StoreError>,
}

impl Desk {
    /// Executes a step, in the open group or in a new one.
    fn run(&mut self, job: impl FnOnce(Result<&mut Group<'_>, StoreError>)) {
        if self.is_lost() {
            self.close();
        }
        if self.open.is_none()
            && let Err(error) = self.begin()
        {
            return job(Err(failed(error)));
        }
        let Some(open) = &mut self.open else {
            return job(Err(Outage::Closed.into()));
        };
        // Unless it comes to its end.
        open.lost = Some(StoreError::Corrupt("a step panicked".into()));
        let mut group = Group {
            books: &self.books,
            clock: &*self.clock,
            commits: &mut self.commits,
            known: &mut self.known,
            durable: &open.durable,
            lost: None,
        };
        job(Ok(&mut group));
        // SQLite gives a whole transaction up where the disk is full, also when it only reads: what was written is gone.
        let gone = || Outage::Io("the transaction was given up".into()).into();
        open.lost = group.lost.or_else(|| self.books.is_autocommit().then(gone));
    }

    /// Opens a group, when whoever else has the file is done.
    fn begin(&mut self) -> rusqlite::Result<()> {
        self.books.execute_batch("BEGIN IMMEDIATE")?;
        let (decided, durable) = watch::channel(None);
        self.open = Some(Open {
            decided,
            durable,
            lost: None,
        });
        Ok(())
    }

    /// Opens a group, if nobody else has the file in this moment. Whether it did.
    fn begin_now(&mut self) -> bool {
        let waits = |desk: &Self, time| desk.books.busy_timeout(time).is_ok();
        let began = waits(self, Duration::ZERO) && self.begin().is_ok();
        // It fails only for a number that SQLite cannot take.
        waits(self, BUSY);
        began
    }

    /// Whether the open group cannot be written any more.
    fn is_lost(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.lost.is_some())
    }

    /// Writes the open group, and tells its callers.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let result = match open.lost {
            Some(error) => Err(error),
            None => self.books.execute_batch("COMMIT").map_err(failed),
        };
        if result.is_err() {
            self.known.forget();
            if !self.books.is_autocommit() {
                // It can fail only where the transaction has ended already.
                let _ = self.books.execute_batch("ROLLBACK");
            }
        }
        // No receiver is left where nobody waits for the group.
        drop(open.decided.send(Some(result)));
    }
}

/// The open group.
pub(super) struct Group<'a> {
    books: &'a Connection,
    clock: &'a dyn Clock,
    commits: &'a mut i64,
    known: &'a mut Known,
    durable: &'a watch::Receiver<Option<Result<(), StoreError>>>,
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
            let rows = self.known.named(books, &names)?;
            decide(command, &names, &rows, now)
        }))
        .map_err(|_| StoreError::Corrupt("a step panicked".into()))??;
        if decided.writes.is_empty() && decided.entries.is_empty() {
            return Ok(decided.outcome);
        }
        self.step(|books, commits| {
            for row in &decided.writes {
                rows::put(books, row, commits)?;
            }
            for entry in &decided.entries {
                rows::book(books, entry, now)?;
            }
            Ok(())
        })?;
        for row in decided.writes {
            self.known.learn(row);
        }
        Ok(decided.outcome)
    }

    /// The connection.
    #[cfg(test)]
    pub(super) fn books(&self) -> &Connection {
        self.books
    }

    /// The present moment, as commands are given it.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes all or nothing, without touching what the group wrote before. Any row may be another after it.
    pub(super) fn atomically<T>(
        &mut self,
        write: impl FnOnce(&Connection, &mut i64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.known.forget();
        self.step(write)
    }

    /// The same, of rows that are then [learned](Known::learn).
    pub(super) fn step<T>(
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
