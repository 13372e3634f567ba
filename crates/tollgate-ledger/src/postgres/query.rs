//! What is asked beside rows by name.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;
use tokio_postgres::{Row as Found, types::ToSql};
use tollgate_payment::{
    AuthorizationKey, BatchRow, Entry, OwnerKey, PaymentRow, Row, RowKey, RowSet, Rows,
};
use tollgate_x402::{Address, ChainId, Timestamp};

use super::{
    failure::Trouble,
    rows::{key, row, table},
    session::{Session, Sql},
    table::{Cell, TABLES, columns},
};
use crate::{
    body::parse,
    error::StoreError,
    log::{LogFilter, PaymentLog},
    query::{BookedEntry, Due, Queue},
    scan::RowKind,
    text::{chain, hex, order, parse_account, parse_amount, unsigned},
    totals::Totals,
};

/// Everything as it was at one moment.
const MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Calls `each` with every row of an answer, one at a time: an answer may be larger than the memory.
async fn each(
    session: &mut Session,
    sql: &'static str,
    values: Values<'_>,
    mut each: impl FnMut(&Found) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let statement = session.prepare(Sql::Text(sql)).await?;
    let values = values.iter().copied();
    let mut rows = pin!(session.client.query_raw(&statement, values).await?);
    while let Some(row) = rows.try_next().await? {
        each(&row)?;
    }
    Ok(())
}

/// The bodies of an answer whose first column is `body`.
pub(super) async fn bodies<T: DeserializeOwned>(
    session: &mut Session,
    sql: &'static str,
    values: Values<'_>,
) -> Result<Vec<T>, Trouble> {
    let mut all = Vec::new();
    each(session, sql, values, |row| {
        all.push(parse(row.try_get(0)?)?);
        Ok(())
    })
    .await?;
    Ok(all)
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The rows that exist of these names, as they were at one moment.
pub(super) async fn named(session: &mut Session, names: &RowSet) -> Result<Rows, Trouble> {
    let mut keys: Vec<Vec<Vec<Cell>>> = TABLES.iter().map(|_| Vec::new()).collect();
    for name in names.iter() {
        if let Some(keys) = keys.get_mut(table(name)) {
            keys.push(key(name)?);
        }
    }
    session.open(MOMENT).await?;
    let mut rows = Rows::default();
    for (at, keys) in keys.into_iter().enumerate() {
        if keys.is_empty() {
            continue;
        }
        let statement = session.prepare(Sql::Read(at)).await?;
        let values = columns(keys);
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| {
                let value: &(dyn ToSql + Sync) = &**value;
                value
            })
            .collect();
        for found in session.client.query(&statement, &values).await? {
            rows.put(row(at, found.try_get(0)?)?);
        }
    }
    session.close("COMMIT").await?;
    Ok(rows)
}

pub(super) async fn due(
    session: &mut Session,
    filter: &Due,
    limit: usize,
) -> Result<Vec<PaymentRow>, Trouble> {
    // A filter takes queues whole, so that it may come before their deadlines are compared.
    bodies(
        session,
        "SELECT p.body FROM (
            SELECT seq, chain, token, owner, spender, committed,
                CASE WHEN spender IS NULL THEN deadline
                     ELSE min(deadline) OVER (PARTITION BY chain, token, owner, spender) END AS urgent
            FROM payments
            WHERE status = 'due' AND ($1::bigint IS NULL OR chain = $1) AND ($2::text IS NULL OR token = $2)
                AND ($3::text IS NULL OR owner = $3) AND ($4::text IS NULL OR spender = $4)
         ) AS q JOIN payments p ON p.seq = q.seq
         ORDER BY q.urgent, q.chain, q.token, q.owner, q.spender NULLS FIRST, q.committed LIMIT $5",
        &[
            &filter.chain.map(chain).transpose()?,
            &filter.token.map(hex),
            &filter.owner.map(hex),
            &filter.spender.map(hex),
            &limit_of(limit),
        ],
    )
    .await
}

pub(super) async fn queues(session: &mut Session) -> Result<Vec<Queue>, Trouble> {
    let mut queues: BTreeMap<(OwnerKey, Option<Address>), Queue> = BTreeMap::new();
    each(
        session,
        "SELECT body FROM payments WHERE status = 'due'",
        &[],
        |row| {
            let payment: PaymentRow = parse(row.try_get(0)?)?;
            queues
                .entry((payment.keys.owner, payment.keys.spender))
                .and_modify(|queue| queue.add(&payment))
                .or_insert_with(|| Queue::begin(&payment));
            Ok(())
        },
    )
    .await?;
    let mut queues: Vec<_> = queues.into_values().collect();
    queues.sort_by_key(|queue| (queue.deadline, queue.owner, queue.spender));
    Ok(queues)
}

