//! Reading typed fields out of a JSON object, with errors that name the field and never its content.

use alloy_primitives::{Address, B256, U256};
use serde_json::{Map, Value};

use crate::{
    Amount, Network, ParseAmountError, ParseNetworkError, ParseSignatureError, Signature65,
    Timestamp,
};

/// A field that is missing or not what it has to be.
///
/// It names the field and what is wrong with it, never what the field held: that may be a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path(.object, .field))]
pub struct FieldError {
    /// The object that has the field: `payload.authorization`. Empty at the top.
    pub object: &'static str,
    /// The field's name: `value`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: FieldProblem,
}

/// `object.field`, or the one that is not empty.
fn path(object: &str, field: &str) -> String {
    match (object, field) {
        ("", field) => field.into(),
        (object, "") => object.into(),
        (object, field) => format!("{object}.{field}"),
    }
}

/// What can be wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldProblem {
    /// Absent or null.
    #[error("is missing")]
    Missing,
    /// Of another JSON type.
    #[error("must be {0}")]
    Type(&'static str),
    /// Not an amount.
    #[error(transparent)]
    Amount(#[from] ParseAmountError),
    /// Not a network.
    #[error(transparent)]
    Network(#[from] ParseNetworkError),
    /// Not an address.
    #[error("an address is 0x and 40 hexadecimal digits")]
    Address,
    /// Not 32 bytes.
    #[error("must be 0x and 64 hexadecimal digits")]
    Bytes32,
    /// Not a signature that we take.
    #[error(transparent)]
    Signature(#[from] ParseSignatureError),
    /// Not hexadecimal.
    #[error("must be 0x and an even number of hexadecimal digits")]
    Hex,
    /// Not a time that a clock of seconds in 64 bits can show.
    #[error("a time is the seconds since 1970 in decimal, below 2^64")]
    Time,
    /// Not a nonce.
    #[error(
        "a nonce is a decimal string (or, for upto, 0x and at most 64 hexadecimal digits) below 2^256"
    )]
    Nonce,
    /// Outside the length or the characters that the standard allows.
    #[error("is empty, too long or has characters that are not allowed")]
    Text,
    /// Too many elements, or none where one must be.
    #[error("has no elements or too many")]
    Count,
    /// Two fields that must agree do not.
    #[error("contradicts another field that says the same thing")]
    Conflict,
    /// A value that is not one of those the standard knows.
    #[error("is not a value that x402 knows here")]
    Unknown,
}

/// A JSON object under a name, whose fields are taken by type. `null` counts as absent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    name: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(name: &'static str, value: &'a Value) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Self { name, map }),
            _ => Err(FieldError {
                object: name,
                field: "",
                problem: FieldProblem::Type("a JSON object"),
            }),
        }
    }

    pub(crate) const fn map(self) -> &'a Map<String, Value> {
        self.map
    }

    pub(crate) fn error(self, field: &'static str, problem: impl Into<FieldProblem>) -> FieldError {
        FieldError {
            object: self.name,
            field,
            problem: problem.into(),
        }
    }

    pub(crate) fn value(self, field: &'static str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// The field read by `read`, or nothing where it is absent.
    pub(crate) fn optional<T, P: Into<FieldProblem>>(
        self,
        field: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, P>,
    ) -> Result<Option<T>, FieldError> {
        self.value(field)
            .map(read)
            .transpose()
            .map_err(|problem| self.error(field, problem))
    }

    /// The field read by `read`.
    pub(crate) fn required<T, P: Into<FieldProblem>>(
        self,
        field: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, P>,
    ) -> Result<T, FieldError> {
        self.optional(field, read)?
            .ok_or_else(|| self.error(field, FieldProblem::Missing))
    }

    pub(crate) fn object(
        self,
        field: &'static str,
        name: &'static str,
    ) -> Result<Option<Self>, FieldError> {
        self.value(field)
            .map(|value| Fields::of(name, value))
            .transpose()
    }

    pub(crate) fn required_object(
        self,
        field: &'static str,
        name: &'static str,
    ) -> Result<Self, FieldError> {
        self.object(field, name)?
            .ok_or_else(|| self.error(field, FieldProblem::Missing))
    }
}

