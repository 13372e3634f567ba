//! Payments against everything that is summed from them.

use std::collections::BTreeMap;

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    AuthorizationKey, BatchId, BatchItem, BatchRow, Counter, ExposureKey, Limit, OwnerKey,
    OwnerRow, PaymentRow, PaymentState, Row, RowKey, Rows, SignerKey, SpenderKey, SpenderRow,
};
use tollgate_x402::{Amount, Authorization, PaymentId, U256};

use super::{
    ranges::Ranges,
    report::{Invariant, Report},
};

/// What payments add up to for one payer or spender.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sums {
    held: Amount,
    due: Amount,
    lost: Amount,
    in_flight: u64,
}

/// What payments add up to for one counter.
#[derive(Debug, Default)]
struct Drawn {
    settled: Ranges,
    claimed: Ranges,
    /// Batches that hold a part of it.
    undecided: u32,
    /// Batches of its permits that nothing waits for any more.
    shown: u32,
    /// The largest budget that was signed under each nonce.
    budgets: BTreeMap<U256, Amount>,
    /// What this ledger's payments took of it, or hold.
    taken: Amount,
}

/// An audit in the making.
#[derive(Debug)]
pub(super) struct Audit {
    owners: BTreeMap<OwnerKey, Sums>,
    spenders: BTreeMap<SpenderKey, Sums>,
    counters: BTreeMap<SpenderKey, Drawn>,
    exposures: BTreeMap<ExposureKey, Amount>,
    /// The payments that undecided batches name.
    claimed: BTreeMap<PaymentId, (BatchId, Option<(Amount, Amount)>)>,
    nonces: BTreeMap<SignerKey, BTreeMap<u64, BatchId>>,
    states: Invariant,
    charges: Invariant,
    claims: Invariant,
    batches: Invariant,
    payers: Invariant,
    drawers: Invariant,
    exposure: Invariant,
    intervals: Invariant,
    signers: Invariant,
}

impl Default for Audit {
    fn default() -> Self {
        let new = Invariant::new;
        Self {
            owners: BTreeMap::new(),
            spenders: BTreeMap::new(),
            counters: BTreeMap::new(),
            exposures: BTreeMap::new(),
            claimed: BTreeMap::new(),
            nonces: BTreeMap::new(),
            states: new(
                "states",
                "a payment has a charge if and only if it was committed",
            ),
            charges: new("charges", "charge ≤ reserved ≤ what was signed"),
            claims: new(
                "claims",
                "a once or exact authorization belongs to one payment",
            ),
            batches: new(
                "batches",
                "a payment is claimed by one undecided batch, which names it once",
            ),
            payers: new(
                "payers",
                "held, due, lost and in flight of a payer are the sums of its payments",
            ),
            drawers: new(
                "spenders",
                "held and due of a spender are the sums of its payments",
            ),
            exposure: new(
                "exposure",
                "the bound's use is the sum of the open payments' unproven parts",
            ),
            intervals: new(
                "intervals",
                "a counter's intervals have no gap and no overlap, and end where it stands",
            ),
            signers: new(
                "nonces",
                "an account's nonces belong to one batch each, up to its next one",
            ),
        }
    }
}

fn add(sum: &mut Amount, amount: Amount) {
    *sum = sum.saturating_add(amount);
}

impl Audit {
    /// Takes a batch in. All of them come before the payments.
    pub(super) fn batch(&mut self, batch: &BatchRow) {
        let id = batch.id.0;
        if let Some(nonce) = batch.nonce() {
            let same = batch.sent.iter().all(|sent| sent.nonce == nonce);
            self.signers.check(same, || {
                format!("batch {id:032x} is signed under several nonces")
            });
            let taken = self
                .nonces
                .entry(batch.signer)
                .or_default()
                .insert(nonce, batch.id);
            self.signers.check(taken.is_none(), || {
                format!(
                    "nonce {nonce} of {} belongs to the batches {id:032x} and {:032x}",
                    batch.signer.operator,
                    taken.map_or(0, |other| other.0)
                )
            });
        }
        if batch.concluded() {
            return;
        }
        let mut drawn = Vec::new();
        for item in &batch.items {
            let interval = match item {
                BatchItem::Allowance {
                    spender, from, to, ..
                } => {
                    drawn.push(*spender);
                    Some((*from, *to))
                }
                // A permit in a block that is not final: what waited for it is in other batches.
                BatchItem::Permit {
                    spender, payments, ..
                } if payments.is_empty() => {
                    let counter = self.counters.entry(*spender).or_default();
                    counter.shown = counter.shown.saturating_add(1);
                    None
                }
                BatchItem::Permit { spender, .. } => {
                    drawn.push(*spender);
                    None
                }
                BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
            };
            for keys in item.payments() {
                let other = self.claimed.insert(keys.id, (batch.id, interval));
                self.batches.check(other.is_none(), || {
                    format!(
                        "payment {} is named by batch {id:032x} and by {:032x}",
                        keys.id,
                        other.map_or(0, |(other, _)| other.0)
                    )
                });
            }
        }
        drawn.sort_unstable();
        drawn.dedup();
        for spender in drawn {
            let counter = self.counters.entry(spender).or_default();
            counter.undecided = counter.undecided.saturating_add(1);
        }
    }

