//! What the operator decides about a payer: whether it is served, and what it is asked for.

use tollgate_x402::{Amount, B256, PaymentId, Timestamp};

use super::{difference, reconcile::Unknown, sum};
use crate::{
    key::{OwnerKey, RowKey},
    refusal::Refusal,
    row::{OwnerRow, Row},
    store::{Account, Command, Decision, Entry, RowSet, Rows},
};

/// Serves a payer no more. What it owes is settled as ever.
#[derive(Clone, Debug)]
pub struct Block {
    /// The payer, of one token.
    pub owner: OwnerKey,
    /// Why, for people; the payer is not told.
    pub reason: String,
}

impl Command for Block {
    /// Why it was blocked before, if it was.
    type Outcome = Option<String>;

    fn rows(&self) -> RowSet {
        [RowKey::Owner(self.owner)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<Self::Outcome>, Refusal> {
        // A payer that was never seen can be blocked too.
        let mut row = rows
            .owner(&self.owner)
            .cloned()
            .unwrap_or_else(|| OwnerRow::new(self.owner));
        let outcome = row.blocked.replace(self.reason.clone());
        Ok(Decision {
            writes: vec![Row::Owner(row)],
            entries: Vec::new(),
            outcome,
        })
    }
}

/// Serves a blocked payer again.
#[derive(Clone, Debug)]
pub struct Unblock {
    /// The payer, of one token.
    pub owner: OwnerKey,
}

impl Command for Unblock {
    /// Why it was blocked; nothing if it was not.
    type Outcome = Option<String>;

    fn rows(&self) -> RowSet {
        [RowKey::Owner(self.owner)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<Self::Outcome>, Refusal> {
        let known = rows.owner(&self.owner).cloned();
        let Some((mut row, reason)) = known.and_then(|mut row| {
            let reason = row.blocked.take()?;
            Some((row, reason))
        }) else {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: None,
            });
        };
        row.blocked = None;
        Ok(Decision {
            writes: vec![Row::Owner(row)],
            entries: Vec::new(),
            outcome: Some(reason),
        })
    }
}

/// Asks a payer no more for what it made unpayable. Without other debts it is served again.
#[derive(Clone, Debug)]
pub struct Forgive {
    /// The payer, of one token.
    pub owner: OwnerKey,
    /// How much, in atomic units; `None`: all of it. Never more than is lost.
    pub amount: Option<Amount>,
    /// A fresh random id, under which the book has the line: a payer's debt is no single payment's.
    pub reference: PaymentId,
}

/// What was forgiven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forgiven {
    /// How much, in atomic units.
    pub amount: Amount,
    /// What the payer still owes of what it made unpayable, in atomic units.
    pub left: Amount,
}

impl Command for Forgive {
    type Outcome = Forgiven;

    fn rows(&self) -> RowSet {
        [RowKey::Owner(self.owner)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<Forgiven>, Refusal> {
        let Some(mut row) = rows.owner(&self.owner).cloned() else {
            return Err(Refusal::Missing("payer"));
        };
        let entry = forgive(&mut row, self.amount, self.reference)?;
        let amount = entry.as_ref().map_or(Amount::ZERO, |entry| entry.amount);
        let outcome = Forgiven {
            amount,
            left: row.lost,
        };
        Ok(Decision {
            writes: entry.iter().map(|_| Row::Owner(row.clone())).collect(),
            entries: entry.into_iter().collect(),
            outcome,
        })
    }
}

/// Takes an amount off what a payer lost.
fn forgive(
    row: &mut OwnerRow,
    amount: Option<Amount>,
    reference: PaymentId,
) -> Result<Option<Entry>, Refusal> {
    let amount = amount.unwrap_or(row.lost).min(row.lost);
    row.lost = difference(row.lost, amount, "more is forgiven than is lost")?;
    Ok((!amount.is_zero()).then_some(Entry {
        payment: reference,
        owner: row.key,
        debit: Account::Forgiven,
        credit: Account::BadDebt,
        amount,
    }))
}

/// Books a transfer with which a payer paid what it made unpayable before. What is above the debt is booked as received
/// all the same: it is on the chain.
#[derive(Clone, Debug)]
pub struct PayOff {
    /// The transfer: final, from the payer, to the treasury, in no other payment of this ledger.
    pub transfer: Unknown,
}

impl Command for PayOff {
    /// What was taken off the debt; nothing if the transfer is booked already.
    type Outcome = Option<Forgiven>;

    fn rows(&self) -> RowSet {
        self.transfer.rows()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Self::Outcome>, Refusal> {
        let booked = self.transfer.decide(rows, now)?;
        if !booked.outcome {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: None,
            });
        }
        let (mut writes, mut entries) = (Vec::new(), booked.entries);
        let mut outcome = None;
        for row in booked.writes {
            writes.push(match row {
                Row::Owner(mut owner) => {
                    let entry = forgive(
                        &mut owner,
                        Some(self.transfer.amount),
                        self.transfer.keys.id,
                    )?;
                    let amount = entry.as_ref().map_or(Amount::ZERO, |entry| entry.amount);
                    entries.extend(entry);
                    outcome = Some(Forgiven {
                        amount,
                        left: owner.lost,
                    });
                    Row::Owner(owner)
                }
                other => other,
            });
        }
        Ok(Decision {
            writes,
            entries,
            outcome,
        })
    }
}

/// The id under which a transfer that no payment of this ledger expected is booked: the same transfer always has the
/// same, so that it is booked once.
pub fn id_of_transfer(transaction: B256, log: u64) -> PaymentId {
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(transaction.iter()) {
        *to = *from;
    }
    // The place of the log in its block parts the transfers of one transaction.
    for (to, from) in bytes.iter_mut().rev().zip(log.to_be_bytes().iter().rev()) {
        *to ^= *from;
    }
    PaymentId::from_random(bytes)
}

/// The sum of what a payer is asked for.
impl OwnerRow {
    /// Everything that the payer owes, in atomic units: what is due, and what it made unpayable.
    ///
    /// # Errors
    /// [`Refusal::Books`] where the sum overflows.
    pub fn owes(&self) -> Result<Amount, Refusal> {
        sum(self.due, self.lost)
    }
}
