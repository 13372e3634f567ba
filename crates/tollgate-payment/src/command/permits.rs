//! Which permit has to go in before a charge is drawn.
//!
//! A permit sets the allowance, it does not add. So each is shown to the chain after every charge that was made before it
//! is final: whoever sees it can submit it at once. And each is remembered until the charges that were made on it are
//! final, since a reorganization can take it out after its successor was signed: then it goes in again, and first.

use tollgate_x402::{Allowance, Amount};

use crate::row::{Counter, PaymentRow, Permit, Superseded};

/// Permits that are remembered beside the newest, at most. The chain has each of them when its successor is signed, so
/// that more than one is out only after a reorganization which is as deep.
const MOST_SUPERSEDED: usize = 8;

impl Counter {
    /// The permit that has to go in before this payment is drawn.
    ///
    /// # Errors
    /// It is not to be shown yet: charges that were made before it come first, or a batch that showed it is not concluded.
    pub(super) fn pending(&self, payment: &PaymentRow) -> Result<Option<&Allowance>, Waits> {
        if payment.generation == self.generation {
            return match &self.permit {
                Some(permit) if !permit.applied => (self.shown == 0 && self.caught_up())
                    .then_some(Some(&permit.signed))
                    .ok_or(Waits),
                _ => Ok(None),
            };
        }
        let mut before = self.superseded.iter();
        let place = before.position(|it| it.generation == payment.generation);
        let found = place.and_then(|place| Some((place, self.superseded.get(place)?)));
        match found {
            Some((place, it)) if !it.permit.applied => (self.shown == 0 && place == 0)
                .then_some(Some(&it.permit.signed))
                .ok_or(Waits),
            _ => Ok(None),
        }
    }

    /// Where the charges on the newest permit begin.
    fn beginning(&self) -> Option<Amount> {
        let permit = self.permit.as_ref()?;
        Some(self.ceiling.saturating_sub(permit.signed.value))
    }

    /// Whether every charge that came before the newest permit is final.
    fn caught_up(&self) -> bool {
        self.beginning().is_none_or(|begins| self.settled >= begins)
    }

    /// Whether something that was drawn on the newest permit is final: the chain has it for good, whatever a node that
    /// stands still tells of the nonce.
    pub(super) fn is_drawn(&self) -> bool {
        self.beginning().is_some_and(|begins| self.settled > begins)
    }

    /// Begins the generation of a permit whose predecessor the chain has. `until` is where the charges of that one end.
    pub(super) fn supersede(&mut self, permit: Permit, generation: u32, until: Amount) {
        if let Some(before) = self.permit.replace(permit)
            && until > self.settled
        {
            self.superseded.push(Superseded {
                permit: Permit {
                    applied: true,
                    ..before
                },
                generation: self.generation,
                until,
            });
        }
        let surplus = self.superseded.len().saturating_sub(MOST_SUPERSEDED);
        self.superseded.drain(..surplus);
        self.generation = generation;
    }

    /// Notes that the chain has a permit in this block, if it is one that counts.
    pub(super) fn apply(&mut self, applied: &Allowance, block: u64) {
        for permit in self.permits() {
            if permit.signed.nonce == applied.nonce {
                permit.applied = true;
                permit.had = permit.had.max(block);
            }
        }
    }

    /// Notes that a draw failed: the block in which a permit was seen may be gone, so it goes in again. Where the chain
    /// has it, that is harmless.
    pub(super) fn doubt(&mut self) {
        for permit in self.permits() {
            permit.applied = false;
        }
    }

    /// Everything up to `settled` is final: permits that only such charges were made on are needed no more.
    pub(super) fn settle(&mut self, settled: Amount) {
        self.settled = settled;
        self.superseded.retain(|it| it.until > settled);
    }

    /// A charge of this generation is lost, or this much of it: what was made after it is drawn that much earlier.
    pub(super) fn give_up(&mut self, generation: u32, amount: Amount) {
        if generation < self.generation {
            // The ceiling stood on this charge being drawn before the permit went in.
            self.ceiling = self.ceiling.saturating_sub(amount);
        }
        for it in &mut self.superseded {
            if it.generation >= generation {
                it.until = it.until.saturating_sub(amount);
            }
        }
        self.settle(self.settled);
    }

    /// A draw that nobody knew of comes before everything that is due.
    pub(super) fn insert(&mut self, amount: Amount) {
        if self.permit.as_ref().is_some_and(|permit| !permit.applied) {
            self.ceiling = self.ceiling.saturating_add(amount);
        }
        for it in &mut self.superseded {
            it.until = it.until.saturating_add(amount);
        }
    }

    fn permits(&mut self) -> impl Iterator<Item = &mut Permit> {
        let before = self.superseded.iter_mut().map(|it| &mut it.permit);
        before.chain(self.permit.as_mut())
    }
}

/// A charge waits until others are final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waits;
