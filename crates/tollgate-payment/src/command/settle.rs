//! Settlement: charges become batches, batches become transactions, and the finalized chain decides.

use std::collections::BTreeMap;

use tollgate_x402::{Address, Allowance, Amount, Authorization, B256, PaymentId, Timestamp};

use super::{difference, sum};
use crate::{
    key::{AuthorizationKey, BatchId, PaymentKeys, RowKey, SignerKey, SpenderKey},
    refusal::Refusal,
    row::{
        BatchItem, BatchRow, BatchState, Counter, Instruction, Limit, LossReason, PaymentRow,
        PaymentState, Permit, Row, SignerRow, SpenderRow, Submission,
    },
    store::{Account, Command, Decision, Entry, RowSet, Rows},
};

/// Gathers due payments into a batch: from here no other batch can take them.
///
/// Allowance payments of one counter get an interval each, in the order of `payments`, and a permit
/// goes before the first charge of its generation.
#[derive(Clone, Debug)]
pub struct Claim {
    /// A fresh random id.
    pub batch: BatchId,
    /// The account that is to send it.
    pub signer: SignerKey,
    /// The contract that it calls, or `None` for a plain account's own calls.
    pub settler: Option<Address>,
    /// The payments, oldest first.
    pub payments: Vec<PaymentKeys>,
    /// How many batches may draw one counter at once: 1 for a plain account, which has no counter on
    /// the chain to keep them apart.
    pub undecided: u32,
}

impl Command for Claim {
    /// The batch, or nothing if none of the payments can be settled now.
    type Outcome = Option<BatchRow>;

    fn rows(&self) -> RowSet {
        self.payments
            .iter()
            .flat_map(|keys| {
                [
                    RowKey::Payment(keys.id),
                    RowKey::Authorization(keys.authorization),
                ]
                .into_iter()
                .chain(keys.spender_key().map(RowKey::Spender))
            })
            .chain([RowKey::Batch(self.batch)])
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Option<BatchRow>>, Refusal> {
        if rows.batch(&self.batch).is_some() {
            return Err(Refusal::Overtaken);
        }
        let mut spenders: BTreeMap<SpenderKey, (SpenderRow, bool)> = BTreeMap::new();
        let mut items: Vec<BatchItem> = Vec::new();
        let mut writes = Vec::new();
        let mut named = std::collections::BTreeSet::new();
        for keys in self.payments.iter().filter(|keys| named.insert(keys.id)) {
            let mut payment = rows
                .payment(&keys.id)
                .cloned()
                .ok_or(Refusal::Missing("payment"))?;
            let PaymentState::Due { attempts } = payment.state else {
                continue;
            };
            // A plain account has one call a transaction: one item, or what joins its interval.
            if self.settler.is_none() && !joins(&items, keys) {
                continue;
            }
            let signed = &rows
                .authorization(&keys.authorization)
                .ok_or(Refusal::Missing("authorization"))?
                .signed;
            match signed {
                Authorization::Once(signed) => {
                    items.push(BatchItem::Once {
                        signed: signed.clone(),
                        amount: payment.charge,
                        payment: *keys,
                    });
                }
                Authorization::Exact(signed) => {
                    items.push(BatchItem::Exact {
                        signed: signed.clone(),
                        payment: *keys,
                    });
                }
                Authorization::Allowance(_) => {
                    let key = keys.spender_key().ok_or(Refusal::Missing("spender"))?;
                    let (row, drawn) = match spenders.entry(key) {
                        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::btree_map::Entry::Vacant(entry) => entry.insert((
                            rows.spender(&key)
                                .cloned()
                                .ok_or(Refusal::Missing("spender"))?,
                            false,
                        )),
                    };
                    let Limit::Counter(counter) = &mut row.limit else {
                        return Err(Refusal::Books("an allowance without a counter"));
                    };
                    if !*drawn {
                        if !counter.open(self.undecided) {
                            continue;
                        }
                        counter.undecided = counter
                            .undecided
                            .checked_add(1)
                            .ok_or(Refusal::Books("too many batches of one counter"))?;
                        *drawn = true;
                    }
                    if self.settler.is_none()
                        && let Some(permit) = counter.pending(&payment)
                    {
                        if !permit_first(&mut items, key, permit, *keys) {
                            break;
                        }
                    } else {
                        let from = counter.claimed;
                        let to = sum(from, payment.charge)?;
                        counter.claimed = to;
                        payment.interval = Some((from, to));
                        extend(&mut items, key, counter, &payment, (from, to));
                    }
                }
            }
            payment.state = PaymentState::Claimed {
                batch: self.batch,
                attempts,
            };
            payment.updated = now;
            writes.push(Row::Payment(payment));
        }
        if items.is_empty() {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: None,
            });
        }
        writes.extend(
            spenders
                .into_values()
                .filter(|(_, drawn)| *drawn)
                .map(|(row, _)| Row::Spender(row)),
        );
        let batch = BatchRow {
            id: self.batch,
            signer: self.signer,
            settler: self.settler,
            items,
            state: BatchState::Claimed,
            sent: Vec::new(),
            created: now,
            updated: now,
        };
        writes.push(Row::Batch(batch.clone()));
        Ok(Decision {
            writes,
            entries: Vec::new(),
            outcome: Some(batch),
        })
    }
}

