//! A process that ends itself, exactly there and at once.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::{Signal, getpid, kill_process};
use tollgate_payment::BatchId;

use crate::{
    journal::{Event, Journal},
    site::Site,
};

/// What ends the process, or puts it to sleep.
pub(crate) struct Trigger {
    site: Option<Site>,
    left: AtomicU32,
    sleeps: bool,
    journal: Journal,
    replacing: Mutex<BTreeSet<BatchId>>,
}

impl Trigger {
    /// It goes off at the `nth` time that a site is passed: the process ends, or sleeps until it is woken.
    pub(crate) fn new(site: Option<(Site, u32)>, sleeps: bool, journal: Journal) -> Self {
        Self {
            sleeps,
            site: site.map(|(site, _)| site),
            left: AtomicU32::new(site.map_or(0, |(_, nth)| nth)),
            journal,
            replacing: Mutex::default(),
        }
    }

    /// Passes a site. It does not return if this was the one at which the process ends.
    pub(crate) fn pass(&self, site: Site) {
        if self.site != Some(site) {
            return;
        }
        let before = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if before == Ok(1) && self.sleeps {
            self.journal.write(&Event::Asleep { site });
            // All threads stand still until SIGCONT.
            let _ = kill_process(getpid(), Signal::STOP);
        } else if before == Ok(1) {
            self.journal.write_last(&Event::Crash { site });
            // Nothing runs after it in this thread, and no other thread is asked.
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    /// Notes that the next seal of a batch is a replacement.
    pub(crate) fn replaces(&self, batch: BatchId) {
        self.set().insert(batch);
    }

    pub(crate) fn is_replaced(&self, batch: BatchId) -> bool {
        self.set().contains(&batch)
    }

    fn set(&self) -> std::sync::MutexGuard<'_, BTreeSet<BatchId>> {
        self.replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
