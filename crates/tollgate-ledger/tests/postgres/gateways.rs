//! Several gateways on one ledger.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::task::JoinSet;
use tollgate_ledger::{
    Outage, PostgresStore, Status, Store, StoreError,
    kit::{Kind, ManualClock, block_on, payer, payment_id, reserve},
};
use tollgate_payment::{Refusal, command::Commit};
use tollgate_x402::{Amount, B256, Clock, Timestamp};

use crate::database;

pub(crate) const ID: B256 = B256::repeat_byte(7);

/// So many gateways on one new ledger, by the server's clock.
async fn gateways(number: usize) -> Vec<PostgresStore> {
    let config = database::ledger();
    let mut stores = Vec::new();
    for _ in 0..number {
        stores.push(PostgresStore::open(config.clone(), ID).await.unwrap());
    }
    stores
}

fn now() -> Timestamp {
    ManualClock::new().now()
}

const CUT: &str = "SELECT pg_sleep(0.2), pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = $1 LIMIT 4";

async fn balanced(store: &PostgresStore) {
    let totals = store.totals().await.unwrap();
    assert_eq!(totals.discrepancies(), Vec::<String>::new());
}

/// 200 requests at two gateways on one allowance that is good for 10 of them.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn an_allowance_is_never_overdrawn_at_two_gateways_at_once() {
    block_on(async {
        let stores = gateways(2).await;
        let mut tasks = JoinSet::new();
        for id in 0..200usize {
            let store = stores[id % 2].clone();
            let who = (payer(1), Kind::Allowance, 0);
            let mut command = reserve(id as u64, who, 1000, 100, 1_000_000, now());
            command.keys.exposure.slice = (id % 2) as u32;
            tasks.spawn(async move { store.transact(command).await.map(|done| done.reserved) });
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
        for answer in &answers {
            let expected = matches!(
                answer,
                Ok(_) | Err(StoreError::Refused(Refusal::Insufficient { .. }))
            );
            assert!(expected, "{answer:?}");
        }
        balanced(&stores[0]).await;
    });
}

