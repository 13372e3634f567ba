//! The books as they should be, kept beside the ledger's: what must hold after each step.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};
use tollgate_ledger::BookedEntry;
use tollgate_payment::{
    Account, AuthorizationKey, BatchId, BatchRow, Entry, ExposureKey, IdentifierKey, Limit,
    OwnerKey, OwnerRow, PaymentRow, PaymentState, Row, SignerKey, SpenderKey,
};
use tollgate_x402::{Amount, Authorization, PaymentId};

use crate::{
    chain::{
        Chain,
        state::{Move, What, small},
    },
    names::payer_of,
    payers::Payer,
    setting::{Keeping, Setting},
    world::Served,
};

/// What does not hold, by its number.
pub(crate) type Fault = (u8, String);

macro_rules! must {
    ($holds:expr, $number:expr, $($text:tt)*) => {
        if !$holds {
            return Err(($number, format!($($text)*)));
        }
    };
}

mod counters;
mod ends;
mod sums;

use self::{counters::Seen, sums::Sums};

pub(crate) fn units(amount: Amount) -> u64 {
    small(amount.get())
}

/// What the checks look at beside the rows.
pub(crate) struct Truth<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) served: &'a BTreeMap<PaymentId, Served>,
    pub(crate) payers: &'a [Payer],
}

/// The mirror.
#[derive(Default)]
pub(crate) struct Books {
    floor: u64,
    ceiling: u64,
    exposure: u64,
    step: u64,
    settler: bool,
    pub(crate) payments: BTreeMap<PaymentId, PaymentRow>,
    owners: BTreeMap<OwnerKey, Sums>,
    spenders: BTreeMap<SpenderKey, Sums>,
    exposures: BTreeMap<ExposureKey, u64>,
    pub(crate) signed: BTreeMap<AuthorizationKey, Authorization>,
    pub(crate) claims: BTreeMap<AuthorizationKey, PaymentId>,
    /// Which payment has a name.
    pub(crate) names: BTreeMap<IdentifierKey, PaymentId>,
    pub(crate) batches: BTreeMap<BatchId, BatchRow>,
    /// Those that are not concluded.
    open: BTreeSet<BatchId>,
    counters: BTreeMap<SpenderKey, u64>,
    /// The newest permit of each counter that the ledger has seen on the chain.
    seen: BTreeMap<SpenderKey, Seen>,
    pub(crate) signers: BTreeMap<SignerKey, u64>,
    nonces: BTreeMap<(SignerKey, u64), BatchId>,
    hashes: BTreeMap<B256, u64>,
    all: Sums,
    accounts: BTreeMap<Account, i128>,
    /// The group of steps that is open, and those that are on the disk.
    pub(crate) group: u64,
    pub(crate) on_disk: u64,
    /// The first one after the last that was undone.
    pub(crate) undone: u64,
    /// How far the finalized chain was read, and what it moved, by payer.
    read: usize,
    moved: Vec<(B256, Move)>,
    by_payer: Vec<u64>,
}

impl Books {
    pub(crate) fn new(setting: &Setting) -> Self {
        Self {
            floor: units(setting.credit.floor),
            ceiling: units(setting.credit.ceiling),
            exposure: units(setting.credit.exposure),
            step: setting.step,
            settler: setting.settler,
            by_payer: vec![0; 64],
            group: u64::from(setting.keeping == Keeping::Owned),
            ..Self::default()
        }
    }

    /// What was lost with a process: the books are those of the disk.
    pub(crate) fn reread(&mut self, rows: Vec<Row>, entries: &[BookedEntry]) {
        let old = core::mem::take(self);
        *self = Self {
            floor: old.floor,
            ceiling: old.ceiling,
            exposure: old.exposure,
            step: old.step,
            settler: old.settler,
            group: old.group,
            on_disk: old.group,
            read: old.read,
            moved: old.moved,
            by_payer: old.by_payer,
            ..Self::default()
        };
        for row in rows {
            self.put(&row);
        }
        for booked in entries {
            self.book(&booked.entry);
        }
        self.group += 1;
        self.undone = self.group;
    }

    fn book(&mut self, entry: &Entry) {
        let amount = i128::from(units(entry.amount));
        *self.accounts.entry(entry.debit).or_default() += amount;
        *self.accounts.entry(entry.credit).or_default() -= amount;
    }

