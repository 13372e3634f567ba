//! What a payment is for.

use serde::Serialize;
use serde_json::Value;

use crate::field::{self, FieldError, FieldProblem, Fields};

/// The resource that is paid for (x402 v2 §5.1.2 `ResourceInfo`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo {
    /// Its absolute URL. Not empty.
    pub url: String,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The media type of what it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The seller's name: 1 to 32 printable ASCII characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// At most 5 words of 1 to 32 printable ASCII characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The URL of a picture, at most 2048 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

impl ResourceInfo {
    /// The resource at this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// A resource as v2 writes it, or v1's bare URL.
    pub(crate) fn read(value: &Value) -> Result<Self, FieldError> {
        if let Some(url) = value.as_str().filter(|url| !url.is_empty()) {
            return Ok(Self::new(url));
        }
        let fields = Fields::of("resource", value)?;
        Ok(Self {
            url: fields.required("url", |value| match field::string(value)? {
                url if url.is_empty() => Err(FieldProblem::Text),
                url => Ok(url),
            })?,
            description: fields.optional("description", field::string)?,
            mime_type: fields.optional("mimeType", field::string)?,
            // Ornaments that only some versions know: bad ones are dropped, not a reason to refuse money.
            service_name: fields.value("serviceName").and_then(word),
            tags: fields.value("tags").and_then(tags).unwrap_or_default(),
            icon_url: fields
                .value("iconUrl")
                .and_then(Value::as_str)
                .filter(|url| url.len() <= 2048)
                .map(str::to_owned),
        })
    }
}

fn word(value: &Value) -> Option<String> {
    let word = value.as_str()?;
    let good = (1..=32).contains(&word.len()) && word.bytes().all(|b| (0x20..0x7f).contains(&b));
    good.then(|| word.to_owned())
}

fn tags(value: &Value) -> Option<Vec<String>> {
    let tags = value.as_array()?;
    if tags.len() > 5 {
        return None;
    }
    tags.iter().map(word).collect()
}
