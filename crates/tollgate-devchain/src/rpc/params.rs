//! Reading positional parameters.

use alloy_primitives::U256;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::RpcError;

/// The parameters of one call.
#[derive(Debug)]
pub(crate) struct Params(Vec<Value>);

impl Params {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// A parameter that must be there.
    pub(crate) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.optional(index)?
            .ok_or_else(|| RpcError::params(format!("missing value for required argument {index}")))
    }

    /// A parameter that may be left out or null.
    pub(crate) fn optional<T: DeserializeOwned>(
        &self,
        index: usize,
    ) -> Result<Option<T>, RpcError> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|error| RpcError::params(format!("invalid argument {index}: {error}"))),
        }
    }

    /// A whole number as hex, as decimal text or as a JSON number: people type
    /// all three into development methods.
    pub(crate) fn number(&self, index: usize) -> Result<Option<u64>, RpcError> {
        let number: Option<U256> = self.optional(index)?;
        number
            .map(|n| u64::try_from(n).map_err(|_| RpcError::params("number too large")))
            .transpose()
    }
}
