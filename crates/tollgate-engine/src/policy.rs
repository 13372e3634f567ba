//! When what is due is settled.

use tollgate_ledger::Queue;
use tollgate_x402::{Amount, Timestamp};

use crate::elapsed::passed;

/// When a queue of due payments is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As soon as there is one.
    AtOnce,
    /// When the queue's sum or age crosses a bound: one transfer then pays many requests.
    Aggregate {
        /// The sum, in atomic units.
        max_unsettled: Amount,
        /// The age of the oldest payment, in seconds.
        max_age: u64,
    },
}

impl Policy {
    /// Whether a queue is to be settled now. A deadline that is nearer than `margin` seconds comes before everything.
    pub fn ripe(&self, queue: &Queue, now: Timestamp, margin: u64) -> bool {
        match self {
            Self::AtOnce => true,
            Self::Aggregate {
                max_unsettled,
                max_age,
            } => {
                queue.sum >= *max_unsettled
                    || passed(*max_age, queue.oldest, now)
                    || queue.deadline <= now.plus(margin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_payment::OwnerKey;
    use tollgate_x402::{Address, ChainId};

    use super::*;

    fn queue(sum: u64, oldest: u64, deadline: u64) -> Queue {
        Queue {
            owner: OwnerKey {
                chain: ChainId::DEV,
                token: Address::ZERO,
                owner: Address::ZERO,
            },
            spender: None,
            allowance: true,
            payments: 1,
            sum: Amount::from(sum),
            oldest: Timestamp(oldest),
            deadline: Timestamp(deadline),
        }
    }

    #[test]
    fn an_aggregate_is_settled_when_its_sum_its_age_or_its_deadline_crosses_a_bound() {
        let policy = Policy::Aggregate {
            max_unsettled: Amount::from(100u64),
            max_age: 60,
        };
        let now = Timestamp(1_000);
        assert!(!policy.ripe(&queue(99, 950, 9_000), now, 120));
        assert!(policy.ripe(&queue(100, 950, 9_000), now, 120));
        assert!(policy.ripe(&queue(1, 940, 9_000), now, 120));
        assert!(policy.ripe(&queue(1, 950, 1_120), now, 120));
        // It was made due while the clock was an hour ahead.
        assert!(policy.ripe(&queue(1, 4_600, 9_000), now, 120));
        assert!(Policy::AtOnce.ripe(&queue(1, 1_000, 9_000), now, 120));
    }
}
