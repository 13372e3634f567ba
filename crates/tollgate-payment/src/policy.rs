//! How much a seller lends.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, Timestamp};

use crate::row::OwnerRow;

/// The bounds on what is served before it is paid, in atomic units of one token.
///
/// Verify-then-serve lends: a payer can void a payment after it was served. These bounds are the most
/// that such payers can cost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credit {
    /// Credit of a payer who has paid nothing yet.
    pub floor: Amount,
    /// How much credit each unit finally paid in 30 days earns.
    pub factor: u64,
    /// The most credit of any payer.
    pub ceiling: Amount,
    /// Requests in flight of a payer whose history is below `proven`.
    pub in_flight: u32,
    /// Requests in flight of any other.
    pub in_flight_proven: u32,
    /// The history from which a payer counts as proven.
    pub proven: Amount,
    /// The most that may be open and unsettled above payers' own paid history, of all payers together. What was lost
    /// above it counts for 30 days.
    pub exposure: Amount,
    /// Seconds for which a balance that was read stays good.
    pub view_age: u64,
}

/// How much of an answer is kept for a caller that lost it, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// The longest body that is kept, in bytes. Of a longer one only that there was one; 0 keeps none.
    pub bytes: usize,
    /// Seconds for which an answer, and a payer's name for its request, are kept at least. They are kept until the
    /// authorization's deadline if that is later.
    pub least: u64,
    /// Seconds for which they are kept at most.
    pub most: u64,
}

impl Default for Retention {
    /// 256 KiB; a day, or until the deadline, and never longer than seven days.
    fn default() -> Self {
        Self {
            bytes: 256 * 1024,
            least: 86_400,
            most: 7 * 86_400,
        }
    }
}

impl Retention {
    /// From when on something that is written now may be forgotten, where the authorization is good until `deadline`.
    pub fn until(&self, deadline: Timestamp, now: Timestamp) -> Timestamp {
        deadline.max(now.plus(self.least)).min(now.plus(self.most))
    }
}

impl Credit {
    /// The defaults for a token whose dollar has this many atomic units: 0.10 to 10 dollars a payer,
    /// one for one with what was paid, 4 requests in flight (64 from a dollar paid), 5 dollars in all, views of 3 s.
    pub fn for_dollar(dollar: Amount) -> Self {
        let of = |numerator: u64, denominator: u64| {
            let (n, d) = (
                tollgate_x402::U256::from(numerator),
                tollgate_x402::U256::from(denominator),
            );
            Amount::new(
                dollar
                    .get()
                    .saturating_mul(n)
                    .checked_div(d)
                    .unwrap_or_default(),
            )
        };
        Self {
            floor: of(1, 10),
            factor: 1,
            ceiling: of(10, 1),
            in_flight: 4,
            in_flight_proven: 64,
            proven: of(1, 1),
            exposure: of(5, 1),
            view_age: 3,
        }
    }

    /// What this payer may owe in all, reservations included: `clamp(floor, factor × paid, ceiling)`.
    pub fn of(&self, owner: &OwnerRow, now: Timestamp) -> Amount {
        let paid = owner.history.paid(now);
        let earned = Amount::new(
            paid.get()
                .saturating_mul(tollgate_x402::U256::from(self.factor)),
        );
        earned.max(self.floor).min(self.ceiling.max(self.floor))
    }

    /// How many requests of this payer may be in flight at once.
    pub fn in_flight_of(&self, owner: &OwnerRow, now: Timestamp) -> u32 {
        if owner.history.paid(now) >= self.proven {
            self.in_flight_proven
        } else {
            self.in_flight
        }
    }
}
