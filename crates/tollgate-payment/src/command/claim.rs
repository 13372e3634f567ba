//! Settlement begins: charges become a batch.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use tollgate_x402::{Address, Allowance, Authorization, Timestamp};

use super::sum;
use crate::{
    key::{BatchId, PaymentKeys, RowKey, SignerKey, SpenderKey},
    refusal::Refusal,
    row::{
        BatchItem, BatchRow, BatchState, Counter, Limit, PaymentRow, PaymentState, Row, SpenderRow,
    },
    store::{Command, Decision, RowSet, Rows},
};

/// The most items of a batch: the `Settler` takes no more in one transaction.
const MOST_ITEMS: usize = 50;

/// Failed settlements after which an allowance's charge is an item of its own: one that cannot be paid
/// must not take others with it.
const ALONE_AFTER: u32 = 2;

/// Gathers due payments into a batch: from here no other batch can take them.
///
/// Allowance payments of one counter get an interval each, in the order of `payments`. A permit goes before
/// the first charge of its generation, in a batch that begins after the charges of older ones are final. What
/// does not go into the batch stays due.
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
        // A plain account has one call a transaction: one item, or what joins its interval.
        let mut most = if self.settler.is_some() {
            MOST_ITEMS
        } else {
            1
        };
        let mut draws: BTreeMap<SpenderKey, Draw> = BTreeMap::new();
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
            let company = match usize::try_from(payment.company) {
                Ok(0) | Err(_) => most,
                Ok(company) => company.min(most),
            };
            if items.len() > company {
                continue;
            }
            let room = items.len() < company;
            let signed = &rows
                .authorization(&keys.authorization)
                .ok_or(Refusal::Missing("authorization"))?
                .signed;
            match signed {
                Authorization::Once(_) | Authorization::Exact(_) if !room => continue,
                Authorization::Once(signed) => items.push(BatchItem::Once {
                    signed: signed.clone(),
                    amount: payment.charge,
                    payment: *keys,
                }),
                Authorization::Exact(signed) => items.push(BatchItem::Exact {
                    signed: signed.clone(),
                    payment: *keys,
                }),
                Authorization::Allowance(_) => {
                    let key = keys.spender_key().ok_or(Refusal::Missing("spender"))?;
                    let draw = match draws.entry(key) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(Draw::of(
                            rows.spender(&key)
                                .cloned()
                                .ok_or(Refusal::Missing("spender"))?,
                        )),
                    };
                    if !draw.add(&mut items, &mut payment, attempts, room, self)? {
                        continue;
                    }
                }
            }
            most = company;
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
            draws
                .into_values()
                .filter(|draw| draw.item.is_some())
                .map(|draw| Row::Spender(draw.row)),
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

    /// A batch leaves it. After a failure nothing is claimed until the last one has left.
    pub(super) fn leave(&mut self, good: bool) -> Result<(), Refusal> {
        self.undecided = self
            .undecided
            .checked_sub(1)
            .ok_or(Refusal::Books("a counter has fewer batches than left it"))?;
        self.halted |= !good;
        if self.undecided == 0 {
            self.claimed = self.settled;
            self.halted = false;
        }
        Ok(())
    }
}

/// Whether two permits are of one nonce: one of them can be submitted, and stands for both.
fn same_nonce(one: &Option<Allowance>, other: &Option<Allowance>) -> bool {
    one.as_ref()
        .zip(other.as_ref())
        .is_some_and(|(one, other)| one.nonce == other.nonce)
}

/// What a batch draws of one counter.
struct Draw {
    row: SpenderRow,
    /// The place of its last item; none if nothing is drawn.
    item: Option<usize>,
    /// The last item takes no further charge.
    alone: bool,
}

impl Draw {
    const fn of(row: SpenderRow) -> Self {
        Self {
            row,
            item: None,
            alone: false,
        }
    }

    /// Gives a payment its interval, in the last item of the counter, or in a new one where a permit has to go in
    /// first. Whether it is in the batch.
    fn add(
        &mut self,
        items: &mut Vec<BatchItem>,
        payment: &mut PaymentRow,
        attempts: u32,
        room: bool,
        claim: &Claim,
    ) -> Result<bool, Refusal> {
        let Limit::Counter(counter) = &mut self.row.limit else {
            return Err(Refusal::Books("an allowance without a counter"));
        };
        let Ok(permit) = counter.pending(payment).map(Option::<&Allowance>::cloned) else {
            return Ok(false);
        };
        let alone = attempts >= ALONE_AFTER;
        let last = match self.item.and_then(|place| items.get_mut(place)) {
            Some(BatchItem::Permit {
                permit: first,
                payments,
                ..
            }) if permit.as_ref().is_some_and(|it| it.nonce == first.nonce) => {
                // They wait for it together.
                payments.push(payment.keys);
                return Ok(true);
            }
            Some(BatchItem::Allowance {
                to,
                payments,
                permit: first,
                ..
            }) if !alone && !self.alone && (permit.is_none() || same_nonce(first, &permit)) => {
                Some((to, payments))
            }
            _ => None,
        };
        if last.is_none() && !room || self.item.is_none() && !counter.open(claim.undecided) {
            return Ok(false);
        }
        if self.item.is_none() {
            counter.undecided = counter
                .undecided
                .checked_add(1)
                .ok_or(Refusal::Books("too many batches of one counter"))?;
        }
        let item = if let (None, Some(permit)) = (claim.settler, &permit) {
            BatchItem::Permit {
                spender: self.row.key,
                permit: permit.clone(),
                payments: vec![payment.keys],
            }
        } else {
            let from = counter.claimed;
            let to = sum(from, payment.charge)?;
            counter.claimed = to;
            payment.interval = Some((from, to));
            if let Some((end, payments)) = last {
                *end = to;
                payments.push(payment.keys);
                return Ok(true);
            }
            BatchItem::Allowance {
                spender: self.row.key,
                from,
                to,
                permit,
                payments: vec![payment.keys],
            }
        };
        self.alone = alone;
        self.item = Some(items.len());
        items.push(item);
        Ok(true)
    }
}