    /// Takes payments in.
    pub(super) async fn page<S: Store>(
        &mut self,
        store: &S,
        page: &[Row],
    ) -> Result<(), StoreError> {
        let payments = page.iter().filter_map(|row| match row {
            Row::Payment(payment) => Some(payment),
            _ => None,
        });
        let names = payments
            .clone()
            .map(|payment| RowKey::Authorization(payment.keys.authorization))
            .collect();
        let signed = store.read(names).await?;
        for payment in payments {
            self.payment(payment);
            self.signed(payment, &signed);
        }
        Ok(())
    }

    fn payment(&mut self, payment: &PaymentRow) {
        let keys = &payment.keys;
        let charged = !payment.charge.is_zero();
        let expected = match payment.state {
            PaymentState::Serving { .. } | PaymentState::Released { .. } => false,
            PaymentState::Due { .. }
            | PaymentState::Claimed { .. }
            | PaymentState::Final { .. }
            | PaymentState::Lost { .. } => true,
        };
        self.states.check(charged == expected, || {
            format!(
                "payment {} is {:?} with a charge of {}",
                keys.id, payment.state, payment.charge
            )
        });
        self.charges.check(payment.charge <= payment.reserved, || {
            format!(
                "payment {} charges {} of {} that were reserved",
                keys.id, payment.charge, payment.reserved
            )
        });

        let mut sums = Sums::default();
        match payment.state {
            PaymentState::Serving { .. } => {
                sums.held = payment.reserved;
                sums.in_flight = 1;
            }
            PaymentState::Due { .. } | PaymentState::Claimed { .. } => sums.due = payment.charge,
            PaymentState::Lost { .. } => sums.lost = payment.charge,
            PaymentState::Final { .. } | PaymentState::Released { .. } => {}
        }
        add(&mut sums.lost, payment.short);
        let open = !sums.held.is_zero() || !sums.due.is_zero() || sums.in_flight > 0;
        for total in [
            Some(self.owners.entry(keys.owner).or_default()),
            keys.spender_key()
                .map(|spender| self.spenders.entry(spender).or_default()),
        ]
        .into_iter()
        .flatten()
        {
            add(&mut total.held, sums.held);
            add(&mut total.due, sums.due);
            add(&mut total.lost, sums.lost);
            total.in_flight = total.in_flight.saturating_add(sums.in_flight);
        }
        if open {
            add(
                self.exposures.entry(keys.exposure).or_default(),
                payment.unproven,
            );
        } else {
            self.exposure.check(payment.unproven.is_zero(), || {
                format!(
                    "payment {} has ended, and {} of it still count as unproven",
                    keys.id, payment.unproven
                )
            });
        }
        self.claim(payment);
        self.interval(payment);
    }

    /// Whether a payment's state and the batches say the same of who claims it.
    fn claim(&mut self, payment: &PaymentRow) {
        let named = self.claimed.remove(&payment.keys.id);
        let claimed = match payment.state {
            PaymentState::Claimed { batch, .. } => Some(batch),
            _ => None,
        };
        let by = named.map(|(batch, _)| batch);
        if by.is_some() || claimed.is_some() {
            let show = |batch: Option<BatchId>| {
                batch.map_or("no undecided batch".to_owned(), |batch| {
                    format!("batch {:032x}", batch.0)
                })
            };
            self.batches.check(by == claimed, || {
                format!(
                    "payment {} says that {} claims it, and {} names it",
                    payment.keys.id,
                    show(claimed),
                    show(by)
                )
            });
        }
        if let Some((_, Some((from, to)))) = named {
            let inside = payment
                .interval
                .is_some_and(|(begin, end)| begin >= from && end <= to);
            self.batches.check(inside, || {
                format!(
                    "payment {} has no part of the interval {from}..{to} of its batch",
                    payment.keys.id
                )
            });
        }
    }

