//! Dollars, in which limits are given: one number for all tokens.

use core::{fmt, str::FromStr};

use alloy_primitives::U256;
use tollgate_price::{ParseDollarsError, amount_from_dollars, amount_to_dollars};
use tollgate_x402::Amount;

/// The places after the point that are kept.
const PLACES: u8 = 18;

/// An amount of dollars in units of 10^-18, the same for tokens of all decimals.
///
/// It is an integer; there is no rounding but where a token has more than 18 decimals, and that goes up.
///
/// ```
/// # use tollgate_client::Dollars;
/// let limit: Dollars = "0.10".parse()?;
/// assert_eq!(limit.to_string(), "$0.1");
/// # Ok::<(), tollgate_price::ParseDollarsError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dollars(Amount);

impl Dollars {
    /// So many whole cents.
    pub const fn from_cents(cents: u32) -> Self {
        // Below 2^88: it cannot overflow.
        let [a, b, c, d] = cents.to_be_bytes();
        let cents = u64::from_be_bytes([0, 0, 0, 0, a, b, c, d]);
        let unit = U256::from_limbs([10_000_000_000_000_000, 0, 0, 0]);
        Self(Amount::new(
            U256::from_limbs([cents, 0, 0, 0]).wrapping_mul(unit),
        ))
    }

    /// The dollars of so many atomic units of a token of which one is one dollar. What does not fit 256 bits counts
    /// as the largest amount, which no limit allows.
    pub fn of(amount: Amount, decimals: u8) -> Self {
        let factor = |places: u8| U256::from(10_u8).saturating_pow(U256::from(places));
        let units = match PLACES.checked_sub(decimals) {
            Some(missing) => amount.get().saturating_mul(factor(missing)),
            None => amount
                .get()
                .div_ceil(factor(decimals.saturating_sub(PLACES))),
        };
        Self(Amount::new(units))
    }

    /// The sum, or the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl FromStr for Dollars {
    type Err = ParseDollarsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        amount_from_dollars(text, PLACES).map(Self)
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", amount_to_dollars(self.0, PLACES))
    }
}

impl fmt::Debug for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Dollars;
    use tollgate_x402::Amount;

    #[test]
    fn tokens_of_any_decimals_are_held_against_one_limit() {
        let dime: Dollars = "0.1".parse().unwrap();
        assert_eq!(Dollars::from_cents(10), dime);
        assert_eq!(Dollars::of(Amount::from(100_000_u64), 6), dime);
        assert_eq!(
            Dollars::of(Amount::from(100_000_000_000_000_000_u64), 18),
            dime
        );
        assert!(Dollars::of(Amount::from(100_000_000_000_000_000_001_u128), 21) > dime);
        assert!(Dollars::of(Amount::MAX, 6) > Dollars::from_cents(u32::MAX));
        assert_eq!(Dollars::from_cents(u32::MAX).to_string(), "$42949672.95");
    }
}
