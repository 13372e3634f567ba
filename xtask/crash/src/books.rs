//! The books held against the chain, and against what callers saw.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use tollgate_ledger::{RowKind, Store};
use tollgate_payment::{BatchRow, BatchState, PaymentRow, PaymentState, Row};
use tollgate_x402::{Address, Amount, B256, PaymentId};

use crate::{
    anvil::{Anvil, Transfer},
    caller::comes_again,
    journal::Event,
    work::{self, STEP, TOKEN, tokens},
};

/// What a history came to.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) histories: u32,
    pub(crate) crashes: u32,
    /// Charges that are paid.
    pub(crate) charges: u64,
    /// Payments that ended without a charge.
    pub(crate) released: u64,
    /// Charges that a caller was told and that are not paid, and money in the books that is not on the chain.
    pub(crate) lost: u64,
    /// Money on the chain that is not in the books.
    pub(crate) double: u64,
    /// Tokens that callers read and that a crash took out of the books.
    pub(crate) unpaid: u64,
    /// The most of them of one stream.
    pub(crate) worst: u64,
    /// Blocks from a start to the inclusion of what was due then, at most.
    pub(crate) blocks: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.crashes += other.crashes;
        self.charges += other.charges;
        self.released += other.released;
        self.lost += other.lost;
        self.double += other.double;
        self.unpaid += other.unpaid;
        self.worst = self.worst.max(other.worst);
        self.blocks = self.blocks.max(other.blocks);
    }
}

/// Everything in a ledger, at its end.
pub(crate) struct Books {
    payments: Vec<PaymentRow>,
    batches: Vec<BatchRow>,
}

impl Books {
    /// Reads a ledger, whose own sums must agree.
    pub(crate) async fn read<S: Store>(store: &S) -> anyhow::Result<Self> {
        let totals = store.totals().await?;
        let wrong = totals.discrepancies();
        ensure!(wrong.is_empty(), "the books do not agree: {wrong:?}");
        let (mut payments, mut batches) = (Vec::new(), Vec::new());
        for kind in [RowKind::Payment, RowKind::Batch] {
            let mut after = None;
            loop {
                let page = store.scan(kind, after, 100).await?;
                after = page.last().map(Row::key);
                if page.is_empty() {
                    break;
                }
                for row in page {
                    match row {
                        Row::Payment(row) => payments.push(row),
                        Row::Batch(row) => batches.push(row),
                        _ => {}
                    }
                }
            }
        }
        Ok(Self { payments, batches })
    }

    pub(crate) fn payments(&self) -> &[PaymentRow] {
        &self.payments
    }

    pub(crate) fn batches(&self) -> &[BatchRow] {
        &self.batches
    }
}

/// What callers were told that the books can still know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Everything.
    Exactly,
    /// What came after a backup is known to the chain alone.
    BeforeTheBackup,
}

/// What the chain was before a history.
pub(crate) struct Before {
    /// Who is paid: the Settler, or an account.
    pub(crate) pay_to: Address,
    pub(crate) block: u64,
    pub(crate) payers: Vec<(Address, Amount)>,
    pub(crate) payee: Amount,
}

/// Everybody's money now.
pub(crate) fn before(anvil: &Anvil, pay_to: Address, payers: &[Address]) -> anyhow::Result<Before> {
    Ok(Before {
        pay_to,
        block: anvil.head()? + 1,
        payers: payers
            .iter()
            .map(|payer| Ok((*payer, anvil.balance(*payer)?)))
            .collect::<anyhow::Result<_>>()?,
        payee: payee(anvil, pay_to)?,
    })
}

/// What the treasury has, with what waits where it is paid to.
fn payee(anvil: &Anvil, pay_to: Address) -> anyhow::Result<Amount> {
    let treasury = anvil.balance(crate::anvil::TREASURY.parse()?)?;
    let waiting = anvil.balance(pay_to)?;
    treasury.checked_add(waiting).context("a sum")
}

