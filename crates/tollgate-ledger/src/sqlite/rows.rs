//! Rows to tables and back. No rule of payments stands here.

use rusqlite::{Connection, OptionalExtension, Params, params};
use serde::de::DeserializeOwned;
use tollgate_payment::{
    AuthorizationKey, AuthorizationRow, BatchRow, BatchState, Entry, PaymentRow, PaymentState, Row,
    RowKey, RowSet, Rows,
};
use tollgate_x402::Timestamp;

use super::failure::failed;
use crate::body::{parse, print};
use crate::text::{amount, batch, chain, exact, hex, moment, nonce, order, payment};
use crate::{
    error::StoreError,
    log::{Status, batch_of, reason},
};

/// The rows that exist of these names.
pub(super) fn named(books: &Connection, names: &RowSet) -> Result<Rows, StoreError> {
    let mut rows = Rows::default();
    for name in names.iter() {
        if let Some(row) = row(books, name)? {
            rows.put(row);
        }
    }
    Ok(rows)
}

/// One row.
pub(super) fn row(books: &Connection, name: &RowKey) -> Result<Option<Row>, StoreError> {
    Ok(match name {
        RowKey::Owner(key) => body(
            books,
            "SELECT body FROM owners WHERE chain = ?1 AND token = ?2 AND owner = ?3",
            params![chain(key.chain)?, hex(key.token), hex(key.owner)],
        )?
        .map(Row::Owner),
        RowKey::Spender(key) => body(
            books,
            "SELECT body FROM spenders WHERE chain = ?1 AND token = ?2 AND owner = ?3 AND spender = ?4",
            params![
                chain(key.owner.chain)?,
                hex(key.owner.token),
                hex(key.owner.owner),
                hex(key.spender)
            ],
        )?
        .map(Row::Spender),
        RowKey::Authorization(AuthorizationKey::Claim {
            chain: on,
            verifying,
            owner,
            nonce: number,
        }) => body(
            books,
            "SELECT body FROM claims WHERE chain = ?1 AND verifying = ?2 AND owner = ?3 AND nonce = ?4",
            params![chain(*on)?, hex(verifying), hex(owner), nonce(*number)],
        )?
        .map(Row::Authorization),
        RowKey::Authorization(AuthorizationKey::Permit { chain: on, digest }) => body(
            books,
            "SELECT body FROM permits WHERE chain = ?1 AND digest = ?2",
            params![chain(*on)?, hex(digest)],
        )?
        .map(Row::Authorization),
        RowKey::Payment(id) => body(
            books,
            "SELECT body FROM payments WHERE id = ?1",
            params![payment(*id)],
        )?
        .map(Row::Payment),
        RowKey::Batch(id) => body(
            books,
            "SELECT body FROM batches WHERE id = ?1",
            params![batch(*id)],
        )?
        .map(Row::Batch),
        RowKey::Signer(key) => body(
            books,
            "SELECT body FROM signers WHERE chain = ?1 AND operator = ?2",
            params![chain(key.chain)?, hex(key.operator)],
        )?
        .map(Row::Signer),
        RowKey::Exposure(key) => body(
            books,
            "SELECT body FROM exposures WHERE chain = ?1 AND token = ?2 AND slice = ?3",
            params![chain(key.chain)?, hex(key.token), key.slice],
        )?
        .map(Row::Exposure),
        RowKey::Identifier(key) => body(
            books,
            "SELECT body FROM identifiers WHERE chain = ?1 AND owner = ?2 AND digest = ?3",
            params![chain(key.chain)?, hex(key.owner), hex(key.digest)],
        )?
        .map(Row::Identifier),
        RowKey::Outcome(id) => body(
            books,
            "SELECT body FROM outcomes WHERE payment = ?1",
            params![payment(*id)],
        )?
        .map(Row::Outcome),
    })
}

fn body<T: DeserializeOwned>(
    books: &Connection,
    sql: &str,
    names: impl Params,
) -> Result<Option<T>, StoreError> {
    let mut statement = books.prepare_cached(sql).map_err(failed)?;
    let text: Option<String> = statement
        .query_row(names, |row| row.get(0))
        .optional()
        .map_err(failed)?;
    text.as_deref().map(parse).transpose()
}

/// Writes a row. `commits` numbers payments when they are first due.
pub(super) fn put(books: &Connection, row: &Row, commits: &mut i64) -> Result<(), StoreError> {
    match row {
        Row::Owner(row) => run(
            books,
            "INSERT INTO owners (chain, token, owner, held, due, lost, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET held = excluded.held, due = excluded.due, lost = excluded.lost, body = excluded.body",
            params![
                chain(row.key.chain)?,
                hex(row.key.token),
                hex(row.key.owner),
                amount(row.held),
                amount(row.due),
                amount(row.lost),
                print(row)?
            ],
        ),
        Row::Spender(row) => run(
            books,
            "INSERT INTO spenders (chain, token, owner, spender, held, due, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET held = excluded.held, due = excluded.due, body = excluded.body",
            params![
                chain(row.key.owner.chain)?,
                hex(row.key.owner.token),
                hex(row.key.owner.owner),
                hex(row.key.spender),
                amount(row.held),
                amount(row.due),
                print(row)?
            ],
        ),
        Row::Authorization(row) => put_authorization(books, row),
        Row::Payment(row) => put_payment(books, row, commits),
        Row::Batch(row) => put_batch(books, row),
        Row::Signer(row) => run(
            books,
            "INSERT INTO signers (chain, operator, body) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET body = excluded.body",
            params![chain(row.key.chain)?, hex(row.key.operator), print(row)?],
        ),
        Row::Exposure(row) => run(
            books,
            "INSERT INTO exposures (chain, token, slice, used, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET used = excluded.used, body = excluded.body",
            params![
                chain(row.key.chain)?,
                hex(row.key.token),
                row.key.slice,
                amount(row.used),
                print(row)?
            ],
        ),
        Row::Identifier(row) => run(
            books,
            "INSERT INTO identifiers (chain, owner, digest, payment, expires, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET payment = excluded.payment, expires = excluded.expires, body = excluded.body",
            params![
                chain(row.key.chain)?,
                hex(row.key.owner),
                hex(row.key.digest),
                payment(row.payment),
                moment(row.expires),
                print(row)?
            ],
        ),
        Row::Outcome(row) => run(
            books,
            "INSERT INTO outcomes (payment, expires, body) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET expires = excluded.expires, body = excluded.body",
            params![payment(row.payment), moment(row.expires), print(row)?],
        ),
    }
}

