//! `Offer` and `Receipt` of x402's offer-receipt extension.

use std::sync::LazyLock;

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolStruct;
use serde::{Deserialize, Serialize};
use tollgate_x402::{ChainId, Timestamp};

use crate::{Statement, Version1, digest::signing_hash, domain::separator, typed};

// The extension fixes the chain id of both domains at 1, whatever chain is paid on, and has no
// verifying contract.
static OFFER: LazyLock<B256> =
    LazyLock::new(|| separator(Some("x402 offer"), Some("1"), ChainId(1), None));
static RECEIPT: LazyLock<B256> =
    LazyLock::new(|| separator(Some("x402 receipt"), Some("1"), ChainId(1), None));

/// An offer that a gateway signs, so that a client can prove what it was asked for.
///
/// Texts are kept as they were signed: an address in other letters is another text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// 1.
    pub version: Version1,
    /// The resource that is offered.
    pub resource_url: String,
    /// `exact` or `upto`.
    pub scheme: String,
    /// The network as CAIP-2 names it.
    pub network: String,
    /// The token.
    pub asset: String,
    /// Who is paid.
    pub pay_to: String,
    /// Atomic units, as a decimal string.
    pub amount: String,
    /// The last second in which the offer stands; 0 if that is not said.
    #[serde(default)]
    pub valid_until: Timestamp,
}

/// A receipt that a gateway signs about a paid request. It has no amount: see
/// [`UsageReceipt`](crate::UsageReceipt) for one that has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// 1.
    pub version: Version1,
    /// The network as CAIP-2 names it.
    pub network: String,
    /// The resource that was paid for.
    pub resource_url: String,
    /// Who paid.
    pub payer: String,
    /// When the receipt was made.
    pub issued_at: Timestamp,
    /// The transaction's hash; empty if that is not said.
    #[serde(default)]
    pub transaction: String,
}

impl From<&Offer> for typed::Offer {
    fn from(offer: &Offer) -> Self {
        Self {
            version: U256::ONE,
            resourceUrl: offer.resource_url.clone(),
            scheme: offer.scheme.clone(),
            network: offer.network.clone(),
            asset: offer.asset.clone(),
            payTo: offer.pay_to.clone(),
            amount: offer.amount.clone(),
            validUntil: U256::from(offer.valid_until.0),
        }
    }
}

impl From<&Receipt> for typed::Receipt {
    fn from(receipt: &Receipt) -> Self {
        Self {
            version: U256::ONE,
            network: receipt.network.clone(),
            resourceUrl: receipt.resource_url.clone(),
            payer: receipt.payer.clone(),
            issuedAt: U256::from(receipt.issued_at.0),
            transaction: receipt.transaction.clone(),
        }
    }
}

impl Statement for Offer {
    fn digest(&self) -> B256 {
        signing_hash(&OFFER, &typed::Offer::from(self).eip712_hash_struct())
    }
}

impl Statement for Receipt {
    fn digest(&self) -> B256 {
        signing_hash(&RECEIPT, &typed::Receipt::from(self).eip712_hash_struct())
    }
}
