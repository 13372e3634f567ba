//! The chain knows more than the ledger: after a copy was restored, or commits were lost.
//!
//! Nothing here is sent, and nothing is charged: it books what the finalized chain shows.

use tollgate_x402::{Amount, Authorization, B256, Timestamp};

use super::{difference, sum};
use crate::{
    key::{PaymentKeys, RowKey, SpenderKey},
    refusal::Refusal,
    row::{
        AuthorizationRow, BatchRow, BatchState, Counter, Limit, OwnerRow, PaymentRow, PaymentState,
        Row, SpenderRow,
    },
    store::{Account, Command, Decision, Entry, RowSet, Rows},
    view,
};

/// The memo of a payment that was found on the chain and not in the ledger.
pub const UNKNOWN: &str = "unknown to this ledger";

/// Books a payment as paid: the finalized chain shows it, and the ledger has it open, lost or released.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The payment.
    pub keys: PaymentKeys,
    /// What was moved, in atomic units.
    pub amount: Amount,
    /// For an allowance: the interval of the counter. It begins where the counter stands.
    pub interval: Option<(Amount, Amount)>,
    /// The transaction.
    pub transaction: B256,
    /// Its finalized block.
    pub block: u64,
}

impl Command for Settled {
    /// Whether it is new: a payment that is final already stays as it is.
    type Outcome = bool;

    fn rows(&self) -> RowSet {
        self.keys.rows().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<bool>, Refusal> {
        let mut payment = rows
            .payment(&self.keys.id)
            .cloned()
            .ok_or(Refusal::Missing("payment"))?;
        let mut owner = rows
            .owner(&self.keys.owner)
            .cloned()
            .ok_or(Refusal::Missing("payer"))?;
        let mut spender = match self.keys.spender_key() {
            None => None,
            Some(key) => Some(
                rows.spender(&key)
                    .cloned()
                    .ok_or(Refusal::Missing("spender"))?,
            ),
        };
        let mut exposure = rows
            .exposure(&self.keys.exposure)
            .cloned()
            .ok_or(Refusal::Missing("exposure"))?;
        let mut book = Book::of(&self.keys);
        let amount = self.amount;
        match payment.state {
            PaymentState::Final { .. } => {
                return Ok(Decision {
                    writes: Vec::new(),
                    entries: Vec::new(),
                    outcome: false,
                });
            }
            // Its batch is to be dissolved first.
            PaymentState::Claimed { .. } => return Err(Refusal::Overtaken),
            PaymentState::Serving { .. } => {
                let held = payment.reserved;
                owner.held = difference(owner.held, held, "a payer holds too little")?;
                owner.in_flight = owner
                    .in_flight
                    .checked_sub(1)
                    .ok_or(Refusal::Books("a payer has too few payments in flight"))?;
                if let Some(spender) = &mut spender {
                    spender.held = difference(spender.held, held, "a spender holds too little")?;
                }
                payment.ended = Some(now);
                book.line(Account::Reserved, Account::PayerHeld, held);
                book.line(Account::PayerDue, Account::RevenuePending, amount);
                book.paid(amount);
            }
            PaymentState::Released { .. } => {
                book.line(Account::PayerDue, Account::RevenuePending, amount);
                book.paid(amount);
            }
            PaymentState::Due { .. } => {
                let charge = payment.charge;
                owner.due = difference(owner.due, charge, "a payer owes too little")?;
                if let Some(spender) = &mut spender {
                    spender.due = difference(spender.due, charge, "a spender owes too little")?;
                }
                let more = amount.saturating_sub(charge);
                let short = charge.saturating_sub(amount);
                book.line(Account::PayerDue, Account::RevenuePending, more);
                book.line(Account::BadDebt, Account::PayerDue, short);
                owner.lost = sum(owner.lost, short)?;
                payment.short = sum(payment.short, short)?;
                if let Some(Limit::Counter(counter)) = spender.as_mut().map(|row| &mut row.limit) {
                    counter.give_up(payment.generation, short);
                }
                book.paid(amount);
            }
            PaymentState::Lost { .. } => {
                let found = amount.min(payment.charge);
                // What was forgiven meanwhile is off the debt already.
                let owed = found.min(owner.lost);
                owner.lost = difference(owner.lost, owed, "a payer lost too little")?;
                book.line(Account::Treasury, Account::BadDebt, owed);
                book.line(
                    Account::Treasury,
                    Account::Forgiven,
                    found.saturating_sub(owed),
                );
                let short = payment.charge.saturating_sub(found);
                payment.short = sum(payment.short, short)?;
                let more = amount.saturating_sub(found);
                book.line(Account::PayerDue, Account::RevenuePending, more);
                book.line(Account::Treasury, Account::PayerDue, more);
                book.line(Account::RevenuePending, Account::RevenueFinal, amount);
            }
        }
        exposure.used = difference(
            exposure.used,
            payment.unproven,
            "the exposure is below its payments'",
        )?;
        // Of a part, the unproven end is what is missing.
        let missing = payment.charge.saturating_sub(amount);
        exposure.lost.add(payment.unproven.min(missing), now);
        payment.unproven = Amount::ZERO;
        payment.charge = amount;
        payment.reserved = payment.reserved.max(amount);
        payment.interval = self.interval;
        payment.state = PaymentState::Final {
            transaction: self.transaction,
            block: self.block,
        };
        payment.updated = now;
        owner.credit_for(amount, self.block, now);
        if let (Some(spender), Some(interval)) = (&mut spender, self.interval) {
            spender.advance(interval)?;
        }
        let mut writes = vec![
            Row::Payment(payment),
            Row::Owner(owner),
            Row::Exposure(exposure),
        ];
        writes.extend(spender.map(Row::Spender));
        Ok(Decision {
            writes,
            entries: book.entries,
            outcome: true,
        })
    }
}

/// Books a payment that the finalized chain shows and the ledger has never seen, so that the books are the chain's and
/// later intervals of the counter fit.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// Its rows. The id is the transfer's ([`id_of_transfer`](super::id_of_transfer)).
    pub keys: PaymentKeys,
    /// What was moved, in atomic units.
    pub amount: Amount,
    /// For an allowance: the interval of the counter. It begins where the counter stands.
    pub interval: Option<(Amount, Amount)>,
    /// The transaction.
    pub transaction: B256,
    /// Its finalized block.
    pub block: u64,
    /// What is known of it, for people: [`UNKNOWN`], unless something is.
    pub memo: String,
    /// For a claim whose transaction shows what was signed: that, and the digest of the request that it was settled for.
    /// Who asks again is then answered as before.
    pub signed: Option<(Authorization, B256)>,
}

