//! The one way in which every store asks a command.

use std::collections::BTreeSet;

use tollgate_payment::{Command, Entry, Row, RowKey, RowSet, Rows};
use tollgate_x402::Timestamp;

use crate::error::StoreError;

/// What a command decided, checked: a store writes exactly this.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided<T> {
    /// Rows to write, each named by the command, each once.
    pub writes: Vec<Row>,
    /// Lines to add to the double-entry book; none is about nothing.
    pub entries: Vec<Entry>,
    /// What the caller learns.
    pub outcome: T,
}

/// Asks a command, and checks that it writes only rows that it named.
///
/// A store locks what `names` names and loads `rows` from it. A row that was not named was not locked:
/// to write it would overwrite what another step did meanwhile.
///
/// # Errors
/// The command's refusal, or [`StoreError::Corrupt`] for a write that was not named or is doubled.
pub fn decide<C: Command>(
    command: &C,
    names: &RowSet,
    rows: &Rows,
    now: Timestamp,
) -> Result<Decided<C::Outcome>, StoreError> {
    let decision = command.decide(rows, now)?;
    let mut named: BTreeSet<&RowKey> = names.iter().collect();
    for row in &decision.writes {
        if !named.remove(&row.key()) {
            return Err(StoreError::Corrupt(format!(
                "a step writes {} that it did not name, or writes it twice",
                kind(&row.key())
            )));
        }
    }
    let mut entries = decision.entries;
    entries.retain(|entry| !entry.amount.is_zero());
    Ok(Decided {
        writes: decision.writes,
        entries,
        outcome: decision.outcome,
    })
}

/// What a name names, without naming it: ids are secrets of payers.
const fn kind(key: &RowKey) -> &'static str {
    match key {
        RowKey::Owner(_) => "a payer",
        RowKey::Spender(_) => "a spender",
        RowKey::Authorization(_) => "an authorization",
        RowKey::Payment(_) => "a payment",
        RowKey::Batch(_) => "a batch",
        RowKey::Signer(_) => "a settling account",
        RowKey::Exposure(_) => "a slice of the exposure",
        RowKey::Identifier(_) => "a payer's name for a request",
        RowKey::Outcome(_) => "an answer",
    }
}
