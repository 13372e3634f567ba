//! Gateways that are killed or paused, in processes of their own.
//!
//! The test binary starts itself: a child works on the ledger and says on its standard output what was acknowledged as
//! durable; the parent ends or stops it and looks at what is there.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tollgate_ledger::{
    Outage, PostgresStore, Run, Store, StoreError,
    kit::{Kind, ManualClock, block_on, payer, payment_id, reserve},
};
use tollgate_payment::{PaymentState, command::Commit};
use tollgate_x402::{Amount, Clock};

use crate::{database, gateways::ID};

const LEDGER: &str = "TOLLGATE_LEDGER_TEST_SCHEMA";
const FIRST: &str = "TOLLGATE_LEDGER_TEST_FIRST";
/// Payments of one child at most: ids of different children differ.
const MANY: u64 = 1_000_000;

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// What the child does. In an ordinary run of the tests it does nothing.
#[test]
fn child() {
    let Ok(name) = std::env::var(LEDGER) else {
        return;
    };
    // The harness begins the line with the test's name.
    say(String::new());
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    block_on(async {
        let store = PostgresStore::open(database::of(&name), ID).await.unwrap();
        let run = store.begin_run(64).await.unwrap();
        say(format!("run {}", run.epoch));
        let mut tasks = JoinSet::new();
        for caller in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                for round in 0.. {
                    if let Err(error) = serve(&store, run, first + caller + 8 * round).await {
                        return error;
                    }
                }
                unreachable!("the parent ends it")
            });
        }
        while let Some(error) = tasks.join_next().await {
            match error.unwrap() {
                StoreError::Unavailable(Outage::RunEnded) => say("dead".into()),
                other => say(format!("failed {other}")),
            }
        }
    });
    say("end".into());
}

/// One payment: reserved, acknowledged, and every other one committed and acknowledged.
async fn serve(store: &PostgresStore, run: Run, id: u64) -> Result<(), StoreError> {
    let clock = ManualClock::new();
    let who = (payer((id % 5) as u8), Kind::Once, id);
    let mut command = reserve(id, who, 100, 100, 1_000_000_000, clock.now());
    command.keys.exposure.slice = run.slot;
    command.credit.in_flight = u32::MAX;
    command.credit.in_flight_proven = u32::MAX;
    command.epoch = run.epoch;
    let keys = command.keys;
    store.transact(command).await?;
    say(format!("reserved {id}"));
    if id.is_multiple_of(2) {
        let used = Some(Amount::from(id % 100 + 1));
        let commit = Commit {
            keys,
            used,
            memo: None,
            answer: None,
        };
        store.transact(commit).await?;
        say(format!("committed {id}"));
    }
    Ok(())
}

struct Gateway {
    child: Child,
    lines: mpsc::Receiver<String>,
    run: u64,
}

impl Gateway {
    fn start(name: &str, first: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
            .env(LEDGER, name)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // A child that waits for its reader would hold rows.
        std::thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        let mut gateway = Self {
            child,
            lines,
            run: 0,
        };
        let run = gateway.wait(|line| line.starts_with("run "));
        gateway.run = run.split_once(' ').unwrap().1.parse().unwrap();
        gateway
    }

    fn next(&self) -> String {
        self.lines
            .recv_timeout(Duration::from_secs(60))
            .expect("the child works until it is ended")
    }

