//! The end of service: what was used becomes the charge.

use std::{fmt, sync::Arc};

use tollgate_x402::{Amount, Authorization, Timestamp};

use super::{difference, sum};
use crate::{
    key::{PaymentKeys, RowKey},
    policy::Retention,
    refusal::Refusal,
    row::{
        ExposureRow, Limit, OutcomeRow, OwnerRow, PaymentRow, PaymentState, ReleaseReason, Row,
        SpenderRow, StoredBody,
    },
    store::{Account, Command, Decision, Entry, RowSet, Rows},
};

/// Makes what was used the charge. The rest of the reservation is free again.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The payment.
    pub keys: PaymentKeys,
    /// What the answer is worth, in atomic units; `None` takes the last checkpoint (after a crash).
    /// The charge is at most the reservation. Nothing used releases the payment.
    pub used: Option<Amount>,
    /// Replaces the memo, if given.
    pub memo: Option<String>,
    /// What the caller is told, to be kept in the same step, so that a caller that lost it can be told again.
    pub answer: Option<Answer>,
}

/// What the caller of a request is told, once its charge is known.
///
/// The last words of an answer tell the charge, and what is kept is just what is sent. So the answer is made in the
/// step that makes the charge, from the charge.
#[derive(Clone)]
pub struct Answer {
    retention: Retention,
    tell: Arc<Tell>,
}

/// Makes an answer of a charge.
type Tell = dyn Fn(&Charge) -> Option<Told> + Send + Sync;

/// An answer, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The body.
    pub body: StoredBody,
}

impl Answer {
    /// An answer that `tell` makes of a charge; it makes none where there is nothing worth to be told again. It may be
    /// asked more than once, since a store may try a step again: then its last answer is the one that is kept. It does
    /// no I/O, and does not wait.
    pub fn new(
        retention: Retention,
        tell: impl Fn(&Charge) -> Option<Told> + Send + Sync + 'static,
    ) -> Self {
        Self {
            retention,
            tell: Arc::new(tell),
        }
    }

    /// What is kept of it for this charge, if anything is.
    pub fn told(&self, charge: &Charge) -> Option<Told> {
        let told = (self.tell)(charge)?;
        Some(Told {
            body: match told.body {
                StoredBody::Whole(body) if body.len() > self.retention.bytes => StoredBody::TooLong,
                body => body,
            },
            ..told
        })
    }

