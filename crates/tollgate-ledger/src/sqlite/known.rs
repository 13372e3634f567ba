//! Rows as they stand in the open group: what every step touches is not read and parsed by every step.
//!
//! The file is this process's alone and one thread writes it, so a row is what was written or read last.

use std::collections::HashMap;

use rusqlite::Connection;
use tollgate_payment::{Row, RowKey, RowSet, Rows};

use super::rows;
use crate::error::StoreError;

/// Rows that are kept, at most: about a megabyte. The payers of the moment, and the payments that are open.
const MOST: usize = 512;

/// Rows that need not be read.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<RowKey, Row>);

impl Known {
    /// The rows that exist of these names.
    pub(super) fn named(&mut self, books: &Connection, names: &RowSet) -> Result<Rows, StoreError> {
        let mut found = Rows::default();
        for name in names.iter() {
            if let Some(row) = self.0.get(name) {
                found.put(row.clone());
            } else if let Some(row) = rows::row(books, name)? {
                self.learn(row.clone());
                found.put(row);
            }
        }
        Ok(found)
    }

    /// A row is written like this now.
    pub(super) fn learn(&mut self, row: Row) {
        // They are long, and seldom asked for twice.
        if matches!(row, Row::Batch(_) | Row::Outcome(_)) {
            return;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(row.key(), row);
    }

    /// The group is undone, or rows were changed by another way.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
