//! Intervals of a counter, put together.

use std::collections::BTreeMap;

use tollgate_x402::Amount;

/// Intervals without overlap, those that touch joined.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<Amount, Amount>);

impl Ranges {
    /// Adds an interval. `false`: it overlaps one that is there, or is empty, and was not added.
    pub(super) fn add(&mut self, from: Amount, to: Amount) -> bool {
        if from >= to {
            return false;
        }
        let before = self.0.range(..=from).next_back().map(|(a, b)| (*a, *b));
        let after = self.0.range(from..).next().map(|(a, b)| (*a, *b));
        if before.is_some_and(|(_, end)| end > from) || after.is_some_and(|(start, _)| start < to) {
            return false;
        }
        let start = match before {
            Some((start, end)) if end == from => start,
            _ => from,
        };
        let end = match after {
            Some((next, end)) if next == to => {
                self.0.remove(&next);
                end
            }
            _ => to,
        };
        self.0.insert(start, end);
        true
    }

    /// The intervals, in their order.
    pub(super) fn all(&self) -> Vec<(Amount, Amount)> {
        self.0.iter().map(|(from, to)| (*from, *to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(number: u64) -> Amount {
        Amount::from(number)
    }

    #[test]
    fn intervals_that_touch_become_one_in_any_order() {
        let mut ranges = Ranges::default();
        for (from, to) in [(5, 7), (0, 2), (7, 9), (2, 5)] {
            assert!(ranges.add(amount(from), amount(to)));
        }
        assert_eq!(ranges.all(), [(amount(0), amount(9))]);
    }

    #[test]
    fn an_overlap_is_found_on_both_sides() {
        let mut ranges = Ranges::default();
        assert!(ranges.add(amount(10), amount(20)));
        for (from, to) in [(5, 11), (19, 25), (10, 20), (12, 13), (5, 25), (3, 3)] {
            assert!(!ranges.add(amount(from), amount(to)), "{from}..{to}");
        }
        assert!(ranges.add(amount(20), amount(21)) && ranges.add(amount(9), amount(10)));
        assert_eq!(ranges.all(), [(amount(9), amount(21))]);
    }
}