impl Counter {
    /// Whether another batch may draw it now.
    pub const fn open(&self, most: u32) -> bool {
        self.undecided < most && !self.halted
    }

    /// The permit that has to go in before this payment is drawn.
    fn pending(&self, payment: &PaymentRow) -> Option<&Permit> {
        self.permit
            .as_ref()
            .filter(|permit| !permit.applied && payment.generation == self.generation)
    }
}

impl Counter {
    /// Notes that the chain has a permit, if it is still the one that counts.
    fn apply(&mut self, applied: &Allowance) {
        if let Some(permit) = self
            .permit
            .as_mut()
            .filter(|permit| permit.signed.nonce == applied.nonce)
        {
            permit.applied = true;
        }
    }
}

/// Whether a payment can go into the one item of a plain account's batch.
fn joins(items: &[BatchItem], keys: &PaymentKeys) -> bool {
    match items.first() {
        None => true,
        Some(BatchItem::Allowance { spender, .. } | BatchItem::Permit { spender, .. }) => {
            Some(*spender) == keys.spender_key()
                && matches!(keys.authorization, AuthorizationKey::Permit { .. })
        }
        Some(BatchItem::Once { .. } | BatchItem::Exact { .. }) => false,
    }
}

/// Adds a payment to those that wait for a permit. Payments of an older generation are drawn first, in a
/// batch of their own.
fn permit_first(
    items: &mut Vec<BatchItem>,
    key: SpenderKey,
    permit: &Permit,
    keys: PaymentKeys,
) -> bool {
    match items.last_mut() {
        None => items.push(BatchItem::Permit {
            spender: key,
            permit: permit.signed.clone(),
            payments: vec![keys],
        }),
        Some(BatchItem::Permit { payments, .. }) => payments.push(keys),
        Some(_) => return false,
    }
    true
}

/// Adds a charge's interval to the last item of the same counter, or begins a new item where a permit
/// has to go in first.
fn extend(
    items: &mut Vec<BatchItem>,
    key: SpenderKey,
    counter: &Counter,
    payment: &PaymentRow,
    interval: (Amount, Amount),
) {
    let pending = counter.pending(payment);
    let last = items.iter_mut().rev().find_map(|item| match item {
        BatchItem::Allowance {
            spender,
            to,
            permit,
            payments,
            ..
        } if *spender == key => Some((to, permit, payments)),
        _ => None,
    });
    match last {
        Some((to, permit, payments)) if pending.is_none() || permit.is_some() => {
            *to = interval.1;
            payments.push(payment.keys);
        }
        _ => items.push(BatchItem::Allowance {
            spender: key,
            from: interval.0,
            to: interval.1,
            permit: pending.map(|permit| permit.signed.clone()),
            payments: vec![payment.keys],
        }),
    }
}

/// Takes over an account: its next nonce is the chain's, at the first start of a ledger.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The account.
    pub signer: SignerKey,
    /// The chain's transaction count of it, pending ones included.
    pub chain_nonce: u64,
}

impl Command for Adopt {
    /// The ledger's next nonce. If the chain's is above it, somebody else uses the key: send nothing.
    type Outcome = u64;

