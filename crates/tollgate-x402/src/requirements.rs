//! One way to pay: an entry of `accepts`.

use core::cell::RefCell;

use alloy_primitives::{Address, AddressChecksumBuffer};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::{
    Amount, AssetTransferMethod, Json, JsonObject, Network, PrimaryType, Scheme,
    field::{self, FieldError, FieldProblem, Fields},
};

/// One way to pay (x402 v2 §5.1.2 `PaymentRequirements`, and v1's `accepts` entry): both dialects' fields in one.
///
/// Written, it carries both `amount` (v2) and `maxAmountRequired` (v1), so that clients of either version read it.
/// Read, either will do; if both are there they must be equal.
#[derive(Clone, Debug)]
pub struct PaymentRequirements {
    /// `scheme`: what the amount means.
    pub scheme: Scheme,
    /// `network`: the chain.
    pub network: Network,
    /// `amount` and `maxAmountRequired`, in atomic units: the price for `exact`, the maximum for `upto`.
    pub amount: Amount,
    /// `asset`: the token's contract.
    pub asset: Address,
    /// `payTo`: who is paid; for ERC-2612 permits also the spender.
    pub pay_to: Address,
    /// `maxTimeoutSeconds`: how long from signing the payment stays good, in seconds. Above 0.
    pub max_timeout_seconds: u64,
    /// `resource` (v1): the absolute URL that is paid for.
    pub resource: Option<String>,
    /// `description` (v1).
    pub description: Option<String>,
    /// `mimeType` (v1).
    pub mime_type: Option<String>,
    /// `outputSchema` (v1).
    pub output_schema: Option<Json>,
    /// `extra`: what the scheme adds.
    pub extra: Extra,
    /// What else the entry has.
    pub rest: JsonObject,
    /// The entry as it came, for the echo: servers compare it literally, letter case and all.
    received: Option<Box<Json>>,
}

/// What a scheme adds to an entry (`extra`). All is optional on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extra {
    /// `name`: the token's EIP-712 domain name.
    pub name: Option<String>,
    /// `version`: the token's EIP-712 domain version.
    pub version: Option<String>,
    /// `primaryType`: what thirdweb's clients sign.
    pub primary_type: Option<PrimaryType>,
    /// `minAmountRequired`, in atomic units: what must be left of an allowance for this request.
    pub min_amount_required: Option<Amount>,
    /// `assetTransferMethod`: how x402 v2 clients move the token.
    pub asset_transfer_method: Option<AssetTransferMethod>,
    /// `facilitatorAddress`: who alone may settle a Permit2 upto payment.
    pub facilitator_address: Option<Address>,
    /// What else is there.
    pub rest: JsonObject,
}

impl PaymentRequirements {
    /// An entry with the fields that every entry has.
    pub fn new(
        scheme: Scheme,
        network: Network,
        amount: Amount,
        asset: Address,
        pay_to: Address,
        max_timeout_seconds: u64,
    ) -> Self {
        Self {
            scheme,
            network,
            amount,
            asset,
            pay_to,
            max_timeout_seconds,
            resource: None,
            description: None,
            mime_type: None,
            output_schema: None,
            extra: Extra::default(),
            rest: JsonObject::new(),
            received: None,
        }
    }

    /// The entry of a JSON text.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError): not JSON, or a field that is missing or malformed.
    pub fn parse(bytes: &[u8], limits: &crate::Limits) -> Result<Self, crate::ReadError> {
        Ok(Self::read(&crate::read::body(bytes, limits)?)?)
    }

    /// The entry as the server wrote it, to be sent back as `accepted` (x402 v2 §5.2): as it was read if it was read
    /// and not changed since, else as we write it.
    pub fn echo(&self) -> Json {
        match &self.received {
            Some(received) if Self::read(&received.0).is_ok_and(|entry| entry == *self) => {
                (**received).clone()
            }
            _ => Json(serde_json::to_value(self).unwrap_or_default()),
        }
    }

