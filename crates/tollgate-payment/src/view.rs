//! What the chain was last seen to say of money, and what it may not have said yet.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, Timestamp};

/// An amount as a node last told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct View {
    /// The amount, in atomic units, less our own settlements that became final above `block`.
    pub amount: Amount,
    /// What was settled at or below `block` and became final only after the reading, in atomic units. The reading has
    /// it already, unless it was of a fork that was given up since.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub doubt: Amount,
    /// The block at which it was read.
    pub block: u64,
    /// When it was read.
    pub at: Timestamp,
}

impl View {
    /// Takes a settlement into account that became final, in this block.
    pub(crate) fn settle(&mut self, amount: Amount, block: u64) {
        if self.block < block {
            self.amount = self.amount.saturating_sub(amount);
        } else {
            self.doubt = self.doubt.saturating_add(amount);
        }
    }

    /// What is surely there, in atomic units.
    pub fn sure(&self) -> Amount {
        self.amount.saturating_sub(self.doubt)
    }
}

/// When a payer's money last moved by our doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// The highest block of a settlement that became final.
    pub block: u64,
    /// When one last became final.
    pub at: Timestamp,
    /// What became final in that second, in atomic units.
    pub amount: Amount,
}

/// Seconds by which a date may be later than now without a clock having jumped.
const APART: u64 = 10;

impl Settled {
    /// With another settlement.
    pub(crate) fn with(known: Option<Self>, amount: Amount, block: u64, now: Timestamp) -> Self {
        let before = known
            .filter(|known| known.at >= now)
            .map_or(Amount::ZERO, |known| known.amount);
        Self {
            block: known.map_or(block, |known| known.block.max(block)),
            // A clock that was ahead dated the last one: what it settled is held against readings until now, and no longer.
            at: known
                .map(|known| known.at)
                .filter(|at| *at <= now.plus(APART))
                .map_or(now, |at| at.max(now)),
            amount: before.saturating_add(amount),
        }
    }

    /// What of it a reading at this moment may not have.
    pub(crate) fn doubt(&self, read: Timestamp) -> Amount {
        if read <= self.at {
            self.amount
        } else {
            Amount::ZERO
        }
    }
}

pub(crate) fn is_nothing(amount: &Amount) -> bool {
    amount.is_zero()
}
