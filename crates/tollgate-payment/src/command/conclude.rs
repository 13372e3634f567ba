//! The finalized chain decides: charges are paid, due again, or lost.

use std::collections::BTreeMap;

use tollgate_x402::{Allowance, Amount, B256, PaymentId, Timestamp};

use super::{difference, sum};
use crate::{
    key::{PaymentKeys, RowKey, SpenderKey},
    refusal::Refusal,
    row::{
        BatchItem, BatchRow, BatchState, Counter, Halt, Limit, LossReason, PaymentRow,
        PaymentState, Row,
    },
    store::{Account, Command, Decision, Entry, RowSet, Rows},
    view::Settled,
};

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
    /// It was not tried: nothing was sent, or an interval before it failed. Again at once.
    Untried,
    /// Nothing was moved, and nothing can be for now, through no doing of the payer: the token is paused, or the
    /// whole transaction reverted. Again, as often as it takes: no charge is lost by it.
    Wait(LossReason),
    /// Nothing was moved, since the payer had only money for a part of it. Again; where that was the last time, the part
    /// is settled and the rest is lost. An exact payment moves whole or not at all.
    Short {
        /// What could be moved, in atomic units; below the item's amount.
        available: Amount,
        /// What is short.
        reason: LossReason,
    },
    /// Nothing was moved, and no transaction of the chain has shown it: a simulation did. Again, later each time; by this
    /// alone no charge is lost.
    Deferred(LossReason),
    /// Nothing was moved, because the whole transaction reverted, which it does by the doing of at most one item. Again in
    /// a batch of half as many items; an item that was alone rests. By this alone no charge is lost.
    Parted(LossReason),
    /// Nothing was moved, and nothing can be.
    Lost(LossReason),
}

/// Concludes a batch by the finalized chain's word. If a transaction that the ledger never signed used the nonce of one
/// that it did, the account is stopped with it, as by [`Stop`](super::Stop): the key is used elsewhere, or the ledger is an
/// old copy.
#[derive(Clone, Debug)]
pub struct Conclude {
    /// The batch as it was read, whose items the fate speaks of.
    pub batch: BatchRow,
    /// The word.
    pub fate: Fate,
    /// Failed settlements after which a charge is lost.
    pub attempts: u32,
}

/// What a concluded batch came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Concluded {
    /// Payments that are final now.
    pub paid: Vec<PaymentId>,
    /// Payments that are lost now.
    pub lost: Vec<PaymentId>,
    /// Why the account stands still, if a stranger's transaction used the batch's nonce.
    pub halt: Option<Halt>,
}

impl Conclude {
    /// The nonce that was signed, where a transaction that was not used it.
    fn stolen(&self) -> Option<u64> {
        self.batch
            .nonce()
            .filter(|_| self.fate.transaction.is_none())
    }
}

impl Command for Conclude {
    type Outcome = Concluded;

