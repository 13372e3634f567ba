//! Sums by day: what a payer has finally paid, the base of its credit, and what was lost.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, Timestamp};

/// Seconds a day.
const DAY: u64 = 86_400;
/// Days that count.
const WINDOW: u64 = 30;

/// Amounts of the last 30 days, by day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DailySums(Vec<(u64, Amount)>);

impl DailySums {
    /// Of nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether nothing was ever added, or nothing of it is kept.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts an amount, in atomic units, today.
    pub fn add(&mut self, amount: Amount, now: Timestamp) {
        let today = now.0 / DAY;
        self.0
            .retain(|(day, _)| today.saturating_sub(*day) < WINDOW);
        match self.0.last_mut() {
            Some((day, sum)) if *day == today => *sum = sum.saturating_add(amount),
            _ if amount.is_zero() => {}
            _ => self.0.push((today, amount)),
        }
    }

    /// The sum of the last 30 days, in atomic units.
    pub fn sum(&self, now: Timestamp) -> Amount {
        let today = now.0 / DAY;
        self.0
            .iter()
            .filter(|(day, _)| today.saturating_sub(*day) < WINDOW)
            .fold(Amount::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
    }
}

/// Amounts finally paid in the last 30 days, by day.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PaidHistory(DailySums);

impl PaidHistory {
    /// Counts a payment that became final now.
    pub fn add(&mut self, amount: Amount, now: Timestamp) {
        self.0.add(amount, now);
    }

    /// The sum of the last 30 days, in atomic units.
    pub fn paid(&self, now: Timestamp) -> Amount {
        self.0.sum(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payments_older_than_thirty_days_earn_no_credit() {
        let mut history = PaidHistory::default();
        history.add(Amount::from(5u64), Timestamp(0));
        history.add(Amount::from(7u64), Timestamp(DAY));
        assert_eq!(history.paid(Timestamp(29 * DAY)), Amount::from(12u64));
        assert_eq!(history.paid(Timestamp(30 * DAY)), Amount::from(7u64));
        history.add(Amount::from(1u64), Timestamp(31 * DAY));
        assert_eq!(
            history.0.0.len(),
            1,
            "days that no longer count are dropped"
        );
    }
}