pub(super) async fn undecided(session: &mut Session) -> Result<Vec<BatchRow>, Trouble> {
    bodies(
        session,
        "SELECT body FROM batches WHERE state <> 'concluded' ORDER BY seq",
        &[],
    )
    .await
}

fn entry(row: &Found) -> Result<BookedEntry, Trouble> {
    let bad = |what: &str| StoreError::Corrupt(format!("a line of the book has no {what}"));
    let text = |column| row.try_get::<_, &str>(column);
    Ok(BookedEntry {
        seq: unsigned(row.try_get(0)?)?,
        at: Timestamp(unsigned(row.try_get(1)?)?),
        entry: Entry {
            payment: text(2)?.parse().map_err(|_| bad("payment"))?,
            owner: OwnerKey {
                chain: ChainId(unsigned(row.try_get(3)?)?),
                token: text(4)?.parse().map_err(|_| bad("token"))?,
                owner: text(5)?.parse().map_err(|_| bad("payer"))?,
            },
            debit: parse_account(text(6)?)?,
            credit: parse_account(text(7)?)?,
            amount: parse_amount(text(8)?)?,
        },
    })
}

/// Lines of the book after this one. Numbers are given when lines are written, and lines are seen when they are committed:
/// where a number is missing, its line may be in a transaction that is still open. So the lines behind it wait until it is
/// known that nobody can write it any more, or must have given up.
pub(super) async fn entries(
    session: &mut Session,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<BookedEntry>, Trouble> {
    let page = lines(session, after_seq, limit, after_seq).await?;
    if !page.waits {
        return Ok(page.lines);
    }
    let decided = decided(session).await?;
    Ok(lines(session, after_seq, limit, decided).await?.lines)
}

/// A page of the book.
struct Page {
    lines: Vec<BookedEntry>,
    /// More lines are there, behind a number that may yet be written.
    waits: bool,
}

/// The lines of a page. What is missing up to `decided` nobody writes any more.
async fn lines(
    session: &mut Session,
    after_seq: u64,
    limit: usize,
    decided: u64,
) -> Result<Page, Trouble> {
    let mut page = Page {
        lines: Vec::new(),
        waits: false,
    };
    let mut last = after_seq;
    each(
        session,
        "SELECT seq, at, payment, chain, token, owner, debit, credit, amount::text,
            at > floor(extract(epoch FROM clock_timestamp()))::bigint - 90 AS young
         FROM entries WHERE seq > $1 ORDER BY seq LIMIT $2",
        &[&order(after_seq), &limit_of(limit)],
        |row| {
            let line = entry(row)?;
            let next = last.max(decided).saturating_add(1);
            page.waits |= line.seq > next && row.try_get::<_, bool>(9)?;
            last = line.seq;
            if !page.waits {
                page.lines.push(line);
            }
            Ok(())
        },
    )
    .await?;
    Ok(page)
}

/// How long is waited for those who write lines: a transaction that its gateway leaves open is ended after 5 seconds.
const WRITERS: Duration = Duration::from_secs(6);

/// The number up to which every line of the book is written, or never will be; 0 where somebody takes longer.
///
/// Whoever was given a number held the lock on the table before that, and holds it until what was written is seen by all,
/// or undone. So it is enough to wait until those who hold it now have gone, which holds up nobody.
async fn decided(session: &mut Session) -> Result<u64, Trouble> {
    let last = session
        .prepare(Sql::Text(
            "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('entries', 'seq')), 0)",
        ))
        .await?;
    let last = unsigned(session.client.query_one(&last, &[]).await?.try_get(0)?)?;
    let writers = session
        .prepare(Sql::Text(
            "SELECT coalesce(array_agg(virtualtransaction), '{}') FROM pg_locks
             WHERE relation = 'entries'::regclass AND mode = 'RowExclusiveLock' AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND ($1::text[] IS NULL OR virtualtransaction = ANY ($1))",
        ))
        .await?;
    let began = Instant::now();
    let mut open: Option<Vec<String>> = None;
    loop {
        let found = session.client.query_one(&writers, &[&open]).await?;
        let found: Vec<String> = found.try_get(0)?;
        if found.is_empty() {
            return Ok(last);
        }
        if began.elapsed() >= WRITERS {
            return Ok(0);
        }
        open = Some(found);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) async fn logs(
    session: &mut Session,
    filter: &LogFilter,
    limit: usize,
) -> Result<Vec<PaymentLog>, Trouble> {
    let mut all = Vec::new();
    each(
        session,
        "SELECT p.seq, p.body, b.body FROM payments p LEFT JOIN batches b ON b.id = p.batch
         WHERE ($1::bigint IS NULL OR p.chain = $1) AND ($2::text IS NULL OR p.token = $2)
            AND ($3::text IS NULL OR p.owner = $3) AND ($4::text IS NULL OR p.status = $4)
            AND ($5::bigint IS NULL OR p.seq < $5)
         ORDER BY p.seq DESC LIMIT $6",
        &[
            &filter.chain.map(chain).transpose()?,
            &filter.token.map(hex),
            &filter.payer.map(hex),
            &filter.status.map(|status| status.name()),
            &filter.before.map(order),
            &limit_of(limit),
        ],
        |row| {
            let seq = unsigned(row.try_get(0)?)?;
            let payment: PaymentRow = parse(row.try_get(1)?)?;
            let batch: Option<&str> = row.try_get(2)?;
            let batch: Option<BatchRow> = batch.map(parse).transpose()?;
            all.push(PaymentLog::of(seq, &payment, batch.as_ref()));
            Ok(())
        },
    )
    .await?;
    Ok(all)
}

/// The first rows of a kind after the one of this name, in the order of primary keys.
pub(super) async fn scan(
    session: &mut Session,
    kind: RowKind,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<Row>, Trouble> {
    let after = after.filter(|key| RowKind::of(key) == kind);
    let tables: &[usize] = match kind {
        RowKind::Owner => &[0],
        RowKind::Spender => &[1],
        // Claims come first, then permits: two tables.
        RowKind::Authorization => match after {
            Some(RowKey::Authorization(AuthorizationKey::Permit { .. })) => &[3],
            _ => &[2, 3],
        },
        RowKind::Payment => &[4],
        RowKind::Batch => &[5],
        RowKind::Signer => &[6],
        RowKind::Exposure => &[7],
        RowKind::Identifier => &[8],
        RowKind::Outcome => &[9],
    };
    session.open(MOMENT).await?;
    let mut rows = Vec::new();
    for at in tables {
        let Some(of) = TABLES.get(*at) else { continue };
        let begin = after.filter(|name| table(name) == *at);
        let names = of.names();
        let mut values = match begin {
            Some(name) => key(name)?,
            None => Vec::new(),
        };
        let place = values.len();
        let begin = if values.is_empty() {
            String::new()
        } else {
            let marks: Vec<String> = (1..=place).map(|number| format!("${number}")).collect();
            format!("WHERE ({names}) > ({})", marks.join(", "))
        };
        values.push(limit_of(limit.saturating_sub(rows.len())).into());
        let sql = format!(
            "SELECT body FROM {} {begin} ORDER BY {names} LIMIT ${}",
            of.name,
            place.saturating_add(1)
        );
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| {
                let value: &(dyn ToSql + Sync) = match value {
                    Cell::Number(number) => number,
                    Cell::Text(text) => text,
                    Cell::Flag(flag) => flag,
                };
                value
            })
            .collect();
        for found in session.client.query(&sql, &values).await? {
            rows.push(row(*at, found.try_get(0)?)?);
        }
    }
    session.close("COMMIT").await?;
    Ok(rows)
}

/// Sums of everything, at one moment.
pub(super) async fn totals(session: &mut Session) -> Result<Totals, Trouble> {
    session.open(MOMENT).await?;
    let mut totals = Totals::default();
    each(session, "SELECT body FROM payments", &[], |row| {
        Ok(totals.payment(&parse(row.try_get(0)?)?)?)
    })
    .await?;
    each(session, "SELECT body FROM owners", &[], |row| {
        Ok(totals.owner(&parse(row.try_get(0)?)?)?)
    })
    .await?;
    each(session, "SELECT body FROM spenders", &[], |row| {
        Ok(totals.spender(&parse(row.try_get(0)?)?)?)
    })
    .await?;
    each(session, "SELECT body FROM exposures", &[], |row| {
        Ok(totals.exposure(&parse(row.try_get(0)?)?)?)
    })
    .await?;
    each(
        session,
        "SELECT seq, at, payment, chain, token, owner, debit, credit, amount::text FROM entries",
        &[],
        |row| Ok(totals.entry(&entry(row)?.entry)?),
    )
    .await?;
    session.close("COMMIT").await?;
    Ok(totals)
}
