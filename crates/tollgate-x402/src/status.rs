//! What the seller tells of a payment: the answer of `GET /x402/v1/payments/{id}`.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{
    Amount, Limits, Network, PaymentId, ReadError, Timestamp, json, read, requirements::Checksummed,
};

/// The state of one payment. A signed receipt may stand beside it, under `receipt`; [`PaymentStatus::interval`] and
/// [`PaymentStatus::transaction`] let the payer check it against the chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PaymentStatus {
    /// The payment.
    pub id: PaymentId,
    /// How far it is.
    pub state: PaymentState,
    /// What kind of authorization pays it.
    pub authorization: AuthorizationKind,
    /// The chain.
    pub network: Network,
    /// The token.
    #[serde(serialize_with = "checksummed")]
    pub token: Address,
    /// Who pays.
    #[serde(serialize_with = "checksummed")]
    pub payer: Address,
    /// Who is paid.
    #[serde(serialize_with = "checksummed")]
    pub pay_to: Address,
    /// The amounts.
    pub amounts: PaymentAmounts,
    /// The committed amount, in atomic units; nothing while the request runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charge: Option<Amount>,
    /// Which part of the payer's counter at the seller's contract the charge owns (allowances only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The transaction that moved the charge, once it is included in a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<B256>,
    /// The number of that block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// When the payment was accepted.
    pub accepted_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

/// How far a payment is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentState {
    /// Held, being served, or committed and waiting to be settled.
    Accepted,
    /// Settled by a transaction that a block includes. A hint: a reorganization can undo it.
    Included,
    /// Settled for good: the block is final.
    Final,
    /// Nothing was charged; the hold is gone.
    Released,
    /// Served, and can no longer be collected.
    Lost,
}

/// The kinds of authorization.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorizationKind {
    /// `upto` by an ERC-2612 permit.
    Allowance,
    /// `upto` by Permit2.
    Once,
    /// `exact`.
    Exact,
}

/// A payment's amounts, in atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentAmounts {
    /// The signed maximum.
    pub authorized: Amount,
    /// What was held for the request, the most that it could cost.
    pub reserved: Amount,
    /// What usage times price comes to, before the reservation caps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calculated: Option<Amount>,
}

/// A half-open interval of a counter, in atomic units: `to − from` is what it moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// The counter before.
    pub from: Amount,
    /// The counter after.
    pub to: Amount,
}

/// Tokens used by a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    /// All tokens of the prompt, the cached ones among them.
    pub input_tokens: u64,
    /// Those of the prompt that came from a cache.
    #[serde(default)]
    pub cached_input_tokens: u64,
    /// All generated tokens, the reasoning ones among them.
    pub output_tokens: u64,
    /// Those generated and not shown.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl TokenUsage {
    /// Input and output together.
    pub const fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl PaymentStatus {
    /// A payment that was accepted at a time, with nothing charged yet.
    #[expect(
        clippy::too_many_arguments,
        reason = "what every payment has; the rest is set by name"
    )]
    pub const fn accepted(
        id: PaymentId,
        authorization: AuthorizationKind,
        network: Network,
        token: Address,
        payer: Address,
        pay_to: Address,
        amounts: PaymentAmounts,
        at: Timestamp,
    ) -> Self {
        Self {
            id,
            state: PaymentState::Accepted,
            authorization,
            network,
            token,
            payer,
            pay_to,
            amounts,
            charge: None,
            interval: None,
            transaction: None,
            block: None,
            model: None,
            usage: None,
            accepted_at: at,
            updated_at: at,
        }
    }

    /// JSON in ASCII.
    pub fn to_json(&self) -> String {
        json::to_ascii(self)
    }

    /// The status of a body.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        let value = read::body(body, limits)?;
        serde_json::from_value(value).map_err(|_| ReadError::Shape("a payment's status"))
    }
}

impl crate::Authorization {
    /// Which kind it is.
    pub const fn kind(&self) -> AuthorizationKind {
        match self {
            Self::Allowance(_) => AuthorizationKind::Allowance,
            Self::Once(_) => AuthorizationKind::Once,
            Self::Exact(_) => AuthorizationKind::Exact,
        }
    }
}

fn checksummed<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    Checksummed(*address).serialize(serializer)
}
