//! What is asked beside rows by name.

use std::collections::BTreeMap;

use rusqlite::{Connection, Params, Row, params};
use serde::de::DeserializeOwned;
use tollgate_payment::{BatchRow, Entry, ExposureRow, OwnerKey, OwnerRow, PaymentRow, SpenderRow};
use tollgate_x402::{Address, ChainId, Timestamp};

use super::failure::failed;
use crate::body::parse;
use crate::text::{chain, hex, order, parse_account, parse_amount, unsigned};
use crate::{
    error::StoreError,
    log::{LogFilter, PaymentLog},
    query::{BookedEntry, Due, Queue},
    totals::Totals,
};

/// Calls `each` with every row of an answer, one at a time: an answer may be larger than the memory.
fn each(
    books: &Connection,
    sql: &str,
    values: impl Params,
    mut each: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement = books.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(values).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        each(row)?;
    }
    Ok(())
}

/// The bodies of an answer whose first column is `body`.
fn bodies<T: DeserializeOwned>(
    books: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    each(books, sql, values, |row| {
        all.push(body(row, 0)?);
        Ok(())
    })?;
    Ok(all)
}

fn body<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    parse(
        row.get_ref(column)
            .map_err(failed)?
            .as_str()
            .map_err(|_| StoreError::Corrupt("a stored row is not text".into()))?,
    )
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn due(
    books: &Connection,
    filter: &Due,
    limit: usize,
) -> Result<Vec<PaymentRow>, StoreError> {
    // A filter takes queues whole, so that it may come before their deadlines are compared.
    bodies(
        books,
        "SELECT p.body FROM (
            SELECT seq, chain, token, owner, spender, committed,
                CASE WHEN spender IS NULL THEN deadline
                     ELSE min(deadline) OVER (PARTITION BY chain, token, owner, spender) END AS urgent
            FROM payments
            WHERE status = 'due' AND (?1 IS NULL OR chain = ?1) AND (?2 IS NULL OR token = ?2)
                AND (?3 IS NULL OR owner = ?3) AND (?4 IS NULL OR spender = ?4)
         ) AS q JOIN payments p ON p.seq = q.seq
         ORDER BY q.urgent, q.chain, q.token, q.owner, q.spender, q.committed LIMIT ?5",
        params![
            filter.chain.map(chain).transpose()?,
            filter.token.map(hex),
            filter.owner.map(hex),
            filter.spender.map(hex),
            limit_of(limit)
        ],
    )
}

pub(super) fn queues(books: &Connection) -> Result<Vec<Queue>, StoreError> {
    let mut queues: BTreeMap<(OwnerKey, Option<Address>), Queue> = BTreeMap::new();
    each(
        books,
        "SELECT body FROM payments WHERE status = 'due'",
        [],
        |row| {
            let payment: PaymentRow = body(row, 0)?;
            queues
                .entry((payment.keys.owner, payment.keys.spender))
                .and_modify(|queue| queue.add(&payment))
                .or_insert_with(|| Queue::begin(&payment));
            Ok(())
        },
    )?;
    let mut queues: Vec<_> = queues.into_values().collect();
    queues.sort_by_key(|queue| (queue.deadline, queue.owner, queue.spender));
    Ok(queues)
}

pub(super) fn abandoned(
    books: &Connection,
    living: [u64; 2],
) -> Result<Vec<PaymentRow>, StoreError> {
    bodies(
        books,
        "SELECT body FROM payments WHERE status = 'serving' AND epoch NOT IN (?1, ?2) ORDER BY epoch, seq",
        living.map(order),
    )
}

pub(super) fn undecided(books: &Connection) -> Result<Vec<BatchRow>, StoreError> {
    bodies(
        books,
        "SELECT body FROM batches WHERE state <> 'concluded' ORDER BY seq",
        [],
    )
}