    fn rows(&self) -> RowSet {
        [RowKey::Signer(self.signer)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<u64>, Refusal> {
        if let Some(row) = rows.signer(&self.signer) {
            return Ok(Decision {
                writes: Vec::new(),
                entries: Vec::new(),
                outcome: row.next_nonce,
            });
        }
        let row = SignerRow {
            key: self.signer,
            next_nonce: self.chain_nonce,
        };
        Ok(Decision {
            writes: vec![Row::Signer(row)],
            entries: Vec::new(),
            outcome: self.chain_nonce,
        })
    }
}

/// Stores a signed transaction of a batch, before it is sent: the first, which takes the account's next
/// nonce, or a replacement at a higher price, which keeps it.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The batch.
    pub batch: BatchId,
    /// The account.
    pub signer: SignerKey,
    /// What is to be sent.
    pub instruction: Instruction,
}

impl Command for Seal {
    type Outcome = BatchRow;

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch), RowKey::Signer(self.signer)]
            .into_iter()
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<BatchRow>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        let mut signer = rows
            .signer(&self.signer)
            .cloned()
            .ok_or(Refusal::Missing("signer"))?;
        if batch.signer != self.signer || batch.concluded() {
            return Err(Refusal::Overtaken);
        }
        match batch.sent.last() {
            None => {
                if self.instruction.nonce != signer.next_nonce {
                    return Err(Refusal::Overtaken);
                }
                signer.next_nonce = signer
                    .next_nonce
                    .checked_add(1)
                    .ok_or(Refusal::Books("the account's nonces are used up"))?;
                batch.state = BatchState::Sealed;
            }
            Some(last) => {
                if self.instruction.nonce != last.nonce
                    || self.instruction.gas_price <= last.gas_price
                {
                    return Err(Refusal::Overtaken);
                }
            }
        }
        batch.sent.push(self.instruction.clone());
        batch.updated = now;
        let writes = vec![Row::Batch(batch.clone()), Row::Signer(signer)];
        Ok(Decision {
            writes,
            entries: Vec::new(),
            outcome: batch,
        })
    }
}

/// Notes how a node answered a submission.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The batch.
    pub batch: BatchId,
    /// Which transaction.
    pub hash: B256,
    /// The answer.
    pub submission: Submission,
}

impl Command for Submitted {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        for instruction in batch
            .sent
            .iter_mut()
            .filter(|instruction| instruction.hash == self.hash)
        {
            instruction.sent = Some((now, self.submission));
        }
        batch.updated = now;
        Ok(Decision {
            writes: vec![Row::Batch(batch)],
            entries: Vec::new(),
            outcome: (),
        })
    }
}

/// Notes that a batch was seen in a block, or (`at: None`) that it is not there any more.
#[derive(Clone, Debug)]
pub struct Included {
    /// The batch.
    pub batch: BatchId,
    /// The transaction and its block.
    pub at: Option<(B256, u64)>,
}

impl Command for Included {
    type Outcome = ();

    fn rows(&self) -> RowSet {
        [RowKey::Batch(self.batch)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<()>, Refusal> {
        let mut batch = rows
            .batch(&self.batch)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        if batch.concluded() || batch.sent.is_empty() {
            return Err(Refusal::Overtaken);
        }
        batch.state = match self.at {
            Some((transaction, block)) => BatchState::Included { transaction, block },
            None => BatchState::Sealed,
        };
        batch.updated = now;
        Ok(Decision {
            writes: vec![Row::Batch(batch)],
            entries: Vec::new(),
            outcome: (),
        })
    }
}

/// What the finalized chain says of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fate {
    /// The transaction that was final, if one of ours was; `None` if the account's nonce was used by another.
    pub transaction: Option<B256>,
    /// The finalized block that holds the transaction (or in which the nonce was seen used).
    pub block: u64,
    /// For each item of the batch, in its order.
    pub items: Vec<ItemFate>,
}

/// What the finalized chain says of one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemFate {
    /// Exactly its amount was moved.
    Paid,
    /// Exactly its amount was moved, by somebody else's final transaction: a transfer that was signed to us can be
    /// submitted by anyone who sees it.
    PaidBy {
        /// The transaction.
        transaction: B256,
        /// Its block.
        block: u64,
    },
    /// Nothing was moved, and trying again makes sense; what seems to be in the way.
    Again(LossReason),
    /// Nothing was moved, and nothing can be.
    Lost(LossReason),
}

/// Concludes a batch by the finalized chain's word.
#[derive(Clone, Debug)]
pub struct Conclude {
    /// The batch as it was read, whose items the fate speaks of.
    pub batch: BatchRow,
    /// The word.
    pub fate: Fate,
    /// Failed settlements after which a charge is lost.
    pub attempts: u32,
}

