//! Evidence that money moved, as a pure function of what a node told.
//!
//! Only two things count: the token's own `Transfer` of exactly the amount, and the canonical chain's finality. With a
//! `Settler` its event ties the transfer to the payment. A used nonce is not a payment: it may have been voided, or
//! spent elsewhere.

use alloy_sol_types::SolEvent;
use tollgate_contracts::{
    abi::{IEip3009, IErc20, Settler},
    settler::Kind,
};
use tollgate_x402::{Address, Amount, B256, U256};

use crate::{Finality, Heads, Log, TxReceipt};

/// What is said to have moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The token moved exactly `value` from `from` to `to`: a plain account's settlement.
    Transfer {
        /// The token.
        token: Address,
        /// Whose money.
        from: Address,
        /// Who got it.
        to: Address,
        /// How much, in atomic units.
        value: Amount,
        /// The EIP-3009 nonce that the token must have said it used in the same transaction. For transactions of
        /// others, of which nothing else says which payment they settled.
        authorization: Option<B256>,
    },
    /// The Settler drew this interval of an allowance's counter, and the token moved `to - from` from the owner to
    /// the treasury.
    Interval {
        /// The Settler.
        settler: Address,
        /// Its treasury.
        treasury: Address,
        /// The token.
        token: Address,
        /// Whose money.
        owner: Address,
        /// The counter before, in atomic units.
        from: Amount,
        /// The counter after, in atomic units.
        to: Amount,
    },
    /// The Settler pulled a once or exact payment, and the token moved `value` from the owner to the Settler.
    Pulled {
        /// The Settler.
        settler: Address,
        /// The kind; not [`Kind::Allowance`].
        kind: Kind,
        /// The token.
        token: Address,
        /// Whose money.
        owner: Address,
        /// Permit2's nonce, or the EIP-3009 nonce as a number.
        nonce: U256,
        /// How much, in atomic units.
        value: Amount,
    },
}

/// What became of one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemEvidence {
    /// It moved, exactly as claimed. Whether for good is [`Evidence::finality`]'s to say.
    Moved,
    /// The Settler skipped the interval: the counter stood elsewhere. Nothing moved by this item.
    Skipped {
        /// Where the counter stood, in atomic units.
        actual: Amount,
    },
    /// The Settler said that the item failed. Nothing moved by it.
    Failed,
    /// The transaction shows nothing of it. Nothing moved by it.
    NotMoved,
    /// The Settler says that it moved, and the token does not: one of them is not what it should be. Stop settling
    /// with it and look.
    Contradicted,
}

/// What a transaction shows of some claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether the transaction is on the chain, and for good. Where it is not included, all items are
    /// [`ItemEvidence::NotMoved`], and may move yet.
    pub finality: Finality,
    /// Whether the transaction is included and reverted as a whole.
    pub reverted: bool,
    /// The claims, in their order.
    pub items: Vec<ItemEvidence>,
}

impl Evidence {
    /// Whether every claim moved, for good.
    #[must_use]
    pub fn all_final(&self) -> bool {
        self.finality.is_final() && self.items.iter().all(|item| *item == ItemEvidence::Moved)
    }
}

/// Holds claims against one transaction's receipt. Every log proves at most one claim.
///
/// `receipt` is `None` where the transaction is in no block. Final is only what is canonical for sure: see
/// [`Heads::finality`] and [`Chain::sight`](crate::Chain::sight).
#[must_use]
pub fn evidence(claims: &[Claim], receipt: Option<&TxReceipt>, heads: &Heads) -> Evidence {
    let finality = receipt.map_or(Finality::NotIncluded, |receipt| {
        heads.finality(receipt.block)
    });
    let included = receipt.filter(|_| finality != Finality::NotIncluded);
    let reverted = included.is_some_and(|receipt| !receipt.success);
    let logs = included
        .filter(|receipt| receipt.success)
        .map(|receipt| receipt.logs.as_slice())
        .unwrap_or_default();
    let mut unused = Unused::of(logs);
    // What moved takes its logs before a failure is looked for, so that the failure of one item cannot be read as
    // that of another of the same owner.
    let moved: Vec<_> = claims.iter().map(|claim| unused.moved(claim)).collect();
    let items = claims
        .iter()
        .zip(moved)
        .map(|(claim, moved)| moved.unwrap_or_else(|| unused.failed(claim)))
        .collect();
    Evidence {
        finality,
        reverted,
        items,
    }
}

/// The logs that prove nothing yet.
pub(crate) struct Unused<'a>(Vec<Option<&'a Log>>);

impl<'a> Unused<'a> {
    pub(crate) fn of(logs: &'a [Log]) -> Self {
        Self(logs.iter().map(Some).collect())
    }

