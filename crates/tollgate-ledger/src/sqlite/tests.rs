//! What only a file can do wrong.

use std::{
    fs,
    sync::{Arc, mpsc},
};

use rusqlite::Connection;
use tempfile::TempDir;
use tollgate_payment::{
    BatchId, Command, Decision, Instruction, Refusal, RowSet, Rows, SignerKey,
    command::{Adopt, Claim, Commit, Conclude, Fate, Included, ItemFate, Reserve, Seal},
};
use tollgate_x402::{Amount, B256, Bytes, ChainId, Timestamp};

use super::{OpenError, SqliteStore, failure::failed, open};
use crate::{
    error::{Outage, StoreError},
    store::Store,
};

const ID: B256 = B256::repeat_byte(7);

struct Standing;

impl tollgate_x402::Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(1_900_000_000)
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn store(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("ledger.db"), ID, Arc::new(Standing)).unwrap()
}

/// A signer's adoption: the smallest command that writes.
fn adopt(number: u64) -> Adopt {
    let mut operator = tollgate_x402::Address::ZERO;
    operator.0[12..].copy_from_slice(&number.to_be_bytes());
    Adopt {
        signer: SignerKey {
            chain: ChainId::DEV,
            operator,
        },
        chain_nonce: number,
    }
}

async fn exists(store: &SqliteStore, number: u64) -> bool {
    let rows = store.read(adopt(number).rows()).await.unwrap();
    rows.signer(&adopt(number).signer).is_some()
}

#[test]
fn a_ledger_opened_twice_is_refused_with_the_file_and_the_process() {
    let folder = folder();
    let first = store(&folder);
    let path = folder.path().join("ledger.db");
    let link = folder.path().join("link.db");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&path, &link).unwrap();
    #[cfg(not(unix))]
    fs::hard_link(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = SqliteStore::open(path, ID, Arc::new(Standing)).unwrap_err();
        let OpenError::Locked { holder, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*holder, Some(std::process::id()));
        assert!(error.to_string().contains("ledger.db is open already"));
    }
    drop(first);
    store(&folder);
}

