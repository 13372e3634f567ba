//! Whose payments a worker settles.

use tollgate_x402::{Address, Authorization};

/// Whose once and exact payments a worker settles. Allowances are always those of its own account or `Settler`: nobody
/// else can draw them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Payees {
    /// Those to its own account, or to its `Settler`.
    #[default]
    Own,
    /// Those to anyone: the worker is a facilitator's, and its account the once payments' `facilitator`.
    Anyone,
    /// Those to this account, which a facilitator somewhere else settles.
    Account {
        /// Who is paid.
        pay_to: Address,
        /// The once payments' `facilitator`.
        facilitator: Address,
    },
}

/// Whom a once or exact payment pays, as its payer signed.
pub(crate) const fn signed_payee(signed: &Authorization) -> Option<Address> {
    match signed {
        Authorization::Allowance(_) => None,
        Authorization::Once(_) | Authorization::Exact(_) => Some(signed.payee()),
    }
}

impl Payees {
    /// Whether an authorization pays what a worker whose own account or `Settler` is `own` settles for. After a change
    /// of `payTo` a ledger holds charges that only a worker of the old one can settle.
    pub(crate) fn admit(&self, signed: &Authorization, own: Address) -> bool {
        let (payee, facilitator) = match self {
            Self::Own => (Some(own), own),
            Self::Anyone => (None, own),
            Self::Account {
                pay_to,
                facilitator,
            } => (Some(*pay_to), *facilitator),
        };
        let good = |to: Address| payee.is_none_or(|payee| payee == to);
        good(signed.payee())
            && match signed {
                Authorization::Allowance(_) => *self == Self::Own,
                Authorization::Once(signed) => signed.facilitator == facilitator,
                Authorization::Exact(_) => true,
            }
    }
}