    fn put(&mut self, row: &Row) {
        match row {
            Row::Payment(payment) => {
                let keys = payment.keys;
                if let AuthorizationKey::Claim { .. } = keys.authorization {
                    self.claims.entry(keys.authorization).or_insert(keys.id);
                }
                let (after, before) = (
                    Sums::of(payment),
                    self.payments.insert(keys.id, payment.clone()),
                );
                let before = before.as_ref().map(Sums::of).unwrap_or_default();
                let owner = self.owners.entry(keys.owner).or_default();
                owner.add(after);
                owner.take(before);
                if let Some(key) = keys.spender_key() {
                    let spender = self.spenders.entry(key).or_default();
                    spender.add(after);
                    spender.take(before);
                }
                let exposure = self.exposures.entry(keys.exposure).or_default();
                *exposure = *exposure + after.unproven - before.unproven;
                self.all.add(after);
                self.all.take(before);
            }
            Row::Authorization(row) => {
                self.signed.insert(row.key, row.signed.clone());
            }
            Row::Batch(batch) => {
                for sent in &batch.sent {
                    self.hashes.entry(sent.hash).or_insert(self.group);
                }
                if let Some(nonce) = batch.nonce() {
                    self.nonces.entry((batch.signer, nonce)).or_insert(batch.id);
                }
                if batch.concluded() {
                    self.open.remove(&batch.id);
                } else {
                    self.open.insert(batch.id);
                }
                self.batches.insert(batch.id, batch.clone());
            }
            Row::Signer(row) => {
                self.signers.insert(row.key, row.next_nonce);
            }
            Row::Spender(row) => {
                if let Limit::Counter(counter) = &row.limit {
                    self.counters.insert(row.key, units(counter.settled));
                    self.see(row.key, counter);
                }
            }
            Row::Identifier(row) => {
                self.names.insert(row.key, row.payment);
            }
            Row::Owner(_) | Row::Exposure(_) | Row::Outcome(_) => {}
        }
    }

    /// Whether a transaction was stored before it is sent (D4, D5).
    pub(crate) fn check_sent(&self, hash: B256) -> Result<(), Fault> {
        let stored = self.hashes.get(&hash);
        must!(
            stored.is_some_and(|group| *group <= self.on_disk),
            13,
            "the transaction {hash} is sent and not stored"
        );
        Ok(())
    }

    /// Takes in what the finalized chain moved.
    pub(crate) fn read_chain(&mut self, chain: &Chain) {
        for block in chain.finalized_above(self.read) {
            for (hash, moved) in &block.moves {
                if moved.what != What::Away {
                    self.by_payer[moved.payer] += moved.amount;
                }
                self.moved.push((*hash, moved.clone()));
            }
        }
        self.read = chain.final_height;
    }

    fn paid_by_all(&self) -> u64 {
        self.by_payer.iter().sum()
    }

