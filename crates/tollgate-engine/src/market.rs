//! What is sold for: a token with its terms, its credit and the way it is settled.

use tollgate_eip712::TokenDomain;
use tollgate_payment::{Credit, Terms};
use tollgate_x402::{Address, ChainId};

/// One token that the seller takes.
#[derive(Clone, Debug)]
pub struct Market {
    /// What is offered.
    pub terms: Terms,
    /// The domain under which payers sign.
    pub domain: TokenDomain,
    /// What is lent.
    pub credit: Credit,
    /// Whether `terms.pay_to` is a `Settler` contract (its counter is on the chain), or a plain account.
    pub settler: bool,
    /// Where the money ends: the `Settler`'s treasury, or the account that a plain account pays on to.
    pub treasury: Address,
}

impl Market {
    /// The contract that keeps the counter, if there is one.
    pub fn settler(&self) -> Option<Address> {
        self.settler.then_some(self.terms.pay_to)
    }
}

/// The markets of a till.
#[derive(Clone, Debug, Default)]
pub struct Markets {
    all: Vec<Market>,
    elsewhere: bool,
    anyone: bool,
}

impl Markets {
    /// These, in the order in which they are offered.
    pub const fn new(markets: Vec<Market>) -> Self {
        Self {
            all: markets,
            elsewhere: false,
            anyone: false,
        }
    }

    /// The same of a facilitator: each payment pays whom its own authorization names, and the terms' payee is nobody's.
    #[must_use]
    pub fn paying_anyone(self) -> Self {
        Self {
            anyone: true,
            ..self
        }
    }

    /// Whether each payment pays whom its own authorization names.
    pub(crate) const fn pay_anyone(&self) -> bool {
        self.anyone
    }

    /// The same, settled by a facilitator somewhere else: what the ledger numbers are requests to it, and no transactions
    /// of an account.
    #[must_use]
    pub fn settled_elsewhere(self) -> Self {
        Self {
            elsewhere: true,
            ..self
        }
    }

    /// Whether the numbers of this account are those of requests to a facilitator.
    pub(crate) fn are_requests(&self, account: Address) -> bool {
        self.elsewhere && self.iter().any(|market| market.terms.pay_to == account)
    }

    /// The terms in the order in which they are offered.
    pub fn terms(&self) -> impl Iterator<Item = &Terms> {
        self.all.iter().map(|market| &market.terms)
    }

    /// The market of a token.
    pub fn of(&self, chain: ChainId, token: Address) -> Option<&Market> {
        self.all
            .iter()
            .find(|market| market.terms.chain == chain && market.terms.token == token)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Market> {
        self.all.iter()
    }
}
