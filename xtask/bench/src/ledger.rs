//! Durable reservations, beside what the disk can do.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tollgate_ledger::{
    SqliteStore, Store,
    kit::{Kind, ManualClock, payer, reserve},
};
use tollgate_x402::{B256, Clock, Timestamp};

use crate::{
    Options,
    machine::Disk,
    report::Row,
    stats::{histogram, micros, quantile},
};

const BENCH: &str = "ledger";
const FOR: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let mut rows = Vec::new();
    for callers in [1, 64] {
        // The disk of a shared machine differs from minute to minute: it is looked at each time.
        let before = Disk::measure(directory.path())?;
        let (rate, times) = reservations(directory.path(), callers).await?;
        let after = Disk::measure(directory.path())?;
        let disk = (before.per_second + after.per_second) / 2.0;
        let what = format!("durable reservations, {callers} callers");
        rows.push(Row::new(BENCH, what, rate, "a second").beside("fsync", disk));
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            let fsync = if part < 0.9 {
                before.p50_us
            } else {
                before.p99_us
            };
            rows.push(
                Row::new(
                    BENCH,
                    format!("  each {name}"),
                    quantile(&times, part),
                    "µs",
                )
                .beside("fsync", fsync),
            );
        }
    }
    Ok(rows)
}

async fn reservations(directory: &Path, callers: u64) -> anyhow::Result<(f64, Histogram<u64>)> {
    let clock = ManualClock::new();
    let file = directory.join(format!("{callers}.db"));
    let store = SqliteStore::open(&file, B256::ZERO, clock.clone())?;
    let (begin, now) = (Instant::now(), clock.now());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        tasks.spawn(call(store.clone(), caller, begin, now));
    }
    let mut times = histogram()?;
    for some in tasks.join_all().await {
        times.add(some?).context("times of one kind")?;
    }
    Ok((times.len() as f64 / begin.elapsed().as_secs_f64(), times))
}

/// One caller, one reservation after the other, each on a once authorization of its own.
async fn call(
    store: SqliteStore,
    caller: u64,
    begin: Instant,
    now: Timestamp,
) -> anyhow::Result<Histogram<u64>> {
    let mut times = histogram()?;
    let mut id = caller << 32;
    while begin.elapsed() < FOR {
        id += 1;
        let who = (payer(u8::try_from(caller % 16)?), Kind::Once, id);
        let mut command = reserve(id, who, 1, 1, 1_000_000_000, now);
        command.credit.in_flight = u32::MAX;
        let write = Instant::now();
        store.transact(command).await?;
        times.saturating_record(micros(write.elapsed()));
    }
    Ok(times)
}