    fn wait(&self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.next();
            if fits(&line) {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(told.success());
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

/// What was acknowledged: for each payment, whether its commit was.
#[derive(Default)]
struct Acknowledged(BTreeMap<u64, bool>);

impl Acknowledged {
    fn note(&mut self, line: &str) -> bool {
        let Some((what, id)) = line.split_once(' ') else {
            return false;
        };
        // The line that the kill cut off is no acknowledgement.
        match (what, id.parse()) {
            ("reserved", Ok(id)) => drop(self.0.entry(id).or_insert(false)),
            ("committed", Ok(id)) => drop(self.0.insert(id, true)),
            _ => return false,
        }
        true
    }

    /// Everything acknowledged is there, and the books are right.
    async fn check(&self, store: &PostgresStore) {
        for (id, committed) in &self.0 {
            let row = store.payment(payment_id(*id)).await.unwrap();
            let row = row.unwrap_or_else(|| panic!("payment {id} is lost"));
            match row.state {
                PaymentState::Due { .. } => {
                    assert_eq!(row.charge, Amount::from(id % 100 + 1));
                }
                PaymentState::Serving { .. } => {
                    assert!(!committed, "the commit of payment {id} is lost");
                }
                other => panic!("payment {id} is {other:?}"),
            }
        }
        let totals = store.totals().await.unwrap();
        assert_eq!(totals.discrepancies(), Vec::<String>::new());
    }
}

/// Two gateways on the same payers; one is killed again and again, the other goes on.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn everything_acknowledged_survives_a_kill_of_one_of_two_gateways() {
    let name = database::name();
    let mut acknowledged = Acknowledged::default();
    let steady = Gateway::start(&name, 0);
    for round in 1..=6u64 {
        let killed = Gateway::start(&name, round * MANY);
        let mut left = RandomState::new().hash_one(round) % 200 + 1;
        while left > 0 {
            left -= u64::from(acknowledged.note(&killed.next()));
        }
        for line in killed.kill() {
            acknowledged.note(&line);
        }
        // The other one is not held up by what the killed one had locked.
        let mut served = 0;
        let began = Instant::now();
        while served < 20 {
            served += u32::from(acknowledged.note(&steady.next()));
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    for line in steady.kill() {
        acknowledged.note(&line);
    }
    assert!(acknowledged.0.values().any(|committed| *committed));
    block_on(async {
        let store = PostgresStore::open(database::of(&name), ID).await.unwrap();
        acknowledged.check(&store).await;
    });
}

/// A gateway is stopped for longer than its lease, with rows in its hands. The other goes on, takes it for dead and
/// finds what it left; when it wakes up it learns that it is dead, and has written nothing.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_paused_gateway_holds_nobody_up_and_wakes_up_dead() {
    let name = database::name();
    let paused = Gateway::start(&name, 0);
    let steady = Gateway::start(&name, MANY);
    for _ in 0..50 {
        paused.next();
    }
    paused.signal("-STOP");
    let mut acknowledged = Acknowledged::default();
    while let Ok(line) = paused.lines.try_recv() {
        acknowledged.note(&line);
    }
    block_on(async {
        let store = PostgresStore::open(database::of(&name), ID).await.unwrap();
        let run = store.begin_run(64).await.unwrap();
        // The longest that a transaction of the paused one can hold rows is what the server allows it to idle.
        let began = Instant::now();
        for _ in 0..100 {
            steady.next();
        }
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );

        // Neither child gives signs of life but its writes: the paused one is dead after its lease.
        let dead = async {
            loop {
                assert!(store.renew(run.epoch).await.unwrap());
                let found = store.abandoned(run.epoch).await.unwrap();
                if found.iter().any(|row| row.epoch == paused.run) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(40), dead)
            .await
            .unwrap();
        for _ in 0..20 {
            steady.next();
        }
        steady.kill();
        let written = async || {
            store
                .logs(Default::default(), 1_000_000)
                .await
                .unwrap()
                .len()
        };
        let before = written().await;
        paused.signal("-CONT");
        let begun = Instant::now();
        // What was in the middle of a group is undone; everything else is refused.
        let mut told = Vec::new();
        while told.len() < 8 {
            let line = paused.next();
            if line == "dead" || line.starts_with("failed ") {
                told.push(line);
            }
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        let after = written().await;
        assert!(
            told.iter()
                .all(|line| line == "dead" || line.contains("undone")),
            "{told:?}"
        );
        assert!(before > 0);
        assert_eq!(after, before, "nothing was written by a dead run");
        acknowledged.check(&store).await;
        let totals = store.totals().await.unwrap();
        assert_eq!(totals.discrepancies(), Vec::<String>::new());
    });
}
