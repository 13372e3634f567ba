//! What was settled, as the chain alone tells it: for audits, and for ledgers that have to learn it anew.

use core::ops::RangeInclusive;

use alloy_primitives::{U64, U128};
use alloy_sol_types::SolEvent;
use serde::Deserialize;
use tollgate_contracts::{
    abi::{IErc20, Settler},
    settler::Kind,
};
use tollgate_x402::{Address, Amount, B256, Bytes, U256};

use crate::{Chain, ChainError, Log, LogFilter};

/// A transaction as a node has it, in a block or in its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTransaction {
    /// The hash.
    pub hash: B256,
    /// Who sent it.
    pub from: Address,
    /// Whom it calls.
    pub to: Option<Address>,
    /// The sender's nonce.
    pub nonce: u64,
    /// The price, in wei a unit of gas; 0 where the node does not say.
    pub gas_price: u128,
    /// The calldata.
    pub input: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireTransaction {
    hash: B256,
    from: Address,
    to: Option<Address>,
    nonce: U64,
    #[serde(default)]
    gas_price: Option<U128>,
    input: Bytes,
}

impl From<WireTransaction> for ChainTransaction {
    fn from(wire: WireTransaction) -> Self {
        Self {
            hash: wire.hash,
            from: wire.from,
            to: wire.to,
            nonce: wire.nonce.to(),
            gas_price: wire.gas_price.unwrap_or_default().to(),
            input: wire.input,
        }
    }
}

/// An event of a `Settler`, or a token's transfer, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<E> {
    /// What was said.
    pub event: E,
    /// The transaction.
    pub transaction: B256,
    /// The block.
    pub block: u64,
    /// The place of the log in its block.
    pub index: u64,
}

/// What a `Settler` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlerEvent {
    /// It drew an interval of an allowance's counter.
    Charged {
        /// The token.
        token: Address,
        /// Whose money.
        owner: Address,
        /// The counter before, in atomic units.
        from: Amount,
        /// The counter after, in atomic units.
        to: Amount,
    },
    /// It pulled a once or exact payment.
    Pulled {
        /// The kind.
        kind: Kind,
        /// The token.
        token: Address,
        /// Whose money.
        owner: Address,
        /// Permit2's nonce, or the EIP-3009 nonce as a number.
        nonce: U256,
        /// How much, in atomic units.
        amount: Amount,
    },
    /// Anything else: nothing moved by it.
    Other,
}

impl SettlerEvent {
    /// What a log of a `Settler` says.
    #[must_use]
    pub fn of(log: &Log) -> Self {
        if let Some(event) = log.decode::<Settler::Charged>() {
            return Self::Charged {
                token: event.token,
                owner: event.owner,
                from: Amount::new(event.from),
                to: Amount::new(event.to),
            };
        }
        match log.decode::<Settler::Pulled>() {
            Some(event) => match Kind::from_number(event.kind) {
                Some(kind) => Self::Pulled {
                    kind,
                    token: event.token,
                    owner: event.owner,
                    nonce: event.nonce,
                    amount: Amount::new(event.amount),
                },
                None => Self::Other,
            },
            None => Self::Other,
        }
    }

    /// What it moved, in atomic units, of which token.
    #[must_use]
    pub fn moved(&self) -> Option<(Address, Amount)> {
        match *self {
            Self::Charged {
                token, from, to, ..
            } => Some((token, to.checked_sub(from)?)),
            Self::Pulled { token, amount, .. } => Some((token, amount)),
            Self::Other => None,
        }
    }
}

/// A transfer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenTransfer {
    /// The token.
    pub token: Address,
    /// Whose money it was.
    pub from: Address,
    /// Whose it is.
    pub to: Address,
    /// How much, in atomic units.
    pub amount: Amount,
}

impl TokenTransfer {
    /// What a log says, if it is a transfer.
    #[must_use]
    pub fn of(log: &Log) -> Option<Self> {
        let event = log.decode::<IErc20::Transfer>()?;
        Some(Self {
            token: log.address,
            from: event.from,
            to: event.to,
            amount: Amount::new(event.value),
        })
    }
}

impl Chain {
    /// A transaction, if a node knows it.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn transaction(&self, hash: B256) -> Result<Option<ChainTransaction>, ChainError> {
        let found: Option<WireTransaction> = self
            .first(|endpoint| endpoint.call("eth_getTransactionByHash", (hash,)))
            .await?;
        Ok(found.map(Into::into))
    }

    /// Everything that a `Settler` said in these blocks, in its order.
    ///
    /// It is one node's word, and a hint: what counts of it is to be held against the receipts
    /// ([`evidence`](crate::evidence())).
    ///
    /// # Errors
    /// As [`Chain::logs`].
    pub async fn settler_events(
        &self,
        settler: Address,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<Found<SettlerEvent>>, ChainError> {
        let filter = LogFilter {
            addresses: vec![settler],
            topics: Vec::new(),
            blocks,
        };
        let logs = self.logs(&filter).await?;
        Ok(in_order(logs, |log| Some(SettlerEvent::of(log))))
    }

    /// The transfers of a token to an account in these blocks, in their order. One node's word, too.
    ///
    /// # Errors
    /// As [`Chain::logs`].
    pub async fn transfers_to(
        &self,
        token: Address,
        to: Address,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<Found<TokenTransfer>>, ChainError> {
        let filter = LogFilter {
            addresses: vec![token],
            topics: vec![
                Some(IErc20::Transfer::SIGNATURE_HASH),
                None,
                Some(to.into_word()),
            ],
            blocks,
        };
        let logs = self.logs(&filter).await?;
        Ok(in_order(logs, TokenTransfer::of))
    }
}

fn in_order<E>(mut logs: Vec<Log>, read: impl Fn(&Log) -> Option<E>) -> Vec<Found<E>> {
    logs.sort_by_key(|log| (log.block.number, log.index));
    logs.iter()
        .filter_map(|log| {
            Some(Found {
                event: read(log)?,
                transaction: log.transaction,
                block: log.block.number,
                index: log.index,
            })
        })
        .collect()
}
