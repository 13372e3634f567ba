//! Durable reservations a second on SQLite, and on PostgreSQL where `TOLLGATE_POSTGRES_URL` names one, beside the disk's
//! own speed.
//!
//! `cargo xtask postgres -- cargo run --release -p tollgate-ledger --all-features --example commit_rate [folder]`
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tollgate_ledger::{
    PostgresConfig, PostgresStore, SqliteStore, Store,
    kit::{Kind, ManualClock, payer, reserve},
};
use tollgate_x402::{B256, Clock, Timestamp};

const FOR: Duration = Duration::from_secs(3);

fn main() {
    let folder = match std::env::args().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .expect("a folder to write in");
    disk(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for callers in [1, 8, 64, 256] {
        runtime.block_on(async {
            let file = folder.path().join(format!("{callers}.db"));
            let store = SqliteStore::open(file, B256::ZERO, ManualClock::new()).expect("a ledger");
            reservations("SQLite", store, callers).await;
        });
        if let Ok(url) = std::env::var("TOLLGATE_POSTGRES_URL") {
            runtime.block_on(async {
                let config = PostgresConfig::new(&url).expect("a URL");
                let config = config.schema(&format!("rate_{callers}")).expect("a name");
                let store = PostgresStore::open(config, B256::ZERO)
                    .await
                    .expect("a ledger");
                store.begin_run(1).await.expect("a run");
                reservations("PostgreSQL", store, callers).await;
            });
        }
    }
    disk(folder.path());
}

/// What one durable write of 512 bytes costs here, one after the other.
fn disk(folder: &Path) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("raw"))
        .expect("a file");
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < FOR / 3 {
        let write = Instant::now();
        file.write_all(&[7; 512]).expect("a write");
        file.sync_data().expect("a sync");
        times.push(write.elapsed());
    }
    println!(
        "disk: append 512 bytes and fdatasync: {}",
        summary(&mut times, begin.elapsed())
    );
}

async fn reservations<S: Store>(name: &str, store: S, callers: u64) {
    let (begin, now) = (Instant::now(), ManualClock::new().now());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        tasks.spawn(call(store.clone(), caller, begin, now));
    }
    let mut times: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    println!(
        "{callers:>3} callers, durable reservations, {name}: {}",
        summary(&mut times, begin.elapsed())
    );
}

async fn call<S: Store>(store: S, caller: u64, begin: Instant, now: Timestamp) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut id = caller << 32;
    while begin.elapsed() < FOR {
        id += 1;
        let who = (payer((caller % 16) as u8), Kind::Once, id);
        let mut command = reserve(id, who, 1, 1, 1_000_000_000, now);
        command.credit.in_flight = u32::MAX;
        let write = Instant::now();
        store.transact(command).await.expect("a reservation");
        times.push(write.elapsed());
    }
    times
}

fn summary(times: &mut [Duration], in_all: Duration) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let rate = times.len() as f64 / in_all.as_secs_f64();
    format!(
        "{rate:>6.0} a second, p50 {:.2?}, p99 {:.2?}",
        at(50),
        at(99)
    )
}
