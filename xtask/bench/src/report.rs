//! What was measured, as rows: each beside what ran in the same run.

use std::fmt::Write;

use serde::Serialize;

use crate::machine::{Disk, Machine};

/// One measured number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    bench: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Beside>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<Wanted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// What ran beside it.
#[derive(Debug, Serialize)]
struct Beside {
    what: String,
    value: f64,
    /// The row's value over this one.
    ratio: f64,
}

/// What the value, or its ratio, should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Wanted {
    AtMost(f64),
    Below(f64),
    RatioAtLeast(f64),
    AtLeast(f64),
}

impl Row {
    pub(crate) fn new(
        bench: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            bench,
            what: what.into(),
            value,
            unit,
            beside: None,
            wanted: None,
            met: None,
        }
    }

    /// With what ran beside it, in the same unit.
    pub(crate) fn beside(mut self, what: impl Into<String>, value: f64) -> Self {
        self.beside = Some(Beside {
            what: what.into(),
            value,
            ratio: self.value / value,
        });
        self
    }

    /// With what it should be. To be called after [`Row::beside`].
    pub(crate) fn wanted(mut self, wanted: Wanted) -> Self {
        let ratio = self.beside.as_ref().map(|beside| beside.ratio);
        self.met = Some(match wanted {
            Wanted::AtMost(most) => self.value <= most,
            Wanted::Below(most) => self.value < most,
            Wanted::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Wanted::AtLeast(least) => self.value >= least,
        });
        self.wanted = Some(wanted);
        self
    }

    fn cells(&self) -> [String; 7] {
        let beside = self.beside.as_ref();
        [
            self.bench.to_owned(),
            self.what.clone(),
            format!("{} {}", number(self.value), self.unit),
            beside.map_or_else(String::new, |beside| {
                format!("{} {} {}", beside.what, number(beside.value), self.unit)
            }),
            beside.map_or_else(String::new, |beside| format!("{:.3}", beside.ratio)),
            match self.wanted {
                None => String::new(),
                Some(Wanted::AtMost(most)) => format!("≤ {most}"),
                Some(Wanted::Below(most)) => format!("< {most}"),
                Some(Wanted::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
                Some(Wanted::AtLeast(least)) => format!("≥ {least}"),
            },
            match self.met {
                None => String::new(),
                Some(true) => "met".to_owned(),
                Some(false) => "MISSED".to_owned(),
            },
        ]
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) disk: Disk,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// As a table for people.
    pub(crate) fn text(&self) -> String {
        let head =
            ["bench", "what", "measured", "beside", "ratio", "wanted", ""].map(str::to_owned);
        let lines: Vec<[String; 7]> = std::iter::once(head)
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        let widths: Vec<usize> = (0..7)
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(text, "machine: {}", self.machine.line());
        let _ = writeln!(text, "disk:    {}\n", self.disk.line());
        for line in &lines {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

/// Three digits are more than a shared machine repeats.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_it_is_what_was_wanted() {
        let row = |value| Row::new("b", "w", value, "ms").beside("other", 2.0);
        assert_eq!(row(1.0).wanted(Wanted::RatioAtLeast(0.5)).met, Some(true));
        assert_eq!(row(0.9).wanted(Wanted::RatioAtLeast(0.5)).met, Some(false));
        assert_eq!(row(1.0).wanted(Wanted::Below(1.0)).met, Some(false));
        assert_eq!(row(1.0).wanted(Wanted::AtMost(1.0)).met, Some(true));
    }
}
