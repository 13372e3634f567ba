//! Sums of everything, for the audit.

use std::collections::BTreeMap;

use tollgate_payment::{Account, Entry, ExposureRow, OwnerRow, PaymentRow, SpenderRow};
use tollgate_x402::{Address, Amount, ChainId};

use crate::{error::StoreError, log::Status};

/// Sums of everything in a ledger, by chain and token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals(pub BTreeMap<(ChainId, Address), TokenTotals>);

/// Sums of everything of one token, in atomic units.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TokenTotals {
    /// Payments, by where they stand.
    pub payments: BTreeMap<Status, Sum>,
    /// The double-entry book.
    pub accounts: BTreeMap<Account, Balance>,
    /// What payers' rows say is held.
    pub held: Amount,
    /// What payers' rows say is due.
    pub due: Amount,
    /// What payers' rows say is lost.
    pub lost: Amount,
    /// What payers' rows say is in flight.
    pub in_flight: u64,
    /// What payments that have a spender hold.
    pub drawn_held: Amount,
    /// What payments that have a spender owe.
    pub drawn_due: Amount,
    /// What spenders' rows say is held.
    pub spenders_held: Amount,
    /// What spenders' rows say is due.
    pub spenders_due: Amount,
    /// What the slices of the exposure say is used.
    pub exposure: Amount,
}

/// Sums over payments, in atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// How many.
    pub payments: u64,
    /// Of what was reserved.
    pub reserved: Amount,
    /// Of the charges.
    pub charge: Amount,
    /// Of the parts of charges that were lost before the rest was settled.
    pub short: Amount,
    /// Of the unproven parts.
    pub unproven: Amount,
}

/// The two sides of an account, in atomic units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// What it took.
    pub debit: Amount,
    /// What it gave.
    pub credit: Amount,
}

fn add(sum: &mut Amount, amount: Amount) -> Result<(), StoreError> {
    *sum = sum
        .checked_add(amount)
        .ok_or_else(|| StoreError::Corrupt("a sum is above 2^256 - 1".into()))?;
    Ok(())
}

/// Adding up, for stores.
impl Totals {
    /// Counts a payment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where a sum overflows; so for the others.
    pub fn payment(&mut self, row: &PaymentRow) -> Result<(), StoreError> {
        let token = self
            .0
            .entry((row.keys.owner.chain, row.keys.owner.token))
            .or_default();
        let status = Status::from(&row.state);
        let sum = token.payments.entry(status).or_default();
        sum.payments = sum.payments.saturating_add(1);
        add(&mut sum.reserved, row.reserved)?;
        add(&mut sum.charge, row.charge)?;
        add(&mut sum.short, row.short)?;
        add(&mut sum.unproven, row.unproven)?;
        if row.keys.spender.is_some() {
            match status {
                Status::Serving => add(&mut token.drawn_held, row.reserved)?,
                Status::Due | Status::Claimed => add(&mut token.drawn_due, row.charge)?,
                Status::Final | Status::Lost | Status::Released => {}
            }
        }
        Ok(())
    }

    /// Counts a payer.
    ///
    /// # Errors
    /// As [`payment`](Self::payment).
    pub fn owner(&mut self, row: &OwnerRow) -> Result<(), StoreError> {
        let token = self.0.entry((row.key.chain, row.key.token)).or_default();
        token.in_flight = token.in_flight.saturating_add(u64::from(row.in_flight));
        add(&mut token.held, row.held)?;
        add(&mut token.due, row.due)?;
        add(&mut token.lost, row.lost)
    }

    /// Counts a spender.
    ///
    /// # Errors
    /// As [`payment`](Self::payment).
    pub fn spender(&mut self, row: &SpenderRow) -> Result<(), StoreError> {
        let token = self
            .0
            .entry((row.key.owner.chain, row.key.owner.token))
            .or_default();
        add(&mut token.spenders_held, row.held)?;
        add(&mut token.spenders_due, row.due)
    }

    /// Counts a slice of the exposure.
    ///
    /// # Errors
    /// As [`payment`](Self::payment).
    pub fn exposure(&mut self, row: &ExposureRow) -> Result<(), StoreError> {
        let token = self.0.entry((row.key.chain, row.key.token)).or_default();
        add(&mut token.exposure, row.used)
    }

