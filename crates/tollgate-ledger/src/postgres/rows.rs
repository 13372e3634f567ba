//! Rows to columns, and names to keys. No rule of payments stands here.

use tollgate_payment::{
    AuthorizationKey, BatchState, Entry, PaymentRow, PaymentState, Row, RowKey,
};
use tollgate_x402::Timestamp;

use super::{group::Beside, table::Cell};
use crate::{
    body::{parse, print},
    error::StoreError,
    log::{Status, reason},
    text::{amount, batch, chain, exact, hex, moment, nonce, order, payment},
};

/// Which table keeps rows of this name.
pub(super) const fn table(name: &RowKey) -> usize {
    match name {
        RowKey::Owner(_) => 0,
        RowKey::Spender(_) => 1,
        RowKey::Authorization(AuthorizationKey::Claim { .. }) => 2,
        RowKey::Authorization(AuthorizationKey::Permit { .. }) => 3,
        RowKey::Payment(_) => 4,
        RowKey::Batch(_) => 5,
        RowKey::Signer(_) => 6,
        RowKey::Exposure(_) => 7,
        RowKey::Identifier(_) => 8,
        RowKey::Outcome(_) => 9,
    }
}

/// A row of a table from its body.
pub(super) fn row(table: usize, body: &str) -> Result<Row, StoreError> {
    Ok(match table {
        0 => Row::Owner(parse(body)?),
        1 => Row::Spender(parse(body)?),
        2 | 3 => Row::Authorization(parse(body)?),
        4 => Row::Payment(parse(body)?),
        5 => Row::Batch(parse(body)?),
        6 => Row::Signer(parse(body)?),
        7 => Row::Exposure(parse(body)?),
        8 => Row::Identifier(parse(body)?),
        _ => Row::Outcome(parse(body)?),
    })
}

/// The values of the key's columns.
pub(super) fn key(name: &RowKey) -> Result<Vec<Cell>, StoreError> {
    Ok(match name {
        RowKey::Owner(key) => vec![
            chain(key.chain)?.into(),
            hex(key.token).into(),
            hex(key.owner).into(),
        ],
        RowKey::Spender(key) => vec![
            chain(key.owner.chain)?.into(),
            hex(key.owner.token).into(),
            hex(key.owner.owner).into(),
            hex(key.spender).into(),
        ],
        RowKey::Authorization(AuthorizationKey::Claim {
            chain: on,
            verifying,
            owner,
            nonce: number,
        }) => vec![
            chain(*on)?.into(),
            hex(verifying).into(),
            hex(owner).into(),
            nonce(*number).into(),
        ],
        RowKey::Authorization(AuthorizationKey::Permit { chain: on, digest }) => {
            vec![chain(*on)?.into(), hex(digest).into()]
        }
        RowKey::Payment(id) | RowKey::Outcome(id) => vec![payment(*id).into()],
        RowKey::Batch(id) => vec![batch(*id).into()],
        RowKey::Signer(key) => vec![chain(key.chain)?.into(), hex(key.operator).into()],
        RowKey::Exposure(key) => vec![
            chain(key.chain)?.into(),
            hex(key.token).into(),
            i64::from(key.slice).into(),
        ],
        RowKey::Identifier(key) => vec![
            chain(key.chain)?.into(),
            hex(key.owner).into(),
            hex(key.digest).into(),
        ],
    })
}

/// The values of all columns of a row, as its table lists them.
pub(super) fn cells(row: &Row, beside: &Beside) -> Result<Vec<Cell>, StoreError> {
    let mut cells = key(&row.key())?;
    match row {
        Row::Owner(row) => cells.extend([
            amount(row.held).into(),
            amount(row.due).into(),
            amount(row.lost).into(),
            print(row)?.into(),
        ]),
        Row::Spender(row) => cells.extend([
            amount(row.held).into(),
            amount(row.due).into(),
            print(row)?.into(),
        ]),
        Row::Authorization(row) => {
            if let AuthorizationKey::Claim { .. } = row.key {
                cells.push(row.payment.map(payment).into());
            }
            cells.push(print(row)?.into());
        }
        Row::Payment(row) => cells.extend(payment_cells(row, beside)?),
        Row::Batch(row) => {
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
            let number = row.nonce().map(|nonce| exact(nonce, "an account's nonce"));
            cells.extend([
                state.into(),
                chain(row.signer.chain)?.into(),
                hex(row.signer.operator).into(),
                number.transpose()?.into(),
                tx.flatten().into(),
                block.into(),
                moment(row.created).into(),
                print(row)?.into(),
            ]);
        }
        Row::Signer(row) => cells.push(print(row)?.into()),
        Row::Exposure(row) => cells.extend([amount(row.used).into(), print(row)?.into()]),
        Row::Identifier(row) => cells.extend([
            payment(row.payment).into(),
            moment(row.expires).into(),
            print(row)?.into(),
        ]),
        Row::Outcome(row) => cells.extend([moment(row.expires).into(), print(row)?.into()]),
    }
    Ok(cells)
}

fn payment_cells(row: &PaymentRow, beside: &Beside) -> Result<[Cell; 21], StoreError> {
    let owner = row.keys.owner;
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
    Ok([
        Status::from(&row.state).name().into(),
        reason(&row.state).into(),
        beside.committed.into(),
        order(row.epoch).into(),
        chain(owner.chain)?.into(),
        hex(owner.token).into(),
        hex(owner.owner).into(),
        row.keys.spender.map(hex).into(),
        amount(row.reserved).into(),
        amount(row.charge).into(),
        from.into(),
        to.into(),
        beside.batch.map(batch).into(),
        beside.keeps.into(),
        tx.into(),
        block.into(),
        moment(row.created).into(),
        row.ended.map(moment).into(),
        moment(row.deadline).into(),
        // PostgreSQL's text holds every character but this one.
        row.memo.replace('\0', "\u{fffd}").into(),
        print(row)?.into(),
    ])
}

/// The values of a line of the book.
pub(super) fn line(entry: &Entry, now: Timestamp) -> Result<Vec<Cell>, StoreError> {
    Ok(vec![
        moment(now).into(),
        payment(entry.payment).into(),
        chain(entry.owner.chain)?.into(),
        hex(entry.owner.token).into(),
        hex(entry.owner.owner).into(),
        entry.debit.name().into(),
        entry.credit.name().into(),
        amount(entry.amount).into(),
    ])
}
