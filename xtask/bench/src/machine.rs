//! What the numbers were measured on: without it they say nothing.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use crate::stats::{histogram, micros, quantile};

/// How long the disk is looked at, each time.
const DISK: Duration = Duration::from_secs(2);

/// The machine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory: String,
    kernel: String,
    /// Averages of 1, 5 and 15 minutes when the run began: what else was at work.
    load: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            text.lines()
                .find(|line| line.starts_with(key))
                .and_then(|line| line.split_once(':'))
                .map_or_else(
                    || "unknown".to_owned(),
                    |(_, value)| value.trim().to_owned(),
                )
        };
        let load: Vec<_> = read("/proc/loadavg")
            .split_whitespace()
            .take(3)
            .map(str::to_owned)
            .collect();
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: value(&read("/proc/meminfo"), "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.join(" "),
        }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {}, Linux {}; load when it began: {}",
            self.cpu, self.cores, self.memory, self.kernel, self.load
        )
    }
}

/// What one durable write costs here.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Disk {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) per_second: f64,
}

impl Disk {
    /// Appends 512 bytes and syncs, one after the other.
    pub(crate) fn measure(directory: &Path) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("fsync"))
            .context("the directory for ledgers cannot be written")?;
        let mut times = histogram()?;
        let begin = Instant::now();
        while begin.elapsed() < DISK {
            let write = Instant::now();
            file.write_all(&[7; 512])?;
            file.sync_data()?;
            times.saturating_record(micros(write.elapsed()));
        }
        Ok(Self {
            p50_us: quantile(&times, 0.5),
            p99_us: quantile(&times, 0.99),
            per_second: times.len() as f64 / begin.elapsed().as_secs_f64(),
        })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "append 512 bytes and fdatasync: p50 {:.0} µs, p99 {:.0} µs, {:.0} a second",
            self.p50_us, self.p99_us, self.per_second
        )
    }
}
