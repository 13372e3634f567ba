//! The rows of an open group: locked, changed in memory step by step, and written once each.

use std::collections::BTreeMap;

use tollgate_payment::{BatchId, Entry, PaymentState, Row, RowKey, RowSet, Rows};
use tollgate_x402::Timestamp;

use super::{
    rows::{cells, line, table},
    session::Sql,
    table::{Parameter, TABLES, columns},
};
use crate::error::StoreError;

/// Commits in one group, at most: each gets a number of its own.
const COMMITS: i64 = 1 << 16;

/// What is known of a payment beside its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// The number of its commit, where it is due for the first time; the stored one stays.
    pub(super) committed: Option<i64>,
    /// The batch that holds it, unless the stored one stays.
    pub(super) batch: Option<BatchId>,
    /// Whether the stored batch stays.
    pub(super) keeps: bool,
}

impl Beside {
    const UNCHANGED: Self = Self {
        committed: None,
        batch: None,
        keeps: true,
    };
}

#[derive(Debug)]
struct Held {
    row: Option<Row>,
    stored: bool,
    /// In which order rows were first written; `None`: not written.
    place: Option<usize>,
    beside: Beside,
}

/// The rows of a group.
#[derive(Debug)]
pub(super) struct Group {
    rows: BTreeMap<RowKey, Held>,
    lines: Vec<Entry>,
    written: usize,
    commits: i64,
    now: Timestamp,
}

/// A statement of a group, its values, and how many rows it must touch.
pub(super) struct Write {
    pub(super) sql: Sql,
    pub(super) values: Vec<Parameter>,
    pub(super) rows: u64,
}

impl Group {
    /// The rows that were found and locked of those that are named.
    pub(super) fn new(names: &RowSet, found: Vec<Row>, now: Timestamp, number: i64) -> Self {
        let mut rows: BTreeMap<RowKey, Held> = names
            .iter()
            .map(|name| {
                let held = Held {
                    row: None,
                    stored: false,
                    place: None,
                    beside: Beside::UNCHANGED,
                };
                (*name, held)
            })
            .collect();
        for row in found {
            if let Some(held) = rows.get_mut(&row.key()) {
                held.stored = true;
                held.row = Some(row);
            }
        }
        Self {
            rows,
            lines: Vec::new(),
            written: 0,
            commits: number.saturating_mul(COMMITS),
            now,
        }
    }

    /// The present moment, read after the rows were locked.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// The rows of one step, as the steps before it left them.
    pub(super) fn named(&self, names: &RowSet) -> Rows {
        names
            .iter()
            .filter_map(|name| self.rows.get(name)?.row.clone())
            .collect()
    }

    /// Takes what a step decided.
    pub(super) fn take(&mut self, writes: Vec<Row>, entries: Vec<Entry>) {
        for row in writes {
            let Some(held) = self.rows.get_mut(&row.key()) else {
                continue;
            };
            if let Row::Payment(payment) = &row {
                match &payment.state {
                    PaymentState::Claimed { batch, .. } => {
                        held.beside.batch = Some(*batch);
                        held.beside.keeps = false;
                    }
                    PaymentState::Final { .. } | PaymentState::Lost { .. } => {}
                    PaymentState::Due { .. }
                    | PaymentState::Serving { .. }
                    | PaymentState::Released { .. } => {
                        held.beside.batch = None;
                        held.beside.keeps = false;
                    }
                }
                if matches!(payment.state, PaymentState::Due { .. })
                    && held.beside.committed.is_none()
                {
                    self.commits = self.commits.saturating_add(1);
                    held.beside.committed = Some(self.commits);
                }
            }
            if held.place.is_none() {
                held.place = Some(self.written);
                self.written = self.written.saturating_add(1);
            }
            held.row = Some(row);
        }
        self.lines.extend(entries);
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.written == 0 && self.lines.is_empty()
    }

    /// Everything to write, in the order in which rows are locked.
    pub(super) fn writes(&self) -> Result<Vec<Write>, StoreError> {
        let mut changed: Vec<Vec<Vec<_>>> = Vec::new();
        let mut added: Vec<Vec<(usize, Vec<_>)>> = Vec::new();
        for _ in &TABLES {
            changed.push(Vec::new());
            added.push(Vec::new());
        }
        for (name, held) in &self.rows {
            let (Some(row), Some(place)) = (&held.row, held.place) else {
                continue;
            };
            let at = table(name);
            let values = cells(row, &held.beside)?;
            match (held.stored, changed.get_mut(at), added.get_mut(at)) {
                (true, Some(changed), _) => changed.push(values),
                (false, _, Some(added)) => {
                    // Payments are numbered in the order of their admission; their names are random, so that two
                    // groups do not wait for each other crosswise. All others are added in the order of their names.
                    let place = if matches!(name, RowKey::Payment(_)) {
                        place
                    } else {
                        0
                    };
                    added.push((place, values));
                }
                _ => {}
            }
        }
        let mut writes = Vec::new();
        let mut write = |sql, rows: Vec<Vec<_>>| {
            if !rows.is_empty() {
                writes.push(Write {
                    sql,
                    rows: u64::try_from(rows.len()).unwrap_or(u64::MAX),
                    values: columns(rows),
                });
            }
        };
        for (at, (changed, mut added)) in changed.into_iter().zip(added).enumerate() {
            write(Sql::Update(at), changed);
            added.sort_by_key(|(place, _)| *place);
            write(
                Sql::Insert(at),
                added.into_iter().map(|(_, values)| values).collect(),
            );
        }
        let lines: Result<Vec<_>, _> = self
            .lines
            .iter()
            .map(|entry| line(entry, self.now))
            .collect();
        write(Sql::Book, lines?);
        Ok(writes)
    }
}
