//! Threads that read, on connections of their own: they see what is durable, and hold nobody up.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::failure::failed;
use crate::error::{Outage, StoreError};

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The way to the readers.
#[derive(Debug)]
pub(super) struct Readers(mpsc::Sender<Job>);

impl Readers {
    /// Starts so many readers of a file.
    pub(super) fn start(
        file: &Path,
        number: usize,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Vec::new();
        for _ in 0..number {
            let mut books = connect(file)?;
            let jobs = Arc::clone(&jobs);
            let read = move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { break };
                    job(&mut books);
                }
            };
            let thread = std::thread::Builder::new()
                .name("ledger reader".into())
                .spawn(read)
                .map_err(|error| Outage::Io(error.to_string()))?;
            threads.push(thread);
        }
        Ok((Self(sender), threads))
    }

    /// Reads in one transaction: everything as it was at one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |books| {
            let result = books
                .transaction()
                .map_err(failed)
                .and_then(|moment| read(&moment));
            // The asker may have gone.
            drop(reply.send(result));
        });
        self.0.send(job).map_err(|_| Outage::Closed)?;
        answer.await.map_err(|_| Outage::Closed)?
    }
}

fn connect(file: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let books = Connection::open_with_flags(file, flags).map_err(failed)?;
    books.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    books
        .pragma_update(None, "cache_size", -512)
        .map_err(failed)?;
    books.set_prepared_statement_cache_capacity(32);
    Ok(books)
}
