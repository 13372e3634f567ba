//! Settlement begins: charges become a batch.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use tollgate_x402::{Address, Amount, Authorization, Timestamp};

use super::sum;
use crate::{
    key::{AuthorizationKey, BatchId, PaymentKeys, RowKey, SignerKey, SpenderKey},
    refusal::Refusal,
    row::{
        BatchItem, BatchRow, BatchState, Counter, Limit, PaymentRow, PaymentState, Permit, Row,
        SpenderRow,
    },
    store::{Command, Decision, RowSet, Rows},
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
        let mut named = BTreeSet::new();
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
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert((
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