/// Holds a finished history's books against the chain and against what callers saw.
///
/// # Errors
/// What does not agree.
pub(crate) fn check(
    books: &Books,
    anvil: &Anvil,
    before: &Before,
    seed: u64,
    journal: &[Event],
    told: Told,
) -> anyhow::Result<Tally> {
    let mut tally = Tally {
        histories: 1,
        ..Tally::default()
    };
    terminal(books, &mut tally)?;
    once(books, told)?;
    chain(books, anvil, before, &mut tally)?;
    match told {
        Told::Exactly => callers(books, seed, journal, &mut tally)?,
        Told::BeforeTheBackup => sums(books, seed, journal, &mut tally)?,
    }
    Ok(tally)
}

/// Holds the books of a program that was killed against the chain, and against what its callers were told.
///
/// # Errors
/// What does not agree.
pub(crate) fn settled(
    books: &Books,
    anvil: &Anvil,
    before: &Before,
    told: &BTreeMap<PaymentId, Amount>,
) -> anyhow::Result<Tally> {
    let mut tally = Tally {
        histories: 1,
        ..Tally::default()
    };
    terminal(books, &mut tally)?;
    once(books, Told::Exactly)?;
    chain(books, anvil, before, &mut tally)?;
    let charged: BTreeMap<PaymentId, Amount> = books
        .payments
        .iter()
        .filter(|row| matches!(row.state, PaymentState::Final { .. }))
        .map(|row| (row.keys.id, row.charge))
        .collect();
    for (id, charge) in told {
        ensure!(
            charged.get(id) == Some(charge),
            "a caller was told that payment {id} costs {charge}, and {:?} is settled",
            charged.get(id)
        );
    }
    Ok(tally)
}

/// Every payment has ended, and honest payers' well.
fn terminal(books: &Books, tally: &mut Tally) -> anyhow::Result<()> {
    for payment in &books.payments {
        match &payment.state {
            PaymentState::Final { .. } => tally.charges += 1,
            PaymentState::Released { .. } => tally.released += 1,
            PaymentState::Lost { reason } => {
                bail!("payment {} is lost: {reason:?}", payment.memo)
            }
            open => bail!("payment {} is still {open:?}", payment.memo),
        }
        ensure!(
            payment.charge <= payment.reserved,
            "payment {} is charged more than was reserved",
            payment.memo
        );
    }
    for batch in &books.batches {
        ensure!(
            batch.concluded(),
            "a batch is not concluded: {:?}",
            batch.state
        );
    }
    Ok(())
}

/// A payment is settled by one batch, and no two batches have one nonce.
fn once(books: &Books, told: Told) -> anyhow::Result<()> {
    let mut nonces = BTreeSet::new();
    let mut settled: BTreeMap<_, u32> = BTreeMap::new();
    for batch in &books.batches {
        if let Some(nonce) = batch.nonce() {
            ensure!(nonces.insert(nonce), "two batches have the nonce {nonce}");
        }
        let BatchState::Concluded {
            transaction: Some(transaction),
            ..
        } = batch.state
        else {
            continue;
        };
        ensure!(
            batch.sent.iter().any(|sent| sent.hash == transaction),
            "a batch is concluded by a transaction that was not stored"
        );
        for keys in batch.payments() {
            *settled.entry((keys.id, transaction)).or_default() += 1;
        }
    }
    for payment in &books.payments {
        if let PaymentState::Final { transaction, .. } = payment.state
            // What was found on the chain was in a batch of the ledger that is lost.
            && told == Told::Exactly
        {
            let times = settled.get(&(payment.keys.id, transaction)).copied();
            ensure!(
                times == Some(1),
                "payment {} is settled {times:?} times by {transaction}",
                payment.memo
            );
        }
    }
    Ok(())
}

