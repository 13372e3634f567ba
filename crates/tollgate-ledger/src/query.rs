//! What stores are asked, beside rows by name.

use serde::{Deserialize, Serialize};
use tollgate_payment::{AuthorizationKey, Entry, OwnerKey, PaymentRow};
use tollgate_x402::{Address, Amount, ChainId, Timestamp};

/// Which payments that are due. Every field that is given narrows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Of this chain.
    pub chain: Option<ChainId>,
    /// Of this token.
    pub token: Option<Address>,
    /// Of this payer.
    pub owner: Option<Address>,
    /// Drawn by this spender.
    pub spender: Option<Address>,
}

impl Due {
    /// Those of one chain.
    pub fn of(chain: ChainId) -> Self {
        Self {
            chain: Some(chain),
            ..Self::default()
        }
    }

    /// Those of one queue.
    pub fn queue(queue: &Queue) -> Self {
        Self {
            chain: Some(queue.owner.chain),
            token: Some(queue.owner.token),
            owner: Some(queue.owner.owner),
            spender: queue.spender,
        }
    }

    /// Whether a payment is meant.
    pub fn admits(&self, payment: &PaymentRow) -> bool {
        let keys = &payment.keys;
        self.chain.is_none_or(|chain| chain == keys.owner.chain)
            && self.token.is_none_or(|token| token == keys.owner.token)
            && self.owner.is_none_or(|owner| owner == keys.owner.owner)
            && self
                .spender
                .is_none_or(|spender| keys.spender == Some(spender))
    }
}

/// What is due of one payer through one spender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Whose money.
    pub owner: OwnerKey,
    /// Who draws it; `None` for EIP-3009.
    pub spender: Option<Address>,
    /// Whether it is drawn by an allowance, and can be aggregated.
    pub allowance: bool,
    /// How many payments.
    pub payments: u64,
    /// The sum of their charges, in atomic units.
    pub sum: Amount,
    /// When the oldest was committed.
    pub oldest: Timestamp,
    /// The earliest deadline.
    pub deadline: Timestamp,
}

impl Queue {
    /// A queue of one payment.
    pub fn begin(payment: &PaymentRow) -> Self {
        Self {
            owner: payment.keys.owner,
            spender: payment.keys.spender,
            allowance: matches!(payment.keys.authorization, AuthorizationKey::Permit { .. }),
            payments: 1,
            sum: payment.charge,
            oldest: payment.ended.unwrap_or(payment.created),
            deadline: payment.deadline,
        }
    }

    /// Adds a payment.
    pub fn add(&mut self, payment: &PaymentRow) {
        self.payments = self.payments.saturating_add(1);
        self.sum = self.sum.saturating_add(payment.charge);
        self.oldest = self.oldest.min(payment.ended.unwrap_or(payment.created));
        self.deadline = self.deadline.min(payment.deadline);
    }
}

/// A line of the double-entry book, as it stands there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BookedEntry {
    /// Its number: rising, from 1; a number may be missing.
    pub seq: u64,
    /// When it was booked.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}
