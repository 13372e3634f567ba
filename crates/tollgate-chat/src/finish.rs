//! What the payment layer tells the caller at the end of an answer.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// The facts of the charge, carried in `finish.messageMetadata` of the UI message stream and in the plain
/// answer. Amounts are decimal strings of atomic units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishMetadata {
    total_tokens: u64,
    allowance_left: String,
    calculated_price_wei: String,
    real_price_wei: String,
    extra: Vec<(&'static str, MetaValue)>,
}

/// The value of an additional key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetaValue {
    /// A string; amounts go here, in decimal atomic units.
    Text(String),
    /// A count, below 2^53.
    Number(u64),
    /// A flag.
    Flag(bool),
}

const RESERVED: [&str; 4] = [
    "totalTokens",
    "allowanceLeft",
    "calculatedPriceWei",
    "realPriceWei",
];

impl FinishMetadata {
    /// The four facts of DGrid's dialect. The amounts are given as anything whose `Display` is a decimal
    /// integer of atomic units, such as a 256-bit integer.
    ///
    /// * `allowance_left`: what the caller may still be charged under the same authorization;
    /// * `calculated`: what the usage costs;
    /// * `real`: what is charged, never above `calculated`.
    pub fn new(
        total_tokens: u64,
        allowance_left: impl fmt::Display,
        calculated: impl fmt::Display,
        real: impl fmt::Display,
    ) -> Self {
        let decimal = |amount: &dyn fmt::Display| {
            let text = amount.to_string();
            debug_assert!(
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
                "not atomic units: {text}"
            );
            text
        };
        Self {
            total_tokens,
            allowance_left: decimal(&allowance_left),
            calculated_price_wei: decimal(&calculated),
            real_price_wei: decimal(&real),
            extra: Vec::new(),
        }
    }

    /// The same with one more key. A key that is there already is replaced; the four facts cannot be.
    pub fn with(mut self, key: &'static str, value: impl Into<MetaValue>) -> Self {
        debug_assert!(!RESERVED.contains(&key), "{key} is one of the four facts");
        self.extra.retain(|(other, _)| *other != key);
        if !RESERVED.contains(&key) {
            self.extra.push((key, value.into()));
        }
        self
    }

    /// Tokens of input and output that were charged.
    pub const fn total_tokens(&self) -> u64 {
        self.total_tokens
    }
}

impl Serialize for FinishMetadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("totalTokens", &self.total_tokens)?;
        map.serialize_entry("allowanceLeft", &self.allowance_left)?;
        map.serialize_entry("calculatedPriceWei", &self.calculated_price_wei)?;
        map.serialize_entry("realPriceWei", &self.real_price_wei)?;
        for (key, value) in &self.extra {
            match value {
                MetaValue::Text(text) => map.serialize_entry(key, text)?,
                MetaValue::Number(number) => map.serialize_entry(key, number)?,
                MetaValue::Flag(flag) => map.serialize_entry(key, flag)?,
            }
        }
        map.end()
    }
}

impl From<String> for MetaValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for MetaValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for MetaValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for MetaValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
