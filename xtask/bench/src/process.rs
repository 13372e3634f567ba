//! Programs beside this one, and what they cost.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long a program may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// A program that is ended when this is dropped.
pub(crate) struct Program {
    child: Child,
    pid: u32,
    /// Kept open: a program that writes to nobody is ended by it.
    _output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it and waits for its first line of output, which says that it is ready.
    pub(crate) async fn start(mut command: Command, log: &Path) -> anyhow::Result<(Self, String)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{:?} cannot be started", command.as_std().get_program()))?;
        let pid = child.id().context("a program without an id")?;
        let mut output = BufReader::new(child.stdout.take().context("a program without output")?);
        let mut line = String::new();
        timeout(READY, output.read_line(&mut line))
            .await
            .context("a program is not ready in time")??;
        if line.is_empty() {
            bail!(
                "a program ended at its start: {}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
        let program = Self {
            child,
            pid,
            _output: output,
        };
        Ok((program, line))
    }

    /// The CPU time that it has used, in seconds; to 10 ms.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in parentheses may hold blanks; user and system time are the 12th and 13th words behind it.
        let (_, rest) = stat.rsplit_once(')').context("an odd /proc/…/stat")?;
        let ticks: u64 = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|word| word.parse::<u64>().unwrap_or_default())
            .sum();
        // Linux counts it for programs in hundredths of a second, whatever the kernel's own clock.
        Ok(ticks as f64 / 100.0)
    }

    /// The memory that it holds now, and the most that it ever held, in MB.
    pub(crate) fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let value = |key: &str| -> anyhow::Result<f64> {
            let line = status.lines().find(|line| line.starts_with(key));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(kib.context("an odd /proc/…/status")?.parse::<f64>()? * 1024.0 / 1e6)
        };
        Ok((value("VmRSS:")?, value("VmHWM:")?))
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}