    /// The minimum that a signed maximum must leave for this request: `extra.minAmountRequired` where it is above 0
    /// and at most the amount, else the amount itself. In atomic units.
    pub fn minimum(&self) -> Amount {
        match self.extra.min_amount_required {
            Some(minimum) if !minimum.is_zero() && minimum <= self.amount => minimum,
            _ => self.amount,
        }
    }

    pub(crate) fn read(value: &Value) -> Result<Self, FieldError> {
        let fields = Fields::of("accepts", value)?;
        let text = |value: &Value| match field::text(value)? {
            "" => Err(FieldProblem::Text),
            text => Ok(text.to_owned()),
        };
        let amounts = (
            fields.optional("amount", field::amount)?,
            fields.optional("maxAmountRequired", field::amount)?,
        );
        let amount = match amounts {
            (Some(a), Some(b)) if a != b => {
                return Err(fields.error("maxAmountRequired", FieldProblem::Conflict));
            }
            (Some(amount), _) | (None, Some(amount)) => amount,
            (None, None) => return Err(fields.error("amount", FieldProblem::Missing)),
        };
        Ok(Self {
            scheme: Scheme::from(fields.required("scheme", text)?.as_str()),
            network: fields.required("network", field::network)?,
            amount,
            asset: fields.required("asset", field::address)?,
            pay_to: fields.required("payTo", field::address)?,
            max_timeout_seconds: fields.required("maxTimeoutSeconds", seconds)?,
            resource: fields.optional("resource", field::string)?,
            description: fields.optional("description", field::string)?,
            mime_type: fields.optional("mimeType", field::string)?,
            output_schema: fields.value("outputSchema").cloned().map(Json),
            extra: fields
                .object("extra", "accepts.extra")?
                .map(Extra::read)
                .transpose()?
                .unwrap_or_default(),
            rest: rest(fields.map(), &KEYS),
            received: Some(Box::new(Json(value.clone()))),
        })
    }
}

const KEYS: [&str; 12] = [
    "scheme",
    "network",
    "amount",
    "maxAmountRequired",
    "asset",
    "payTo",
    "maxTimeoutSeconds",
    "resource",
    "description",
    "mimeType",
    "outputSchema",
    "extra",
];

const EXTRA_KEYS: [&str; 6] = [
    "name",
    "version",
    "primaryType",
    "minAmountRequired",
    "assetTransferMethod",
    "facilitatorAddress",
];

/// The keys that have no field of their own.
pub(crate) fn rest(map: &Map<String, Value>, known: &[&str]) -> JsonObject {
    let others = map.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    JsonObject(
        others
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// A number of seconds above 0. Python writes 300.0 where it computed with floats.
fn seconds(value: &Value) -> Result<u64, FieldProblem> {
    let problem = FieldProblem::Type("a whole number of seconds above 0");
    let whole = match value.as_u64() {
        Some(seconds) => Some(seconds),
        None => value
            .as_f64()
            .map(|float| float.to_string())
            .and_then(|text| text.parse().ok()),
    };
    whole.filter(|seconds| *seconds > 0).ok_or(problem)
}

impl Extra {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let name = |value: &Value| field::text(value).map(str::to_owned);
        Ok(Self {
            name: fields.optional("name", field::string)?,
            version: fields.optional("version", field::string)?,
            primary_type: fields
                .optional("primaryType", name)?
                .map(|name| PrimaryType::from(name.as_str())),
            min_amount_required: fields.optional("minAmountRequired", field::amount)?,
            asset_transfer_method: fields
                .optional("assetTransferMethod", name)?
                .map(|name| AssetTransferMethod::from(name.as_str())),
            facilitator_address: fields.optional("facilitatorAddress", field::address)?,
            rest: rest(fields.map(), &EXTRA_KEYS),
        })
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// By meaning: how an entry was spelled when it came does not count.
impl PartialEq for PaymentRequirements {
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.network == other.network
            && self.amount == other.amount
            && self.asset == other.asset
            && self.pay_to == other.pay_to
            && self.max_timeout_seconds == other.max_timeout_seconds
            && self.resource == other.resource
            && self.description == other.description
            && self.mime_type == other.mime_type
            && self.output_schema == other.output_schema
            && self.extra == other.extra
            && self.rest == other.rest
    }
}

impl Eq for PaymentRequirements {}

/// An address as it is written: with the checksum of EIP-55, which some clients insist on.
pub(crate) struct Checksummed(pub(crate) Address);

impl Serialize for Checksummed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CHECKSUMS.with_borrow_mut(|known| known.write(self.0, serializer))
    }
}

