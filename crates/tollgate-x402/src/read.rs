//! What can be wrong with an object of JSON.

use serde_json::Value;

use crate::{FieldError, HeaderError, JsonError, Limits, json};

/// Why an object could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A header that does not decode.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Not JSON that we read.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field that is missing or malformed.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// An object of another shape.
    #[error("this is not {0}")]
    Shape(&'static str),
}

/// The JSON of a body within its limits.
pub(crate) fn body(bytes: &[u8], limits: &Limits) -> Result<Value, JsonError> {
    if bytes.len() > limits.body_bytes {
        return Err(JsonError::TooLong);
    }
    json::parse(bytes, limits.depth)
}
