//! What an audit found.

use core::fmt;

/// Violations of one invariant that are told one by one; the rest is counted.
const TOLD: usize = 50;

/// What an audit found: every invariant that was looked at, and what contradicts it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The invariants, in the order in which they were looked at.
    pub invariants: Vec<Invariant>,
}

/// Something that must always hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invariant {
    /// A stable name, such as `double-entry`.
    pub name: &'static str,
    /// What must hold.
    pub promise: &'static str,
    /// How many rows or sums were held against it.
    pub checked: u64,
    /// What contradicts it, a sentence each, with the rows; the first fifty.
    pub violations: Vec<String>,
    /// How many more there are.
    pub more: u64,
    /// Why it could not be looked at, wholly or in part.
    pub skipped: Option<String>,
}

impl Invariant {
    /// Nothing was looked at yet.
    pub const fn new(name: &'static str, promise: &'static str) -> Self {
        Self {
            name,
            promise,
            checked: 0,
            violations: Vec::new(),
            more: 0,
            skipped: None,
        }
    }

    /// Whether nothing contradicts it.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// Counts something that was looked at, and says what is wrong with it, if something is.
    pub(crate) fn check(&mut self, good: bool, wrong: impl FnOnce() -> String) {
        self.checked = self.checked.saturating_add(1);
        if !good {
            self.violated(wrong());
        }
    }

    /// Says what is wrong.
    pub(crate) fn violated(&mut self, wrong: String) {
        if self.violations.len() < TOLD {
            self.violations.push(wrong);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

impl Report {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(Invariant::holds)
    }

    /// Everything that is violated, a line each: the invariant's name and the sentence.
    pub fn violations(&self) -> Vec<String> {
        self.invariants
            .iter()
            .flat_map(|invariant| {
                let lines = invariant.violations.iter();
                lines.map(move |wrong| format!("{}: {wrong}", invariant.name))
            })
            .collect()
    }

    /// Only what another audit found too. What a ledger that is being written to shows for a moment is not in both.
    #[must_use]
    pub fn also_in(mut self, other: &Self) -> Self {
        for invariant in &mut self.invariants {
            let told: Vec<&String> = other
                .invariants
                .iter()
                .filter(|same| same.name == invariant.name)
                .flat_map(|same| &same.violations)
                .collect();
            invariant.violations.retain(|wrong| told.contains(&wrong));
            if invariant.violations.is_empty() {
                invariant.more = 0;
            }
        }
        self
    }

    pub(crate) fn add(&mut self, invariant: Invariant) {
        self.invariants.push(invariant);
    }
}

/// A line for each invariant, and one for each violation below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for invariant in &self.invariants {
            let outcome = match (invariant.holds(), &invariant.skipped) {
                (false, _) => "VIOLATED",
                (true, Some(_)) => "unknown",
                (true, None) => "holds",
            };
            writeln!(
                f,
                "{outcome:<8}  {:<14}  {:>8}  {}",
                invariant.name, invariant.checked, invariant.promise
            )?;
            for wrong in &invariant.violations {
                writeln!(f, "            {wrong}")?;
            }
            if let Some(why) = &invariant.skipped {
                writeln!(f, "            {why}")?;
            }
            if invariant.more > 0 {
                writeln!(f, "            … and {} more", invariant.more)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fifty_violations_are_told_and_the_rest_is_counted() {
        let mut invariant = Invariant::new("a", "b");
        for number in 0..60 {
            invariant.check(false, || number.to_string());
        }
        assert_eq!((invariant.violations.len(), invariant.more), (50, 10));
        assert_eq!(invariant.checked, 60);
    }

    #[test]
    fn what_only_one_of_two_audits_saw_is_not_certain() {
        let of = |wrongs: &[&str]| {
            let mut invariant = Invariant::new("a", "b");
            for wrong in wrongs {
                invariant.violated((*wrong).to_owned());
            }
            Report {
                invariants: vec![invariant],
            }
        };
        let certain = of(&["x", "y"]).also_in(&of(&["y", "z"]));
        assert_eq!(certain.violations(), ["a: y"]);
        assert!(of(&["x"]).also_in(&of(&[])).holds());
    }
}
