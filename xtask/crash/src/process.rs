//! A seller's process, from the parent's side.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    anvil::Anvil,
    journal::{Event, Journal},
    seller::{LIFE, Life},
    site::Site,
};

/// How long a life may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked for a line.
const LOOK: Duration = Duration::from_millis(15);

/// When blocks come, beside those of transactions, while a process lives.
#[derive(Clone, Copy)]
pub(crate) enum Mining<'a> {
    /// Never.
    Never,
    /// Each time that so much has passed.
    Every(&'a Anvil, Duration),
    /// One for each look of the worker, which waits for it: it sees each block, however slow the machine is. The process
    /// is told so ([`Life::steps`]).
    Looks(&'a Anvil),
}

/// What a process said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    Line(String),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Ended,
}

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Killed where it was to be.
    Crashed(Site),
    /// Everything was asked for and settled.
    Done,
}

/// A running seller. It is killed when this is dropped.
pub(crate) struct Seller {
    child: Child,
    lines: Receiver<String>,
    /// A seller whose parent closes this ends itself.
    stdin: Option<ChildStdin>,
    journal: std::path::PathBuf,
    began: Instant,
    mined: Instant,
}

impl Seller {
    /// Starts one, by a command line that runs this program.
    pub(crate) fn start(mut command: Command, life: &Life, log: &Path) -> anyhow::Result<Self> {
        let log: File = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command
            .env(LIFE, serde_json::to_string(life)?)
            .env("RUST_LOG", "info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("a seller cannot be started")?;
        let stdout = child.stdout.take().context("no pipe")?;
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            stdin,
            journal: life.journal.clone(),
            began: Instant::now(),
            mined: Instant::now(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Looks for a line, for a moment; meanwhile blocks pass, if there is a chain to mine.
    pub(crate) fn look(&mut self, mining: Mining<'_>) -> anyhow::Result<Look> {
        if self.began.elapsed() > PATIENCE {
            let _ = self.child.kill();
            bail!("a seller took longer than {} s", PATIENCE.as_secs());
        }
        if let Mining::Every(anvil, block) = mining
            && self.mined.elapsed() >= block
        {
            anvil.mine(1)?;
            self.mined = Instant::now();
        }
        Ok(match self.lines.recv_timeout(LOOK) {
            Ok(line) => {
                if let (Mining::Looks(anvil), "tick") = (mining, line.as_str()) {
                    anvil.mine(1)?;
                    // It may have ended.
                    let _ = self.stdin.as_ref().map(|mut stdin| stdin.write_all(b"\n"));
                }
                Look::Line(line)
            }
            Err(RecvTimeoutError::Timeout) => Look::Nothing,
            Err(RecvTimeoutError::Disconnected) => Look::Ended,
        })
    }

    /// The next line, or nothing when it has ended.
    pub(crate) fn line(&mut self, mining: Mining<'_>) -> anyhow::Result<Option<String>> {
        loop {
            match self.look(mining)? {
                Look::Line(line) => return Ok(Some(line)),
                Look::Nothing => {}
                Look::Ended => return Ok(None),
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self, mining: Mining<'_>) -> anyhow::Result<End> {
        while self.line(mining)?.is_some() {}
        let status = self.child.wait()?;
        if status.success() {
            return Ok(End::Done);
        }
        ensure!(
            status.signal() == Some(9),
            "a seller ended by itself: {status}"
        );
        match Journal::read(&self.journal)?.last() {
            Some(Event::Crash { site }) => Ok(End::Crashed(*site)),
            _ => bail!("a seller was killed by somebody else"),
        }
    }
}

impl Drop for Seller {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