    /// One step of the ledger.
    pub(crate) fn step(
        &mut self,
        writes: &[Row],
        entries: &[Entry],
        truth: &Truth<'_>,
    ) -> Result<(), Fault> {
        self.read_chain(truth.chain);
        for row in writes {
            if let Row::Authorization(row) = row {
                self.signed.insert(row.key, row.signed.clone());
            }
        }
        for row in writes {
            if let Row::Payment(payment) = row {
                self.check_payment(payment, truth)?;
            }
            if let Row::Batch(batch) = row {
                self.check_batch(batch)?;
            }
        }
        for row in writes {
            if let Row::Identifier(row) = row
                && let Some(first) = self.names.get(&row.key)
            {
                let charged = self.payments.get(first);
                must!(
                    *first == row.payment || charged.is_none_or(|first| first.charge.is_zero()),
                    1,
                    "a request is admitted again under the name of {first:?}, which was charged"
                );
            }
        }
        for row in writes {
            self.put(row);
        }
        for entry in entries {
            self.book(entry);
        }
        for row in writes {
            match row {
                Row::Owner(row) => self.check_owner(row, truth)?,
                Row::Spender(row) => self.check_spender(row, truth)?,
                Row::Exposure(row) => {
                    let sum = self.exposures.get(&row.key).copied().unwrap_or_default();
                    let used = units(row.used);
                    must!(
                        used == sum,
                        11,
                        "the exposure is {used} in its row and {sum} in payments"
                    );
                    must!(
                        used <= self.exposure,
                        12,
                        "{used} are lent above what payers have paid, of {} at most",
                        self.exposure
                    );
                }
                Row::Batch(batch) if !batch.concluded() => {
                    for keys in batch.payments() {
                        let state = self.payments.get(&keys.id).map(|payment| &payment.state);
                        must!(
                            matches!(state, Some(PaymentState::Claimed { batch: by, .. }) if *by == batch.id),
                            14,
                            "a payment of an undecided batch is {state:?}"
                        );
                    }
                }
                Row::Signer(row) => {
                    let signed = self
                        .nonces
                        .range((row.key, 0)..=(row.key, u64::MAX))
                        .next_back()
                        .map(|((_, nonce), _)| *nonce);
                    must!(
                        signed.is_none_or(|nonce| nonce < row.next_nonce),
                        10,
                        "the next nonce is {} and {signed:?} is signed",
                        row.next_nonce
                    );
                }
                _ => {}
            }
        }
        // A payer's and a spender's row are written with every payment's.
        self.check_accounts()
    }

    fn check_accounts(&self) -> Result<(), Fault> {
        let has = |account| self.accounts.get(&account).copied().unwrap_or_default();
        let all = self.all;
        let pairs = [
            (Account::PayerHeld, i128::from(all.held)),
            (Account::Reserved, -i128::from(all.held)),
            (Account::PayerDue, i128::from(all.due)),
            (Account::BadDebt, i128::from(all.lost)),
            (Account::Treasury, i128::from(all.paid)),
            (Account::RevenueFinal, -i128::from(all.paid)),
            (Account::RevenuePending, -i128::from(all.due + all.lost)),
        ];
        for (account, expected) in pairs {
            let found = has(account);
            must!(
                found == expected,
                11,
                "the account {} stands at {found}, and payments say {expected}",
                account.name()
            );
        }
        Ok(())
    }

