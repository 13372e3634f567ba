//! What was promised for one answer.

use tollgate_x402::{Address, Amount, AuthorizationKind, ChainId, Timestamp};

use crate::{Dollars, Origin, Priced};

/// What was authorized for one answer. It is an extension of the response, and holds no secret.
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
}

impl Paid {
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