    /// Counts a line of the double-entry book.
    ///
    /// # Errors
    /// As [`payment`](Self::payment).
    pub fn entry(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let token = self
            .0
            .entry((entry.owner.chain, entry.owner.token))
            .or_default();
        add(
            &mut token.accounts.entry(entry.debit).or_default().debit,
            entry.amount,
        )?;
        add(
            &mut token.accounts.entry(entry.credit).or_default().credit,
            entry.amount,
        )
    }

    /// What does not add up, a sentence each; nothing where the books are right.
    pub fn discrepancies(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|((chain, token), totals)| {
                totals
                    .discrepancies()
                    .into_iter()
                    .map(move |what| format!("chain {chain}, token {token}: {what}"))
            })
            .collect()
    }
}

impl TokenTotals {
    /// The sums over payments that stand there.
    pub fn of(&self, status: Status) -> Sum {
        self.payments.get(&status).copied().unwrap_or_default()
    }

    /// An account's two sides.
    pub fn account(&self, account: Account) -> Balance {
        self.accounts.get(&account).copied().unwrap_or_default()
    }

    /// What does not add up, a sentence each.
    pub fn discrepancies(&self) -> Vec<String> {
        let serving = self.of(Status::Serving);
        let (due, claimed) = (self.of(Status::Due), self.of(Status::Claimed));
        let owed = due.charge.saturating_add(claimed.charge);
        let paid = self.of(Status::Final).charge;
        let lost = self
            .payments
            .values()
            .fold(self.of(Status::Lost).charge, |lost, sum| {
                lost.saturating_add(sum.short)
            });
        let unproven = serving
            .unproven
            .saturating_add(due.unproven)
            .saturating_add(claimed.unproven);
        let taken = |account| {
            let sides = self.account(account);
            sides.debit.checked_sub(sides.credit)
        };
        let given = |account| {
            let sides = self.account(account);
            sides.credit.checked_sub(sides.debit)
        };
        let earned = paid.saturating_add(lost);
        let forgiven = taken(Account::Forgiven);

        [
            (
                "payments being served reserve",
                Some(serving.reserved),
                "payers hold",
                Some(self.held),
            ),
            (
                "payments being served reserve",
                Some(serving.reserved),
                "the book holds",
                taken(Account::PayerHeld),
            ),
            (
                "payments being served reserve",
                Some(serving.reserved),
                "the book reserves",
                given(Account::Reserved),
            ),
            (
                "payments to settle charge",
                Some(owed),
                "payers owe",
                Some(self.due),
            ),
            (
                "payments to settle charge",
                Some(owed),
                "the book says is owed",
                taken(Account::PayerDue),
            ),
            (
                "final payments charged",
                Some(paid),
                "the book received",
                taken(Account::Treasury),
            ),
            (
                "final payments charged",
                Some(paid),
                "the book earned finally",
                given(Account::RevenueFinal),
            ),
            (
                "lost payments charged",
                Some(lost),
                "what payers' rows lost, with what was forgiven, is",
                forgiven.map(|forgiven| self.lost.saturating_add(forgiven)),
            ),
            (
                "payers' rows lost",
                Some(self.lost),
                "the book lost",
                taken(Account::BadDebt),
            ),
            (
                "everything charged and not final is",
                Some(owed.saturating_add(lost)),
                "the book's pending revenue",
                given(Account::RevenuePending),
            ),
            (
                "spenders' payments reserve",
                Some(self.drawn_held),
                "spenders hold",
                Some(self.spenders_held),
            ),
            (
                "spenders' payments charge",
                Some(self.drawn_due),
                "spenders owe",
                Some(self.spenders_due),
            ),
            (
                "payments' unproven parts are",
                Some(unproven),
                "the exposure is",
                Some(self.exposure),
            ),
            (
                "payments in flight number",
                Some(Amount::from(serving.payments)),
                "payers count",
                Some(Amount::from(self.in_flight)),
            ),
            (
                "what was ever owed and closed is",
                Some(earned),
                "the book closed",
                Some(self.account(Account::PayerDue).credit),
            ),
        ]
        .into_iter()
        .filter(|(_, left, _, right)| left != right)
        .map(|(one, left, other, right)| {
            let show = |amount: Option<Amount>| {
                amount.map_or("a negative amount".into(), |amount| amount.to_string())
            };
            format!("{one} {}, but {other} {}", show(left), show(right))
        })
        .collect()
    }
}
