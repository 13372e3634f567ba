//! What a counter's permits leave, and what is learned of them.

use tollgate_x402::{Allowance, Amount, B256, Timestamp, U256};

use super::sum;
use crate::{
    refusal::Refusal,
    row::{Counter, Permit},
    view::forks,
};

/// What the chain said of a counter.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// In which block.
    pub(super) block: u64,
    /// The token's nonce of the payer.
    pub(super) nonce: U256,
    /// The allowance that stands.
    pub(super) allowance: Amount,
    /// What was drawn, where the chain counts it.
    pub(super) drawn: Option<Amount>,
}

impl Counter {
    /// What the ceiling leaves, with this much held and due.
    pub fn left(&self, held: Amount, due: Amount) -> Amount {
        self.ceiling
            .saturating_sub(self.settled)
            .saturating_sub(due)
            .saturating_sub(held)
    }

    /// What is left for requests that show this permit. Permits of one nonce are one budget, since only one of them can go in;
    /// who shows a lesser one asks for no more of it than was signed there.
    pub(super) fn left_for(&self, signed: &Allowance, held: Amount, due: Amount) -> Amount {
        let known = self.permit.as_ref();
        let more = known.map_or(Amount::ZERO, |known| {
            known.signed.value.saturating_sub(signed.value)
        });
        self.left(held, due).saturating_sub(more)
    }

    /// Takes the chain's word: where the token's nonce stands against the permit's decides whether the
    /// permit is pending (its value is the budget) or applied (the allowance that stands is).
    pub(super) fn learn(
        &mut self,
        signed: &Allowance,
        digest: B256,
        told: Told,
        due: Amount,
    ) -> Result<(), Refusal> {
        let Told {
            block,
            nonce,
            allowance,
            drawn,
        } = told;
        // A fresh row of an allowance that was drawn before begins where the chain stands.
        if self.permit.is_none() && self.settled.is_zero() && due.is_zero() {
            self.settled = drawn.unwrap_or_default();
            self.claimed = self.settled;
        }
        let ledger = sum(self.settled, due)?;
        let drawn = self.drawn(drawn);
        if drawn > ledger {
            return Err(Refusal::CounterAhead {
                chain: drawn,
                ledger,
            });
        }
        if nonce < signed.nonce {
            return Err(Refusal::PermitNonce {
                signed: signed.nonce,
                expected: nonce,
            });
        }
        let newest = self
            .permit
            .as_ref()
            .is_none_or(|permit| permit.signed.nonce < signed.nonce);
        if newest {
            let generation = self
                .generation
                .checked_add(1)
                .ok_or(Refusal::Books("too many permits"))?;
            let permit = Permit {
                signed: signed.clone(),
                digest,
                applied: false,
                had: 0,
            };
            self.supersede(permit, generation, ledger);
            // Everything committed so far is drawn before the permit goes in: a permit sets, it does not add.
            self.ceiling = ledger.saturating_add(signed.value);
        }
        self.stands(nonce, allowance, drawn, block);
        self.read = block;
        Ok(())
    }

    /// Takes a permit of the same nonce in place of one that was never submitted: a payer signs anew before a deadline,
    /// and only one of the two can go in. Charges that are due are drawn by it as well, so it must be worth as much
    /// and good as long, unless the known one is void. `block` is where the chain said that none of that nonce went in:
    /// it is not believed of a permit that was seen in a block which a fork need not have.
    pub(super) fn renew(&mut self, signed: &Allowance, digest: B256, block: u64, now: Timestamp) {
        if self.is_drawn() {
            return;
        }
        let Some(permit) = self.permit.as_mut().filter(|permit| {
            // A batch may hold the known one, and bring it in.
            self.undecided == 0
                && self.shown == 0
                && !permit.applied
                && (permit.had == 0 || !forks(permit.had, block))
                && permit.digest != digest
                && permit.signed.nonce == signed.nonce
        }) else {
            return;
        };
        let known = &permit.signed;
        let void = known.deadline < now;
        let better = signed.value >= known.value && signed.deadline >= known.deadline;
        if void || better {
            self.ceiling = self
                .ceiling
                .saturating_sub(known.value)
                .saturating_add(signed.value);
            *permit = Permit {
                signed: signed.clone(),
                digest,
                applied: false,
                had: 0,
            };
        }
    }

    /// Until when a charge can be submitted by which this authorization's deadline is given: a permit that the chain
    /// does not have must go in before its own.
    pub(super) fn deadline(&self, signed: Timestamp) -> Timestamp {
        self.permit
            .as_ref()
            .filter(|permit| !permit.applied)
            .map_or(signed, |permit| permit.signed.deadline.min(signed))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_x402::{Address, ChainId, Signature65};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn units(units: u64) -> Amount {
        Amount::from(units)
    }

    fn permit(value: u64) -> Allowance {
        let one = B256::with_last_byte(1);
        Allowance {
            chain: ChainId::DEV,
            token: Address::repeat_byte(0x55),
            owner: Address::repeat_byte(1),
            spender: Address::repeat_byte(0x5e),
            value: units(value),
            nonce: U256::ZERO,
            deadline: NOW.plus(3_600),
            signature: Signature65::new(one, one, false).unwrap(),
        }
    }

    /// A counter whose draws before this permit came to 40.
    fn counter(value: u64, settled: u64) -> Counter {
        Counter {
            settled: units(settled),
            claimed: units(settled),
            ceiling: units(40 + value),
            permit: Some(Permit {
                signed: permit(value),
                digest: B256::ZERO,
                applied: false,
                had: 0,
            }),
            generation: 2,
            ..Counter::default()
        }
    }

    #[test]
    fn a_permit_on_which_something_was_drawn_for_good_is_replaced_by_none_of_its_nonce() {
        for (settled, ceiling) in [(0, 940), (40, 940), (41, 140), (140, 140)] {
            let mut counter = counter(100, settled);
            // A draw that failed meanwhile, and a node that stands still, say that it can still go in.
            counter.doubt();
            counter.renew(&permit(900), B256::repeat_byte(1), 100, NOW);
            assert_eq!(counter.ceiling, units(ceiling), "{settled}");
        }
    }

    #[test]
    fn a_permit_that_was_seen_on_the_chain_is_replaced_only_where_no_fork_can_be_without_it() {
        let told = |block: u64| Told {
            block,
            nonce: U256::from(1),
            allowance: units(100),
            drawn: None,
        };
        for (read, ceiling) in [(90, 140), (100, 140), (107, 140), (108, 940)] {
            let mut counter = counter(100, 40);
            let known = permit(100);
            counter
                .learn(&known, B256::ZERO, told(100), Amount::ZERO)
                .unwrap();
            // A draw that failed for a reason of its own puts in doubt that the chain has it.
            counter.doubt();
            counter.renew(&permit(900), B256::repeat_byte(1), read, NOW);
            assert_eq!(counter.ceiling, units(ceiling), "{read}");
        }
    }

    #[test]
    fn who_shows_a_lesser_permit_of_a_nonce_gets_no_more_than_was_signed_there() {
        let counter = counter(100, 0);
        let left =
            |value: u64, due: u64| counter.left_for(&permit(value), units(0), units(40 + due));
        assert_eq!(left(100, 0), units(100));
        assert_eq!(left(30, 0), units(30));
        assert_eq!(left(30, 20), units(10));
        assert_eq!(left(30, 50), Amount::ZERO);
        assert_eq!(left(100, 50), units(50));
    }
}