impl Command for Conclude {
    /// The payments that are final now, and those that are lost.
    type Outcome = (Vec<PaymentId>, Vec<PaymentId>);

    fn rows(&self) -> RowSet {
        self.batch
            .payments()
            .flat_map(PaymentKeys::rows)
            .chain([RowKey::Batch(self.batch.id)])
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Self::Outcome>, Refusal> {
        let mut batch = rows
            .batch(&self.batch.id)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        if batch.concluded() {
            return Err(Refusal::Overtaken);
        }
        if batch.items.len() != self.fate.items.len() {
            return Err(Refusal::Books(
                "a batch's fate has not as many items as the batch",
            ));
        }
        let mut books = Books {
            rows: rows.clone(),
            now,
            fate: &self.fate,
            entries: Vec::new(),
        };
        let (mut paid, mut lost) = (Vec::new(), Vec::new());
        let mut drawn: BTreeMap<SpenderKey, bool> = BTreeMap::new();
        for (item, fate) in batch.items.iter().zip(&self.fate.items) {
            let moves = !matches!(item, BatchItem::Permit { .. });
            for keys in item.payments() {
                match books.conclude(keys, *fate, moves, self.attempts)? {
                    PaymentState::Final { .. } => paid.push(keys.id),
                    PaymentState::Lost { .. } => lost.push(keys.id),
                    _ => {}
                }
            }
            let good = *fate == ItemFate::Paid;
            let spender = match item {
                BatchItem::Allowance {
                    spender,
                    from,
                    to,
                    permit,
                    ..
                } => {
                    if good {
                        books.advance(spender, (*from, *to), permit.as_ref())?;
                    }
                    spender
                }
                BatchItem::Permit {
                    spender, permit, ..
                } => {
                    if good {
                        books.change(spender, |counter| {
                            counter.apply(permit);
                            Ok(())
                        })?;
                    }
                    spender
                }
                BatchItem::Once { .. } | BatchItem::Exact { .. } => continue,
            };
            drawn
                .entry(*spender)
                .and_modify(|all| *all &= good)
                .or_insert(good);
        }
        for (spender, good) in drawn {
            books.leave(&spender, good)?;
        }
        batch.state = BatchState::Concluded {
            transaction: self.fate.transaction,
            block: self.fate.block,
        };
        batch.updated = now;
        let (mut writes, entries) = (books.changed(rows), books.entries);
        writes.push(Row::Batch(batch));
        Ok(Decision {
            writes,
            entries,
            outcome: (paid, lost),
        })
    }
}

/// The rows of a batch while it is concluded.
struct Books<'a> {
    rows: Rows,
    now: Timestamp,
    fate: &'a Fate,
    entries: Vec<Entry>,
}

