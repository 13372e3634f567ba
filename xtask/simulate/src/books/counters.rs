//! What must hold for an allowance's counter, and for what else a spender may draw.

use tollgate_payment::{BatchItem, Counter, Limit, SpenderKey, SpenderRow};
use tollgate_x402::Allowance;

use super::{Books, Fault, Truth, units};
use crate::{names::payer_of, payers::Payer};

/// So many blocks below another, a block is of every branch that a node can be on.
const DEEP: u64 = 8;

/// A permit that the ledger has seen on the chain.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    signed: Allowance,
    /// The newest block in which it was.
    block: u64,
}

impl Books {
    /// Notes what the ledger says that the chain has.
    pub(super) fn see(&mut self, key: SpenderKey, counter: &Counter) {
        let Some(permit) = counter.permit.as_ref().filter(|permit| permit.applied) else {
            return;
        };
        let same = |seen: &&Seen| seen.signed == permit.signed;
        let before = self
            .seen
            .get(&key)
            .filter(same)
            .map_or(0, |seen| seen.block);
        let (signed, block) = (permit.signed.clone(), permit.had.max(before));
        self.seen.insert(key, Seen { signed, block });
    }

    /// What was seen in a block is replaced by no other permit of its nonce before every branch that a node can be on would
    /// show it: what a node says that stands still on another one is no reason.
    fn check_replaced(
        &self,
        key: SpenderKey,
        counter: &Counter,
        truth: &Truth<'_>,
    ) -> Result<(), Fault> {
        let (Some(seen), Some(newest)) = (self.seen.get(&key), &counter.permit) else {
            return Ok(());
        };
        let replaced = newest.signed.nonce == seen.signed.nonce && newest.signed != seen.signed;
        let head = truth.chain.head().number;
        must!(
            !replaced || head >= seen.block.saturating_add(DEEP),
            2,
            "a permit worth {} is lent on in block {head}, and one of its nonce worth {} was seen in block {}",
            newest.signed.value,
            seen.signed.value,
            seen.block
        );
        Ok(())
    }

    pub(super) fn check_spender(&self, row: &SpenderRow, truth: &Truth<'_>) -> Result<(), Fault> {
        let sums = self.spenders.get(&row.key).copied().unwrap_or_default();
        let found = (units(row.held), units(row.due));
        must!(
            found == (sums.held, sums.due),
            11,
            "held and due of a spender are {found:?} in its row and {:?} in payments",
            (sums.held, sums.due)
        );
        let Limit::Counter(counter) = &row.limit else {
            return Ok(());
        };
        let payer = payer_of(row.key.owner.owner).unwrap_or_default();
        let signed = truth.payers.get(payer).map_or(0, Payer::signed_in_all);
        let settled = units(counter.settled);
        let drawn = settled + sums.due + sums.held;
        must!(
            drawn <= signed,
            2,
            "{drawn} of payer {payer} are drawn, and {signed} were signed in all"
        );
        must!(
            counter.settled <= counter.claimed,
            11,
            "a counter is settled beyond its claims"
        );
        if self.settler {
            let charged = truth.chain.finalized().state.purses[payer].charged;
            must!(
                settled <= charged,
                5,
                "the counter of payer {payer} is settled up to {settled}, and the chain's stands at {charged}"
            );
        }
        // Whether payments wait for it, of each open batch of the counter.
        let waits: Vec<bool> = self
            .open
            .iter()
            .filter_map(|id| self.batches.get(id))
            .filter_map(|batch| {
                batch.items.iter().find_map(|item| match item {
                    BatchItem::Allowance { spender, .. } => (*spender == row.key).then_some(true),
                    BatchItem::Permit {
                        spender, payments, ..
                    } => (*spender == row.key).then_some(!payments.is_empty()),
                    BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
                })
            })
            .collect();
        let undecided = waits.iter().filter(|waits| **waits).count();
        must!(
            counter.undecided as usize == undecided,
            11,
            "a counter says that {} batches draw it, and {undecided} do",
            counter.undecided
        );
        let shown = waits.len() - undecided;
        must!(
            counter.shown as usize == shown,
            11,
            "a counter says that {} permits are in blocks, and {shown} are",
            counter.shown
        );
        self.check_replaced(row.key, counter, truth)
    }
}
