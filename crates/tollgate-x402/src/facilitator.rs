//! The bodies of the facilitator API (x402 v2 §7).

use std::collections::BTreeMap;

use alloy_primitives::Address;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    JsonObject, Limits, Network, PayloadError, PaymentPayload, PaymentRequirements, ReadError,
    Scheme, X402Version,
    field::{self, FieldProblem, Fields},
    json, read,
    requirements::Checksummed,
};

/// The body of `POST /verify` and `POST /settle`.
///
/// For `upto`, the requirements' amount is the maximum at `/verify` and the actual charge at `/settle`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FacilitatorRequest {
    /// The version of the API.
    pub version: X402Version,
    /// The payment.
    pub payload: PaymentPayload,
    /// The seller's own offer.
    pub requirements: PaymentRequirements,
}

/// What a facilitator can settle (`GET /supported`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SupportedResponse {
    /// The schemes and networks.
    pub kinds: Vec<SupportedKind>,
    /// The keys of the extensions that it understands.
    pub extensions: Vec<String>,
    /// The accounts that send its transactions, by network pattern (`eip155:*`).
    pub signers: BTreeMap<String, Vec<Address>>,
}

/// One kind of payment that a facilitator settles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupportedKind {
    /// The version of x402.
    pub version: X402Version,
    /// The scheme.
    pub scheme: Scheme,
    /// The network.
    pub network: Network,
    /// What the scheme adds; for `upto`, `facilitatorAddress`.
    pub extra: JsonObject,
}

impl FacilitatorRequest {
    /// JSON in ASCII. It holds a bearer credential.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The request of a body.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, PayloadError> {
        let value = read::body(body, limits)?;
        let fields = Fields::of("", &value)?;
        let number = fields.required("x402Version", field::integer)?;
        let missing = |field| fields.error(field, FieldProblem::Missing);
        let payload = fields
            .value("paymentPayload")
            .ok_or_else(|| missing("paymentPayload"))?;
        let requirements = fields
            .value("paymentRequirements")
            .ok_or_else(|| missing("paymentRequirements"))?;
        Ok(Self {
            version: X402Version::from_number(number).ok_or(PayloadError::Version)?,
            payload: PaymentPayload::read(payload)?,
            requirements: PaymentRequirements::read(requirements)?,
        })
    }
}

impl SupportedResponse {
    /// JSON in ASCII.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The response of a body. Kinds of versions that we do not know and signers that are not EVM accounts are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        let value = read::body(body, limits)?;
        let fields = Fields::of("", &value)?;
        let entries = fields.required("kinds", field::array)?;
        if entries.len() > limits.entries {
            return Err(fields.error("kinds", FieldProblem::Count).into());
        }
        let mut kinds = Vec::new();
        for entry in entries {
            let kind = Fields::of("kinds", entry)?;
            let Some(version) =
                X402Version::from_number(kind.required("x402Version", field::integer)?)
            else {
                continue;
            };
            kinds.push(SupportedKind {
                version,
                scheme: Scheme::from(kind.required("scheme", field::text)?),
                network: kind.required("network", field::network)?,
                extra: kind
                    .object("extra", "kinds.extra")?
                    .map(|extra| JsonObject(extra.map().clone()))
                    .unwrap_or_default(),
            });
        }
        let extensions = fields
            .optional("extensions", field::array)?
            .unwrap_or_default();
        let mut signers = BTreeMap::new();
        if let Some(networks) = fields.object("signers", "signers")? {
            for (network, accounts) in networks.map() {
                let accounts = accounts.as_array().map(Vec::as_slice).unwrap_or_default();
                let accounts: Vec<_> = accounts
                    .iter()
                    .filter_map(|account| field::address(account).ok())
                    .collect();
                signers.insert(network.clone(), accounts);
            }
        }
        Ok(Self {
            kinds,
            extensions: extensions
                .iter()
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect(),
            signers,
        })
    }
}

impl Serialize for FacilitatorRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("x402Version", &self.version)?;
        map.serialize_entry("paymentPayload", &self.payload)?;
        map.serialize_entry("paymentRequirements", &self.requirements)?;
        map.end()
    }
}

impl Serialize for SupportedResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signers: BTreeMap<_, Vec<_>> = self
            .signers
            .iter()
            .map(|(network, accounts)| {
                (network, accounts.iter().copied().map(Checksummed).collect())
            })
            .collect();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kinds", &self.kinds)?;
        map.serialize_entry("extensions", &self.extensions)?;
        map.serialize_entry("signers", &signers)?;
        map.end()
    }
}

impl Serialize for SupportedKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x402Version", &self.version)?;
        map.serialize_entry("scheme", &self.scheme)?;
        map.serialize_entry("network", &self.network)?;
        if !self.extra.is_empty() {
            map.serialize_entry("extra", &self.extra)?;
        }
        map.end()
    }
}