thread_local! {
    /// An offer names the same three addresses at every request, and each checksum costs a Keccak.
    static CHECKSUMS: RefCell<Checksums> = const { RefCell::new(Checksums(Vec::new())) };
}

/// The checksums that were written last (EIP-55), the newest at the end.
struct Checksums(Vec<(Address, AddressChecksumBuffer)>);

impl Checksums {
    /// More addresses than the offers of a seller name.
    const MOST: usize = 16;

    fn write<S: Serializer>(&mut self, address: Address, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((_, text)) = self.0.iter().find(|(known, _)| *known == address) {
            return serializer.serialize_str(text.as_str());
        }
        let text = address.to_checksum_buffer(None);
        if self.0.len() >= Self::MOST {
            drop(self.0.remove(0));
        }
        let written = serializer.serialize_str(text.as_str());
        self.0.push((address, text));
        written
    }
}

/// Writes a field unless it is absent.
pub(crate) fn optional<M: SerializeMap>(
    map: &mut M,
    key: &str,
    value: Option<&impl Serialize>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(key, value),
        None => Ok(()),
    }
}

impl Serialize for PaymentRequirements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Entry {
            requirements: self,
            defaults: None,
        }
        .serialize(serializer)
    }
}

/// An entry as it is written, with what v1 wants in each entry taken from the resource where the entry lacks it.
pub(crate) struct Entry<'a> {
    pub(crate) requirements: &'a PaymentRequirements,
    pub(crate) defaults: Option<&'a crate::ResourceInfo>,
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let it = self.requirements;
        let resource = it
            .resource
            .as_deref()
            .or(self.defaults.map(|resource| resource.url.as_str()));
        let description = it.description.as_deref().or_else(|| {
            self.defaults
                .map(|resource| resource.description.as_deref().unwrap_or_default())
        });
        let mime_type = it.mime_type.as_deref().or_else(|| {
            self.defaults
                .map(|resource| resource.mime_type.as_deref().unwrap_or("application/json"))
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("scheme", &it.scheme)?;
        map.serialize_entry("network", &it.network)?;
        map.serialize_entry("amount", &it.amount)?;
        map.serialize_entry("maxAmountRequired", &it.amount)?;
        optional(&mut map, "resource", resource.as_ref())?;
        optional(&mut map, "description", description.as_ref())?;
        optional(&mut map, "mimeType", mime_type.as_ref())?;
        optional(&mut map, "outputSchema", it.output_schema.as_ref())?;
        map.serialize_entry("payTo", &Checksummed(it.pay_to))?;
        map.serialize_entry("asset", &Checksummed(it.asset))?;
        map.serialize_entry("maxTimeoutSeconds", &it.max_timeout_seconds)?;
        if !it.extra.is_empty() {
            map.serialize_entry("extra", &it.extra)?;
        }
        for (key, value) in &it.rest.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        optional(&mut map, "name", self.name.as_ref())?;
        optional(&mut map, "version", self.version.as_ref())?;
        optional(&mut map, "primaryType", self.primary_type.as_ref())?;
        optional(
            &mut map,
            "minAmountRequired",
            self.min_amount_required.as_ref(),
        )?;
        optional(
            &mut map,
            "assetTransferMethod",
            self.asset_transfer_method.as_ref(),
        )?;
        optional(
            &mut map,
            "facilitatorAddress",
            self.facilitator_address.map(Checksummed).as_ref(),
        )?;
        for (key, value) in &self.rest.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> serde::Deserialize<'de> for PaymentRequirements {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::read(&json.0).map_err(serde::de::Error::custom)
    }
}