impl Command for Unknown {
    /// Whether it is new: a transfer is booked once.
    type Outcome = bool;

    fn rows(&self) -> RowSet {
        let claimed = RowKey::Authorization(self.keys.authorization);
        let claimed = self.signed.as_ref().map(|_| claimed);
        self.keys.rows().chain(claimed).collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<bool>, Refusal> {
        if rows.payment(&self.keys.id).is_some() {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: false,
            });
        }
        let amount = self.amount;
        let mut book = Book::of(&self.keys);
        book.line(Account::PayerDue, Account::RevenuePending, amount);
        book.paid(amount);
        let mut owner = rows
            .owner(&self.keys.owner)
            .cloned()
            .unwrap_or_else(|| OwnerRow::new(self.keys.owner));
        owner.credit_for(amount, self.block, now);
        let payment = PaymentRow {
            keys: self.keys,
            state: PaymentState::Final {
                transaction: self.transaction,
                block: self.block,
            },
            reserved: amount,
            charge: amount,
            short: Amount::ZERO,
            company: 0,
            unproven: Amount::ZERO,
            generation: 0,
            interval: self.interval,
            request: B256::ZERO,
            memo: self.memo.clone(),
            epoch: 0,
            deadline: now,
            created: now,
            ended: Some(now),
            updated: now,
        };
        let mut writes = vec![Row::Payment(payment), Row::Owner(owner)];
        if let (Some(key), Some(interval)) = (self.keys.spender_key(), self.interval) {
            let mut spender = rows
                .spender(&key)
                .cloned()
                .unwrap_or_else(|| SpenderRow::drawn(key, interval.0));
            spender.insert(amount);
            spender.advance(interval)?;
            writes.push(Row::Spender(spender));
        }
        let key = self.keys.authorization;
        if let Some((signed, request)) = &self.signed
            && rows.authorization(&key).is_none()
        {
            writes.push(Row::Authorization(AuthorizationRow {
                key,
                signed: signed.clone(),
                request: Some(*request),
                payment: Some(self.keys.id),
                created: now,
                prices: None,
            }));
        }
        Ok(Decision {
            writes,
            entries: book.entries,
            outcome: true,
        })
    }
}

