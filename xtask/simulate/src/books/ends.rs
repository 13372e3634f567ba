//! How payments and histories end.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;
use tollgate_payment::{PaymentRow, PaymentState, SpenderKey};
use tollgate_x402::{Amount, Authorization, Exact};

use super::{Books, Fault, Truth, units};
use crate::{chain::state::What, names::payer_of};

impl Books {
    /// The intervals of a counter do not overlap.
    fn check_intervals(&self) -> Result<(), Fault> {
        let mut intervals: BTreeMap<SpenderKey, Vec<(Amount, Amount)>> = BTreeMap::new();
        for payment in self.payments.values() {
            if let (Some(interval), Some(key)) = (payment.interval, payment.keys.spender_key()) {
                intervals.entry(key).or_default().push(interval);
            }
        }
        for all in intervals.values_mut() {
            all.sort_unstable();
            must!(
                all.is_sorted_by(|a, b| a.1 <= b.0),
                14,
                "intervals of one counter overlap"
            );
        }
        Ok(())
    }

    /// The end of a history: books and chain say the same, to the unit.
    pub(crate) fn check_end_of_history(
        &mut self,
        truth: &Truth<'_>,
        foreign: u64,
    ) -> Result<(), Fault> {
        self.read_chain(truth.chain);
        self.check_intervals()?;
        self.check_accounts()?;
        let (books, chain) = (self.all.paid, self.paid_by_all());
        must!(
            books + foreign == chain,
            9,
            "{books} are final in the books, {chain} on the chain, of which {foreign} were not for a charge"
        );
        let state = &truth.chain.finalized().state;
        for (key, settled) in &self.counters {
            let payer = payer_of(key.owner.owner).unwrap_or_default();
            let charged = state.purses[payer].charged;
            must!(
                !self.settler || *settled == charged,
                9,
                "the counter of payer {payer} ends at {settled} in the books and {charged} on the chain"
            );
        }
        for (key, next) in &self.signers {
            let Some(operator) = crate::names::operator_of(key.operator) else {
                continue;
            };
            let count = state.nonces[operator];
            must!(
                count == *next,
                10,
                "the next nonce of an account is {next} in the books and {count} on the chain"
            );
        }
        let mut by_transaction: BTreeMap<B256, u64> = BTreeMap::new();
        for payment in self.payments.values() {
            if let PaymentState::Final { transaction, .. } = payment.state {
                *by_transaction.entry(transaction).or_default() += units(payment.charge);
            }
        }
        for (hash, charged) in by_transaction {
            let moved: u64 = self
                .moved
                .iter()
                .filter(|(by, _)| *by == hash)
                .map(|(_, moved)| moved.amount)
                .sum();
            must!(
                moved == charged,
                5,
                "a transaction moved {moved}, and {charged} are final by it"
            );
        }
        Ok(())
    }

    /// Money that came without a charge: an EIP-3009 transfer that a stranger submitted though its request was released.
    pub(crate) fn unasked(&self) -> u64 {
        let paid: BTreeSet<(usize, String)> = self
            .payments
            .values()
            .filter(|payment| matches!(payment.state, PaymentState::Final { .. }))
            .filter_map(|payment| {
                let signed = self.signed.get(&payment.keys.authorization)?;
                let nonce = nonce_of(signed)?;
                Some((payer_of(signed.owner())?, format!("{nonce:?}")))
            })
            .collect();
        self.moved
            .iter()
            .filter(|(_, moved)| matches!(moved.what, What::Eip3009(_)))
            .filter(|(hash, moved)| {
                !self.hashes.contains_key(hash)
                    && !paid.contains(&(moved.payer, format!("{:?}", moved.what)))
            })
            .map(|(_, moved)| moved.amount)
            .sum()
    }

    /// How payments ended: final, lost, released.
    pub(crate) fn ends(&self) -> (u64, u64, u64) {
        let count = |ended: fn(&PaymentState) -> bool| {
            let payments = self.payments.values();
            payments.filter(|payment| ended(&payment.state)).count() as u64
        };
        (
            count(|state| matches!(state, PaymentState::Final { .. })),
            count(|state| matches!(state, PaymentState::Lost { .. })),
            count(|state| matches!(state, PaymentState::Released { .. })),
        )
    }

