//! What the chain was last seen to say of money, and what it may not have said yet.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Amount, Timestamp};

use crate::row::is_default;

/// An amount as a node last told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct View {
    /// The amount, in atomic units, less our own settlements that became final above `block`.
    pub amount: Amount,
    /// What was settled in this block or the last before it, in atomic units. The reading has it already, unless it was of a fork
    /// that was given up since.
    #[serde(default, skip_serializing_if = "is_default")]
    pub doubt: Amount,
    /// The block at which it was read.
    pub block: u64,
    /// When it was read.
    pub at: Timestamp,
}

/// Blocks that a fork may have of its own before it is given up: BSC's chain is final after two or three. A node that stands
/// still may go on to tell what it was.
const FORK: u64 = 8;

/// Whether what was read at a block may be of a fork without what was settled in this one, which is not above it.
pub(crate) const fn forks(settled: u64, read: u64) -> bool {
    settled.saturating_add(FORK) > read
}

impl View {
    /// Takes a settlement into account that became final, in this block.
    pub(crate) fn settle(&mut self, amount: Amount, block: u64) {
        if self.block < block {
            self.amount = self.amount.saturating_sub(amount);
        } else if forks(block, self.block) {
            self.doubt = self.doubt.saturating_add(amount);
        }
    }

    /// What is surely there, in atomic units.
    pub fn sure(&self) -> Amount {
        self.amount.saturating_sub(self.doubt)
    }
}

/// What of a payer's money last moved by our doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// The highest block of a settlement that became final.
    pub block: u64,
    /// What was settled in it and in the last blocks before it, in atomic units, by block: at most eight of them.
    #[serde(default)]
    pub recent: Vec<(u64, Amount)>,
}

impl Settled {
    /// With another settlement.
    pub(crate) fn with(known: Option<Self>, amount: Amount, block: u64) -> Self {
        let mut last = known.unwrap_or(Self {
            block,
            recent: Vec::new(),
        });
        last.block = last.block.max(block);
        match last.recent.iter_mut().find(|(of, _)| *of == block) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => last.recent.push((block, amount)),
        }
        // A reading that counts is of the newest block at least.
        let newest = last.block;
        last.recent.retain(|(block, _)| forks(*block, newest));
        last
    }

    /// What of it a reading at this block may not have, though it is not below.
    pub(crate) fn doubt(&self, read: u64) -> Amount {
        let in_doubt = self.recent.iter().filter(|(block, _)| forks(*block, read));
        in_doubt.fold(Amount::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
    }
}