/// Payer by payer and transaction by transaction, the chain moved what the books say.
fn chain(books: &Books, anvil: &Anvil, before: &Before, tally: &mut Tally) -> anyhow::Result<()> {
    let finalized = anvil.finalized()?;
    let transfers = anvil.transfers(before.block)?;
    let mut booked: BTreeMap<(Address, B256), Amount> = BTreeMap::new();
    let mut by_payer: BTreeMap<Address, Amount> = BTreeMap::new();
    let mut all = Amount::ZERO;
    for payment in &books.payments {
        let PaymentState::Final { transaction, block } = payment.state else {
            continue;
        };
        let owner = payment.keys.owner.owner;
        ensure!(
            block <= finalized,
            "payment {} is final in block {block}, and the chain is at {finalized}",
            payment.memo
        );
        add(
            booked.entry((owner, transaction)).or_default(),
            payment.charge,
        )?;
        add(by_payer.entry(owner).or_default(), payment.charge)?;
        add(&mut all, payment.charge)?;
    }
    let mut moved: BTreeMap<(Address, B256), Amount> = BTreeMap::new();
    for transfer in &transfers {
        if before
            .payers
            .iter()
            .any(|(payer, _)| *payer == transfer.from)
        {
            ensure_ours(before.pay_to, transfer)?;
            add(
                moved
                    .entry((transfer.from, transfer.transaction))
                    .or_default(),
                transfer.amount,
            )?;
        }
    }
    for key in booked.keys().chain(moved.keys()).collect::<BTreeSet<_>>() {
        let (books, chain) = (
            booked.get(key).copied().unwrap_or_default(),
            moved.get(key).copied().unwrap_or_default(),
        );
        tally.lost += u64::from(books > chain);
        tally.double += u64::from(chain > books);
    }
    for (payer, had) in &before.payers {
        let paid = had
            .checked_sub(anvil.balance(*payer)?)
            .context("a payer has more than before")?;
        let charged = by_payer.get(payer).copied().unwrap_or_default();
        tally.lost += u64::from(charged > paid);
        tally.double += u64::from(paid > charged);
    }
    let received = payee(anvil, before.pay_to)?
        .checked_sub(before.payee)
        .context("the treasury has less than before")?;
    ensure!(
        received == all || tally.lost + tally.double > 0,
        "the treasury received {received}, and {all} is booked"
    );
    Ok(())
}

fn ensure_ours(pay_to: Address, transfer: &Transfer) -> anyhow::Result<()> {
    let treasury: Address = crate::anvil::TREASURY.parse()?;
    ensure!(
        transfer.to == treasury || transfer.to == pay_to,
        "{} of a payer went to {} in block {}",
        transfer.amount,
        transfer.to,
        transfer.block
    );
    Ok(())
}

/// What callers were told of their charges is paid by each of them, though nobody knows any more which payment was which.
fn sums(books: &Books, seed: u64, journal: &[Event], tally: &mut Tally) -> anyhow::Result<()> {
    let requests = work::requests(seed);
    let addresses = work::addresses(seed)?;
    let mut told: BTreeMap<Address, Amount> = BTreeMap::new();
    for event in journal {
        match event {
            Event::Told {
                request, amount, ..
            } => {
                let payer = usize::try_from(*request)
                    .ok()
                    .and_then(|place| requests.get(place))
                    .and_then(|request| addresses.get(request.payer))
                    .context("a request that nobody makes")?;
                add(told.entry(*payer).or_default(), amount.parse()?)?;
            }
            Event::Crash { .. } => tally.crashes += 1,
            _ => {}
        }
    }
    for (payer, told) in told {
        let mut paid = Amount::ZERO;
        for payment in &books.payments {
            if payment.keys.owner.owner == payer {
                add(&mut paid, payment.charge)?;
            }
        }
        tally.lost += u64::from(paid < told);
    }
    Ok(())
}

/// What one attempt of a request came to, as its caller and the service saw it.
#[derive(Clone, Copy, Default)]
struct Seen {
    made: u32,
    read: u32,
    told: Option<Amount>,
    /// It was told to ask again later.
    refused: bool,
}