    fn check_payment(&mut self, payment: &PaymentRow, truth: &Truth<'_>) -> Result<(), Fault> {
        use PaymentState::{Claimed, Due, Final, Lost, Released, Serving};
        let id = payment.keys.id;
        let before = self.payments.get(&id).map(|row| row.state.clone());
        let along = matches!(
            (&before, &payment.state),
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
        must!(
            along,
            15,
            "{id:?} goes from {before:?} to {:?}",
            payment.state
        );
        if let (Some(Serving { used: was }), Serving { used: is }) = (&before, &payment.state) {
            must!(was <= is, 15, "a checkpoint of {id:?} goes back");
        }
        if let Serving { used } = payment.state {
            must!(
                used <= payment.reserved,
                2,
                "a checkpoint of {id:?} is above what was reserved"
            );
        }
        let (charge, short) = (units(payment.charge), units(payment.short));
        let reserved = units(payment.reserved);
        must!(
            charge + short <= reserved,
            2,
            "{id:?} is charged {charge} of {reserved}"
        );
        let signed = self.signed.get(&payment.keys.authorization);
        let Some(signed) = signed else {
            return Err((1, format!("{id:?} has no authorization")));
        };
        if !matches!(signed, Authorization::Allowance(_)) {
            let cap = units(signed.cap());
            must!(
                reserved <= cap,
                2,
                "{id:?} reserves {reserved} of {cap} that were signed"
            );
        }
        if before.is_none() {
            let owner = self.owners.get(&payment.keys.owner);
            let lost = owner.map_or(0, |sums| sums.lost);
            must!(
                lost == 0,
                12,
                "{id:?} is admitted, and its payer owes {lost} that were lost"
            );
        }
        if before.is_none()
            && let Authorization::Allowance(permit) = signed
        {
            let (spent, worth) = (self.spent(permit), units(permit.value));
            must!(spent <= worth, 2, "{id:?} makes it {spent} of {worth}");
        }
        if before.is_none()
            && let AuthorizationKey::Claim { .. } = payment.keys.authorization
        {
            let first = *self.claims.entry(payment.keys.authorization).or_insert(id);
            must!(
                first == id,
                1,
                "{id:?} is admitted by the authorization of {first:?}"
            );
        }
        if matches!(before, Some(Serving { .. })) && !matches!(payment.state, Serving { .. }) {
            let exact = matches!(signed, Authorization::Exact(_));
            self.check_end(payment, exact, truth)?;
        }
        match &payment.state {
            Final { transaction, .. } => self.check_final(payment, *transaction, signed)?,
            Lost { .. } | Released { .. } => self.check_unpaid(payment, signed)?,
            _ => {}
        }
        let lost = matches!(payment.state, Lost { .. }) || short > 0;
        let honest = payer_of(payment.keys.owner.owner)
            .and_then(|payer| truth.payers.get(payer))
            .is_some_and(|payer| payer.honest);
        must!(
            !(lost && honest),
            8,
            "{id:?} of an honest payer is lost: {:?}",
            payment.state
        );
        Ok(())
    }

    fn check_owner(&self, row: &OwnerRow, truth: &Truth<'_>) -> Result<(), Fault> {
        let sums = self.owners.get(&row.key).copied().unwrap_or_default();
        let found = (
            units(row.held),
            units(row.due),
            u64::from(row.in_flight),
            units(row.lost),
        );
        let expected = (sums.held, sums.due, sums.in_flight, sums.lost);
        must!(
            found == expected,
            11,
            "held, due, in flight and lost of a payer are {found:?} in its row and {expected:?} in payments"
        );
        let Some(payer) = payer_of(row.key.owner) else {
            return Ok(());
        };
        let paid = self.by_payer[payer];
        let credit = paid.min(self.ceiling).max(self.floor);
        must!(
            sums.held + sums.due <= credit,
            12,
            "payer {payer} owes {} and has a credit of {credit}",
            sums.held + sums.due
        );
        let unproven: u64 = self
            .owners
            .iter()
            .filter_map(|(key, sums)| {
                let payer = payer_of(key.owner)?;
                Some((sums.held + sums.due + sums.lost).saturating_sub(self.by_payer[payer]))
            })
            .sum();
        must!(
            unproven <= self.exposure,
            12,
            "{unproven} are owed or lost in all above what payers have paid, of {} at most",
            self.exposure
        );
        let _ = truth;
        Ok(())
    }

    fn check_batch(&self, batch: &BatchRow) -> Result<(), Fault> {
        let Some(nonce) = batch.nonce() else {
            return Ok(());
        };
        let first = self.nonces.get(&(batch.signer, nonce));
        must!(
            first.is_none_or(|first| *first == batch.id),
            14,
            "two batches have the nonce {nonce}"
        );
        let same = batch.sent.iter().all(|sent| sent.nonce == nonce);
        must!(same, 14, "a batch has two nonces");
        if let Some(known) = self.batches.get(&batch.id) {
            let kept = known.sent.iter().all(|sent| {
                batch
                    .sent
                    .iter()
                    .any(|other| other.hash == sent.hash && other.raw == sent.raw)
            });
            must!(kept, 13, "a batch forgets what was signed for it");
            must!(
                !known.concluded() || batch.concluded(),
                15,
                "a batch is decided, and undecided again"
            );
        }
        Ok(())
    }

    /// What is due, or final, of a payer's allowance.
    pub(crate) fn charged(&self, payer: usize, seller: Address) -> u64 {
        let all = self.spenders.iter();
        all.filter(|(key, _)| key.spender == seller && payer_of(key.owner.owner) == Some(payer))
            .map(|(_, sums)| sums.due + sums.paid)
            .sum()
    }

    /// Payments that are not decided.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = &PaymentRow> {
        self.payments.values().filter(|payment| {
            !matches!(
                payment.state,
                PaymentState::Final { .. }
                    | PaymentState::Lost { .. }
                    | PaymentState::Released { .. }
            )
        })
    }

    /// Whether nothing is open or due.
    pub(crate) fn quiet(&self) -> bool {
        self.all.held == 0 && self.all.due == 0 && self.open.is_empty()
    }
}

/// A nonce of 64 bits.
pub(crate) fn nonce(number: u64) -> U256 {
    U256::from(number)
}
