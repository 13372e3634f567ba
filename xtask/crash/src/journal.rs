//! What a process did, as the world outside it saw it: a file that outlives the process.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::site::Site;

/// Something that happened. `attempt` is the life of the seller in which a request was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A process began.
    Life {
        /// Its number.
        life: u32,
        /// Payments of dead processes that it concluded.
        recovered: usize,
    },
    /// A caller asks.
    Asked { request: u32, attempt: u32 },
    /// The service behind the paywall was called.
    Called { request: u32, attempt: u32 },
    /// The service made so many tokens.
    Made {
        request: u32,
        attempt: u32,
        tokens: u32,
    },
    /// The caller has so many tokens.
    Read {
        request: u32,
        attempt: u32,
        tokens: u32,
    },
    /// The caller was told the charge, in atomic units.
    Told {
        request: u32,
        attempt: u32,
        amount: String,
    },
    /// The caller was refused.
    Refused {
        request: u32,
        attempt: u32,
        status: u16,
        body: String,
    },
    /// The worker could not go on.
    Waits { error: String },
    /// The process is paused here.
    Asleep { site: Site },
    /// The process dies here.
    Crash { site: Site },
}

/// The file. A line is one write, so that a process which dies leaves whole lines.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<File>>);

impl Journal {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Writes a line. A journal that cannot be written would make the books look wrong, which the parent sees.
    pub(crate) fn write(&self, event: &Event) {
        drop(self.line(event));
    }

    /// Writes a line after which this process writes no other, from whatever thread.
    pub(crate) fn write_last(&self, event: &Event) {
        std::mem::forget(self.line(event));
    }

    fn line(&self, event: &Event) -> MutexGuard<'_, File> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = file.write_all(&line);
        }
        file
    }

    /// Everything in it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        // What is not ended yet is being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("journal: {line}")))
            .collect()
    }
}