/// Books a transaction of an account that the ledger has never seen, so that its nonce belongs to a batch. What it moved
/// is booked by itself.
#[derive(Clone, Debug)]
pub struct Found {
    /// The batch: concluded, and without items.
    pub batch: BatchRow,
}

impl Command for Found {
    /// Whether it is new.
    type Outcome = bool;

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch.id)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<bool>, Refusal> {
        let good =
            matches!(self.batch.state, BatchState::Concluded { .. }) && self.batch.items.is_empty();
        if !good {
            return Err(Refusal::Books("a batch that was found is not concluded"));
        }
        let new = rows.batch(&self.batch.id).is_none();
        Ok(Decision {
            writes: new
                .then(|| Row::Batch(self.batch.clone()))
                .into_iter()
                .collect(),
            entries: Vec::new(),
            outcome: new,
        })
    }
}

/// Lines of the book for one payment.
struct Book {
    keys: PaymentKeys,
    entries: Vec<Entry>,
}

impl Book {
    const fn of(keys: &PaymentKeys) -> Self {
        Self {
            keys: *keys,
            entries: Vec::new(),
        }
    }

    fn line(&mut self, debit: Account, credit: Account, amount: Amount) {
        if !amount.is_zero() {
            self.entries.push(Entry {
                payment: self.keys.id,
                owner: self.keys.owner,
                debit,
                credit,
                amount,
            });
        }
    }

    fn paid(&mut self, amount: Amount) {
        self.line(Account::Treasury, Account::PayerDue, amount);
        self.line(Account::RevenuePending, Account::RevenueFinal, amount);
    }
}

impl OwnerRow {
    /// Counts what was paid, and forgets what the balance was.
    fn credit_for(&mut self, amount: Amount, block: u64, now: Timestamp) {
        self.history.add(amount, now);
        // A reading from before it would show the money once more.
        self.settled = Some(view::Settled::with(self.settled.take(), amount, block));
        self.view = None;
    }
}

impl SpenderRow {
    /// A counter that stands there, of which nothing else is known.
    fn drawn(key: SpenderKey, at: Amount) -> Self {
        Self {
            key,
            held: Amount::ZERO,
            due: Amount::ZERO,
            limit: Limit::Counter(Box::new(Counter {
                settled: at,
                claimed: at,
                ..Counter::default()
            })),
        }
    }

    /// A draw that nobody knew of comes before what is due. The chain, which is asked again, says what it left.
    fn insert(&mut self, amount: Amount) {
        if let Limit::Counter(counter) = &mut self.limit {
            counter.insert(amount);
        }
    }

    /// Moves the counter through an interval that the chain has drawn.
    fn advance(&mut self, (from, to): (Amount, Amount)) -> Result<(), Refusal> {
        let Limit::Counter(counter) = &mut self.limit else {
            return Err(Refusal::Books("an allowance without a counter"));
        };
        // Batches of it are to be dissolved first, and intervals come in their order.
        if counter.undecided > 0 || counter.settled != from || to <= from {
            return Err(Refusal::Overtaken);
        }
        counter.settle(to);
        counter.claimed = to;
        counter.halted = false;
        // What stands of the budget is asked of the chain again.
        counter.seen = None;
        Ok(())
    }
}
