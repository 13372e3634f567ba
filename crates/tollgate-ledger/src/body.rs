//! Rows as JSON text, as stores keep them.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::StoreError;

/// A row from its body.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    // The message of the parser may quote the body, which holds signatures.
    serde_json::from_str(text).map_err(|error| {
        StoreError::Corrupt(format!(
            "a stored row cannot be read ({:?} at column {})",
            error.classify(),
            error.column()
        ))
    })
}

/// The body of a row.
pub(crate) fn print<T: Serialize>(row: &T) -> Result<String, StoreError> {
    serde_json::to_string(row)
        .map_err(|_| StoreError::Corrupt("a row cannot be written as JSON".into()))
}