fn put_authorization(books: &Connection, row: &AuthorizationRow) -> Result<(), StoreError> {
    match row.key {
        AuthorizationKey::Claim {
            chain: on,
            verifying,
            owner,
            nonce: number,
        } => run(
            books,
            "INSERT INTO claims (chain, verifying, owner, nonce, payment, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET payment = excluded.payment, body = excluded.body",
            params![
                chain(on)?,
                hex(verifying),
                hex(owner),
                nonce(number),
                row.payment.map(payment),
                print(row)?
            ],
        ),
        AuthorizationKey::Permit { chain: on, digest } => run(
            books,
            "INSERT INTO permits (chain, digest, body) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET body = excluded.body",
            params![chain(on)?, hex(digest), print(row)?],
        ),
    }
}

fn put_payment(books: &Connection, row: &PaymentRow, commits: &mut i64) -> Result<(), StoreError> {
    let owner = row.keys.owner;
    let status = Status::from(&row.state);
    let committed = match status {
        Status::Due => {
            *commits = commits.saturating_add(1);
            Some(*commits)
        }
        Status::Serving | Status::Claimed | Status::Final | Status::Lost | Status::Released => None,
    };
    // With no batch before, a payment that ended tells none: then the stored one stays.
    let keeps = matches!(status, Status::Final | Status::Lost);
    let paid = match &row.state {
        PaymentState::Final { transaction, block } => Some((hex(transaction), order(*block))),
        PaymentState::Serving { .. }
        | PaymentState::Due { .. }
        | PaymentState::Claimed { .. }
        | PaymentState::Lost { .. }
        | PaymentState::Released { .. } => None,
    };
    let (tx, block) = paid.unzip();
    let (from, to) = row
        .interval
        .map(|(from, to)| (amount(from), amount(to)))
        .unzip();
    run(
        books,
        "INSERT INTO payments (id, status, reason, committed, epoch, chain, token, owner, spender, reserved, charge,
            interval_from, interval_to, batch, tx, block, created, ended, deadline, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, reason = excluded.reason,
            committed = coalesce(committed, excluded.committed), epoch = excluded.epoch,
            reserved = excluded.reserved, charge = excluded.charge,
            interval_from = excluded.interval_from, interval_to = excluded.interval_to,
            batch = CASE WHEN ?21 THEN batch ELSE excluded.batch END,
            tx = excluded.tx, block = excluded.block, ended = excluded.ended,
            deadline = excluded.deadline, body = excluded.body",
        params![
            payment(row.keys.id),
            status.name(),
            reason(&row.state),
            committed,
            order(row.epoch),
            chain(owner.chain)?,
            hex(owner.token),
            hex(owner.owner),
            row.keys.spender.map(hex),
            amount(row.reserved),
            amount(row.charge),
            from,
            to,
            batch_of(&row.state, None).map(batch),
            tx,
            block,
            moment(row.created),
            row.ended.map(moment),
            moment(row.deadline),
            print(row)?,
            keeps
        ],
    )
}

fn put_batch(books: &Connection, row: &BatchRow) -> Result<(), StoreError> {
    let (state, seen) = match &row.state {
        BatchState::Claimed => ("claimed", None),
        BatchState::Sealed => ("sealed", None),
        BatchState::Included { transaction, block } => {
            ("included", Some((Some(hex(transaction)), order(*block))))
        }
        BatchState::Concluded { transaction, block } => (
            "concluded",
            Some((transaction.as_ref().map(hex), order(*block))),
        ),
    };
    let (tx, block) = seen.unzip();
    run(
        books,
        "INSERT INTO batches (id, state, chain, operator, nonce, tx, block, created, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, nonce = excluded.nonce, tx = excluded.tx,
            block = excluded.block, body = excluded.body",
        params![
            batch(row.id),
            state,
            chain(row.signer.chain)?,
            hex(row.signer.operator),
            row.nonce().map(|nonce| exact(nonce, "an account's nonce")).transpose()?,
            tx.flatten(),
            block,
            moment(row.created),
            print(row)?
        ],
    )
}

/// Adds a line to the book.
pub(super) fn book(books: &Connection, entry: &Entry, now: Timestamp) -> Result<(), StoreError> {
    run(
        books,
        "INSERT INTO entries (at, payment, chain, token, owner, debit, credit, amount)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            moment(now),
            payment(entry.payment),
            chain(entry.owner.chain)?,
            hex(entry.owner.token),
            hex(entry.owner.owner),
            entry.debit.name(),
            entry.credit.name(),
            amount(entry.amount)
        ],
    )
}

fn run(books: &Connection, sql: &str, values: impl Params) -> Result<(), StoreError> {
    let mut statement = books.prepare_cached(sql).map_err(failed)?;
    statement.execute(values).map(drop).map_err(failed)
}