/// 64 requests with one authorization at two gateways, of which neither knows the payer.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn one_authorization_at_two_gateways_at_once_is_admitted_once() {
    block_on(async {
        let stores = gateways(2).await;
        for (kind, nonce) in [(Kind::Once, 0u64), (Kind::Permit2, 1), (Kind::Eip3009, 2)] {
            let mut tasks = JoinSet::new();
            for number in 0..64u64 {
                let at = (number % 2) as usize;
                let store = stores[at].clone();
                let who = (payer(nonce as u8), kind, nonce);
                let mut command = reserve(nonce * 100 + number, who, 100, 100, 1_000_000, now());
                command.keys.exposure.slice = at as u32;
                tasks.spawn(async move { store.transact(command).await.map(|done| done.reserved) });
            }
            let answers = tasks.join_all().await;
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
            let told: BTreeSet<_> = answers
                .iter()
                .filter_map(|answer| match answer {
                    Err(StoreError::Refused(Refusal::Admitted(id))) => Some(*id),
                    Ok(_) => None,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(told.len(), 1, "all others learn of the one payment");
        }
        balanced(&stores[1]).await;
    });
}

/// Rows are locked in one order: gateways that work on the same payers wait for each other, and never crosswise for long.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn the_books_balance_after_three_gateways_worked_on_the_same_payers() {
    block_on(async {
        let stores = gateways(3).await;
        let mut tasks = JoinSet::new();
        for caller in 0..48u64 {
            let at = (caller % 3) as usize;
            let store = stores[at].clone();
            tasks.spawn(async move {
                for round in 0..8u64 {
                    let id = caller * 100 + round;
                    let who = (payer((id % 5) as u8), Kind::Once, id);
                    let mut command = reserve(id, who, 100, 50, 1_000_000, now());
                    command.keys.exposure.slice = at as u32;
                    let keys = command.keys;
                    store.transact(command).await.unwrap();
                    let used = Some(Amount::from(id % 50 + 1));
                    let commit = Commit {
                        keys,
                        used,
                        memo: None,
                        answer: None,
                    };
                    store.transact(commit).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        balanced(&stores[2]).await;
        let totals = stores[0].totals().await.unwrap();
        let due: u64 = totals
            .0
            .values()
            .map(|token| token.of(Status::Due).payments)
            .sum();
        assert_eq!(due, 48 * 8);
    });
}

/// The server ends the connections again and again, in the middle of whatever they do. What a caller was told is so:
/// acknowledged payments are there, and refused ones are not.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn a_connection_that_is_lost_at_any_moment_loses_nothing_and_doubles_nothing() {
    block_on(async {
        let name = database::name();
        let config = database::named(&name);
        let store = PostgresStore::open(config, ID).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&database::url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut tasks = JoinSet::new();
        // A machine cuts and commits as fast as it can: the callers go on until enough of both has happened.
        let (cuts, commits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for caller in 0..16u64 {
            let store = store.clone();
            let (cuts, commits) = (Arc::clone(&cuts), Arc::clone(&commits));
            tasks.spawn(async move {
                let mut told = Vec::new();
                for round in 0..1_500u64 {
                    let id = caller * 10_000 + round;
                    let who = (payer((id % 7) as u8), Kind::Once, id);
                    let mut command = reserve(id, who, 100, 50, 1_000_000_000, now());
                    // A machine may commit thousands of them between two cuts, and none is ended.
                    command.credit.in_flight = u32::MAX;
                    command.credit.in_flight_proven = u32::MAX;
                    let answer = store.transact(command).await.map(drop);
                    if answer.is_ok() {
                        commits.fetch_add(1, Ordering::Relaxed);
                    }
                    told.push((id, answer));
                    if cuts.load(Ordering::Relaxed) >= 8 && commits.load(Ordering::Relaxed) >= 200 {
                        break;
                    }
                }
                told
            });
        }
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
        let mut cut = 0;
        let mut told = Vec::new();
        while !tasks.is_empty() {
            tokio::select! {
                done = tasks.join_next() => told.extend(done.unwrap().unwrap()),
                ended = client.query(CUT, &values) => {
                    cut += ended.unwrap().len();
                    cuts.store(cut, Ordering::Relaxed);
                }
            }
        }
        let (mut kept, mut undone) = (0, 0);
        for (id, answer) in told {
            let mut row = store.payment(payment_id(id)).await;
            while matches!(row, Err(StoreError::Unavailable(_))) {
                row = store.payment(payment_id(id)).await;
            }
            let there = row.unwrap().is_some();
            match answer {
                Ok(()) => {
                    assert!(there, "payment {id} was acknowledged and is lost");
                    kept += 1;
                }
                Err(StoreError::Unavailable(Outage::Unknown)) => panic!("the server was there"),
                Err(StoreError::Unavailable(_)) => {
                    assert!(!there, "payment {id} was refused and is there");
                    undone += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(cut >= 5, "{cut} connections were cut");
        assert!(kept > 100, "{kept} payments, {undone} undone");
        balanced(&store).await;
    });
}

/// What was undone leaves numbers behind that no line has. They hold nothing back, while a line that somebody still writes
/// holds back those behind it: whoever reads on from the last line misses none.
#[test]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
fn the_book_is_read_to_its_end_over_missing_numbers_and_up_to_a_line_that_is_still_written() {
    block_on(async {
        let name = database::name();
        let store = PostgresStore::open(database::of(&name), ID).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&database::url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let line = "INSERT INTO entries (at, payment, chain, token, owner, debit, credit, amount)
            SELECT at, payment, chain, token, owner, debit, credit, amount FROM entries LIMIT 1";
        let sql = async |text: &str| client.batch_execute(text).await.unwrap();
        sql(&format!("SET search_path = {name}")).await;
        let reserved = async |id: u64| {
            let command = reserve(id, (payer(1), Kind::Once, id), 100, 50, 1_000_000, now());
            store.transact(command).await.unwrap();
        };
        let read = async |after: u64| store.entries(after, 1_000).await.unwrap();
        reserved(1).await;
        let one = read(0).await.len();
        sql(&format!("BEGIN; {line}; ROLLBACK")).await;
        reserved(2).await;
        let known = read(0).await;
        assert_eq!((one > 0, known.len()), (true, 2 * one));
        let last = known.last().unwrap().seq;
        // The lock of a VACUUM, which may take for hours.
        sql(&format!(
            "BEGIN; {line}; ROLLBACK; BEGIN; LOCK TABLE entries IN SHARE UPDATE EXCLUSIVE MODE"
        ))
        .await;
        reserved(4).await;
        assert_eq!(read(0).await.len(), 3 * one);
        let last = read(last).await.last().unwrap().seq;
        sql("ROLLBACK").await;
        sql(&format!("BEGIN; {line}")).await;
        reserved(3).await;
        assert_eq!(read(last).await, []);
        sql("COMMIT").await;
        assert_eq!(read(last).await.len(), 1 + one);
        assert_eq!(read(0).await.len(), 4 * one + 1);
    });
}
