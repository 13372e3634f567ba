//! Extensions (x402 v2 §8): the ones that we understand typed, the others carried along.

use core::{fmt, str::FromStr};

use alloy_primitives::{Address, B256, U256};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{
    Amount, Json, JsonObject, Signature65, Timestamp,
    field::{self, FieldError, FieldProblem, Fields},
};

const PAYMENT_IDENTIFIER: &str = "payment-identifier";
const EIP2612_GAS_SPONSORING: &str = "eip2612GasSponsoring";

/// The `extensions` of an offer or a payment: key → `{ "info": {…}, "schema": {…} }`.
///
/// All are kept as they came, since a client sends an offer's extensions back with its own fields added.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Extensions {
    all: JsonObject,
    payment_identifier: Option<PaymentIdentifier>,
    eip2612_gas_sponsoring: Option<Eip2612GasSponsoring>,
}

/// The `payment-identifier` extension: the client's own name for a request, which makes it idempotent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PaymentIdentifier {
    /// `info.required`: whether the seller insists on it.
    pub required: bool,
    /// `info.id`, set by the client.
    pub id: Option<Identifier>,
}

/// A client's identifier: 16 to 128 characters of `A-Z a-z 0-9 _ -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identifier(Box<str>);

/// A string that is not a payment identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payment identifier is 16 to 128 characters of A-Z a-z 0-9 _ and -")]
pub struct ParseIdentifierError;

/// The `eip2612GasSponsoring` extension: the settler submits the payer's permit for Permit2.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Eip2612GasSponsoring {
    /// `info.description`, of the seller.
    pub description: Option<String>,
    /// What the client signed; absent in an offer.
    pub permit: Option<SponsoredPermit>,
}

/// An ERC-2612 permit whose spender is the Permit2 contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SponsoredPermit {
    /// The owner, who must be the payer.
    pub from: Address,
    /// The token.
    pub asset: Address,
    /// The Permit2 contract.
    pub spender: Address,
    /// The value, in atomic units: the proxies demand that it is the permitted amount.
    pub amount: Amount,
    /// The token's `nonces(from)`.
    pub nonce: U256,
    /// The last second in which it can be submitted.
    pub deadline: Timestamp,
    /// The signature.
    pub signature: Signature65,
}

