//! Durable reservations, beside what the disk and the database can do.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tollgate_ledger::{
    PostgresConfig, PostgresStore, SqliteStore, Store,
    kit::{Kind, ManualClock, payer, reserve},
};
use tollgate_x402::{B256, Clock, Timestamp};

use crate::{
    Options,
    machine::Disk,
    report::{Row, Wanted},
    stats::{histogram, micros, quantile},
};

const BENCH: &str = "ledger";
const FOR: Duration = Duration::from_secs(5);
const CALLERS: [u64; 2] = [1, 64];

pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let mut rows = Vec::new();
    for callers in CALLERS {
        // The disk of a shared machine differs from minute to minute: it is looked at each time.
        let before = Disk::measure(directory.path())?;
        let store = sqlite(directory.path(), callers)?;
        let (rate, times) = reservations(store, callers).await?;
        let after = Disk::measure(directory.path())?;
        let disk = (before.per_second + after.per_second) / 2.0;
        let what = format!("SQLite: durable reservations, {callers} callers");
        let row = Row::new(BENCH, what, rate, "a second").beside("fsync", disk);
        rows.push(match callers {
            64 => row.wanted(Wanted::AtLeast(5_000.0)),
            _ => row,
        });
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
    // `cargo xtask bench` starts one.
    if let Ok(url) = std::env::var("TOLLGATE_POSTGRES_URL") {
        for callers in CALLERS {
            rows.extend(postgres(&url, callers).await?);
        }
    }
    Ok(rows)
}

/// PostgreSQL's own speed is that of as many clients that each add one row and commit it, again and again.
async fn postgres(url: &str, callers: u64) -> anyhow::Result<Vec<Row>> {
    let (raw, raw_times) = inserts(url, callers).await?;
    let config = PostgresConfig::new(url)?.schema(&format!("bench_{callers}"))?;
    let store = PostgresStore::open(config, B256::ZERO).await?;
    store.begin_run(1).await?;
    let (rate, times) = reservations(store, callers).await?;
    let what = format!("PostgreSQL: durable reservations, {callers} callers");
    let row = Row::new(BENCH, what, rate, "a second").beside("one-row commits", raw);
    let mut rows = vec![match callers {
        64 => row.wanted(Wanted::AtLeast(1_500.0)),
        _ => row,
    }];
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let row = Row::new(
            BENCH,
            format!("  each {name}"),
            quantile(&times, part),
            "µs",
        );
        rows.push(row.beside("one-row commits", quantile(&raw_times, part)));
    }
    Ok(rows)
}

async fn inserts(url: &str, clients: u64) -> anyhow::Result<(f64, Histogram<u64>)> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let table = format!("raw_{clients}");
    client
        .batch_execute(&format!(
            "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
        ))
        .await?;
    let sql = format!("INSERT INTO {table} (body) VALUES ($1)");
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..clients {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let insert = client.prepare(&sql).await?;
        tasks.spawn(async move {
            let body = "7".repeat(512);
            let mut times = histogram()?;
            while begin.elapsed() < FOR {
                let write = Instant::now();
                client.execute(&insert, &[&body]).await?;
                times.saturating_record(micros(write.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = histogram()?;
    for some in tasks.join_all().await {
        times.add(some?).context("times of one kind")?;
    }
    Ok((times.len() as f64 / begin.elapsed().as_secs_f64(), times))
}

fn sqlite(directory: &Path, callers: u64) -> anyhow::Result<SqliteStore> {
    let file = directory.join(format!("{callers}.db"));
    Ok(SqliteStore::open(&file, B256::ZERO, ManualClock::new())?)
}

async fn reservations<S: Store>(store: S, callers: u64) -> anyhow::Result<(f64, Histogram<u64>)> {
    // Commands of a database are given its own time; what was read of a payer must not be older than a moment.
    let system = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let now = ManualClock::new().now().max(Timestamp(system));
    let begin = Instant::now();
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
async fn call<S: Store>(
    store: S,
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