#[test]
fn a_file_that_is_something_else_is_left_as_it_is() {
    let folder = folder();
    let text = folder.path().join("notes.txt");
    fs::write(
        &text,
        "not a database at all, but long enough to be read as one".repeat(40),
    )
    .unwrap();
    let other = folder.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('kept')")
        .unwrap();
    for path in [text, other] {
        let before = fs::read(&path).unwrap();
        let error = SqliteStore::open(&path, ID, Arc::new(Standing)).unwrap_err();
        assert!(matches!(error, OpenError::NotALedger { .. }), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    let nowhere = folder.path().join("no/such/folder/ledger.db");
    let error = SqliteStore::open(nowhere, ID, Arc::new(Standing)).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[test]
fn a_ledger_of_a_newer_version_is_refused() {
    let folder = folder();
    let path = store(&folder).path().to_owned();
    Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE meta SET value = '3' WHERE key = 'schema'")
        .unwrap();
    // What was added, this version need not know of.
    drop(store(&folder));
    Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE meta SET value = '3' WHERE key = 'compatible'")
        .unwrap();
    let error = SqliteStore::open(&path, ID, Arc::new(Standing)).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("use the newer program"));
}

#[test]
fn a_connection_that_may_lose_acknowledged_commits_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.db");
    let books = Connection::open(&path).unwrap();
    for (setting, good) in [
        ("OFF", false),
        ("NORMAL", false),
        ("FULL", true),
        ("EXTRA", true),
    ] {
        books
            .execute_batch(&format!("PRAGMA synchronous = {setting}"))
            .unwrap();
        assert_eq!(
            open::verify_durable(&path, &books).is_ok(),
            good,
            "{setting}"
        );
    }
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let _store = store(&folder);
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_space() {
    let folder = folder();
    let store = store(&folder);
    let limit = async |pages: u32| {
        let limit = move |books: &Connection, _: &mut i64| {
            let pragma = format!("PRAGMA max_page_count = {pages}");
            books.query_row(&pragma, [], |_| Ok(())).map_err(failed)
        };
        let (_, durable) = store
            .write(false, move |group| group.atomically(limit))
            .await
            .unwrap();
        durable.await.unwrap();
    };
    // It cannot fall below what the file has: the next page is one too many.
    limit(1).await;
    let mut written = Vec::new();
    let error = loop {
        let number = u64::try_from(written.len()).unwrap();
        match store.transact(adopt(number)).await {
            Ok(_) => written.push(number),
            Err(error) => break error,
        }
        assert!(number < 10_000, "the limit has no effect");
    };
    assert!(
        matches!(error, StoreError::Unavailable(Outage::Full(_))),
        "{error:?}"
    );
    for number in &written {
        assert!(exists(&store, *number).await);
    }
    let next = written.len().try_into().unwrap();
    assert!(!exists(&store, next).await, "the failed one is not there");

    limit(1_000_000).await;
    assert_eq!(store.transact(adopt(next)).await, Ok(next));
    assert!(exists(&store, next).await);
    store.check_integrity().await.unwrap();
}

/// Holds the writer until it is told to go on, so that what is sent meanwhile is one group.
fn hold(store: &SqliteStore) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let (begun, began) = mpsc::channel();
    let (jobs, _) = store.0.ways.as_ref().unwrap();
    jobs.queue(move |_| {
        begun.send(()).unwrap();
        // The sender is dropped, or sends.
        let _ = wait.recv();
    })
    .unwrap();
    began.recv().unwrap();
    go
}

#[tokio::test]
async fn if_a_group_fails_none_of_its_steps_happened() {
    let folder = folder();
    let store = store(&folder);
    store.transact(adopt(1)).await.unwrap();

    let go = hold(&store);
    let (sink, wreck, late) = (
        store.execute(adopt(2)),
        // What a full disk does at times: SQLite gives the whole transaction up.
        store.write(false, |group| {
            group.step(|books, _| {
                books.execute_batch("ROLLBACK").map_err(failed)?;
                Err::<(), _>(StoreError::from(Outage::Full("test".into())))
            })
        }),
        store.execute(adopt(3)),
    );
    let all = async { tokio::join!(sink, wreck, late) };
    tokio::pin!(all);
    // All three are sent by the first poll.
    let pending = core::future::poll_fn(|context| {
        core::task::Poll::Ready(core::future::Future::poll(all.as_mut(), context).is_pending())
    });
    assert!(pending.await);
    go.send(()).unwrap();
    let (sunk, wrecked, late) = all.await;

    let sunk = sunk.unwrap();
    assert_eq!(sunk.outcome, 2, "it was decided");
    let full = StoreError::from(Outage::Full("test".into()));
    assert_eq!(sunk.durable.await, Err(full.clone()));
    assert_eq!(wrecked.unwrap_err(), full);
    assert_eq!(
        late.unwrap().settled().await,
        Ok(3),
        "the next group goes on"
    );
    assert!(exists(&store, 1).await && !exists(&store, 2).await && exists(&store, 3).await);
    // And none is remembered: it is done when it is asked for again.
    assert_eq!(store.transact(adopt(2)).await, Ok(2));
    assert!(exists(&store, 2).await);
}

#[tokio::test]
async fn what_a_read_made_sqlite_give_up_is_not_believed_by_the_next_step() {
    let folder = folder();
    let store = store(&folder);
    store.transact(adopt(1)).await.unwrap();

    let go = hold(&store);
    let (sink, wreck, again) = (
        store.execute(adopt(2)),
        // What a full disk can do to a read that needs room in the cache.
        store.write(false, |group| {
            group.books().execute_batch("ROLLBACK").map_err(failed)?;
            Err::<(), _>(StoreError::from(Outage::Full("test".into())))
        }),
        store.execute(adopt(2)),
    );
    let all = async { tokio::join!(sink, wreck, again) };
    tokio::pin!(all);
    let pending = core::future::poll_fn(|context| {
        core::task::Poll::Ready(core::future::Future::poll(all.as_mut(), context).is_pending())
    });
    assert!(pending.await);
    go.send(()).unwrap();
    let (sunk, wrecked, again) = all.await;

    assert!(sunk.unwrap().durable.await.is_err());
    assert!(wrecked.is_err());
    assert_eq!(again.unwrap().settled().await, Ok(2));
    assert!(exists(&store, 1).await && exists(&store, 2).await);
}

#[tokio::test]
async fn a_file_that_somebody_else_writes_holds_up_no_callers_thread() {
    let folder = folder();
    let store = store(&folder);
    let other = rusqlite::Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let step = store.execute(adopt(1));
    tokio::pin!(step);
    // The thread waits for the file; this returns at once.
    let pending = core::future::poll_fn(|context| {
        core::task::Poll::Ready(core::future::Future::poll(step.as_mut(), context).is_pending())
    });
    assert!(pending.await);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(step.await.unwrap().settled().await, Ok(1));
}

#[tokio::test]
async fn what_was_asked_before_the_store_was_dropped_is_written() {
    let folder = folder();
    let first = store(&folder);
    let go = hold(&first);
    let durables = {
        let all = async { tokio::join!(first.execute(adopt(1)), first.execute(adopt(2))) };
        tokio::pin!(all);
        core::future::poll_fn(|context| {
            core::task::Poll::Ready(core::future::Future::poll(all.as_mut(), context).is_pending())
        })
        .await
    };
    assert!(durables);
    drop(go);
    drop(first);
    let second = store(&folder);
    assert!(exists(&second, 1).await && exists(&second, 2).await);
}

/// A command with a fault of the program in it.
struct Panics;

impl Command for Panics {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        RowSet::default()
    }

    fn decide(&self, _: &Rows, _: Timestamp) -> Result<Decision<()>, Refusal> {
        panic!("a fault of the program")
    }
}

