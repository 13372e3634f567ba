//! Time that has passed, by clocks that may jump.

use tollgate_x402::Timestamp;

/// Seconds by which the clocks of a gateway and of its ledger may differ.
const APART: u64 = 10;

/// Whether so many seconds have passed since a moment. One that is later than now by more than clocks differ was long
/// ago: it was noted while a clock was ahead, by who knows how much, and to wait for it again would be to stand still.
/// `u64::MAX` seconds never pass.
pub(crate) const fn passed(seconds: u64, since: Timestamp, now: Timestamp) -> bool {
    seconds != u64::MAX && age(since, now) >= seconds
}

/// How many seconds have passed since a moment: `u64::MAX` since one that is later than now by more than clocks differ.
pub(crate) const fn age(since: Timestamp, now: Timestamp) -> u64 {
    if since.since(now) > APART {
        u64::MAX
    } else {
        now.since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_a_later_moment_than_now_may_be_of_any_age() {
        let now = Timestamp(100_000);
        for (since, expected) in [
            (99_940, 60),
            (100_000, 0),
            (100_010, 0),
            (100_011, u64::MAX),
            (103_600, u64::MAX),
        ] {
            assert_eq!(age(Timestamp(since), now), expected, "{since}");
        }
    }

    #[test]
    fn a_moment_that_is_later_than_now_was_long_ago() {
        let now = Timestamp(100_000);
        for (seconds, since, expected) in [
            (60, 99_940, true),
            (60, 99_941, false),
            (0, 100_000, true),
            // The ledger's clock is a little ahead of ours.
            (60, 100_010, false),
            (60, 100_011, true),
            // Ours was an hour ahead, and was set right.
            (60, 103_600, true),
            (u64::MAX, 103_600, false),
            (u64::MAX, 0, false),
        ] {
            assert_eq!(passed(seconds, Timestamp(since), now), expected, "{since}");
        }
    }
}
