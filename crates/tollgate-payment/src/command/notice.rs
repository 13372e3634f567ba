//! What the chain says of a payer's money, taken into the books.

use tollgate_x402::{Amount, Timestamp, U256};

use super::{Funds, SpenderFunds, sum};
use crate::{
    key::{OwnerKey, RowKey, SpenderKey},
    refusal::Refusal,
    row::{Counter, Limit, OwnerRow, Row},
    store::{Command, Decision, RowSet, Rows},
    view::{Settled, View},
};

/// Takes the chain's word on a payer that is being served, where no request is admitted with it: one was refused for what
/// the chain said, or a long stream's payer was looked at again. Of a payer with nothing in flight nothing is written.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The payer.
    pub owner: OwnerKey,
    /// Whose allowance was read with it.
    pub spender: Option<SpenderKey>,
    /// The chain's word.
    pub funds: Funds,
}

impl Command for Notice {
    /// Whether anything was learned.
    type Outcome = bool;

    fn rows(&self) -> RowSet {
        [RowKey::Owner(self.owner)]
            .into_iter()
            .chain(self.spender.map(RowKey::Spender))
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<bool>, Refusal> {
        let funds = &self.funds.by(now);
        let mut writes = Vec::new();
        let owner = rows.owner(&self.owner).filter(|owner| owner.in_flight > 0);
        if let Some(mut owner) = owner.cloned() {
            let settled = owner.settled.clone();
            if owner.learn(funds) {
                writes.push(Row::Owner(owner));
            }
            let spender = self.spender.as_ref().and_then(|key| rows.spender(key));
            if let Some(mut spender) = spender.cloned() {
                let due = spender.due;
                let learned = match (&mut spender.limit, &funds.spender) {
                    (Limit::Seen(view), SpenderFunds::Seen { allowance }) => {
                        View::learn(view, *allowance, funds, settled.as_ref())
                    }
                    (
                        Limit::Counter(counter),
                        SpenderFunds::Counter {
                            nonce,
                            allowance,
                            counter: drawn,
                        },
                    ) => {
                        let ledger = sum(counter.settled, due)?;
                        let drawn = counter.drawn(*drawn);
                        // What another ledger drew is for the next request, or the worker, to stop at.
                        let stands = counter.counts(funds.block, settled.as_ref())
                            && drawn <= ledger
                            && counter.stands(*nonce, *allowance, drawn, funds.block);
                        if stands {
                            counter.read = funds.block;
                        }
                        stands
                    }
                    _ => false,
                };
                if learned {
                    writes.push(Row::Spender(spender));
                }
            }
        }
        Ok(Decision {
            outcome: !writes.is_empty(),
            writes,
            entries: Vec::new(),
        })
    }
}

impl OwnerRow {
    /// Takes the chain's word on the balance, unless something newer is known. Whether it was taken.
    pub(super) fn learn(&mut self, funds: &Funds) -> bool {
        View::learn(&mut self.view, funds.balance, funds, self.settled.as_ref())
    }
}

impl View {
    /// Takes an amount as it was read with these funds, unless something newer is known. Whether it was taken.
    pub(super) fn learn(
        known: &mut Option<Self>,
        amount: Amount,
        funds: &Funds,
        settled: Option<&Settled>,
    ) -> bool {
        // What is final is not held any more: a reading from before it would show that money once more, of the balance and of
        // what a spender may take of it.
        if settled.is_some_and(|last| last.block > funds.block) {
            return false;
        }
        if known.is_some_and(|view| view.block > funds.block) {
            return false;
        }
        *known = Some(Self {
            amount,
            doubt: settled.map_or(Amount::ZERO, |last| last.doubt(funds.block)),
            block: funds.block,
            at: funds.at,
        });
        true
    }
}

impl Counter {
    /// What the chain has drawn, where it says so; else what it must have.
    pub(super) fn drawn(&self, told: Option<Amount>) -> Amount {
        // A plain account has no counter on the chain. What its one undecided batch draws may be off the
        // allowance already.
        told.unwrap_or(if self.undecided == 0 {
            self.settled
        } else {
            self.claimed
        })
    }

    /// Whether what was read at this block counts: nothing newer was, and nothing is final above it.
    pub(super) fn counts(&self, block: u64, settled: Option<&Settled>) -> bool {
        self.read <= block && settled.is_none_or(|last| last.block <= block)
    }

    /// Holds the ceiling against the allowance that stands on the chain in this block, if the chain has the newest permit.
    pub(super) fn stands(
        &mut self,
        nonce: U256,
        allowance: Amount,
        drawn: Amount,
        block: u64,
    ) -> bool {
        let Some(permit) = &mut self.permit else {
            return false;
        };
        if nonce <= permit.signed.nonce {
            return false;
        }
        // Applied, by us or by somebody who saw it: what stands on the chain is the budget, and
        // never more than the signed values allow.
        permit.applied = true;
        permit.had = permit.had.max(block);
        self.ceiling = self.ceiling.min(drawn.saturating_add(allowance));
        true
    }
}