/// Nobody is charged more than was made for them, what was told is true, and what a crash cost is bounded.
fn callers(books: &Books, seed: u64, journal: &[Event], tally: &mut Tally) -> anyhow::Result<()> {
    let mut seen: BTreeMap<(u32, u32), Seen> = BTreeMap::new();
    let mut crashed = BTreeSet::new();
    let mut life = 0;
    for event in journal {
        match event {
            Event::Life { life: number, .. } => life = *number,
            Event::Crash { .. } => {
                crashed.insert(life);
                tally.crashes += 1;
            }
            Event::Made {
                request,
                attempt,
                tokens,
            } => seen.entry((*request, *attempt)).or_default().made = *tokens,
            Event::Read {
                request,
                attempt,
                tokens,
            } => seen.entry((*request, *attempt)).or_default().read = *tokens,
            Event::Told {
                request,
                attempt,
                amount,
            } => {
                seen.entry((*request, *attempt)).or_default().told = Some(amount.parse()?);
            }
            Event::Refused {
                request,
                attempt,
                status,
                body,
            } => {
                let seen = seen.entry((*request, *attempt)).or_default();
                seen.refused |= comes_again(*status, body);
                ensure!(
                    (*attempt > 0 || seen.refused) && *status != 500,
                    "request {request} was refused with {status}: {body}"
                );
            }
            Event::Asked { request, attempt } => {
                seen.entry((*request, *attempt)).or_default();
            }
            Event::Called { .. } | Event::Waits { .. } | Event::Asleep { .. } => {}
        }
    }
    let rows: BTreeMap<&str, &PaymentRow> = books
        .payments
        .iter()
        .map(|row| (row.memo.as_str(), row))
        .collect();
    ensure!(
        rows.len() == books.payments.len(),
        "two payments of one request of one caller"
    );
    let requests = work::requests(seed);
    for ((number, attempt), seen) in &seen {
        let request = usize::try_from(*number)
            .ok()
            .and_then(|place| requests.get(place))
            .context("a request that nobody makes")?;
        let name = format!("{number}.{attempt}");
        let charge = rows
            .get(name.as_str())
            .map_or(Amount::ZERO, |row| row.charge);
        if request.fixed() {
            ensure!(
                charge.is_zero() || charge == request.price(),
                "request {name} has a price of {} and was charged {charge}",
                request.price()
            );
        } else {
            ensure!(
                charge <= tokens(seen.made),
                "request {name} was charged {charge} for {} tokens",
                seen.made
            );
        }
        if seen.made > 0 && seen.read > 0 {
            let unpaid = tokens(seen.read).saturating_sub(charge);
            ensure!(
                unpaid.is_zero() || crashed.contains(attempt),
                "request {name} was delivered {} tokens, charged {charge}, and nothing crashed",
                seen.read
            );
            ensure!(
                unpaid <= Amount::from(STEP * TOKEN),
                "a crash cost {unpaid} of request {name}, more than a checkpoint's interval"
            );
            let unpaid = unpaid.get().to::<u64>() / TOKEN;
            tally.unpaid += unpaid;
            tally.worst = tally.worst.max(unpaid);
        }
        if let Some(told) = seen.told {
            // An answer that is told again is of the payment of an earlier attempt.
            let paid = (0..=*attempt).any(|attempt| {
                rows.get(format!("{number}.{attempt}").as_str())
                    .is_some_and(|row| {
                        row.charge == told && matches!(row.state, PaymentState::Final { .. })
                    })
            });
            tally.lost += u64::from(!paid);
        }
    }
    // What admits one request is served once and charged once, however often it is tried.
    for request in requests
        .iter()
        .filter(|request| request.kind != work::Kind::Allowance)
    {
        let of_it = |(number, _): &&(u32, u32)| *number == request.number;
        let served = seen
            .iter()
            .filter(|(key, seen)| of_it(key) && seen.made > 0 && seen.read > 0);
        let charged = rows.values().filter(|row| {
            !row.charge.is_zero()
                && row
                    .memo
                    .split_once('.')
                    .is_some_and(|(number, _)| number == request.number.to_string())
        });
        ensure!(
            served.count() <= 1 && charged.count() <= 1,
            "request {} was served or charged twice by one authorization",
            request.number
        );
    }
    Ok(())
}

fn add(sum: &mut Amount, amount: Amount) -> anyhow::Result<()> {
    *sum = sum
        .checked_add(amount)
        .context("a sum is above 2^256 - 1")?;
    Ok(())
}
