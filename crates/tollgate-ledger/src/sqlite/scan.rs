//! Every row of a kind, page by page, in the order of its primary key.

use rusqlite::{Connection, params_from_iter, types::Value};
use serde::de::DeserializeOwned;
use tollgate_payment::{AuthorizationKey, Row, RowKey};

use super::failure::failed;
use crate::body::parse;
use crate::text::{batch, chain, hex, nonce, payment};
use crate::{error::StoreError, scan::RowKind};

/// The first rows of a kind after the one of this name.
pub(super) fn scan(
    books: &Connection,
    kind: RowKind,
    after: Option<&RowKey>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let after = after.filter(|key| RowKind::of(key) == kind);
    match kind {
        RowKind::Owner => page(books, "owners", OWNER, after, limit, Row::Owner),
        RowKind::Spender => page(books, "spenders", SPENDER, after, limit, Row::Spender),
        RowKind::Authorization => {
            // Claims come first, then permits: two tables.
            let permit = after.filter(|key| is_permit(key));
            let mut rows = match permit {
                Some(_) => Vec::new(),
                None => page(books, "claims", CLAIM, after, limit, Row::Authorization)?,
            };
            let rest = limit.saturating_sub(rows.len());
            rows.extend(page(
                books,
                "permits",
                PERMIT,
                permit,
                rest,
                Row::Authorization,
            )?);
            Ok(rows)
        }
        RowKind::Payment => page(books, "payments", &["id"], after, limit, Row::Payment),
        RowKind::Batch => page(books, "batches", &["id"], after, limit, Row::Batch),
        RowKind::Signer => page(books, "signers", SIGNER, after, limit, Row::Signer),
        RowKind::Exposure => page(books, "exposures", EXPOSURE, after, limit, Row::Exposure),
        RowKind::Identifier => page(
            books,
            "identifiers",
            IDENTIFIER,
            after,
            limit,
            Row::Identifier,
        ),
        RowKind::Outcome => page(books, "outcomes", &["payment"], after, limit, Row::Outcome),
    }
}

const OWNER: &[&str] = &["chain", "token", "owner"];
const SPENDER: &[&str] = &["chain", "token", "owner", "spender"];
const CLAIM: &[&str] = &["chain", "verifying", "owner", "nonce"];
const PERMIT: &[&str] = &["chain", "digest"];
const SIGNER: &[&str] = &["chain", "operator"];
const EXPOSURE: &[&str] = &["chain", "token", "slice"];
const IDENTIFIER: &[&str] = &["chain", "owner", "digest"];

const fn is_permit(key: &RowKey) -> bool {
    matches!(key, RowKey::Authorization(AuthorizationKey::Permit { .. }))
}

fn page<T: DeserializeOwned>(
    books: &Connection,
    table: &str,
    columns: &[&str],
    after: Option<&RowKey>,
    limit: usize,
    row: impl Fn(T) -> Row,
) -> Result<Vec<Row>, StoreError> {
    let names = columns.join(", ");
    let mut values = match after {
        Some(key) => name(key)?,
        None => Vec::new(),
    };
    let begin = match after {
        Some(_) => {
            let marks = vec!["?"; columns.len()].join(", ");
            format!("WHERE ({names}) > ({marks})")
        }
        None => String::new(),
    };
    values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
    let sql = format!("SELECT body FROM {table} {begin} ORDER BY {names} LIMIT ?");
    let mut statement = books.prepare_cached(&sql).map_err(failed)?;
    let mut found = statement.query(params_from_iter(values)).map_err(failed)?;
    let mut all = Vec::new();
    while let Some(next) = found.next().map_err(failed)? {
        let body = next.get_ref(0).map_err(failed)?;
        let body = body
            .as_str()
            .map_err(|_| StoreError::Corrupt("a stored row is not text".into()))?;
        all.push(row(parse(body)?));
    }
    Ok(all)
}

/// The values of the key's columns.
fn name(key: &RowKey) -> Result<Vec<Value>, StoreError> {
    let text = Value::Text;
    Ok(match key {
        RowKey::Owner(key) => vec![
            chain(key.chain)?.into(),
            text(hex(key.token)),
            text(hex(key.owner)),
        ],
        RowKey::Spender(key) => vec![
            chain(key.owner.chain)?.into(),
            text(hex(key.owner.token)),
            text(hex(key.owner.owner)),
            text(hex(key.spender)),
        ],
        RowKey::Authorization(AuthorizationKey::Claim {
            chain: on,
            verifying,
            owner,
            nonce: number,
        }) => vec![
            chain(*on)?.into(),
            text(hex(verifying)),
            text(hex(owner)),
            text(nonce(*number)),
        ],
        RowKey::Authorization(AuthorizationKey::Permit { chain: on, digest }) => {
            vec![chain(*on)?.into(), text(hex(digest))]
        }
        RowKey::Payment(id) | RowKey::Outcome(id) => vec![text(payment(*id))],
        RowKey::Batch(id) => vec![text(batch(*id))],
        RowKey::Signer(key) => vec![chain(key.chain)?.into(), text(hex(key.operator))],
        RowKey::Exposure(key) => vec![
            chain(key.chain)?.into(),
            text(hex(key.token)),
            i64::from(key.slice).into(),
        ],
        RowKey::Identifier(key) => vec![
            chain(key.chain)?.into(),
            text(hex(key.owner)),
            text(hex(key.digest)),
        ],
    })
}
