//! Choosing what is settled next.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_ledger::{Due, Queue, Store, StoreError};
use tollgate_payment::{
    BatchId, BatchRow, Limit, OwnerKey, PaymentKeys, PaymentRow, PaymentState, RowKey, SpenderKey,
    command::Claim, port::Rail,
};
use tollgate_x402::{Address, Authorization, Clock, Timestamp};

use super::{Worker, WorkerConfig, WorkerError};
use crate::elapsed::passed;

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// Claims the next batch of ripe payments, with nothing of payers who have as much open as they may.
    pub(super) async fn claim(
        &self,
        full: impl Fn(&OwnerKey) -> bool,
    ) -> Result<Option<BatchRow>, WorkerError> {
        let now = self.clock.now();
        let queues = self.store.queues().await?;
        let mut totals: BTreeMap<_, u64> = BTreeMap::new();
        for queue in &queues {
            let total = totals.entry(queue.owner).or_default();
            *total = total.saturating_add(queue.payments);
        }
        let pressed = self.pressed(&queues, now).await?;
        let mut ripe: Vec<(Queue, u64)> = queues
            .into_iter()
            .filter(|queue| !full(&queue.owner))
            .filter(|queue| self.ripe(queue, now, pressed.contains(&queue.owner)))
            .map(|queue| {
                let all = totals.get(&queue.owner).copied().unwrap_or_default();
                (queue, all)
            })
            .collect();
        self.drop_closed(&mut ripe).await?;
        // Near deadlines before everything; else who waits longest. A payer who signs short deadlines gains nothing.
        let late = now.plus(self.config.deadline_margin);
        ripe.sort_by_key(|(queue, _)| {
            let urgent = queue.deadline <= late;
            (!urgent, if urgent { queue.deadline } else { queue.oldest })
        });
        let mut basket = Basket::of(&self.config, &ripe);
        for (queue, total) in &ripe {
            if basket.is_full() {
                break;
            }
            let ready = self.ready(queue, *total, now).await?;
            basket.add(queue, ready);
        }
        let payments = basket.payments();
        if payments.is_empty() {
            return Ok(None);
        }
        let claim = Claim {
            batch: BatchId(self.ids.draw()),
            signer: self.config.signer,
            settler: self.config.settler,
            payments,
            undecided: self.config.undecided,
        };
        Ok(self.store.transact(claim).await?)
    }

    /// The payers who owe half of their credit: what they owe is settled whatever the policy says, since they would
    /// be refused before a bound of the policy is reached.
    async fn pressed(
        &self,
        queues: &[Queue],
        now: Timestamp,
    ) -> Result<BTreeSet<OwnerKey>, StoreError> {
        let owners = queues
            .iter()
            .filter(|queue| queue.allowance && self.config.credit.contains_key(&queue.owner.token));
        let rows = self
            .store
            .read(owners.map(|queue| RowKey::Owner(queue.owner)).collect())
            .await?;
        let pressed = queues.iter().filter(|queue| {
            let credit = self.config.credit.get(&queue.owner.token);
            rows.owner(&queue.owner)
                .zip(credit)
                .is_some_and(|(owner, credit)| {
                    owner.due.saturating_add(owner.due) >= credit.of(owner, now)
                })
        });
        Ok(pressed.map(|queue| queue.owner).collect())
    }

    /// The payments of a queue that can be settled now, by this worker. `total` is how many are due of its payer.
    pub(super) async fn ready(
        &self,
        queue: &Queue,
        total: u64,
        now: Timestamp,
    ) -> Result<Vec<PaymentKeys>, StoreError> {
        let most = if queue.allowance {
            self.config.payments
        } else {
            // Those of other sellers' addresses, and those that rest, must not hide the others.
            usize::try_from(total).unwrap_or(usize::MAX)
        };
        let mut rows = self.store.due(Due::queue(queue), most).await?;
        // A queue without a spender is asked for by its payer alone, which finds the others too.
        rows.retain(|row| row.keys.spender == queue.spender);
        if queue.allowance {
            // In the order of their commits: what comes after one that rests waits with it.
            let rested = rows.iter().take_while(|row| self.rested(row, now));
            return Ok(rested.map(|row| row.keys).collect());
        }
        rows.retain(|row| self.rested(row, now));
        let authorization = |row: &PaymentRow| RowKey::Authorization(row.keys.authorization);
        let signed = self
            .store
            .read(rows.iter().map(authorization).collect())
            .await?;
        rows.retain(|row| {
            signed
                .authorization(&row.keys.authorization)
                .is_some_and(|row| self.is_payee(&row.signed))
        });
        Ok(rows.iter().map(|row| row.keys).collect())
    }

    /// Whether an authorization pays what this worker settles for: after a change of `payTo` the ledger holds charges
    /// that only a worker of the old one can settle.
    pub(super) fn is_payee(&self, signed: &Authorization) -> bool {
        self.config.payees.admit(signed, self.payee())
    }

    pub(super) fn payee(&self) -> Address {
        self.config.settler.unwrap_or(self.config.signer.operator)
    }

    /// Leaves out queues whose counter takes no further batch now.
    pub(super) async fn drop_closed(
        &self,
        queues: &mut Vec<(Queue, u64)>,
    ) -> Result<(), StoreError> {
        let key = |queue: &Queue| {
            let spender = queue.spender.filter(|_| queue.allowance)?;
            Some(SpenderKey {
                owner: queue.owner,
                spender,
            })
        };
        let rows = self
            .store
            .read(
                queues
                    .iter()
                    .filter_map(|(queue, _)| key(queue))
                    .map(RowKey::Spender)
                    .collect(),
            )
            .await?;
        queues.retain(|(queue, _)| {
            match key(queue)
                .and_then(|key| rows.spender(&key))
                .map(|row| &row.limit)
            {
                Some(Limit::Counter(counter)) => counter.open(self.config.undecided),
                _ => true,
            }
        });
        Ok(())
    }

    fn ripe(&self, queue: &Queue, now: Timestamp, pressed: bool) -> bool {
        let policy = if queue.allowance {
            &self.config.allowances
        } else {
            &self.config.claims
        };
        let rests = self
            .resting
            .get(&queue.owner.token)
            .is_some_and(|rest| rest.lasts(now));
        queue.owner.chain == self.config.signer.chain
            && !rests
            && (!queue.allowance || queue.spender == Some(self.payee()))
            && (pressed || policy.ripe(queue, now, self.config.deadline_margin))
    }

    /// Whether a payment that failed before has waited long enough.
    pub(super) fn rested(&self, payment: &PaymentRow, now: Timestamp) -> bool {
        match payment.state {
            PaymentState::Due { attempts: 0 } => true,
            PaymentState::Due { attempts } => {
                let wait = self
                    .config
                    .backoff
                    .saturating_mul(1_u64.checked_shl(attempts).unwrap_or(u64::MAX));
                passed(wait, payment.updated, now)
            }
            _ => false,
        }
    }
}