pub(super) fn begin_epoch(books: &Connection) -> Result<u64, StoreError> {
    let epoch: String = books
        .query_row(
            "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'epoch' RETURNING value",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    epoch
        .parse()
        .map_err(|_| StoreError::Corrupt("the number of the run is not a number".into()))
}

pub(super) fn prune(books: &Connection, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let mut pruned = 0_usize;
    for (table, key) in [
        ("identifiers", "chain, owner, digest"),
        ("outcomes", "payment"),
    ] {
        let sql = format!(
            "DELETE FROM {table} WHERE ({key}) IN
                (SELECT {key} FROM {table} WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
        );
        let left = limit.saturating_sub(pruned);
        let mut statement = books.prepare_cached(&sql).map_err(failed)?;
        let some = statement
            .execute(params![order(now.0), limit_of(left)])
            .map_err(failed)?;
        pruned = pruned.saturating_add(some);
    }
    Ok(pruned)
}

const ENTRY: &str =
    "SELECT seq, at, payment, chain, token, owner, debit, credit, amount FROM entries";

fn entry(row: &Row<'_>) -> Result<BookedEntry, StoreError> {
    let number = |column| row.get::<_, i64>(column).map_err(failed).and_then(unsigned);
    let text = |column| row.get::<_, String>(column).map_err(failed);
    let bad = |what: &str| StoreError::Corrupt(format!("a line of the book has no {what}"));
    Ok(BookedEntry {
        seq: number(0)?,
        at: Timestamp(number(1)?),
        entry: Entry {
            payment: text(2)?.parse().map_err(|_| bad("payment"))?,
            owner: OwnerKey {
                chain: ChainId(number(3)?),
                token: text(4)?.parse().map_err(|_| bad("token"))?,
                owner: text(5)?.parse().map_err(|_| bad("payer"))?,
            },
            debit: parse_account(&text(6)?)?,
            credit: parse_account(&text(7)?)?,
            amount: parse_amount(&text(8)?)?,
        },
    })
}

pub(super) fn entries(
    books: &Connection,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<BookedEntry>, StoreError> {
    let mut all = Vec::new();
    each(
        books,
        &format!("{ENTRY} WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
        params![order(after_seq), limit_of(limit)],
        |row| {
            all.push(entry(row)?);
            Ok(())
        },
    )?;
    Ok(all)
}

pub(super) fn logs(
    books: &Connection,
    filter: &LogFilter,
    limit: usize,
) -> Result<Vec<PaymentLog>, StoreError> {
    let mut all = Vec::new();
    each(
        books,
        "SELECT p.seq, p.body, b.body FROM payments p LEFT JOIN batches b ON b.id = p.batch
         WHERE (?1 IS NULL OR p.chain = ?1) AND (?2 IS NULL OR p.token = ?2) AND (?3 IS NULL OR p.owner = ?3)
            AND (?4 IS NULL OR p.status = ?4) AND (?5 IS NULL OR p.seq < ?5)
         ORDER BY p.seq DESC LIMIT ?6",
        params![
            filter.chain.map(chain).transpose()?,
            filter.token.map(hex),
            filter.payer.map(hex),
            filter.status.map(|status| status.name()),
            filter.before.map(order),
            limit_of(limit)
        ],
        |row| {
            let seq = unsigned(row.get(0).map_err(failed)?)?;
            let payment: PaymentRow = body(row, 1)?;
            let held = row.get_ref(2).map_err(failed)? != rusqlite::types::ValueRef::Null;
            let batch: Option<BatchRow> = if held { Some(body(row, 2)?) } else { None };
            all.push(PaymentLog::of(seq, &payment, batch.as_ref()));
            Ok(())
        },
    )?;
    Ok(all)
}

pub(super) fn totals(books: &Connection) -> Result<Totals, StoreError> {
    let mut totals = Totals::default();
    each(books, "SELECT body FROM payments", [], |row| {
        totals.payment(&body::<PaymentRow>(row, 0)?)
    })?;
    each(books, "SELECT body FROM owners", [], |row| {
        totals.owner(&body::<OwnerRow>(row, 0)?)
    })?;
    each(books, "SELECT body FROM spenders", [], |row| {
        totals.spender(&body::<SpenderRow>(row, 0)?)
    })?;
    each(books, "SELECT body FROM exposures", [], |row| {
        totals.exposure(&body::<ExposureRow>(row, 0)?)
    })?;
    each(books, ENTRY, [], |row| totals.entry(&entry(row)?.entry))?;
    Ok(totals)
}

pub(super) fn integrity(books: &Connection) -> Result<(), StoreError> {
    let mut found = Vec::new();
    each(books, "PRAGMA integrity_check(20)", [], |row| {
        found.push(row.get::<_, String>(0).map_err(failed)?);
        Ok(())
    })?;
    if found == ["ok"] {
        return Ok(());
    }
    Err(StoreError::Corrupt(found.join("; ")))
}