    /// The place of the first log of this contract and event that fits.
    fn find<E: SolEvent>(&self, by: Address, fits: impl Fn(&E) -> bool) -> Option<usize> {
        self.0.iter().position(|log| {
            log.is_some_and(|log| log.address == by && log.decode::<E>().is_some_and(|e| fits(&e)))
        })
    }

    fn take<E: SolEvent>(&mut self, by: Address, fits: impl Fn(&E) -> bool) -> Option<E> {
        let place = self.find(by, fits)?;
        self.0.get_mut(place)?.take()?.decode()
    }

    fn find_transfer(
        &self,
        token: Address,
        from: Address,
        to: Address,
        value: Amount,
    ) -> Option<usize> {
        self.find::<IErc20::Transfer>(token, |event| {
            event.from == from && event.to == to && event.value == value.get()
        })
    }

    fn spend(&mut self, place: usize) {
        if let Some(log) = self.0.get_mut(place) {
            *log = None;
        }
    }

    /// Both logs, or neither.
    fn both(&mut self, event: Option<usize>, transfer: Option<usize>) -> Option<ItemEvidence> {
        match (event, transfer) {
            (Some(event), Some(transfer)) => {
                self.spend(event);
                self.spend(transfer);
                Some(ItemEvidence::Moved)
            }
            (Some(event), None) => {
                self.spend(event);
                Some(ItemEvidence::Contradicted)
            }
            (None, _) => None,
        }
    }

    /// Whether the claim moved, or is said to have.
    fn moved(&mut self, claim: &Claim) -> Option<ItemEvidence> {
        match *claim {
            Claim::Transfer {
                token,
                from,
                to,
                value,
                authorization,
            } => {
                let transfer = self.find_transfer(token, from, to, value)?;
                if let Some(nonce) = authorization {
                    let used = self.find::<IEip3009::AuthorizationUsed>(token, |event| {
                        event.authorizer == from && event.nonce == nonce
                    })?;
                    self.spend(used);
                }
                self.spend(transfer);
                Some(ItemEvidence::Moved)
            }
            Claim::Interval {
                settler,
                treasury,
                token,
                owner,
                from,
                to,
            } => {
                let value = to.checked_sub(from).filter(|value| !value.is_zero())?;
                let charged = self.find::<Settler::Charged>(settler, |event| {
                    event.token == token
                        && event.owner == owner
                        && event.from == from.get()
                        && event.to == to.get()
                });
                let transfer = self.find_transfer(token, owner, treasury, value);
                self.both(charged, transfer)
            }
            Claim::Pulled {
                settler,
                kind,
                token,
                owner,
                nonce,
                value,
            } => {
                let pulled = self.find::<Settler::Pulled>(settler, |event| {
                    Kind::from_number(event.kind) == Some(kind)
                        && event.token == token
                        && event.owner == owner
                        && event.nonce == nonce
                        && event.amount == value.get()
                });
                let transfer = self.find_transfer(token, owner, settler, value);
                self.both(pulled, transfer)
            }
        }
    }

    /// What the Settler says of a claim that did not move.
    fn failed(&mut self, claim: &Claim) -> ItemEvidence {
        let (settler, kind, token, owner) = match *claim {
            Claim::Transfer { .. } => return ItemEvidence::NotMoved,
            Claim::Interval {
                settler,
                token,
                owner,
                from,
                to,
                ..
            } => {
                let skipped = self.take::<Settler::Skipped>(settler, |event| {
                    event.token == token
                        && event.owner == owner
                        && event.from == from.get()
                        && event.to == to.get()
                });
                if let Some(event) = skipped {
                    return ItemEvidence::Skipped {
                        actual: Amount::new(event.actual),
                    };
                }
                (settler, Kind::Allowance, token, owner)
            }
            Claim::Pulled {
                settler,
                kind,
                token,
                owner,
                ..
            } => (settler, kind, token, owner),
        };
        let failed = self.take::<Settler::Failed>(settler, |event| {
            Kind::from_number(event.kind) == Some(kind)
                && event.token == token
                && event.owner == owner
        });
        match failed {
            Some(_) => ItemEvidence::Failed,
            None => ItemEvidence::NotMoved,
        }
    }

    /// The first interval of the counter that the Settler charged and that covers `from..to`, proven by the token.
    pub(crate) fn covered(
        &mut self,
        settler: Address,
        treasury: Address,
        token: Address,
        owner: Address,
        (from, to): (Amount, Amount),
    ) -> Option<ItemEvidence> {
        let event = self.take::<Settler::Charged>(settler, |event| {
            event.token == token
                && event.owner == owner
                && event.from <= from.get()
                && event.to >= to.get()
        })?;
        let value = Amount::new(event.to).checked_sub(Amount::new(event.from))?;
        match self.find_transfer(token, owner, treasury, value) {
            Some(transfer) => {
                self.spend(transfer);
                Some(ItemEvidence::Moved)
            }
            None => Some(ItemEvidence::Contradicted),
        }
    }
}

#[cfg(test)]
mod tests;
