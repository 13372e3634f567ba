//! What must hold after each step (the numbers are those of the book's list of invariants).

use std::collections::{BTreeMap, BTreeSet};

use tollgate_payment::{
    Account, AuthorizationKey, BatchItem, Limit, OwnerKey, PaymentRow, PaymentState, Row,
    SpenderKey,
};
use tollgate_x402::{Amount, Authorization, PaymentId};

use crate::{chain::units, world::World};

#[derive(Default, PartialEq, Debug)]
struct Sums {
    held: u64,
    due: u64,
    in_flight: u32,
    lost: u64,
}

impl Sums {
    fn add(&mut self, payment: &PaymentRow) {
        self.lost += units(payment.short);
        match payment.state {
            PaymentState::Serving { .. } => {
                self.held += units(payment.reserved);
                self.in_flight += 1;
            }
            PaymentState::Due { .. } | PaymentState::Claimed { .. } => {
                self.due += units(payment.charge)
            }
            PaymentState::Lost { .. } => self.lost += units(payment.charge),
            PaymentState::Final { .. } | PaymentState::Released { .. } => {}
        }
    }
}

pub(crate) fn check(world: &World) {
    let mut owners: BTreeMap<OwnerKey, Sums> = BTreeMap::new();
    let mut spenders: BTreeMap<SpenderKey, Sums> = BTreeMap::new();
    let mut unproven = 0;
    let mut claims: BTreeMap<AuthorizationKey, u32> = BTreeMap::new();
    let mut all = Sums::default();
    let mut paid = 0;
    for payment in world.payments() {
        let keys = payment.keys;
        owners.entry(keys.owner).or_default().add(payment);
        if let Some(key) = keys.spender_key() {
            spenders.entry(key).or_default().add(payment);
        }
        all.add(payment);
        unproven += units(payment.unproven);
        if let AuthorizationKey::Claim { .. } = keys.authorization {
            *claims.entry(keys.authorization).or_default() += 1;
        }
        if let PaymentState::Final { .. } = payment.state {
            paid += units(payment.charge);
        }
        // 2: what is charged was reserved, and what was reserved was signed.
        assert!(units(payment.charge) + units(payment.short) <= units(payment.reserved));
        let signed = &world
            .rows
            .authorization(&keys.authorization)
            .unwrap()
            .signed;
        if !matches!(signed, Authorization::Allowance(_)) {
            assert!(payment.reserved <= signed.cap());
        }
    }
    // 1: an authorization that admits one request admitted one.
    assert!(claims.values().all(|count| *count == 1));

    // 11: what rows say is held, due and lost is the sum over payments.
    for (key, sums) in &owners {
        let row = world.rows.owner(key).unwrap();
        let found = Sums {
            held: units(row.held),
            due: units(row.due),
            in_flight: row.in_flight,
            lost: units(row.lost),
        };
        assert_eq!(&found, sums, "payer {key:?}");
        // 12: no more in flight than lent.
        assert!(row.in_flight <= world.credit.in_flight_proven);
    }
    for (key, sums) in &spenders {
        let row = world.rows.spender(key).unwrap();
        assert_eq!(
            (units(row.held), units(row.due)),
            (sums.held, sums.due),
            "{key:?}"
        );
        if let Limit::Counter(counter) = &row.limit {
            // 2: everything ever drawn of a payer is within what it signed.
            let drawn = units(counter.settled) + sums.due + sums.held;
            let start = world
                .starts
                .get(&key.owner.owner)
                .copied()
                .unwrap_or_default();
            let signed: u64 = world
                .signed
                .get(&key.owner.owner)
                .map_or(0, |values| values.values().sum());
            assert!(
                drawn <= start + signed,
                "{drawn} drawn, {start} + {signed} signed"
            );
            assert!(counter.settled <= counter.claimed);
            // Whether payments wait for it, of each open batch of the counter.
            let waits: Vec<bool> = world
                .batches()
                .filter(|batch| !batch.concluded())
                .filter_map(|batch| {
                    batch.items.iter().find_map(|item| match item {
                        BatchItem::Allowance { spender, .. } => (spender == key).then_some(true),
                        BatchItem::Permit {
                            spender, payments, ..
                        } => (spender == key).then_some(!payments.is_empty()),
                        BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
                    })
                })
                .collect();
            let counted = waits.iter().filter(|waits| **waits).count();
            assert_eq!(usize::try_from(counter.undecided).unwrap(), counted);
            assert_eq!(
                usize::try_from(counter.shown).unwrap(),
                waits.len() - counted
            );
        }
    }
    let exposure: u64 = world
        .rows
        .iter()
        .filter_map(|row| match row {
            Row::Exposure(row) => Some(units(row.used)),
            _ => None,
        })
        .sum();
    assert_eq!(exposure, unproven);
    // 12: what is lent to payers without a history is bounded in all.
    assert!(Amount::from(exposure) <= world.credit.exposure);

    // 11: the double-entry book says the same.
    let mut taken: BTreeMap<Account, i128> = BTreeMap::new();
    for entry in &world.entries {
        *taken.entry(entry.debit).or_default() += i128::from(units(entry.amount));
        *taken.entry(entry.credit).or_default() -= i128::from(units(entry.amount));
    }
    assert_eq!(taken.values().sum::<i128>(), 0);
    let has = |account| taken.get(&account).copied().unwrap_or_default();
    assert_eq!(has(Account::PayerHeld), i128::from(all.held));
    assert_eq!(has(Account::Reserved), -i128::from(all.held));
    assert_eq!(has(Account::PayerDue), i128::from(all.due));
    assert_eq!(has(Account::BadDebt), i128::from(all.lost));
    assert_eq!(has(Account::Treasury), i128::from(paid));
    assert_eq!(has(Account::RevenueFinal), -i128::from(paid));
    assert_eq!(
        has(Account::RevenuePending),
        -i128::from(all.due + all.lost)
    );

    batches(world);
    // 5: final is what the finalized chain moved, and nothing else.
    assert_eq!(
        world.concluded_moves, paid,
        "what concluded batches moved is what is final"
    );
}

