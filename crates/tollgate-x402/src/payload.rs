//! A payment as the client sends it.

use alloy_primitives::Address;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    Amount, Authorization, ErrorCode, Extensions, FieldError, HeaderError, Json, JsonError, Limits,
    Network, PayloadKind, PaymentHeader, PaymentRequired, PaymentRequirements, ResourceInfo,
    Scheme, SchemePayload, X402Version,
    extensions::Eip2612GasSponsoring,
    field::{self, FieldProblem, Fields},
    header, json, read,
    requirements::optional,
};

/// A payment as the client sends it (x402 v2 §5.2 `PaymentPayload`, and v1's).
///
/// Nothing in it but what was signed is to be believed. [`PaymentPayload::selector`] says which of the seller's offers
/// the client claims to answer; [`PaymentPayload::authorization_for`](crate::PaymentPayload::authorization_for) reads
/// what was signed against that offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentPayload {
    version: X402Version,
    scheme: Scheme,
    network: Network,
    accepted: Option<Accepted>,
    resource: Option<ResourceInfo>,
    payload: SchemePayload,
    extensions: Extensions,
}

/// What the client claims to answer. It selects one of the seller's own offers and supplies no value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    /// The scheme.
    pub scheme: Scheme,
    /// The network.
    pub network: Network,
    /// The token, if the client echoes the offer.
    pub asset: Option<Address>,
    /// The payee, if the client echoes the offer.
    pub pay_to: Option<Address>,
    /// The offered amount, if the client echoes the offer. That of a re-used permit may be of an older offer.
    pub amount: Option<Amount>,
    /// Which kind of signature was sent.
    pub kind: PayloadKind,
}

/// The echo of the offer (v2 `accepted`).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Accepted {
    scheme: Option<Scheme>,
    network: Option<Network>,
    asset: Option<Address>,
    pay_to: Option<Address>,
    amount: Option<Amount>,
    entry: Json,
}

/// Why a payment could not be read. The client is to blame for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// More than one payment header.
    #[error("there is more than one payment header; send one")]
    Multiple,
    /// The header is over the limit.
    #[error("the payment header is over the limit")]
    TooLong,
    /// Not base64 of JSON.
    #[error("the payment header cannot be decoded: {0}")]
    Header(HeaderError),
    /// Not JSON that we read.
    #[error("the payment cannot be read: {0}")]
    Json(#[from] JsonError),
    /// `x402Version` is neither 1 nor 2.
    #[error("x402Version must be 1 or 2")]
    Version,
    /// A field that is missing or malformed.
    #[error("the payment is malformed: {0}")]
    Field(#[from] FieldError),
    /// The payload is of no kind that we know.
    #[error("the payload must have an authorization or a permit2Authorization")]
    UnknownPayload,
}

impl PayloadError {
    /// The code to answer with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Multiple => ErrorCode::MultiplePayments,
            Self::TooLong => ErrorCode::PaymentHeaderTooLarge,
            Self::Version => ErrorCode::InvalidX402Version,
            Self::UnknownPayload => ErrorCode::UnsupportedPayloadType,
            Self::Field(error) if error.object == Eip2612GasSponsoring::OBJECT => {
                ErrorCode::Eip2612ExtensionFormat
            }
            Self::Field(error) if matches!(error.problem, FieldProblem::Network(_)) => {
                ErrorCode::InvalidNetwork
            }
            Self::Header(_) | Self::Json(_) | Self::Field(_) => ErrorCode::InvalidPayload,
        }
    }
}

impl From<HeaderError> for PayloadError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::TooLong => Self::TooLong,
            HeaderError::Json(error) => Self::Json(error),
            error => Self::Header(error),
        }
    }
}

impl PaymentPayload {
    /// The one payment header among a request's headers, given as names and values.
    ///
    /// # Errors
    /// [`PayloadError::Multiple`] if there are two, of one name or of both.
    pub fn find_header<'h>(
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Option<(PaymentHeader, &'h [u8])>, PayloadError> {
        let mut payments = headers.into_iter().filter_map(|(name, value)| {
            PaymentHeader::from_name(name).map(|header| (header, value))
        });
        match (payments.next(), payments.next()) {
            (first, None) => Ok(first),
            _ => Err(PayloadError::Multiple),
        }
    }

    /// The payment of a header's value. Either header may carry either version.
    ///
    /// # Errors
    /// [`PayloadError`], whose [`code`](PayloadError::code) is the one to answer with.
    pub fn parse_header(value: &[u8], limits: &Limits) -> Result<Self, PayloadError> {
        Self::read(&header::decode_json(value, limits)?)
    }

    /// The payment of a JSON text, as the facilitator API and MCP carry it.
    ///
    /// # Errors
    /// [`PayloadError`].
    pub fn parse_json(bytes: &[u8], limits: &Limits) -> Result<Self, PayloadError> {
        Self::read(&read::body(bytes, limits)?)
    }

