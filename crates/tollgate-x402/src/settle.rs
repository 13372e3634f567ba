//! What became of a payment: settlement and verification responses.

use alloy_primitives::{Address, B256};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    Amount, ErrorCode, Extensions, FieldError, JsonObject, Limits, Network, ReadError,
    field::{self, FieldProblem, Fields},
    header, json, read,
    requirements::{Checksummed, optional},
};

/// What became of a settlement (x402 v2 §5.3 `SettleResponse`, and v1's): the content of `PAYMENT-RESPONSE` and
/// `X-PAYMENT-RESPONSE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettleResponse {
    /// Whether money moved, or nothing was due.
    pub success: bool,
    /// A code: one of ours ([`ErrorCode`]) or of another implementation.
    pub error_reason: Option<String>,
    /// A text for people.
    pub error_message: Option<String>,
    /// Who paid.
    pub payer: Option<Address>,
    /// The transaction; nothing on failure and where nothing was due.
    pub transaction: Option<B256>,
    /// The chain.
    pub network: Network,
    /// What moved, in atomic units. `upto` always tells it.
    pub amount: Option<Amount>,
    /// Extensions' answers.
    pub extensions: Extensions,
    /// What the scheme adds.
    pub extra: JsonObject,
}

/// What a facilitator found (x402 v2 §7.1 `VerifyResponse`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyResponse {
    /// Whether the payment could be settled.
    pub is_valid: bool,
    /// A code: one of ours ([`ErrorCode`]) or of another implementation.
    pub invalid_reason: Option<String>,
    /// A text for people.
    pub invalid_message: Option<String>,
    /// Who would pay.
    pub payer: Option<Address>,
    /// Extensions' answers.
    pub extensions: Extensions,
    /// What the scheme adds.
    pub extra: JsonObject,
}

impl SettleResponse {
    /// A settlement of this amount by this transaction; without one where nothing was due.
    pub fn settled(
        network: Network,
        payer: Address,
        amount: Amount,
        transaction: Option<B256>,
    ) -> Self {
        Self {
            success: true,
            error_reason: None,
            error_message: None,
            payer: Some(payer),
            transaction,
            network,
            amount: Some(amount),
            extensions: Extensions::new(),
            extra: JsonObject::new(),
        }
    }

    /// A settlement that failed, or whose outcome is not known yet ([`ErrorCode::SettlementPending`], with the
    /// transaction).
    pub fn failed(network: Network, reason: ErrorCode, transaction: Option<B256>) -> Self {
        Self {
            success: false,
            error_reason: Some(reason.as_str().into()),
            error_message: Some(reason.advice().into()),
            payer: None,
            transaction,
            network,
            amount: None,
            extensions: Extensions::new(),
            extra: JsonObject::new(),
        }
    }

    /// The value of `PAYMENT-RESPONSE` and `X-PAYMENT-RESPONSE`.
    pub fn to_header_value(&self) -> String {
        header::encode_json(self)
    }

    /// JSON in ASCII.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The response of a header's value.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse_header(value: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self::read(&header::decode_json(value, limits)?)?)
    }

    /// The response of a facilitator's body.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self::read(&read::body(body, limits)?)?)
    }

    fn read(value: &Value) -> Result<Self, FieldError> {
        let fields = Fields::of("", value)?;
        Ok(Self {
            success: fields.required("success", field::boolean)?,
            error_reason: fields.optional("errorReason", field::string)?,
            error_message: fields.optional("errorMessage", field::string)?,
            payer: fields.optional("payer", address_or_empty)?.flatten(),
            transaction: fields.optional("transaction", hash_or_empty)?.flatten(),
            network: fields.required("network", field::network)?,
            amount: fields.optional("amount", field::amount)?,
            extensions: fields
                .value("extensions")
                .map(Extensions::read_leniently)
                .unwrap_or_default(),
            extra: object(fields, "extra")?,
        })
    }
}

impl VerifyResponse {
    /// A payment that could be settled.
    pub fn valid(payer: Address) -> Self {
        Self {
            is_valid: true,
            payer: Some(payer),
            ..Self::default()
        }
    }

    /// A payment that could not.
    pub fn invalid(reason: ErrorCode, payer: Option<Address>) -> Self {
        Self {
            invalid_reason: Some(reason.as_str().into()),
            invalid_message: Some(reason.advice().into()),
            payer,
            ..Self::default()
        }
    }

    /// JSON in ASCII.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The response of a facilitator's body.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        let value = read::body(body, limits)?;
        let fields = Fields::of("", &value)?;
        Ok(Self {
            is_valid: fields.required("isValid", field::boolean)?,
            invalid_reason: fields.optional("invalidReason", field::string)?,
            invalid_message: fields.optional("invalidMessage", field::string)?,
            payer: fields.optional("payer", address_or_empty)?.flatten(),
            extensions: fields
                .value("extensions")
                .map(Extensions::read_leniently)
                .unwrap_or_default(),
            extra: object(fields, "extra")?,
        })
    }
}

fn address_or_empty(value: &Value) -> Result<Option<Address>, FieldProblem> {
    if value.as_str() == Some("") {
        Ok(None)
    } else {
        field::address(value).map(Some)
    }
}

fn hash_or_empty(value: &Value) -> Result<Option<B256>, FieldProblem> {
    if value.as_str() == Some("") {
        Ok(None)
    } else {
        field::bytes32(value).map(Some)
    }
}

fn object(fields: Fields<'_>, key: &'static str) -> Result<JsonObject, FieldError> {
    Ok(fields
        .object(key, key)?
        .map(|fields| JsonObject(fields.map().clone()))
        .unwrap_or_default())
}

impl Serialize for SettleResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("success", &self.success)?;
        optional(&mut map, "errorReason", self.error_reason.as_ref())?;
        optional(&mut map, "errorMessage", self.error_message.as_ref())?;
        optional(&mut map, "payer", self.payer.map(Checksummed).as_ref())?;
        // The standard wants the empty string where there is none.
        map.serialize_entry(
            "transaction",
            &self
                .transaction
                .map(|hash| hash.to_string())
                .unwrap_or_default(),
        )?;
        map.serialize_entry("network", &self.network)?;
        optional(&mut map, "amount", self.amount.as_ref())?;
        tail(&mut map, &self.extensions, &self.extra)?;
        map.end()
    }
}

impl Serialize for VerifyResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("isValid", &self.is_valid)?;
        optional(&mut map, "invalidReason", self.invalid_reason.as_ref())?;
        optional(&mut map, "invalidMessage", self.invalid_message.as_ref())?;
        optional(&mut map, "payer", self.payer.map(Checksummed).as_ref())?;
        tail(&mut map, &self.extensions, &self.extra)?;
        map.end()
    }
}

fn tail<M: SerializeMap>(
    map: &mut M,
    extensions: &Extensions,
    extra: &JsonObject,
) -> Result<(), M::Error> {
    if !extensions.is_empty() {
        map.serialize_entry("extensions", extensions)?;
    }
    if !extra.is_empty() {
        map.serialize_entry("extra", extra)?;
    }
    Ok(())
}