    fn rows(&self) -> RowSet {
        let account = self.stolen().map(|_| RowKey::Signer(self.batch.signer));
        // Nothing may wait for a permit any more.
        let permits = self.batch.items.iter().filter_map(|item| match item {
            BatchItem::Permit { spender, .. } => Some(RowKey::Spender(*spender)),
            _ => None,
        });
        self.batch
            .payments()
            .flat_map(PaymentKeys::rows)
            .chain(permits)
            .chain([RowKey::Batch(self.batch.id)])
            .chain(account)
            .collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Concluded>, Refusal> {
        let mut batch = rows
            .batch(&self.batch.id)
            .cloned()
            .ok_or(Refusal::Missing("batch"))?;
        // What the fate speaks of is what was signed when it was asked for: had another worker signed since, the fate of
        // that would be missing.
        if batch.concluded() || !self.batch.same_signed(&batch) {
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
        let mut concluded = Concluded::default();
        let mut drawn: BTreeMap<SpenderKey, bool> = BTreeMap::new();
        for (item, fate) in batch.items.iter().zip(&self.fate.items) {
            let company = Company {
                items: u32::try_from(batch.items.len()).unwrap_or(u32::MAX),
                alone: item.payments().len() == 1,
            };
            for keys in item.payments() {
                match books.conclude(keys, *fate, item, company, self.attempts)? {
                    PaymentState::Final { .. } => concluded.paid.push(keys.id),
                    PaymentState::Lost { .. } => concluded.lost.push(keys.id),
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
                    } else {
                        books.change(spender, |counter| {
                            counter.doubt();
                            Ok(())
                        })?;
                    }
                    spender
                }
                BatchItem::Permit {
                    spender,
                    permit,
                    payments,
                } => {
                    let left = payments.is_empty();
                    books.change(spender, |counter| {
                        if good {
                            counter.apply(permit, self.fate.block);
                        }
                        if left {
                            counter.shown = counter
                                .shown
                                .checked_sub(1)
                                .ok_or(Refusal::Books("a permit was shown by nobody"))?;
                            if !good {
                                // It was seen in a block, and is in none: it goes in again.
                                counter.doubt();
                            }
                        }
                        Ok(())
                    })?;
                    if left {
                        continue;
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
        if let Some(nonce) = self.stolen() {
            let account = rows.signer(&batch.signer).cloned();
            let mut account = account.ok_or(Refusal::Missing("signer"))?;
            concluded.halt = Some(account.stop(
                format!(
                    "a transaction that is not ours used the account's nonce {nonce}: the key is used elsewhere, or the ledger is an old copy"
                ),
                now,
            ));
            writes.push(Row::Signer(account));
        }
        writes.push(Row::Batch(batch));
        Ok(Decision {
            writes,
            entries,
            outcome: concluded,
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

/// Who settles together with a payment.
#[derive(Clone, Copy)]
struct Company {
    /// How many items the batch has.
    items: u32,
    /// Whether its item settles no other payment.
    alone: bool,
}

impl Books<'_> {
    fn conclude(
        &mut self,
        keys: &PaymentKeys,
        fate: ItemFate,
        item: &BatchItem,
        company: Company,
        most: u32,
    ) -> Result<PaymentState, Refusal> {
        let moves = !matches!(item, BatchItem::Permit { .. });
        let mut payment = self
            .rows
            .payment(&keys.id)
            .cloned()
            .ok_or(Refusal::Missing("payment"))?;
        let PaymentState::Claimed { attempts, .. } = payment.state else {
            return Err(Refusal::Books("a payment of a batch is not claimed by it"));
        };
        let failed = attempts.saturating_add(1);
        let last = most.saturating_sub(1);
        let part = match (fate, item) {
            (
                ItemFate::Short { available, .. },
                BatchItem::Allowance { .. } | BatchItem::Once { .. },
            ) if company.alone
                && payment.short.is_zero()
                && !available.is_zero()
                && available < payment.charge =>
            {
                Some(available)
            }
            _ => None,
        };
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
            (ItemFate::Again(_) | ItemFate::Short { .. }, _) if failed < most => {
                PaymentState::Due { attempts: failed }
            }
            (ItemFate::Short { .. }, _) if part.is_some() => PaymentState::Due { attempts: last },
            (ItemFate::Again(reason) | ItemFate::Short { reason, .. }, _) => {
                PaymentState::Lost { reason }
            }
            (ItemFate::Parted(_), _) if company.items > 1 => PaymentState::Due { attempts },
            (ItemFate::Parted(_) | ItemFate::Deferred(_), _) => PaymentState::Due {
                attempts: failed.min(last),
            },
            (ItemFate::Untried | ItemFate::Wait(_), _) => PaymentState::Due { attempts },
        };
        match state {
            PaymentState::Due { .. } => {
                payment.interval = None;
                if let (Some(part), true) = (part, failed >= most) {
                    self.shorten(&mut payment, part)?;
                }
                if let ItemFate::Parted(_) = fate {
                    payment.company = company.items.div_ceil(2);
                }
            }
            PaymentState::Final { block, .. } => {
                let charge = payment.charge;
                self.close(&mut payment, charge, Some(block))?;
            }
            _ => {
                let charge = payment.charge;
                self.close(&mut payment, charge, None)?;
            }
        }
        payment.state = state.clone();
        payment.updated = self.now;
        self.rows.put(Row::Payment(payment));
        Ok(state)
    }

    /// Gives up what the payer has no money for, so that the rest can be settled.
    fn shorten(&mut self, payment: &mut PaymentRow, part: Amount) -> Result<(), Refusal> {
        let lost = difference(payment.charge, part, "a part is more than the whole")?;
        self.close(payment, lost, None)?;
        payment.charge = part;
        payment.short = sum(payment.short, lost)?;
        Ok(())
    }

    /// Takes a charge that was paid in this block, or what is lost of one, out of what is due.
    fn close(
        &mut self,
        payment: &mut PaymentRow,
        amount: Amount,
        paid: Option<u64>,
    ) -> Result<(), Refusal> {
        let keys = payment.keys;
        let mut owner = self
            .rows
            .owner(&keys.owner)
            .cloned()
            .ok_or(Refusal::Missing("payer"))?;
        owner.due = difference(owner.due, amount, "a payer owes less than its charges")?;
        if let Some(block) = paid {
            owner.history.add(amount, self.now);
            owner.settled = Some(Settled::with(owner.settled.take(), amount, block));
            if let Some(view) = &mut owner.view {
                view.settle(amount, block);
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
            match (&mut spender.limit, paid) {
                // An unlimited allowance does not shrink; a view that is too low is only careful.
                (Limit::Seen(Some(view)), Some(block)) => view.settle(amount, block),
                (Limit::Counter(counter), None) => counter.give_up(payment.generation, amount),
                (Limit::Seen(_) | Limit::Counter(_), _) => {}
            }
            self.rows.put(Row::Spender(spender));
        }

        let mut exposure = self
            .rows
            .exposure(&keys.exposure)
            .cloned()
            .ok_or(Refusal::Missing("exposure"))?;
        // Of a part, the unproven end goes first.
        let freed = payment.unproven.min(amount);
        exposure.used = difference(exposure.used, freed, "the exposure is below its payments'")?;
        payment.unproven = difference(payment.unproven, freed, "the unproven part is too small")?;
        if paid.is_none() {
            // Who lent it to one address does not lend it again to the next.
            exposure.lost.add(freed, self.now);
        }
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
        if paid.is_some() {
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
        let block = self.fate.block;
        self.change(key, |counter| {
            if counter.settled != from {
                // The batch before it is not concluded yet; its turn comes first.
                return Err(Refusal::Overtaken);
            }
            counter.settle(to);
            if let Some(permit) = permit {
                counter.apply(permit, block);
            }
            Ok(())
        })
    }

    /// A batch leaves a counter.
    fn leave(&mut self, key: &SpenderKey, good: bool) -> Result<(), Refusal> {
        self.change(key, |counter| counter.leave(good))
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