    /// Why payments were lost.
    pub(crate) fn losses(&self) -> BTreeMap<String, u64> {
        let mut losses = BTreeMap::new();
        for payment in self.payments.values() {
            if let PaymentState::Lost { reason, .. } = payment.state {
                *losses.entry(format!("{reason:?}")).or_default() += 1;
            }
        }
        losses
    }

    /// What is charged, against what was delivered.
    pub(super) fn check_end(
        &self,
        payment: &PaymentRow,
        exact: bool,
        truth: &Truth<'_>,
    ) -> Result<(), Fault> {
        let id = payment.keys.id;
        let Some(served) = truth.served.get(&id) else {
            // Nobody has begun to serve it.
            must!(
                payment.charge.is_zero(),
                3,
                "{id:?} was never served, and is charged"
            );
            return Ok(());
        };
        let charge = units(payment.charge);
        let (delivered, metered) = (served.delivered, served.metered);
        if exact {
            must!(
                charge == 0 || metered > 0,
                3,
                "{id:?} is charged, and nothing was made for it"
            );
        } else {
            must!(
                charge <= metered,
                3,
                "{id:?} is charged {charge}, and {metered} were made"
            );
        }
        let bound = if served.broken { self.step } else { 0 };
        must!(
            delivered <= charge + bound,
            4,
            "{delivered} of {id:?} were delivered and {charge} charged; {bound} may be missing"
        );
        Ok(())
    }

    /// Final is what the finalized chain moved, exactly.
    pub(super) fn check_final(
        &self,
        payment: &PaymentRow,
        transaction: B256,
        signed: &Authorization,
    ) -> Result<(), Fault> {
        let id = payment.keys.id;
        let payer = payer_of(payment.keys.owner.owner).unwrap_or_default();
        let charge = units(payment.charge);
        let fits = self.moved.iter().any(|(hash, moved)| {
            *hash == transaction
                && moved.payer == payer
                && match (&moved.what, nonce_of(signed)) {
                    (What::Interval(from, to), None) => payment
                        .interval
                        .is_some_and(|(a, b)| *from <= units(a) && units(b) <= *to),
                    (What::Plain, None) => moved.amount >= charge,
                    (what, Some(nonce)) => *what == nonce && moved.amount == charge,
                    _ => false,
                }
        });
        must!(
            fits,
            5,
            "{id:?} is final, and the finalized chain has not moved its {charge}"
        );
        let sum = self
            .owners
            .get(&payment.keys.owner)
            .map_or(0, |sums| sums.paid)
            + charge;
        let moved = self.by_payer[payer];
        must!(
            sum <= moved,
            9,
            "{sum} of payer {payer} are final in the books and {moved} on the chain"
        );
        Ok(())
    }

    /// What is released or lost was not paid.
    pub(super) fn check_unpaid(
        &self,
        payment: &PaymentRow,
        signed: &Authorization,
    ) -> Result<(), Fault> {
        let payer = payer_of(payment.keys.owner.owner).unwrap_or_default();
        if let Some(nonce) = nonce_of(signed) {
            let paid = self
                .moved
                .iter()
                .any(|(_, moved)| moved.payer == payer && moved.what == nonce);
            must!(
                !paid,
                6,
                "{:?} is {:?}, and the finalized chain has paid it",
                payment.keys.id,
                payment.state
            );
        }
        Ok(())
    }
}

fn nonce_of(signed: &Authorization) -> Option<What> {
    match signed {
        Authorization::Allowance(_) => None,
        Authorization::Once(signed) => Some(What::Permit2(signed.nonce)),
        Authorization::Exact(Exact::Permit2(signed)) => Some(What::Permit2(signed.nonce)),
        Authorization::Exact(Exact::Eip3009(signed)) => Some(What::Eip3009(signed.nonce)),
    }
}
