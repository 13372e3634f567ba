//! The tables, and the few statements that are made of each.

use tokio_postgres::types::ToSql;

/// What stands in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Number,
    Text,
    Amount,
    Flag,
}

use Kind::{Amount, Flag, Number, Text};

/// What becomes of a column when a row is written again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// It gets the new value.
    New,
    /// It stays.
    Stays,
    /// The first value stays.
    First,
    /// It stays if the column `keeps` says so.
    Keeps,
    /// It is no column: it only says something to the statement.
    Says,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column(&'static str, Kind, Again);

/// A table of rows.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// How many of the first columns are the key.
    pub(super) keys: usize,
    pub(super) columns: &'static [Column],
}

const fn new(name: &'static str, kind: Kind) -> Column {
    Column(name, kind, Again::New)
}

const fn stays(name: &'static str, kind: Kind) -> Column {
    Column(name, kind, Again::Stays)
}

/// In the order in which rows are locked: that of `RowKey`.
pub(super) static TABLES: [Table; 10] = [
    Table {
        name: "owners",
        keys: 3,
        columns: &[
            stays("chain", Number),
            stays("token", Text),
            stays("owner", Text),
            new("held", Amount),
            new("due", Amount),
            new("lost", Amount),
            new("body", Text),
        ],
    },
    Table {
        name: "spenders",
        keys: 4,
        columns: &[
            stays("chain", Number),
            stays("token", Text),
            stays("owner", Text),
            stays("spender", Text),
            new("held", Amount),
            new("due", Amount),
            new("body", Text),
        ],
    },
    Table {
        name: "claims",
        keys: 4,
        columns: &[
            stays("chain", Number),
            stays("verifying", Text),
            stays("owner", Text),
            stays("nonce", Text),
            new("payment", Text),
            new("body", Text),
        ],
    },
    Table {
        name: "permits",
        keys: 2,
        columns: &[
            stays("chain", Number),
            stays("digest", Text),
            new("body", Text),
        ],
    },
    Table {
        name: "payments",
        keys: 1,
        columns: &[
            stays("id", Text),
            new("status", Text),
            new("reason", Text),
            Column("committed", Number, Again::First),
            new("epoch", Number),
            stays("chain", Number),
            stays("token", Text),
            stays("owner", Text),
            stays("spender", Text),
            new("reserved", Amount),
            new("charge", Amount),
            new("interval_from", Amount),
            new("interval_to", Amount),
            Column("batch", Text, Again::Keeps),
            Column("keeps", Flag, Again::Says),
            new("tx", Text),
            new("block", Number),
            stays("created", Number),
            new("ended", Number),
            new("deadline", Number),
            new("memo", Text),
            new("body", Text),
        ],
    },
    Table {
        name: "batches",
        keys: 1,
        columns: &[
            stays("id", Text),
            new("state", Text),
            stays("chain", Number),
            stays("operator", Text),
            new("nonce", Number),
            new("tx", Text),
            new("block", Number),
            stays("created", Number),
            new("body", Text),
        ],
    },
    Table {
        name: "signers",
        keys: 2,
        columns: &[
            stays("chain", Number),
            stays("operator", Text),
            new("body", Text),
        ],
    },
    Table {
        name: "exposures",
        keys: 3,
        columns: &[
            stays("chain", Number),
            stays("token", Text),
            stays("slice", Number),
            new("used", Amount),
            new("body", Text),
        ],
    },
    Table {
        name: "identifiers",
        keys: 3,
        columns: &[
            stays("chain", Number),
            stays("owner", Text),
            stays("digest", Text),
            new("payment", Text),
            new("expires", Number),
            new("body", Text),
        ],
    },
    Table {
        name: "outcomes",
        keys: 1,
        columns: &[
            stays("payment", Text),
            new("expires", Number),
            new("body", Text),
        ],
    },
];

/// The double-entry book.
pub(super) static ENTRIES: Table = Table {
    name: "entries",
    keys: 0,
    columns: &[
        new("at", Number),
        new("payment", Text),
        new("chain", Number),
        new("token", Text),
        new("owner", Text),
        new("debit", Text),
        new("credit", Text),
        new("amount", Amount),
    ],
};

impl Table {
    /// The key's columns.
    pub(super) fn key(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.columns.iter().take(self.keys).map(|column| column.0)
    }

    /// The key's columns, separated by commas.
    pub(super) fn names(&self) -> String {
        self.key().collect::<Vec<_>>().join(", ")
    }

    /// The bodies of the rows of so many names, and with `lock` the rows locked in the order of their names.
    pub(super) fn select(&self, lock: bool) -> String {
        let (table, names) = (self.name, self.names());
        let arrays = arrays(self.columns.iter().take(self.keys));
        let lock = if lock {
            format!("ORDER BY {names} FOR UPDATE")
        } else {
            String::new()
        };
        format!(
            "SELECT body FROM {table} WHERE ({names}) IN (SELECT * FROM unnest({arrays})) {lock}"
        )
    }