#[tokio::test]
async fn a_command_that_panics_does_not_take_the_others_with_it() {
    let folder = folder();
    let store = store(&folder);
    let answer = store.transact(Panics).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
    assert_eq!(store.transact(adopt(1)).await, Ok(1));
}

#[tokio::test]
async fn a_line_of_the_book_cannot_be_changed_or_removed_with_any_tool() {
    let folder = folder();
    let store = store(&folder);
    store.transact(payment().0).await.unwrap();
    let tool = Connection::open(store.path()).unwrap();
    for change in ["UPDATE entries SET at = 0", "DELETE FROM entries"] {
        let error = tool.execute_batch(change).unwrap_err();
        assert!(error.to_string().contains("is never"), "{error}");
    }
}

/// A payment of 70 of a once authorization over 100, and its commit.
fn payment() -> (Reserve, Commit) {
    let reserve = crate::kit::reserve(
        1,
        (crate::kit::payer(1), crate::kit::Kind::Once, 5),
        100,
        100,
        1_000_000,
        Timestamp(1_900_000_000),
    );
    let commit = Commit {
        keys: reserve.keys,
        used: Some(Amount::from(70u64)),
        memo: None,
        answer: None,
    };
    (reserve, commit)
}

#[tokio::test]
async fn people_read_payments_in_x402_payment_logs() {
    let folder = folder();
    let store = store(&folder);
    let (reserve, commit) = payment();
    let keys = reserve.keys;
    let tool = Connection::open(store.path()).unwrap();
    let look = || {
        tool.query_row(
            "SELECT payment_id, created, state, payer, chain, reserved, charge, batch, tx, block, memo
             FROM x402_payment_logs",
            [],
            |row| {
                let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
                Ok((
                    [text(0)?, text(1)?, text(2)?, text(3)?],
                    row.get::<_, i64>(4)?,
                    [text(5)?, text(6)?],
                    [text(7)?, text(8)?],
                    row.get::<_, Option<i64>>(9)?,
                    text(10)?,
                ))
            },
        )
        .unwrap()
    };
    let digits = |amount: u64| format!("{amount:078}");

    store.transact(reserve).await.unwrap();
    let (who, chain, amounts, chained, block, memo) = look();
    assert_eq!(who[0], keys.id.to_string());
    assert_eq!(who[1..3], ["2030-03-17 17:46:40", "serving"]);
    assert_eq!(who[3], format!("{:#x}", keys.owner.owner));
    assert_eq!((chain, amounts), (31337, [digits(100), digits(0)]));
    assert_eq!((chained, block), ([String::new(), String::new()], None));
    assert_eq!(memo, "request 1 \"quoted\" 💸");

    store.transact(commit).await.unwrap();
    let signer = adopt(9).signer;
    store.transact(adopt(9)).await.unwrap();
    let claim = Claim {
        batch: BatchId(0xba7c),
        signer,
        settler: None,
        payments: vec![keys],
        undecided: 1,
    };
    store.transact(claim).await.unwrap().unwrap();
    let hash = B256::repeat_byte(0xcd);
    let seal = Seal {
        batch: BatchId(0xba7c),
        signer,
        term: 0,
        instruction: Instruction {
            nonce: 9,
            hash,
            raw: Bytes::from_static(b"signed"),
            gas_price: u128::from(u64::MAX) * 2,
            stored: Timestamp(1),
            sent: None,
            void: false,
        },
    };
    let batch = store.transact(seal).await.unwrap();
    let included = Included {
        batch: batch.id,
        at: Some((hash, 17)),
    };
    store.transact(included).await.unwrap();
    let (who, _, amounts, chained, block, _) = look();
    assert_eq!(
        (who[2].as_str(), amounts),
        ("claimed", [digits(100), digits(70)])
    );
    let transaction = format!("{hash:#x}");
    let expected = [format!("{:032x}", 0xba7c), transaction];
    assert_eq!((&chained, block), (&expected, Some(17)));

    let fate = Fate {
        transaction: Some(hash),
        block: 18,
        items: vec![ItemFate::Paid],
    };
    let conclude = Conclude {
        batch,
        fate,
        attempts: 3,
    };
    store.transact(conclude).await.unwrap();
    let (who, _, _, chained, block, _) = look();
    assert_eq!(
        (who[2].as_str(), chained, block),
        ("final", expected, Some(18))
    );
}
