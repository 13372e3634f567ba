//! What was promised for one answer.

use core::fmt;
use std::sync::Arc;

use tollgate_x402::{
    Address, Allowance, Amount, Authorization, AuthorizationKind, B256, ChainId, Timestamp,
};

use crate::{Dollars, Origin, Priced};

/// What was authorized for one answer: an extension of the response. `Debug` tells nothing that another could use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Paid {
    /// The seller.
    pub origin: Origin,
    /// How it was paid.
    pub kind: AuthorizationKind,
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// Who paid.
    pub payer: Address,
    /// Who is paid.
    pub pay_to: Address,
    /// What was signed, in atomic units with the token's ticker and decimals. An allowance serves many requests.
    pub authorized: Priced,
    /// The most that this very request can cost, as the seller said for it. Nothing where an allowance was sent at
    /// once, before the seller was asked.
    pub quoted: Option<Amount>,
    /// The most that this request was expected to cost: what was quoted, or an estimate from an earlier quote.
    pub expected: Amount,
    /// The client's limit on the charge, if there was one.
    pub max_charge: Option<Dollars>,
    /// Whether the authorization was signed for an earlier request.
    pub reused: bool,
    /// Until when the authorization can be submitted.
    pub deadline: Timestamp,
    pub(crate) signed: Signed,
    pub(crate) digest: B256,
}

/// The authorization, with its signature: nothing for a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signed(pub(crate) Arc<Authorization>);

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signed(…)")
    }
}

impl Paid {
    /// What was signed. It is a bearer credential until it is settled or expires.
    pub fn authorization(&self) -> &Authorization {
        &self.signed.0
    }

    /// The EIP-712 digest of what was signed. By it a seller's signed receipt names the authorization.
    pub const fn digest(&self) -> B256 {
        self.digest
    }

    pub(crate) fn allowance(&self) -> Option<Arc<Allowance>> {
        match self.authorization() {
            Authorization::Allowance(allowance) => Some(Arc::new(allowance.clone())),
            _ => None,
        }
    }

    /// The dollars of so many atomic units of the token.
    pub(crate) fn dollars(&self, amount: Amount) -> Dollars {
        Dollars::of(amount, self.authorized.decimals)
    }

    /// An amount of the token, for people.
    pub fn priced(&self, amount: Amount) -> Priced {
        Priced {
            amount,
            ..self.authorized.clone()
        }
    }
}
