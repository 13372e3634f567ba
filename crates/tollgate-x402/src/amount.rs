//! Amounts of money in atomic units.

use core::{fmt, str::FromStr};

use alloy_primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of a token in atomic units (10^-18 of a dollar for the BSC stablecoins).
///
/// Arithmetic is checked: there is no `+`, so that an overflow is a case to handle and not a wrap.
/// On the wire it is a canonical decimal string of 1 to 78 digits (x402 v2 §5.1 `amount`): no sign,
/// no exponent, no hexadecimal, no leading zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(U256);

/// Why a string is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAmountError {
    /// The string is empty.
    #[error("an amount is empty; write atomic units as a decimal string")]
    Empty,
    /// A character other than 0 to 9.
    #[error("an amount may hold only the digits 0 to 9: no sign, point, exponent or 0x")]
    NotDecimal,
    /// More than one digit, and the first is 0.
    #[error("an amount may not begin with 0; write it without leading zeros")]
    LeadingZero,
    /// Above 2^256 − 1.
    #[error("an amount is at most 2^256 - 1")]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);
    /// The largest amount, 2^256 − 1.
    pub const MAX: Self = Self(U256::MAX);

    /// An amount of so many atomic units.
    pub const fn new(units: U256) -> Self {
        Self(units)
    }

    /// The atomic units.
    pub const fn get(self) -> U256 {
        self.0
    }

    /// Whether nothing is meant.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The sum, unless it overflows.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The difference, or nothing where it would be negative.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`Amount::MAX`] where it would overflow. For bounds and reports, not for books.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The amount as 32 bytes, big end first: the stores' form, whose order is the amounts' order.
    pub const fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The amount of 32 bytes, big end first.
    pub const fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }
}

impl From<u64> for Amount {
    fn from(units: u64) -> Self {
        Self(U256::from(units))
    }
}

impl From<u128> for Amount {
    fn from(units: u128) -> Self {
        Self(U256::from(units))
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() {
            return Err(ParseAmountError::Empty);
        }
        if !s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseAmountError::NotDecimal);
        }
        if s.len() > 1 && s.starts_with('0') {
            return Err(ParseAmountError::LeadingZero);
        }
        if s.len() > 78 {
            return Err(ParseAmountError::TooLarge);
        }
        U256::from_str_radix(s, 10)
            .map(Self)
            .map_err(|_| ParseAmountError::TooLarge)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("atomic units as a decimal string")
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Amount, E> {
                s.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