impl Books<'_> {
    fn conclude(
        &mut self,
        keys: &PaymentKeys,
        fate: ItemFate,
        moves: bool,
        most: u32,
    ) -> Result<PaymentState, Refusal> {
        let mut payment = self
            .rows
            .payment(&keys.id)
            .cloned()
            .ok_or(Refusal::Missing("payment"))?;
        let PaymentState::Claimed { attempts, .. } = payment.state else {
            return Err(Refusal::Books("a payment of a batch is not claimed by it"));
        };
        let failed = attempts.saturating_add(1);
        let state = match (fate, self.fate.transaction) {
            (ItemFate::Paid, _) if !moves => PaymentState::Due { attempts },
            (ItemFate::Paid, Some(transaction)) => PaymentState::Final {
                transaction,
                block: self.fate.block,
            },
            (ItemFate::Paid, None) => {
                return Err(Refusal::Books("a payment without a transaction"));
            }
            (ItemFate::PaidBy { transaction, block }, _) => {
                PaymentState::Final { transaction, block }
            }
            (ItemFate::Lost(reason), _) => PaymentState::Lost { reason },
            (ItemFate::Again(reason), _) if failed >= most => PaymentState::Lost { reason },
            (ItemFate::Again(_), _) => PaymentState::Due { attempts: failed },
        };
        match state {
            PaymentState::Due { .. } => payment.interval = None,
            PaymentState::Final { .. } => self.close(&mut payment, true)?,
            _ => self.close(&mut payment, false)?,
        }
        payment.state = state.clone();
        payment.updated = self.now;
        self.rows.put(Row::Payment(payment));
        Ok(state)
    }

    /// Takes a charge out of what is due: paid, or lost.
    fn close(&mut self, payment: &mut PaymentRow, paid: bool) -> Result<(), Refusal> {
        let keys = payment.keys;
        let amount = payment.charge;
        let mut owner = self
            .rows
            .owner(&keys.owner)
            .cloned()
            .ok_or(Refusal::Missing("payer"))?;
        owner.due = difference(owner.due, amount, "a payer owes less than its charges")?;
        if paid {
            owner.history.add(amount, self.now);
            if let Some(view) = owner
                .view
                .as_mut()
                .filter(|view| view.block < self.fate.block)
            {
                view.amount = view.amount.saturating_sub(amount);
            }
        } else {
            owner.lost = sum(owner.lost, amount)?;
            payment.interval = None;
        }
        self.rows.put(Row::Owner(owner));

        if let Some(key) = keys.spender_key() {
            let mut spender = self
                .rows
                .spender(&key)
                .cloned()
                .ok_or(Refusal::Missing("spender"))?;
            spender.due = difference(spender.due, amount, "a spender owes less than its charges")?;
            match &mut spender.limit {
                Limit::Seen(Some(view)) if paid && view.block < self.fate.block => {
                    // An unlimited allowance does not shrink; a view that is too low is only careful.
                    view.amount = view.amount.saturating_sub(amount);
                }
                // The ceiling stood on this charge being drawn before the permit went in.
                Limit::Counter(counter) if !paid && payment.generation < counter.generation => {
                    counter.ceiling = counter.ceiling.saturating_sub(amount);
                }
                Limit::Seen(_) | Limit::Counter(_) => {}
            }
            self.rows.put(Row::Spender(spender));
        }

        let mut exposure = self
            .rows
            .exposure(&keys.exposure)
            .cloned()
            .ok_or(Refusal::Missing("exposure"))?;
        exposure.used = difference(
            exposure.used,
            payment.unproven,
            "the exposure is below its payments'",
        )?;
        payment.unproven = Amount::ZERO;
        self.rows.put(Row::Exposure(exposure));

        let mut entry = |debit, credit| {
            self.entries.push(Entry {
                payment: keys.id,
                owner: keys.owner,
                debit,
                credit,
                amount,
            });
        };
        if paid {
            entry(Account::Treasury, Account::PayerDue);
            entry(Account::RevenuePending, Account::RevenueFinal);
        } else {
            entry(Account::BadDebt, Account::PayerDue);
        }
        Ok(())
    }

    /// Moves a counter to the end of a paid interval.
    fn advance(
        &mut self,
        key: &SpenderKey,
        (from, to): (Amount, Amount),
        permit: Option<&Allowance>,
    ) -> Result<(), Refusal> {
        self.change(key, |counter| {
            if counter.settled != from {
                // The batch before it is not concluded yet; its turn comes first.
                return Err(Refusal::Overtaken);
            }
            counter.settled = to;
            if let Some(permit) = permit {
                counter.apply(permit);
            }
            Ok(())
        })
    }

    /// A batch leaves a counter. After a failure nothing is claimed until the last one has left.
    fn leave(&mut self, key: &SpenderKey, good: bool) -> Result<(), Refusal> {
        self.change(key, |counter| {
            counter.undecided = counter
                .undecided
                .checked_sub(1)
                .ok_or(Refusal::Books("a counter has fewer batches than left it"))?;
            counter.halted |= !good;
            if counter.undecided == 0 {
                counter.claimed = counter.settled;
                counter.halted = false;
            }
            Ok(())
        })
    }

    fn change(
        &mut self,
        key: &SpenderKey,
        change: impl FnOnce(&mut Counter) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut spender = self
            .rows
            .spender(key)
            .cloned()
            .ok_or(Refusal::Missing("spender"))?;
        let Limit::Counter(counter) = &mut spender.limit else {
            return Err(Refusal::Books("an allowance without a counter"));
        };
        change(counter)?;
        self.rows.put(Row::Spender(spender));
        Ok(())
    }

    /// The rows that differ from what was read.
    fn changed(&self, before: &Rows) -> Vec<Row> {
        let before: BTreeMap<_, _> = before.iter().map(|row| (row.key(), row)).collect();
        self.rows
            .iter()
            .filter(|row| before.get(&row.key()) != Some(row))
            .cloned()
            .collect()
    }
}
