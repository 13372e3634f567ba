//! Why a command wrote nothing.

use tollgate_x402::{Amount, PaymentId, U256};

/// Why a command wrote nothing. Nothing was reserved, charged or sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What is known of the payer's funds is missing or too old: read the chain and ask again with what it says.
    #[error("the payer's funds must be read from the chain first")]
    FundsNeeded,
    /// The payer cannot pay the minimum.
    #[error("{bound} leaves {available} atomic units and this request needs at least {needed}")]
    Insufficient {
        /// What is short.
        bound: FundsBound,
        /// What is left, in atomic units.
        available: Amount,
        /// The least that this request needs.
        needed: Amount,
    },
    /// A credit bound is reached: wait, sign nothing anew.
    #[error("{bound}")]
    Limited {
        /// Which bound.
        bound: CreditBound,
        /// Seconds after which it makes sense to try again.
        retry_after: u64,
    },
    /// The payer owes a charge that it made unpayable.
    #[error("this payer owes {owed} atomic units from payments that could not be settled")]
    Blocked {
        /// How much.
        owed: Amount,
    },
    /// The operator serves this payer no more.
    #[error("the seller does not serve this payer")]
    Barred,
    /// The permit's nonce is not the token's.
    #[error(
        "the permit's nonce is {signed} but the token expects {expected}; sign with the current nonce"
    )]
    PermitNonce {
        /// The nonce that was signed.
        signed: U256,
        /// The token's.
        expected: U256,
    },
    /// The authorization admitted another request.
    #[error("this authorization was used for another request; sign a new one")]
    Used,
    /// The authorization admitted this very request before. Whether that payment is still being served, and what was
    /// answered, is to be looked up.
    #[error("this payment was admitted before")]
    Admitted(PaymentId),
    /// The payer's identifier names this very request, which was admitted before; whatever authorization comes with
    /// it now is not used. Whether that payment is still being served, and what was answered, is to be looked up.
    #[error("the request of this identifier was admitted before")]
    Named(PaymentId),
    /// The payer's identifier names another request.
    #[error("this payment identifier was used for another request; choose a new one")]
    IdentifierUsed,
    /// The chain's counter is above the ledger's: another ledger, or a restored backup.
    #[error(
        "the chain has drawn {chain} of this allowance and the ledger knows of {ledger}; reconcile before serving"
    )]
    CounterAhead {
        /// The chain's counter.
        chain: Amount,
        /// The ledger's.
        ledger: Amount,
    },
    /// Somebody else has changed the row since it was looked at: look again.
    #[error("the step was overtaken by another")]
    Overtaken,
    /// The account's lease is in another term: whoever signed this does not lead any more.
    #[error("another worker leads this account now")]
    Deposed,
    /// The account is stopped until a person has looked.
    #[error("the account is stopped; reconcile the ledger with the chain before anything is sent")]
    Halted,
    /// The command names a row that does not exist.
    #[error("no such {0}")]
    Missing(&'static str),
    /// The books contradict themselves: nothing is written, a person must look.
    #[error("the books contradict themselves: {0}")]
    Books(&'static str),
}

impl Refusal {
    /// The payment that admitted the same request before.
    pub const fn payment(&self) -> Option<PaymentId> {
        match self {
            Self::Admitted(id) | Self::Named(id) => Some(*id),
            _ => None,
        }
    }
}

/// What is short of money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FundsBound {
    /// The balance, less everything open.
    Balance,
    /// The allowance, less everything open.
    Allowance,
    /// The amount that was signed.
    Authorization,
}

impl core::fmt::Display for FundsBound {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Balance => "the balance",
            Self::Allowance => "the allowance",
            Self::Authorization => "the signed amount",
        })
    }
}

/// Which credit bound is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreditBound {
    /// The payer's credit, by what of it is open.
    Payer,
    /// The payer's credit, by this request alone: waiting does not help.
    Request,
    /// The payer's requests in flight.
    InFlight,
    /// What the payer settled in the last blocks: the money that the chain shows may be the same once more, if what tells
    /// it is of a fork.
    Settling,
    /// The bound on everything unsettled of all payers.
    Global,
}

impl core::fmt::Display for CreditBound {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Payer => {
                "the payer's credit is reached; try again after open requests are settled"
            }
            Self::Request => {
                "this request alone is above what is lent to a payer who has paid so little; send a shorter one, or pay for shorter ones first"
            }
            Self::InFlight => {
                "the number of the payer's requests in flight is reached; try again after one has ended"
            }
            Self::Settling => {
                "what the payer's last settlements moved is held against its balance until they are some blocks deep; try again in a moment"
            }
            Self::Global => {
                "the seller's bound on unsettled payments is reached; try again after open requests are settled"
            }
        })
    }
}
