//! The name of one request's payment.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of one payment: 128 random bits, written as 32 lower-case hexadecimal digits.
///
/// Whoever knows the id may read the payment's state, so it is a secret of the payer and the seller:
/// `Debug` shows its first 8 digits, enough to find it in a log and too few to use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentId(u128);

/// A string that is not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payment id is 32 lower-case hexadecimal digits")]
pub struct ParsePaymentIdError;

impl PaymentId {
    /// The id of these random bytes.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The bytes, as a store keeps them.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl FromStr for PaymentId {
    type Err = ParsePaymentIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let digits = s.len() == 32 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(ParsePaymentIdError);
        }
        u128::from_str_radix(s, 16)
            .map(Self)
            .map_err(|_| ParsePaymentIdError)
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0 >> 96)
    }
}

impl Serialize for PaymentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PaymentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}