    /// A payment that answers an entry of an offer with what was signed for it, in the offer's version.
    pub fn answering(
        offer: &PaymentRequired,
        entry: &PaymentRequirements,
        signed: &Authorization,
    ) -> Self {
        let v2 = offer.version == X402Version::V2;
        let echo = Accepted {
            scheme: Some(entry.scheme.clone()),
            network: Some(entry.network.clone()),
            asset: Some(entry.asset),
            pay_to: Some(entry.pay_to),
            amount: Some(entry.amount),
            entry: entry.echo(),
        };
        Self {
            version: offer.version,
            scheme: entry.scheme.clone(),
            network: entry.network.clone(),
            accepted: v2.then_some(echo),
            resource: if v2 { offer.resource.clone() } else { None },
            payload: SchemePayload::from(signed),
            extensions: if v2 {
                offer.extensions.clone()
            } else {
                Extensions::new()
            },
        }
    }

    /// The same payment with these extensions. v1 does not carry them.
    #[must_use]
    pub fn with_extensions(self, extensions: Extensions) -> Self {
        Self { extensions, ..self }
    }

    /// The version in which it is written.
    pub const fn version(&self) -> X402Version {
        self.version
    }

    /// The header that carries a payment of this version.
    pub const fn header(&self) -> PaymentHeader {
        match self.version {
            X402Version::V1 => PaymentHeader::XPayment,
            X402Version::V2 => PaymentHeader::PaymentSignature,
        }
    }

    /// What the client claims to answer.
    pub fn selector(&self) -> Selector {
        let echo = self.accepted.as_ref();
        Selector {
            scheme: self.scheme.clone(),
            network: self.network.clone(),
            asset: echo.and_then(|echo| echo.asset),
            pay_to: echo.and_then(|echo| echo.pay_to),
            amount: echo.and_then(|echo| echo.amount),
            kind: self.payload.kind(),
        }
    }

    /// What was signed, not yet read against an offer.
    pub const fn scheme_payload(&self) -> &SchemePayload {
        &self.payload
    }

    /// The scheme that the client names.
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The network that the client names.
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The resource that the client echoes. Informative: it is not signed.
    pub const fn resource(&self) -> Option<&ResourceInfo> {
        self.resource.as_ref()
    }

    /// The extensions.
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The payment as JSON in ASCII. It is a bearer credential.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The payment as its header's value. It is a bearer credential.
    pub fn to_header_value(&self) -> String {
        header::encode_json(self)
    }

    pub(crate) fn read(value: &Value) -> Result<Self, PayloadError> {
        let fields = Fields::of("", value)?;
        let number = fields.required("x402Version", field::integer)?;
        let version = X402Version::from_number(number).ok_or(PayloadError::Version)?;
        let accepted = fields
            .object("accepted", "accepted")?
            .map(Accepted::read)
            .transpose()?;
        let scheme = fields.optional("scheme", field::text)?.map(Scheme::from);
        let network = fields.optional("network", field::network)?;
        let echo = accepted.as_ref();
        let payload = fields.required_object("payload", "payload")?;
        Ok(Self {
            version,
            scheme: agreed(
                fields,
                "scheme",
                scheme,
                echo.and_then(|echo| echo.scheme.clone()),
            )?,
            network: agreed(
                fields,
                "network",
                network,
                echo.and_then(|echo| echo.network.clone()),
            )?,
            resource: fields
                .value("resource")
                .map(ResourceInfo::read)
                .transpose()?,
            payload: SchemePayload::read(payload)?.ok_or(PayloadError::UnknownPayload)?,
            extensions: fields
                .value("extensions")
                .map(Extensions::read)
                .transpose()?
                .unwrap_or_default(),
            accepted,
        })
    }
}

/// The value that is given at the top, in the echo, or in both alike.
fn agreed<T: PartialEq>(
    fields: Fields<'_>,
    field: &'static str,
    top: Option<T>,
    echo: Option<T>,
) -> Result<T, FieldError> {
    match (top, echo) {
        (Some(top), Some(echo)) if top != echo => Err(fields.error(field, FieldProblem::Conflict)),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Err(fields.error(field, FieldProblem::Missing)),
    }
}

impl Accepted {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let amounts = (
            fields.optional("amount", field::amount)?,
            fields.optional("maxAmountRequired", field::amount)?,
        );
        let amount = match amounts {
            (Some(a), Some(b)) if a != b => {
                return Err(fields.error("maxAmountRequired", FieldProblem::Conflict));
            }
            (a, b) => a.or(b),
        };
        Ok(Self {
            scheme: fields.optional("scheme", field::text)?.map(Scheme::from),
            network: fields.optional("network", field::network)?,
            asset: fields.optional("asset", field::address)?,
            pay_to: fields.optional("payTo", field::address)?,
            amount,
            entry: Json(Value::Object(fields.map().clone())),
        })
    }
}

impl Serialize for PaymentPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x402Version", &self.version)?;
        // v2 does not ask for these two; readers of thirdweb's dialect do.
        map.serialize_entry("scheme", &self.scheme)?;
        map.serialize_entry("network", &self.network)?;
        map.serialize_entry("payload", &self.payload)?;
        optional(&mut map, "resource", self.resource.as_ref())?;
        optional(
            &mut map,
            "accepted",
            self.accepted.as_ref().map(|accepted| &accepted.entry),
        )?;
        if self.version == X402Version::V2 && !self.extensions.is_empty() {
            map.serialize_entry("extensions", &self.extensions)?;
        }
        map.end()
    }
}
