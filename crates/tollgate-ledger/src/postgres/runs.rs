//! Runs of gateways, and what may be forgotten. Every moment is the server's.

use tokio_postgres::types::ToSql;
use tollgate_payment::PaymentRow;

use super::{
    failure::Trouble,
    query::bodies,
    session::{Session, Sql},
};
use crate::{
    error::{Outage, StoreError},
    run::{RUN_LEASE, Run},
    text::{order, unsigned},
};

/// The present moment: the server's, unless a test gives another.
macro_rules! now {
    () => {
        "coalesce($1::bigint, floor(extract(epoch FROM clock_timestamp()))::bigint)"
    };
}

/// Runs whose lease has expired are dead from here on. A run with an open transaction lives: its row is locked.
const BURY: &str = concat!(
    "UPDATE runs SET ended = ",
    now!(),
    " WHERE epoch IN (SELECT epoch FROM runs WHERE ended IS NULL AND until < ",
    now!(),
    " FOR UPDATE SKIP LOCKED)"
);
const LIVING: &str = "SELECT slot, gateways FROM runs WHERE ended IS NULL ORDER BY slot";
const BEGIN: &str = concat!(
    "INSERT INTO runs (slot, gateways, begun, until) SELECT $2, $3, now, now + $4 FROM (SELECT ",
    now!(),
    " AS now) AS t RETURNING epoch"
);
const RENEW: &str = concat!(
    "UPDATE runs SET until = ",
    now!(),
    " + $3 WHERE epoch = $2 AND ended IS NULL"
);
const END: &str = concat!(
    "UPDATE runs SET ended = ",
    now!(),
    " WHERE epoch = $2 AND ended IS NULL"
);
/// Runs of long ago, whose payments have ended.
const FORGET: &str =
    "DELETE FROM runs WHERE epoch IN (SELECT epoch FROM runs AS r WHERE ended IS NOT NULL
    AND NOT EXISTS (SELECT FROM payments WHERE status = 'serving' AND epoch = r.epoch)
    ORDER BY epoch DESC OFFSET 100 FOR UPDATE SKIP LOCKED)";
const ABANDONED: &str = "SELECT body FROM payments AS p WHERE status = 'serving' AND epoch <> $1
    AND NOT EXISTS (SELECT FROM runs WHERE runs.epoch = p.epoch AND ended IS NULL) ORDER BY epoch, seq";
const PRUNE: [&str; 2] = [
    concat!(
        "DELETE FROM identifiers WHERE (chain, owner, digest) IN (SELECT chain, owner, digest FROM identifiers
            WHERE expires <= ",
        now!(),
        " ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)"
    ),
    concat!(
        "DELETE FROM outcomes WHERE payment IN (SELECT payment FROM outcomes WHERE expires <= ",
        now!(),
        " ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)"
    ),
];

async fn execute(
    session: &mut Session,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Trouble> {
    let statement = session.prepare(Sql::Text(sql)).await?;
    Ok(session.client.execute(&statement, values).await?)
}

/// Begins a run in the lowest slot that is free.
pub(super) async fn begin(
    session: &mut Session,
    now: Option<i64>,
    gateways: u32,
) -> Result<Run, Trouble> {
    session
        .open("BEGIN; LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
        .await?;
    execute(session, BURY, &[&now]).await?;
    let mut taken = Vec::new();
    for row in session.client.query(LIVING, &[]).await? {
        let (slot, of): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if of != i64::from(gateways) {
            session.close("ROLLBACK").await?;
            let living = u32::try_from(of).unwrap_or(u32::MAX);
            let asked = gateways;
            return Err(StoreError::from(Outage::Slots { living, asked }).into());
        }
        taken.push(slot);
    }
    let Some(slot) = (0..gateways).find(|slot| !taken.contains(&i64::from(*slot))) else {
        // Who was found dead is dead.
        session.close("COMMIT").await?;
        return Err(StoreError::from(Outage::NoSlot(gateways)).into());
    };
    let statement = session.prepare(Sql::Text(BEGIN)).await?;
    let row = session
        .client
        .query_one(
            &statement,
            &[
                &now,
                &i64::from(slot),
                &i64::from(gateways),
                &order(RUN_LEASE),
            ],
        )
        .await?;
    session.close("COMMIT").await?;
    let epoch = unsigned(row.try_get(0)?)?;
    Ok(Run { epoch, slot })
}

/// A sign of life.
pub(super) async fn renew(
    session: &mut Session,
    now: Option<i64>,
    epoch: u64,
) -> Result<bool, Trouble> {
    let renewed = execute(session, RENEW, &[&now, &order(epoch), &order(RUN_LEASE)]).await?;
    Ok(renewed == 1)
}

/// Ends a run.
pub(super) async fn end(
    session: &mut Session,
    now: Option<i64>,
    epoch: u64,
) -> Result<(), Trouble> {
    execute(session, END, &[&now, &order(epoch)])
        .await
        .map(drop)
}

/// What dead runs still serve.
pub(super) async fn abandoned(
    session: &mut Session,
    now: Option<i64>,
    epoch: u64,
) -> Result<Vec<PaymentRow>, Trouble> {
    execute(session, BURY, &[&now]).await?;
    bodies(session, ABANDONED, &[&order(epoch)]).await
}

/// Forgets what has expired.
pub(super) async fn prune(
    session: &mut Session,
    now: Option<i64>,
    limit: usize,
) -> Result<usize, Trouble> {
    let mut left = limit;
    for sql in PRUNE {
        let most = i64::try_from(left).unwrap_or(i64::MAX);
        let pruned = execute(session, sql, &[&now, &most]).await?;
        left = left.saturating_sub(usize::try_from(pruned).unwrap_or(usize::MAX));
    }
    execute(session, FORGET, &[]).await?;
    Ok(limit.saturating_sub(left))
}