pub(crate) fn text(value: &Value) -> Result<&str, FieldProblem> {
    value.as_str().ok_or(FieldProblem::Type("a string"))
}

pub(crate) fn string(value: &Value) -> Result<String, FieldProblem> {
    text(value).map(str::to_owned)
}

pub(crate) fn boolean(value: &Value) -> Result<bool, FieldProblem> {
    value.as_bool().ok_or(FieldProblem::Type("true or false"))
}

pub(crate) fn integer(value: &Value) -> Result<u64, FieldProblem> {
    value
        .as_u64()
        .ok_or(FieldProblem::Type("a whole number, not below 0"))
}

pub(crate) fn array(value: &Value) -> Result<&[Value], FieldProblem> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or(FieldProblem::Type("an array"))
}

pub(crate) fn amount(value: &Value) -> Result<Amount, FieldProblem> {
    Ok(text(value)?.parse()?)
}

pub(crate) fn network(value: &Value) -> Result<Network, FieldProblem> {
    Ok(text(value)?.parse()?)
}

/// 0x and 40 hexadecimal digits of any case: a wrong EIP-55 checksum is not refused, as clients
/// write addresses in lower, upper and mixed case.
pub(crate) fn address(value: &Value) -> Result<Address, FieldProblem> {
    fixed(text(value)?)
        .map(Address::new)
        .ok_or(FieldProblem::Address)
}

pub(crate) fn bytes32(value: &Value) -> Result<B256, FieldProblem> {
    fixed(text(value)?)
        .map(B256::new)
        .ok_or(FieldProblem::Bytes32)
}

/// `N` bytes of exactly `0x` and `2 N` hexadecimal digits.
fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x")?;
    let mut bytes = [0; N];
    alloy_primitives::hex::decode_to_slice(digits, &mut bytes).ok()?;
    // The decoder would skip a second 0x.
    (digits.len() == N.checked_mul(2)?).then_some(bytes)
}

/// Seconds as a canonical decimal string. A time beyond 64 bits cannot be compared with a clock and is refused.
pub(crate) fn time(value: &Value) -> Result<Timestamp, FieldProblem> {
    let seconds: Amount = text(value)?.parse().map_err(|_| FieldProblem::Time)?;
    seconds
        .get()
        .try_into()
        .map(Timestamp)
        .map_err(|_| FieldProblem::Time)
}

/// A decimal nonce.
pub(crate) fn nonce(value: &Value) -> Result<U256, FieldProblem> {
    text(value)?
        .parse::<Amount>()
        .map(Amount::get)
        .map_err(|_| FieldProblem::Nonce)
}

/// A nonce of the upto scheme: decimal as all clients write it, or hexadecimal as the specification's example has it.
pub(crate) fn nonce_or_hex(value: &Value) -> Result<U256, FieldProblem> {
    let Some(digits) = text(value)?.strip_prefix("0x") else {
        return nonce(value);
    };
    let good = (1..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !good {
        return Err(FieldProblem::Nonce);
    }
    U256::from_str_radix(digits, 16).map_err(|_| FieldProblem::Nonce)
}

fn hex_bytes(value: &Value) -> Result<Vec<u8>, FieldProblem> {
    let digits = text(value)?.strip_prefix("0x").ok_or(FieldProblem::Hex)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(FieldProblem::Hex);
    }
    alloy_primitives::hex::decode(digits).map_err(|_| FieldProblem::Hex)
}

/// 65 bytes of r, s, v.
pub(crate) fn signature(value: &Value) -> Result<Signature65, FieldProblem> {
    Ok(Signature65::from_bytes(&hex_bytes(value)?)?)
}

/// 65 bytes of r, s, v, or the 64 of EIP-2098.
pub(crate) fn signature_or_compact(value: &Value) -> Result<Signature65, FieldProblem> {
    Ok(Signature65::from_bytes_or_compact(&hex_bytes(value)?)?)
}
