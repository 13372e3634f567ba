//! A ledger whose process is killed, or whose disk is full, in a process of its own.
//!
//! The test binary starts itself: the child works on the ledger and says on its standard output what was
//! acknowledged as durable; the parent ends it and looks at what is there.
#![cfg(all(feature = "kit", feature = "sqlite", unix))]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::task::JoinSet;
use tollgate_ledger::{
    OpenError, SqliteStore, Status, Store, StoreError,
    kit::{Kind, ManualClock, block_on, payer, payment_id, reserve},
};
use tollgate_payment::{PaymentState, command::Commit};
use tollgate_x402::{Amount, B256, Clock};

const FILE: &str = "TOLLGATE_LEDGER_TEST_FILE";
const FIRST: &str = "TOLLGATE_LEDGER_TEST_FIRST";
/// Payments of one child at most: ids of different children differ.
const MANY: u64 = 1_000_000;

fn open(file: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(file, B256::repeat_byte(7), ManualClock::new())
}

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// What the child does. In an ordinary run of the tests it does nothing.
#[test]
fn child() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    // The harness begins the line with the test's name.
    say(String::new());
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = match open(Path::new(&file)) {
        Ok(store) => store,
        Err(error) => return say(format!("refused {error}")),
    };
    block_on(async {
        let mut tasks = JoinSet::new();
        for caller in 0..8 {
            let store = store.clone();
            tasks.spawn(async move {
                for round in 0.. {
                    if let Err(error) = serve(&store, first + caller + 8 * round).await {
                        return error;
                    }
                }
                unreachable!("the parent ends it")
            });
        }
        while let Some(error) = tasks.join_next().await {
            let kind = match error.unwrap() {
                StoreError::Unavailable(_) => "unavailable",
                other => panic!("{other:?}"),
            };
            say(format!("outage {kind}"));
        }
    });
    say("end".into());
}

/// One payment: reserved, acknowledged, and every other one committed and acknowledged.
async fn serve(store: &SqliteStore, id: u64) -> Result<(), StoreError> {
    let clock = ManualClock::new();
    let who = (payer((id % 5) as u8), Kind::Once, id);
    let command = reserve(id, who, 100, 100, 1_000_000_000, clock.now());
    let keys = command.keys;
    store.transact(command).await?;
    say(format!("reserved {id}"));
    if id.is_multiple_of(2) {
        let used = Some(Amount::from(id % 100 + 1));
        store
            .transact(Commit {
                keys,
                used,
                memo: None,
                answer: None,
            })
            .await?;
        say(format!("committed {id}"));
    }
    Ok(())
}

fn start(mut program: Command, file: &Path, first: u64) -> (Child, impl Iterator<Item = String>) {
    let mut child = program
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    (child, lines)
}

fn itself() -> Command {
    Command::new(std::env::current_exe().unwrap())
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
    async fn check(&self, store: &SqliteStore) {
        store.check_integrity().await.unwrap();
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

#[test]
fn everything_acknowledged_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let mut acknowledged = Acknowledged::default();
    for round in 0..8u64 {
        let (mut child, mut lines) = start(itself(), &file, round * MANY);
        let mut left = RandomState::new().hash_one(round) % 300 + 1;
        while left > 0 {
            let line = lines.next().expect("the child works until it is killed");
            left -= u64::from(acknowledged.note(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was said before the kill and is still in the pipe.
        for line in lines {
            acknowledged.note(&line);
        }

        let store = open(&file).expect("the lock died with the process");
        block_on(acknowledged.check(&store));
    }
    assert!(acknowledged.0.values().any(|committed| *committed));
}

#[test]
fn a_ledger_open_in_another_process_is_refused_with_that_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let (mut child, mut lines) = start(itself(), &file, 0);
    assert!(lines.any(|line| line.starts_with("reserved")));
    let error = open(&file).unwrap_err();
    let holder = match &error {
        OpenError::Locked { holder, .. } => *holder,
        other => panic!("{other:?}"),
    };
    assert_eq!(holder, Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();

    let _here = open(&file).unwrap();
    let (mut child, mut lines) = start(itself(), &file, MANY);
    let refused = lines.find(|line| line.starts_with("refused")).unwrap();
    assert!(
        refused.contains(&std::process::id().to_string()),
        "{refused}"
    );
    assert!(child.wait().unwrap().success());
}

/// The file system refuses every byte above a limit, at whatever moment of a write.
#[test]
fn a_disk_that_is_full_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    for blocks in [600, 1000, 2300] {
        let file = folder.path().join(format!("{blocks}.db"));
        // In blocks of 512 bytes. The signal that the limit sends would end the process.
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!(
                "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""
            ))
            .arg(std::env::current_exe().unwrap());
        let (mut child, lines) = start(limited, &file, 0);
        let mut acknowledged = Acknowledged::default();
        let mut outages = 0;
        let mut ended = false;
        for line in lines {
            acknowledged.note(&line);
            outages += u32::from(line == "outage unavailable");
            ended |= line == "end";
        }
        assert!(child.wait().unwrap().success());
        assert!(ended, "the child ends as it should, and not by the limit");
        assert_eq!(outages, 8, "each caller is told");
        assert!(!acknowledged.0.is_empty());

        // Now there is space.
        let store = open(&file).unwrap();
        block_on(async {
            acknowledged.check(&store).await;
            serve(&store, MANY).await.unwrap();
            let totals = store.totals().await.unwrap();
            let due: u64 = totals
                .0
                .values()
                .map(|token| token.of(Status::Due).payments)
                .sum();
            assert!(due > 0);
        });
    }
}
