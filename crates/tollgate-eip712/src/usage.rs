//! Our own receipt: what one request was charged, for what, and where on the chain to look for it.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, Authorization, ChainId, PaymentId, Timestamp};

use crate::{Statement, Version1, digest::signing_hash, domain::separator, typed};

/// What a gateway signs about one payment.
///
/// With it and the chain alone a payer can show what was charged and check that exactly this was
/// moved. The signing domain is `{name: "tollgate usage receipt", version: "1", chainId: chain,
/// verifyingContract: payTo}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReceipt {
    /// 1.
    pub version: Version1,
    /// The chain that was paid on.
    pub chain: ChainId,
    /// Who was paid: the allowance's spender, or where a once or exact payment goes.
    pub pay_to: Address,
    /// The payment, by [`payment_digest`](Self::payment_digest): its id is a secret.
    pub payment: B256,
    /// The EIP-712 digest of the authorization that paid.
    pub authorization: B256,
    /// The digest of the request's body; zero if that is not said.
    #[serde(default)]
    pub request: B256,
    /// How it was paid.
    pub kind: PaymentKind,
    /// Whose money it was.
    pub payer: Address,
    /// The token.
    pub token: Address,
    /// The charge, in atomic units.
    pub amount: Amount,
    /// The model that answered.
    pub model: String,
    /// What was billed.
    pub tokens: TokenCounts,
    /// What the charge owns of the settlement contract's counter; `None` for once and exact payments,
    /// and where a plain account is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<CounterInterval>,
    /// When the receipt was made.
    pub issued_at: Timestamp,
}

/// How a request was paid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentKind {
    /// From an ERC-2612 allowance.
    Allowance,
    /// By one Permit2 settlement up to a maximum.
    Once,
    /// By one transfer of the exact price.
    Exact,
}

/// Billed tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
}

/// A charge's interval of `charged[token][owner]`, the settlement contract's counter: half open, in
/// atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CounterInterval {
    /// The counter before the charge.
    pub from: Amount,
    /// The counter after it.
    pub to: Amount,
}

impl CounterInterval {
    /// How much the interval holds, `None` if it ends before it begins.
    pub fn width(&self) -> Option<Amount> {
        self.to.checked_sub(self.from)
    }
}

impl PaymentKind {
    /// The kind's name, as it is signed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowance => "allowance",
            Self::Once => "once",
            Self::Exact => "exact",
        }
    }
}

impl From<&Authorization> for PaymentKind {
    fn from(authorization: &Authorization) -> Self {
        match authorization {
            Authorization::Allowance(_) => Self::Allowance,
            Authorization::Once(_) => Self::Once,
            Authorization::Exact(_) => Self::Exact,
        }
    }
}

impl UsageReceipt {
    /// keccak256 of a payment id's 16 bytes: names the payment to those who know its id, and to
    /// nobody else.
    pub fn payment_digest(id: PaymentId) -> B256 {
        keccak256(id.to_bytes())
    }

    /// Whether the counter's interval, if there is one, holds exactly the charge, as it does in every
    /// honest receipt.
    pub fn counter_holds_amount(&self) -> bool {
        self.counter
            .is_none_or(|counter| counter.width() == Some(self.amount))
    }
}

impl From<&UsageReceipt> for typed::UsageReceipt {
    fn from(receipt: &UsageReceipt) -> Self {
        let (from, to) = receipt
            .counter
            .map_or((U256::ZERO, U256::ZERO), |c| (c.from.get(), c.to.get()));
        Self {
            version: U256::ONE,
            payment: receipt.payment,
            authorization: receipt.authorization,
            request: receipt.request,
            kind: receipt.kind.as_str().to_owned(),
            payer: receipt.payer,
            token: receipt.token,
            amount: receipt.amount.get(),
            model: receipt.model.clone(),
            inputTokens: U256::from(receipt.tokens.input),
            outputTokens: U256::from(receipt.tokens.output),
            counterFrom: from,
            counterTo: to,
            issuedAt: U256::from(receipt.issued_at.0),
        }
    }
}

impl Statement for UsageReceipt {
    fn digest(&self) -> B256 {
        let domain = separator(
            Some("tollgate usage receipt"),
            Some("1"),
            self.chain,
            Some(self.pay_to),
        );
        signing_hash(
            &domain,
            &typed::UsageReceipt::from(self).eip712_hash_struct(),
        )
    }
}
