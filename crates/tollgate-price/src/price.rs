//! The price of a million tokens.

use core::fmt;

use alloy_primitives::U256;
use tollgate_x402::Amount;

use crate::{ParseDollarsError, amount_to_dollars, dollars};

/// A price in atomic units of the payment token per 1 000 000 model tokens. At most 2^128 − 1.
///
/// The bound keeps every cost of a `u64` of tokens within 256 bits, so that a cost cannot overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PricePerMillion(u128);

impl PricePerMillion {
    /// Nothing.
    pub const FREE: Self = Self(0);

    /// So many atomic units per million tokens.
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// So many dollars per million tokens (`"25"`, `"0.15"`), for a token of which one is one dollar.
    ///
    /// # Errors
    /// [`ParseDollarsError`]: a price that the token's decimals cannot show exactly is refused, never rounded.
    pub fn from_dollars(text: &str, decimals: u8) -> Result<Self, ParseDollarsError> {
        dollars::units(text, decimals).map(Self)
    }

    /// The atomic units per million tokens.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// The dollars per million tokens, exactly.
    pub fn to_dollars(self, decimals: u8) -> String {
        amount_to_dollars(Amount::from(self.0), decimals)
    }

    /// The price of so many tokens in millionths of an atomic unit: below 2^192.
    pub(crate) fn millionths(self, tokens: u64) -> U256 {
        U256::from(self.0).saturating_mul(U256::from(tokens))
    }
}

impl fmt::Display for PricePerMillion {
    /// Atomic units per million tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
