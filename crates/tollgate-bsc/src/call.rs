//! Calls: simulated, or to be signed.

use serde::{Serialize, Serializer, ser::SerializeMap};
use tollgate_x402::{Address, Bytes, ChainId};

use crate::{BlockTag, Chain, ChainError, TransactionRequest1559, endpoint::Endpoint};

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
    /// The price, in wei a unit of gas: a node then looks whether the caller could pay it. `None`: none, which a contract
    /// can tell from a transaction.
    pub gas_price: Option<u128>,
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
        if let Some(price) = &self.gas_price {
            map.serialize_entry("gasPrice", &format_args!("{price:#x}"))?;
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
            gas_price: None,
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

impl Chain {
    /// Which of these calls revert, each simulated for itself, in one round trip. One node's word, and a hint.
    ///
    /// # Errors
    /// Those of the transport; and where a call fails otherwise than by reverting.
    pub async fn reverts(
        &self,
        requests: &[CallRequest],
        block: BlockTag,
    ) -> Result<Vec<bool>, ChainError> {
        self.first(|endpoint| reverts_of(endpoint, requests, block))
            .await
    }
}

async fn reverts_of(
    endpoint: &Endpoint,
    requests: &[CallRequest],
    block: BlockTag,
) -> Result<Vec<bool>, ChainError> {
    let calls = requests.iter().map(|request| (request, block)).collect();
    let answers: Vec<Result<Bytes, ChainError>> = endpoint.batch_each("eth_call", calls).await?;
    answers
        .into_iter()
        .map(|answer| match answer {
            Ok(_) => Ok(false),
            Err(ChainError::Reverted { .. }) => Ok(true),
            Err(error) => Err(error),
        })
        .collect()
}