/// What goes into a batch: each payer has its share, and what the others leave of theirs.
struct Basket {
    items: usize,
    most_items: usize,
    most_payments: usize,
    /// Items of one payer, before others leave room.
    share: usize,
    /// Payments of one allowance, before others leave room.
    share_payments: usize,
    shares: BTreeMap<OwnerKey, usize>,
    chosen: Vec<PaymentKeys>,
    /// Above the shares: whether an allowance's, and the payments.
    rest: Vec<(bool, Vec<PaymentKeys>)>,
}

impl Basket {
    fn of(config: &WorkerConfig, ripe: &[(Queue, u64)]) -> Self {
        let payers: BTreeSet<OwnerKey> = ripe.iter().map(|(queue, _)| queue.owner).collect();
        let of = |all: usize| all.checked_div(payers.len()).unwrap_or(all).max(1);
        Self {
            items: 0,
            most_items: config.queues,
            most_payments: config.payments,
            share: of(config.queues),
            share_payments: of(config.payments),
            shares: BTreeMap::new(),
            chosen: Vec::new(),
            rest: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.items >= self.most_items || self.chosen.len() >= self.most_payments
    }

    fn add(&mut self, queue: &Queue, mut ready: Vec<PaymentKeys>) {
        let room = self.most_payments.saturating_sub(self.chosen.len());
        let used = self.shares.entry(queue.owner).or_default();
        let left = self
            .share
            .saturating_sub(*used)
            .min(self.most_items.saturating_sub(self.items));
        // What is aggregated is one item, however many charges it pays.
        let most = match (queue.allowance, left) {
            (_, 0) => 0,
            (true, _) => self.share_payments.min(room),
            (false, left) => left.min(room),
        };
        let rest = ready.split_off(most.min(ready.len()));
        let items = if queue.allowance {
            ready.len().min(1)
        } else {
            ready.len()
        };
        *used = used.saturating_add(items);
        self.items = self.items.saturating_add(items);
        self.chosen.extend(ready);
        if !rest.is_empty() {
            self.rest.push((queue.allowance, rest));
        }
    }

    /// The payments, those of one queue in their order.
    fn payments(mut self) -> Vec<PaymentKeys> {
        for (allowance, mut rest) in core::mem::take(&mut self.rest) {
            let mut most = self.most_payments.saturating_sub(self.chosen.len());
            if !allowance {
                most = most.min(self.most_items.saturating_sub(self.items));
            }
            rest.truncate(most);
            if !allowance {
                self.items = self.items.saturating_add(rest.len());
            }
            self.chosen.extend(rest);
        }
        self.chosen
    }
}