    fn interval(&mut self, payment: &PaymentRow) {
        let keys = &payment.keys;
        let (AuthorizationKey::Permit { .. }, Some(spender)) =
            (keys.authorization, keys.spender_key())
        else {
            return;
        };
        let counter = self.counters.entry(spender).or_default();
        let open = match payment.state {
            PaymentState::Serving { .. } => payment.reserved,
            PaymentState::Released { .. } | PaymentState::Lost { .. } => Amount::ZERO,
            _ => payment.charge,
        };
        if !super::is_unknown(payment) {
            add(&mut counter.taken, open);
        }
        let ranges = match payment.state {
            PaymentState::Final { .. } => &mut counter.settled,
            PaymentState::Claimed { .. } => &mut counter.claimed,
            _ => return,
        };
        let Some((from, to)) = payment.interval else {
            let waits = matches!(payment.state, PaymentState::Claimed { .. });
            self.intervals.check(waits, || {
                format!("payment {} is final and has no interval", keys.id)
            });
            return;
        };
        self.intervals
            .check(to.checked_sub(from) == Some(payment.charge), || {
                format!(
                    "payment {} charges {} and has the interval {from}..{to}",
                    keys.id, payment.charge
                )
            });
        let fits = ranges.add(from, to);
        self.intervals.check(fits, || {
            format!(
                "the interval {from}..{to} of payment {} overlaps another of {}",
                keys.id, spender.owner.owner
            )
        });
    }

    fn signed(&mut self, payment: &PaymentRow, rows: &Rows) {
        let keys = &payment.keys;
        let Some(row) = rows.authorization(&keys.authorization) else {
            let ended = matches!(
                payment.state,
                PaymentState::Final { .. }
                    | PaymentState::Lost { .. }
                    | PaymentState::Released { .. }
            );
            self.claims.check(ended, || {
                format!("payment {} is open, and what was signed is gone", keys.id)
            });
            return;
        };
        match (&row.signed, keys.spender_key()) {
            (Authorization::Allowance(permit), Some(spender)) => {
                let budget = self
                    .counters
                    .entry(spender)
                    .or_default()
                    .budgets
                    .entry(permit.nonce)
                    .or_default();
                *budget = (*budget).max(permit.value);
            }
            (signed, _) => {
                self.charges.check(payment.reserved <= signed.cap(), || {
                    format!(
                        "payment {} reserved {} of {} that were signed",
                        keys.id,
                        payment.reserved,
                        signed.cap()
                    )
                });
                self.claims.check(row.payment == Some(keys.id), || {
                    format!(
                        "what payment {} was signed by belongs to another payment",
                        keys.id
                    )
                });
            }
        }
    }

    /// Takes another row in. They come after the payments.
    pub(super) fn row(&mut self, row: &Row) {
        match row {
            Row::Owner(row) => self.owner(row),
            Row::Spender(row) => self.spender(row),
            Row::Exposure(row) => {
                let sum = self.exposures.remove(&row.key).unwrap_or_default();
                self.exposure.check(sum == row.used, || {
                    format!(
                        "slice {} of token {} says {}, its payments {sum}",
                        row.key.slice, row.key.token, row.used
                    )
                });
            }
            Row::Signer(row) => {
                let nonces = self.nonces.remove(&row.key).unwrap_or_default();
                contiguous(&mut self.signers, &row.key, &nonces, Some(row.next_nonce));
            }
            Row::Authorization(_)
            | Row::Payment(_)
            | Row::Batch(_)
            | Row::Identifier(_)
            | Row::Outcome(_) => {}
        }
    }

    fn owner(&mut self, row: &OwnerRow) {
        let sums = self.owners.remove(&row.key).unwrap_or_default();
        let owner = row.key.owner;
        for (what, said, sum) in [("held", row.held, sums.held), ("due", row.due, sums.due)] {
            self.payers.check(said == sum, || {
                format!("{owner} says {said} {what}, its payments {sum}")
            });
        }
        // What was forgiven is off the row, and stays with the payments: the book has the difference.
        self.payers.check(row.lost <= sums.lost, || {
            format!("{owner} says {} lost, its payments {}", row.lost, sums.lost)
        });
        self.payers
            .check(u64::from(row.in_flight) == sums.in_flight, || {
                format!(
                    "{owner} says {} in flight, and {} are",
                    row.in_flight, sums.in_flight
                )
            });
    }