    fn row(&self, payment: &PaymentRow, charge: &Charge, now: Timestamp) -> Option<OutcomeRow> {
        let told = self.told(charge)?;
        Some(OutcomeRow {
            payment: payment.keys.id,
            status: told.status,
            content_type: told.content_type,
            body: told.body,
            expires: self.retention.until(payment.deadline, now),
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is told is the payer's.
        f.debug_struct("Answer")
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// A committed charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    /// What is owed, in atomic units.
    pub amount: Amount,
    /// What the answer was worth by its price, before the bound of the reservation.
    pub calculated: Amount,
    /// What the authorization leaves, in atomic units; 0 for a once or exact one.
    pub left: Amount,
}

impl Command for Commit {
    type Outcome = Charge;

    fn rows(&self) -> RowSet {
        self.keys
            .rows()
            .chain([RowKey::Authorization(self.keys.authorization)])
            .chain(self.answer.as_ref().map(|_| RowKey::Outcome(self.keys.id)))
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Charge>, Refusal> {
        let mut books = Open::load(&self.keys, rows)?;
        let PaymentState::Serving { used: checkpoint } = books.payment.state else {
            return Err(Refusal::Overtaken);
        };
        let calculated = self.used.unwrap_or(checkpoint);
        if let Some(memo) = &self.memo {
            books.payment.memo.clone_from(memo);
        }
        let amount = if is_exact(&self.keys, rows) && !calculated.is_zero() {
            // The signed amount is the price: it moves whole or not at all.
            books.payment.reserved
        } else {
            calculated.min(books.payment.reserved)
        };
        if amount.is_zero() {
            let reason = if self.used.is_none() {
                ReleaseReason::GatewayDied
            } else {
                ReleaseReason::NothingDelivered
            };
            // Its reservation is free again, and counts for what is left.
            books.end(Amount::ZERO, now)?;
            books.payment.state = PaymentState::Released { reason };
            let left = books.left(rows);
            return self.finish(books, amount, calculated, left, now);
        }
        books.end(amount, now)?;
        books.owner.due = sum(books.owner.due, amount)?;
        if let Some(spender) = &mut books.spender {
            spender.due = sum(spender.due, amount)?;
            if let Limit::Counter(counter) = &spender.limit {
                books.payment.generation = counter.generation;
            }
        }
        books.payment.charge = amount;
        books.payment.state = PaymentState::Due { attempts: 0 };
        let left = books.left(rows);
        let mut decision = self.finish(books, amount, calculated, left, now)?;
        decision.entries.push(Entry {
            payment: self.keys.id,
            owner: self.keys.owner,
            debit: Account::PayerDue,
            credit: Account::RevenuePending,
            amount,
        });
        Ok(decision)
    }
}

impl Commit {
    fn finish(
        &self,
        books: Open,
        amount: Amount,
        calculated: Amount,
        left: Amount,
        now: Timestamp,
    ) -> Result<Decision<Charge>, Refusal> {
        let charge = Charge {
            amount,
            calculated,
            left,
        };
        let answer = self
            .answer
            .as_ref()
            .and_then(|answer| answer.row(&books.payment, &charge, now));
        let mut decision = books.save(charge)?;
        decision.writes.extend(answer.map(Row::Outcome));
        Ok(decision)
    }
}

fn is_exact(keys: &PaymentKeys, rows: &Rows) -> bool {
    rows.authorization(&keys.authorization)
        .is_some_and(|row| matches!(row.signed, Authorization::Exact(_)))
}

/// Ends a payment without a charge. Its claim stays burned: the authorization admits nothing else.
#[derive(Clone, Debug)]
pub struct Release {
    /// The payment.
    pub keys: PaymentKeys,
    /// Why.
    pub reason: ReleaseReason,
}

impl Command for Release {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        self.keys.rows().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let books = Open::load(&self.keys, rows)?;
        if !matches!(books.payment.state, PaymentState::Serving { .. }) {
            return Err(Refusal::Overtaken);
        }
        books.release(self.reason, now)
    }
}

/// The rows of an open payment, to be changed together.
struct Open {
    payment: PaymentRow,
    owner: OwnerRow,
    spender: Option<SpenderRow>,
    exposure: ExposureRow,
    entries: Vec<Entry>,
}

impl Open {
    fn load(keys: &PaymentKeys, rows: &Rows) -> Result<Self, Refusal> {
        let spender = match keys.spender_key() {
            None => None,
            Some(key) => Some(
                rows.spender(&key)
                    .cloned()
                    .ok_or(Refusal::Missing("spender"))?,
            ),
        };
        Ok(Self {
            payment: rows
                .payment(&keys.id)
                .cloned()
                .ok_or(Refusal::Missing("payment"))?,
            owner: rows
                .owner(&keys.owner)
                .cloned()
                .ok_or(Refusal::Missing("payer"))?,
            spender,
            exposure: rows
                .exposure(&keys.exposure)
                .cloned()
                .ok_or(Refusal::Missing("exposure"))?,
            entries: Vec::new(),
        })
    }

    /// Frees the reservation, of which `kept` goes on as a charge.
    fn end(&mut self, kept: Amount, now: Timestamp) -> Result<(), Refusal> {
        let reserved = self.payment.reserved;
        self.owner.held = difference(
            self.owner.held,
            reserved,
            "a payer holds less than its payments reserved",
        )?;
        self.owner.in_flight = self.owner.in_flight.checked_sub(1).ok_or(Refusal::Books(
            "a payer has fewer payments in flight than end",
        ))?;
        if let Some(spender) = &mut self.spender {
            spender.held = difference(
                spender.held,
                reserved,
                "a spender holds less than its payments reserved",
            )?;
        }
        let unproven = self.payment.unproven.min(kept);
        let freed = self.payment.unproven.saturating_sub(unproven);
        self.exposure.used = difference(
            self.exposure.used,
            freed,
            "the exposure is below its payments'",
        )?;
        self.payment.unproven = unproven;
        self.payment.ended = Some(now);
        self.payment.updated = now;
        self.entries.push(Entry {
            payment: self.payment.keys.id,
            owner: self.payment.keys.owner,
            debit: Account::Reserved,
            credit: Account::PayerHeld,
            amount: reserved,
        });
        Ok(())
    }

    fn release(mut self, reason: ReleaseReason, now: Timestamp) -> Result<Decision<()>, Refusal> {
        self.end(Amount::ZERO, now)?;
        self.payment.state = PaymentState::Released { reason };
        self.save(())
    }

    /// What the authorization leaves, as it was signed.
    fn left(&self, rows: &Rows) -> Amount {
        let key = self.payment.keys.authorization;
        let signed = rows.authorization(&key).map(|row| &row.signed);
        match (&self.spender, signed) {
            (
                Some(SpenderRow {
                    held,
                    due,
                    limit: Limit::Counter(counter),
                    ..
                }),
                Some(Authorization::Allowance(signed)),
            ) => counter.left_for(signed, *held, *due),
            _ => Amount::ZERO,
        }
    }

    fn save<T>(self, outcome: T) -> Result<Decision<T>, Refusal> {
        let mut writes = vec![
            Row::Payment(self.payment),
            Row::Owner(self.owner),
            Row::Exposure(self.exposure),
        ];
        writes.extend(self.spender.map(Row::Spender));
        Ok(Decision {
            writes,
            entries: self.entries,
            outcome,
        })
    }
}