/// 14: an account's nonce belongs to one batch, and a payment to at most one that is undecided.
fn batches(world: &World) {
    let mut nonces = BTreeSet::new();
    let mut claimed: BTreeSet<PaymentId> = BTreeSet::new();
    for batch in world.batches() {
        if let Some(nonce) = batch.nonce() {
            assert!(nonces.insert((batch.signer, nonce)));
            assert!(batch.sent.iter().all(|sent| sent.nonce == nonce));
            assert!(batch.sent.is_sorted_by(|a, b| a.gas_price < b.gas_price));
        }
        if batch.concluded() {
            continue;
        }
        for keys in batch.payments() {
            assert!(
                claimed.insert(keys.id),
                "a payment is in two undecided batches"
            );
            let state = &world.rows.payment(&keys.id).unwrap().state;
            assert!(
                matches!(state, PaymentState::Claimed { batch: by, .. } if *by == batch.id),
                "{state:?}"
            );
        }
    }
    for payment in world.payments() {
        if let PaymentState::Claimed { .. } = payment.state {
            assert!(claimed.contains(&payment.keys.id));
        }
    }
    intervals(world);
}

/// 4: the intervals of a counter's payments do not overlap.
fn intervals(world: &World) {
    let mut intervals: BTreeMap<SpenderKey, Vec<(Amount, Amount)>> = BTreeMap::new();
    for payment in world.payments() {
        if let (Some(interval), Some(key)) = (payment.interval, payment.keys.spender_key()) {
            assert_eq!(units(interval.1) - units(interval.0), units(payment.charge));
            intervals.entry(key).or_default().push(interval);
        }
    }
    for all in intervals.values_mut() {
        all.sort_unstable();
        assert!(
            all.is_sorted_by(|a, b| a.1 <= b.0),
            "intervals overlap: {all:?}"
        );
    }
}

/// 15: a payment goes along the diagram and nowhere else.
pub(crate) fn transition(before: Option<&PaymentState>, after: &PaymentState) {
    use PaymentState::{Claimed, Due, Final, Lost, Released, Serving};
    let allowed = matches!(
        (before, after),
        (None, Serving { .. })
            | (
                Some(Serving { .. }),
                Serving { .. } | Due { .. } | Released { .. }
            )
            | (Some(Due { .. }), Claimed { .. })
            | (
                Some(Claimed { .. }),
                Due { .. } | Final { .. } | Lost { .. }
            )
    );
    assert!(allowed, "from {before:?} to {after:?}");
    if let (Some(Serving { used: before }), Serving { used: after }) = (before, after) {
        assert!(before <= after, "a checkpoint goes back");
    }
}