    fn spender(&mut self, row: &SpenderRow) {
        let sums = self.spenders.remove(&row.key).unwrap_or_default();
        let who = format!("{} by {}", row.key.owner.owner, row.key.spender);
        for (what, said, sum) in [("held", row.held, sums.held), ("due", row.due, sums.due)] {
            self.drawers.check(said == sum, || {
                format!("{who} says {said} {what}, its payments {sum}")
            });
        }
        if let Limit::Counter(counter) = &row.limit {
            let drawn = self.counters.remove(&row.key).unwrap_or_default();
            self.counter(&who, counter, &drawn);
        }
    }

    fn counter(&mut self, who: &str, counter: &Counter, drawn: &Drawn) {
        let settled = drawn.settled.all();
        let first = settled.first().map_or(counter.settled, |(from, _)| *from);
        let one = match settled.as_slice() {
            [] => true,
            [(_, to)] => *to == counter.settled,
            _ => false,
        };
        self.intervals.check(one, || {
            format!(
                "the final intervals of {who} are {settled:?}, not one from {first} to {}, where the counter stands",
                counter.settled
            )
        });
        let claimed = drawn.claimed.all();
        // After a failure there are holes, until every batch of the counter has left it.
        let good = counter.halted
            || match claimed.as_slice() {
                [] => counter.claimed == counter.settled,
                [(from, to)] => *from == counter.settled && *to == counter.claimed,
                _ => false,
            };
        self.intervals.check(good, || {
            format!(
                "the claimed intervals of {who} are {claimed:?}, not one from {} to {}",
                counter.settled, counter.claimed
            )
        });
        self.intervals
            .check(counter.undecided == drawn.undecided, || {
                format!(
                    "{who} counts {} undecided batches, and {} are",
                    counter.undecided, drawn.undecided
                )
            });
        self.intervals.check(counter.shown == drawn.shown, || {
            format!(
                "{who} counts {} permits in blocks that are not final, and {} are",
                counter.shown, drawn.shown
            )
        });
        let signed = drawn
            .budgets
            .values()
            .fold(Amount::ZERO, |sum, budget| sum.saturating_add(*budget));
        self.charges.check(drawn.taken <= signed, || {
            format!(
                "{who} was charged {}, and signed budgets of {signed}",
                drawn.taken
            )
        });
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Report {
        for (payment, (batch, _)) in &self.claimed {
            self.batches.violated(format!(
                "batch {:032x} names payment {payment}, which does not exist",
                batch.0
            ));
        }
        for (owner, sums) in self.owners {
            self.payers.check(sums == Sums::default(), || {
                format!("{} has open payments and no row", owner.owner)
            });
        }
        for (spender, sums) in self.spenders {
            self.drawers.check(sums == Sums::default(), || {
                format!(
                    "{} by {} has open payments and no row",
                    spender.owner.owner, spender.spender
                )
            });
        }
        for (key, sum) in self.exposures {
            self.exposure.check(sum.is_zero(), || {
                format!("slice {} of token {} has no row", key.slice, key.token)
            });
        }
        for (signer, nonces) in self.nonces {
            contiguous(&mut self.signers, &signer, &nonces, None);
        }
        let mut report = Report::default();
        for invariant in [
            self.states,
            self.charges,
            self.claims,
            self.batches,
            self.payers,
            self.drawers,
            self.exposure,
            self.intervals,
            self.signers,
        ] {
            report.add(invariant);
        }
        report
    }
}

/// Whether an account's nonces have no hole, and end before its next one.
fn contiguous(
    invariant: &mut Invariant,
    signer: &SignerKey,
    nonces: &BTreeMap<u64, BatchId>,
    next: Option<u64>,
) {
    let mut expected = nonces.keys().next().copied();
    for nonce in nonces.keys().copied().chain(next) {
        let Some(due) = expected else { return };
        invariant.check(nonce == due, || {
            format!(
                "{} has no batch for the nonces {due} to {}: another program used the account",
                signer.operator,
                nonce.saturating_sub(1)
            )
        });
        expected = nonce.checked_add(1);
    }
}