impl Extensions {
    /// No extensions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.all.keys()
    }

    /// An extension as it came, `{ "info": …, "schema": … }`.
    pub fn value(&self, key: &str) -> Option<Json> {
        self.all.value(key)
    }

    /// The `payment-identifier` extension.
    pub const fn payment_identifier(&self) -> Option<&PaymentIdentifier> {
        self.payment_identifier.as_ref()
    }

    /// The `eip2612GasSponsoring` extension.
    pub const fn eip2612_gas_sponsoring(&self) -> Option<&Eip2612GasSponsoring> {
        self.eip2612_gas_sponsoring.as_ref()
    }

    /// The same with the offer to honour `payment-identifier`, and the schema of what the client adds.
    #[must_use]
    pub fn offering_payment_identifier(self, required: bool) -> Self {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "required": { "type": "boolean" },
                "id": {
                    "type": "string", "minLength": 16, "maxLength": 128,
                    "pattern": "^[a-zA-Z0-9_-]+$",
                },
            },
            "required": ["required"],
        });
        let mut offering = self.with_payment_identifier(PaymentIdentifier { required, id: None });
        if let Some(Value::Object(entry)) = offering.all.0.get_mut(PAYMENT_IDENTIFIER) {
            entry.insert("schema".into(), schema);
        }
        offering
    }

    /// Adds or completes `payment-identifier`; what its `info` and `schema` hold besides stays.
    #[must_use]
    pub fn with_payment_identifier(mut self, identifier: PaymentIdentifier) -> Self {
        let mut info = Map::new();
        info.insert("required".into(), identifier.required.into());
        if let Some(id) = &identifier.id {
            info.insert("id".into(), id.as_str().into());
        }
        self.merge(PAYMENT_IDENTIFIER, info);
        self.payment_identifier = Some(identifier);
        self
    }

    /// Adds or completes `eip2612GasSponsoring`; what its `info` and `schema` hold besides stays.
    #[must_use]
    pub fn with_eip2612_gas_sponsoring(mut self, sponsoring: Eip2612GasSponsoring) -> Self {
        let mut info = Map::new();
        info.insert("version".into(), "1".into());
        if let Some(description) = &sponsoring.description {
            info.insert("description".into(), description.as_str().into());
        }
        if let Some(permit) = &sponsoring.permit {
            let fields = [
                ("from", permit.from.to_string()),
                ("asset", permit.asset.to_string()),
                ("spender", permit.spender.to_string()),
                ("amount", permit.amount.to_string()),
                ("nonce", permit.nonce.to_string()),
                ("deadline", permit.deadline.to_string()),
                (
                    "signature",
                    alloy_primitives::hex::encode_prefixed(permit.signature.to_bytes()),
                ),
            ];
            info.extend(fields.map(|(key, text)| (key.to_owned(), Value::String(text))));
        }
        self.merge(EIP2612_GAS_SPONSORING, info);
        self.eip2612_gas_sponsoring = Some(sponsoring);
        self
    }

    /// Adds an extension that this crate does not type, replacing one of the same key.
    ///
    /// # Errors
    /// [`FieldError`] if it is one of those that are typed and malformed.
    pub fn with(mut self, key: &str, value: Json) -> Result<Self, FieldError> {
        self.all.insert(key, value);
        Self::read(&Value::Object(self.all.0))
    }

    fn merge(&mut self, key: &str, fields: Map<String, Value>) {
        let entry = self
            .all
            .0
            .entry(key)
            .or_insert_with(|| json!({ "info": {}, "schema": {} }));
        if !entry.is_object() {
            *entry = json!({ "info": {}, "schema": {} });
        }
        let Value::Object(entry) = entry else { return };
        match entry.get_mut("info") {
            Some(Value::Object(info)) => info.extend(fields),
            _ => {
                entry.insert("info".into(), Value::Object(fields));
            }
        }
    }

    /// The extensions of a payment: those that are typed must be well formed.
    pub(crate) fn read(value: &Value) -> Result<Self, FieldError> {
        let fields = Fields::of("extensions", value)?;
        Ok(Self {
            all: JsonObject(fields.map().clone()),
            payment_identifier: fields
                .object(PAYMENT_IDENTIFIER, "extensions.payment-identifier")?
                .map(PaymentIdentifier::read)
                .transpose()?,
            eip2612_gas_sponsoring: fields
                .object(EIP2612_GAS_SPONSORING, Eip2612GasSponsoring::OBJECT)?
                .map(Eip2612GasSponsoring::read)
                .transpose()?,
        })
    }

    /// The extensions of a foreign offer: one that is malformed is carried along untyped.
    pub(crate) fn read_leniently(value: &Value) -> Self {
        Self::read(value).unwrap_or_else(|_| Self {
            all: JsonObject(value.as_object().cloned().unwrap_or_default()),
            ..Self::default()
        })
    }
}

impl PaymentIdentifier {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let Some(info) = fields.object("info", "extensions.payment-identifier.info")? else {
            return Ok(Self::default());
        };
        Ok(Self {
            required: info.optional("required", field::boolean)?.unwrap_or(false),
            id: info.optional("id", |value| {
                field::text(value)?.parse().map_err(|_| FieldProblem::Text)
            })?,
        })
    }
}

impl Eip2612GasSponsoring {
    pub(crate) const OBJECT: &'static str = "extensions.eip2612GasSponsoring";

    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let Some(info) = fields.object("info", Self::OBJECT)? else {
            return Ok(Self::default());
        };
        let signed = info.value("signature").is_some();
        let permit = signed.then(|| {
            Ok::<_, FieldError>(SponsoredPermit {
                from: info.required("from", field::address)?,
                asset: info.required("asset", field::address)?,
                spender: info.required("spender", field::address)?,
                amount: info.required("amount", field::amount)?,
                nonce: info.required("nonce", field::nonce)?,
                deadline: info.required("deadline", field::time)?,
                signature: info.required("signature", field::signature)?,
            })
        });
        Ok(Self {
            description: info.optional("description", field::string)?,
            permit: permit.transpose()?,
        })
    }
}

impl Identifier {
    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Keccak-256 of the characters: what a ledger keeps of them.
    pub fn digest(&self) -> B256 {
        alloy_primitives::keccak256(self.as_str())
    }
}

impl FromStr for Identifier {
    type Err = ParseIdentifierError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let good = (16..=128).contains(&s.len())
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if good {
            Ok(Self(s.into()))
        } else {
            Err(ParseIdentifierError)
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Extensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}