    /// New rows, in the order in which they are given. One that exists is an error.
    pub(super) fn insert(&self) -> String {
        let kept = || self.columns.iter().filter(|column| column.2 != Again::Says);
        let table = self.name;
        let names: Vec<&str> = kept().map(|column| column.0).collect();
        let values: Vec<String> = kept().map(Column::value).collect();
        format!(
            "INSERT INTO {table} ({}) SELECT {} FROM unnest({}) WITH ORDINALITY AS u ({}, place) ORDER BY place",
            names.join(", "),
            values.join(", "),
            arrays(self.columns.iter()),
            self.columns
                .iter()
                .map(|column| column.0)
                .collect::<Vec<_>>()
                .join(", "),
        )
    }

    /// Rows that exist, written again.
    pub(super) fn update(&self) -> String {
        let sets: Vec<String> = self
            .columns
            .iter()
            .filter_map(|column| {
                let (name, value) = (column.0, column.value());
                match column.2 {
                    Again::New => Some(format!("{name} = {value}")),
                    Again::First => Some(format!("{name} = coalesce(t.{name}, {value})")),
                    Again::Keeps => Some(format!(
                        "{name} = CASE WHEN u.keeps THEN t.{name} ELSE {value} END"
                    )),
                    Again::Stays | Again::Says => None,
                }
            })
            .collect();
        let same: Vec<String> = self
            .key()
            .map(|name| format!("t.{name} = u.{name}"))
            .collect();
        format!(
            "UPDATE {} AS t SET {} FROM unnest({}) AS u ({}) WHERE {}",
            self.name,
            sets.join(", "),
            arrays(self.columns.iter()),
            self.columns
                .iter()
                .map(|column| column.0)
                .collect::<Vec<_>>()
                .join(", "),
            same.join(" AND "),
        )
    }
}

impl Column {
    fn value(&self) -> String {
        match self.1 {
            Amount => format!("u.{}::numeric", self.0),
            Number | Text | Flag => format!("u.{}", self.0),
        }
    }
}

/// One parameter a column: all values of it.
fn arrays<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let arrays: Vec<String> = columns
        .zip(1..)
        .map(|(column, number)| {
            let kind = match column.1 {
                Number => "bigint",
                Text | Amount => "text",
                Flag => "boolean",
            };
            format!("${number}::{kind}[]")
        })
        .collect();
    arrays.join(", ")
}

/// A value in a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Cell {
    Number(Option<i64>),
    Text(Option<String>),
    Flag(bool),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Cell {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

pub(super) type Parameter = Box<dyn ToSql + Send + Sync>;

/// Rows of values as one array a column.
pub(super) fn columns(rows: Vec<Vec<Cell>>) -> Vec<Parameter> {
    enum Array {
        Numbers(Vec<Option<i64>>),
        Texts(Vec<Option<String>>),
        Flags(Vec<bool>),
    }
    let mut arrays: Vec<Array> = Vec::new();
    for row in rows {
        if arrays.is_empty() {
            arrays.extend(row.iter().map(|cell| match cell {
                Cell::Number(_) => Array::Numbers(Vec::new()),
                Cell::Text(_) => Array::Texts(Vec::new()),
                Cell::Flag(_) => Array::Flags(Vec::new()),
            }));
        }
        for (array, cell) in arrays.iter_mut().zip(row) {
            match (array, cell) {
                (Array::Numbers(all), Cell::Number(one)) => all.push(one),
                (Array::Texts(all), Cell::Text(one)) => all.push(one),
                (Array::Flags(all), Cell::Flag(one)) => all.push(one),
                // A column has one kind of value; a row that is a cell short is refused by the server.
                (Array::Numbers(_) | Array::Texts(_) | Array::Flags(_), _) => {}
            }
        }
    }
    arrays
        .into_iter()
        .map(|array| -> Parameter {
            match array {
                Array::Numbers(all) => Box::new(all),
                Array::Texts(all) => Box::new(all),
                Array::Flags(all) => Box::new(all),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_exists_is_an_error_of_an_insert_and_never_overwritten() {
        for table in &TABLES {
            assert!(!table.insert().contains("CONFLICT"), "{}", table.insert());
        }
    }

    #[test]
    fn what_came_first_and_what_held_a_payment_stay() {
        let update = TABLES[4].update();
        assert!(update.contains("committed = coalesce(t.committed, u.committed)"));
        assert!(update.contains("batch = CASE WHEN u.keeps THEN t.batch ELSE u.batch END"));
        assert!(!update.contains("seq ="));
        assert!(!TABLES[4].insert().contains("seq"));
    }
}
