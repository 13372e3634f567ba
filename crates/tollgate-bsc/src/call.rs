//! Calls: simulated, or to be signed.

use serde::{Serialize, Serializer, ser::SerializeMap};
use tollgate_x402::{Address, Bytes, ChainId};

use crate::TransactionRequest1559;

/// A call to simulate (`eth_call`, `eth_estimateGas`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// Who calls: nobody needs a key to simulate.
    pub from: Option<Address>,
    /// Whom; `None` runs the input as creation code, and the answer is what would become the code.
    pub to: Option<Address>,
    /// The calldata.
    pub input: Bytes,
    /// The most gas, or as much as the node gives.
    pub gas: Option<u64>,
}

impl Serialize for CallRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(from) = &self.from {
            map.serialize_entry("from", from)?;
        }
        if let Some(to) = &self.to {
            map.serialize_entry("to", to)?;
        }
        if let Some(gas) = &self.gas {
            map.serialize_entry("gas", &format_args!("{gas:#x}"))?;
        }
        map.serialize_entry("input", &self.input)?;
        map.end()
    }
}

/// A call that a transaction is to make, with its gas limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// The calldata.
    pub input: Bytes,
    /// The gas limit. Fixed by the kind of call, not estimated: one reverting item would spoil an estimate. Gas that
    /// is not used is not paid.
    pub gas_limit: u64,
}

impl Call {
    /// The same call, to simulate from an account.
    #[must_use]
    pub fn simulated_from(&self, from: Address) -> CallRequest {
        CallRequest {
            from: Some(from),
            to: Some(self.to),
            input: self.input.clone(),
            gas: Some(self.gas_limit),
        }
    }

    /// The transaction that makes the call, at this price in wei a unit of gas.
    #[must_use]
    pub fn into_transaction(
        self,
        chain: ChainId,
        nonce: u64,
        gas_price: u128,
    ) -> TransactionRequest1559 {
        TransactionRequest1559 {
            chain,
            nonce,
            to: self.to,
            gas_limit: self.gas_limit,
            gas_price,
            input: self.input,
        }
    }
}
