//! The double-entry book, and payers' names for requests.

use std::collections::BTreeMap;

use tollgate_ledger::{RowKind, Store, StoreError};
use tollgate_payment::{Account, OwnerKey, Row, RowKey};
use tollgate_x402::Amount;

use super::{
    Scan,
    report::{Invariant, Report},
};

/// Lines that are read at once.
const LINES: usize = 2_048;

/// The two sides of one account of one payer.
#[derive(Clone, Copy, Debug, Default)]
struct Sides {
    debit: Amount,
    credit: Amount,
}

/// The book against the payers' rows, and its sums against the payments'.
pub(super) async fn book<S: Store>(store: &S, report: &mut Report) -> Result<(), StoreError> {
    let mut lines = Invariant::new(
        "double-entry",
        "what one account takes another gives, and nothing is negative",
    );
    let mut accounts: BTreeMap<(OwnerKey, Account), Sides> = BTreeMap::new();
    let mut last = 0;
    loop {
        let page = store.entries(last, LINES).await?;
        let Some(end) = page.last() else { break };
        last = end.seq;
        for line in &page {
            let entry = &line.entry;
            lines.check(
                entry.debit != entry.credit && !entry.amount.is_zero(),
                || format!("line {} moves nothing", line.seq),
            );
            let taker = accounts.entry((entry.owner, entry.debit)).or_default();
            taker.debit = taker.debit.saturating_add(entry.amount);
            let giver = accounts.entry((entry.owner, entry.credit)).or_default();
            giver.credit = giver.credit.saturating_add(entry.amount);
        }
    }
    for ((owner, account), sides) in &accounts {
        let (more, less) = match account {
            Account::PayerHeld
            | Account::PayerDue
            | Account::Treasury
            | Account::BadDebt
            | Account::Forgiven => (sides.debit, sides.credit),
            Account::Reserved | Account::RevenuePending | Account::RevenueFinal => {
                (sides.credit, sides.debit)
            }
        };
        lines.check(more >= less, || {
            format!(
                "{} of {} is negative: {more} against {less}",
                account.name(),
                owner.owner
            )
        });
    }

    let mut rows = Scan::new(store, RowKind::Owner);
    while let Some(page) = rows.next().await? {
        for row in &page {
            let Row::Owner(owner) = row else { continue };
            for (account, said) in [
                (Account::PayerHeld, owner.held),
                (Account::PayerDue, owner.due),
                (Account::BadDebt, owner.lost),
            ] {
                let sides = accounts
                    .get(&(owner.key, account))
                    .copied()
                    .unwrap_or_default();
                let booked = sides.debit.checked_sub(sides.credit);
                lines.check(booked == Some(said), || {
                    format!(
                        "{} of {} is {} in the book and {said} in the payer's row",
                        account.name(),
                        owner.key.owner,
                        booked.map_or("negative".to_owned(), |booked| booked.to_string())
                    )
                });
            }
        }
    }
    report.add(lines);

    let mut sums = Invariant::new("sums", "the book's sums are those of the payments");
    let totals = store.totals().await?;
    sums.checked = u64::try_from(totals.0.len()).unwrap_or(u64::MAX);
    for wrong in totals.discrepancies() {
        sums.violated(wrong);
    }
    report.add(sums);
    Ok(())
}

/// Names and stored answers against the payments that they are of.
pub(super) async fn names<S: Store>(
    store: &S,
    page: &[Row],
    report: &mut Report,
) -> Result<(), StoreError> {
    let names = page
        .iter()
        .filter_map(|row| match row {
            Row::Identifier(row) => Some(RowKey::Payment(row.payment)),
            Row::Outcome(row) => Some(RowKey::Payment(row.payment)),
            _ => None,
        })
        .collect();
    let payments = store.read(names).await?;
    let mut invariant = Invariant::new(
        "identifiers",
        "a payer's name for a request, and a stored answer, belong to a payment of that payer",
    );
    for row in page {
        match row {
            Row::Identifier(row) => {
                let good = payments.payment(&row.payment).is_some_and(|payment| {
                    payment.keys.owner.owner == row.key.owner
                        && payment.keys.owner.chain == row.key.chain
                        && payment.request == row.request
                });
                invariant.check(good, || {
                    format!(
                        "the identifier {} of {} names payment {}, which is not its request's",
                        row.key.digest, row.key.owner, row.payment
                    )
                });
            }
            Row::Outcome(row) => {
                invariant.check(payments.payment(&row.payment).is_some(), || {
                    format!(
                        "an answer is stored for payment {}, which does not exist",
                        row.payment
                    )
                });
            }
            _ => {}
        }
    }
    match report
        .invariants
        .iter_mut()
        .find(|known| known.name == invariant.name)
    {
        Some(known) => {
            known.checked = known.checked.saturating_add(invariant.checked);
            for wrong in invariant.violations {
                known.violated(wrong);
            }
        }
        None => report.add(invariant),
    }
    Ok(())
}
