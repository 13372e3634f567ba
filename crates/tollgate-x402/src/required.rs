//! The answer to an unpaid request.

use serde::{Serialize, Serializer, ser::SerializeMap, ser::SerializeSeq};
use serde_json::Value;

use crate::{
    Extensions, FieldError, Json, Limits, PaymentRequirements, ReadError, ResourceInfo,
    X402Version,
    field::{self, FieldProblem, Fields},
    header, json, read,
    requirements::{Entry, optional},
};

/// The answer to an unpaid request (x402 v2 §5.1 `PaymentRequired`, and v1's 402 body).
///
/// A seller's 402 that every client in use reads carries both forms of one value: [`PaymentRequired::to_body_v1`] as
/// its body and [`PaymentRequired::to_header_v2`] in the header [`PAYMENT_REQUIRED`](crate::header::PAYMENT_REQUIRED).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentRequired {
    /// The version in which it was read, and in which it is to be answered.
    pub version: X402Version,
    /// A code or a text that says why payment is required.
    pub error: Option<String>,
    /// What is paid for. v1 has it in each entry instead.
    pub resource: Option<ResourceInfo>,
    /// The ways to pay, in the seller's order.
    pub accepts: Vec<PaymentRequirements>,
    /// What else the seller offers or demands (v2).
    pub extensions: Extensions,
    /// Entries that could not be read, such as those of chains that are not EVM chains.
    pub unreadable: Vec<UnreadableEntry>,
}

/// An entry of `accepts` that this crate does not understand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnreadableEntry {
    /// The entry as it came.
    pub entry: Json,
    /// What was wrong with it.
    pub error: FieldError,
}

impl PaymentRequired {
    /// A v2 offer of these entries.
    pub fn new(resource: ResourceInfo, accepts: Vec<PaymentRequirements>) -> Self {
        Self {
            version: X402Version::V2,
            error: None,
            resource: Some(resource),
            accepts,
            extensions: Extensions::new(),
            unreadable: Vec::new(),
        }
    }

    /// The v1 body: JSON in ASCII.
    ///
    /// Each entry gets `resource`, `description` and `mimeType` from the offer's resource where it lacks them, since
    /// v1 clients refuse an entry without them.
    pub fn to_body_v1(&self) -> String {
        json::to_ascii(&Written {
            offer: self,
            version: X402Version::V1,
        })
    }

    /// The v2 object: JSON in ASCII, as the header holds it before base64.
    pub fn to_json_v2(&self) -> String {
        json::to_ascii(&Written {
            offer: self,
            version: X402Version::V2,
        })
    }

    /// The value of the v2 header `PAYMENT-REQUIRED`: base64 of JSON in ASCII.
    pub fn to_header_v2(&self) -> String {
        header::encode(self.to_json_v2().as_bytes())
    }

    /// The offer of a 402's body, in either version.
    ///
    /// # Errors
    /// [`ReadError`]: not JSON, neither version, or without entries.
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self::read(&read::body(body, limits)?, limits)?)
    }

    /// The offer of a `PAYMENT-REQUIRED` header.
    ///
    /// # Errors
    /// [`ReadError`]: not base64 of JSON, neither version, or without entries.
    pub fn parse_header(value: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self::read(&header::decode_json(value, limits)?, limits)?)
    }

    /// The offer of a 402 answer: that of its `PAYMENT-REQUIRED` header if it has one, else that of its body.
    ///
    /// # Errors
    /// As [`PaymentRequired::parse_header`] and [`PaymentRequired::parse_body`]. A bad header is not mended by a
    /// good body.
    pub fn from_response(
        header: Option<&[u8]>,
        body: &[u8],
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        match header {
            Some(value) => Self::parse_header(value, limits),
            None => Self::parse_body(body, limits),
        }
    }

    fn read(value: &Value, limits: &Limits) -> Result<Self, FieldError> {
        let fields = Fields::of("", value)?;
        let number = fields.required("x402Version", field::integer)?;
        let version = X402Version::from_number(number)
            .ok_or(fields.error("x402Version", FieldProblem::Unknown))?;
        let entries = fields.required("accepts", field::array)?;
        if entries.is_empty() || entries.len() > limits.entries {
            return Err(fields.error("accepts", FieldProblem::Count));
        }
        let (mut accepts, mut unreadable) = (Vec::new(), Vec::new());
        for entry in entries {
            match PaymentRequirements::read(entry) {
                Ok(entry) => accepts.push(entry),
                Err(error) => unreadable.push(UnreadableEntry {
                    entry: Json(entry.clone()),
                    error,
                }),
            }
        }
        Ok(Self {
            version,
            error: fields.optional("error", field::string)?,
            resource: fields
                .value("resource")
                .map(ResourceInfo::read)
                .transpose()?,
            accepts,
            extensions: fields
                .value("extensions")
                .map(Extensions::read_leniently)
                .unwrap_or_default(),
            unreadable,
        })
    }
}

struct Written<'a> {
    offer: &'a PaymentRequired,
    version: X402Version,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("x402Version", &self.version)?;
        optional(&mut map, "error", self.offer.error.as_ref())?;
        if self.version == X402Version::V2 {
            optional(&mut map, "resource", self.offer.resource.as_ref())?;
        }
        map.serialize_entry("accepts", &Entries(self.offer))?;
        if self.version == X402Version::V2 && !self.offer.extensions.is_empty() {
            map.serialize_entry("extensions", &self.offer.extensions)?;
        }
        map.end()
    }
}

/// The entries as both forms have them, so that a client's choice is the same in both.
struct Entries<'a>(&'a PaymentRequired);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.accepts.len()))?;
        for requirements in &self.0.accepts {
            seq.serialize_element(&Entry {
                requirements,
                defaults: self.0.resource.as_ref(),
            })?;
        }
        seq.end()
    }
}
