//! The settlement worker: what is due becomes batches, batches become transactions, and each is followed
//! until the finalized chain has decided it.
//!
//! Every step is stored before it has an effect, so the worker keeps no state: it can be stopped at any
//! point, and goes on from the store at the next [`tick`](Worker::tick).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tollgate_ledger::{Due, Queue, Store, StoreError};
use tollgate_payment::{
    BatchId, BatchItem, BatchRow, BatchState, Limit, LossReason, PaymentKeys, PaymentRow,
    PaymentState, Refusal, RowKey, SignerKey, SpenderKey, Submission,
    command::{Adopt, Claim, Commit, Conclude, Fate, Included, ItemFate, Seal, Submitted},
    port::{Rail, RailError, Trace},
};
use tollgate_x402::{Address, Authorization, Clock, Exact, Timestamp};

use crate::policy::Policy;

/// How a worker settles.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The account that sends.
    pub signer: SignerKey,
    /// The contract that it calls, or `None` for a plain account's own calls.
    pub settler: Option<Address>,
    /// When allowances are settled.
    pub allowances: Policy,
    /// When once and exact payments are settled.
    pub claims: Policy,
    /// Queues in one batch, at most.
    pub queues: usize,
    /// Payments in one batch, at most.
    pub payments: usize,
    /// Batches that may draw one counter at once; 1 for a plain account.
    pub undecided: u32,
    /// Failed settlements after which a charge is lost.
    pub attempts: u32,
    /// Seconds after which the same bytes are sent again.
    pub resend_after: u64,
    /// Seconds after which a transaction that is in no block is replaced at a higher price.
    pub replace_after: u64,
    /// Seconds before a deadline at which everything else waits.
    pub deadline_margin: u64,
    /// Seconds before a failed settlement is tried again; doubled each time.
    pub backoff: u64,
    /// How often undecided batches are looked at: the block time.
    pub poll: Duration,
    /// How often ripe queues are looked for when nothing is undecided.
    pub idle: Duration,
}

impl WorkerConfig {
    /// The defaults for a `Settler` contract on a chain with this block time: allowances by 0.50 dollars or ten
    /// minutes, the rest at once.
    pub fn new(
        signer: SignerKey,
        settler: Option<Address>,
        allowances: Policy,
        block_time: Duration,
    ) -> Self {
        Self {
            signer,
            settler,
            allowances,
            claims: Policy::AtOnce,
            queues: if settler.is_some() { 40 } else { 1 },
            payments: 500,
            undecided: if settler.is_some() { 8 } else { 1 },
            attempts: 4,
            resend_after: 5,
            replace_after: 15,
            deadline_margin: 600,
            backoff: 3,
            poll: block_time,
            idle: Duration::from_secs(1),
        }
    }
}

/// The settlement worker of one account.
#[derive(Debug)]
pub struct Worker<S, R, C> {
    store: S,
    rail: R,
    clock: C,
    config: WorkerConfig,
    work: Arc<Notify>,
    next_nonce: Option<u64>,
    /// A nonce of the account was used by a transaction that is not ours.
    foreign: Option<u64>,
    resting: BTreeMap<Address, Rest>,
}

/// What one look at everything did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Batches claimed and sent.
    pub sent: usize,
    /// Batches concluded.
    pub concluded: usize,
    /// Batches that are not decided yet.
    pub undecided: usize,
}

/// Why a worker could not go on. It tries again at the next tick.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain or the account.
    #[error(transparent)]
    Rail(#[from] RailError),
    /// The account was used by somebody else: nothing is sent with it until a person has looked.
    #[error(
        "the account's nonce on the chain is {chain} and the ledger's is {ledger}: the key is used elsewhere, or the ledger is an old copy; reconcile before sending"
    )]
    ForeignNonce {
        /// The chain's transaction count.
        chain: u64,
        /// The ledger's next nonce.
        ledger: u64,
    },
    /// A transaction that is not ours took the nonce of one of ours. What it was to settle is due again, and nothing is
    /// sent with the account until a person has looked and starts the worker anew.
    #[error(
        "a transaction that is not ours used the account's nonce {nonce}: the key is used elsewhere; find out by whom before sending"
    )]
    ForeignTransaction {
        /// The nonce.
        nonce: u64,
    },
}

/// Undecided batches of one account, at most.
const MOST_UNDECIDED: usize = 16;

/// Seconds without a sign of life after which another account's batch is taken over.
const ABANDONED_AFTER: u64 = 60;

/// A rest is doubled so many times, at most.
const MOST_DOUBLINGS: u32 = 8;

/// How long a token is left alone.
#[derive(Clone, Copy, Default, Debug)]
struct Rest {
    until: Timestamp,
    failures: u32,
}

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// A worker. It looks when `work` is notified, and by itself.
    pub const fn new(store: S, rail: R, clock: C, config: WorkerConfig, work: Arc<Notify>) -> Self {
        Self {
            store,
            rail,
            clock,
            config,
            work,
            next_nonce: None,
            foreign: None,
            resting: BTreeMap::new(),
        }
    }

    /// Concludes the payments of runs that died: what their last checkpoint says is owed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recover(&self, epoch: u64) -> Result<usize, StoreError> {
        let open = self.store.open(epoch).await?;
        for payment in &open {
            let commit = Commit {
                keys: payment.keys,
                used: None,
                memo: None,
            };
            match self.store.transact(commit).await {
                // Somebody else ended it meanwhile.
                Ok(_) | Err(StoreError::Refused(Refusal::Overtaken)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(open.len())
    }

    /// Works until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut quiet = 0_u32;
        let half_a_block = self.config.poll.checked_div(2).unwrap_or_default();
        loop {
            let wait = match self.tick().await {
                Ok(progress) if progress.undecided > 0 => {
                    quiet = 0;
                    half_a_block
                }
                Ok(_) => {
                    quiet = 0;
                    self.config.idle
                }
                Err(error) => {
                    // Said once, then at every 64th failure in a row: an outage is not a flood.
                    if quiet.is_multiple_of(64) {
                        tracing::warn!(%error, "settlement waits");
                    }
                    quiet = quiet.wrapping_add(1);
                    self.config.idle
                }
            };
            // Under load what becomes due within half a block goes together: a look costs calls of the node.
            tokio::select! {
                () = tokio::time::sleep(half_a_block) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            tokio::select! {
                () = self.work.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Looks at everything once: follows what is undecided, then sends what is ripe. What stands in the way of one batch
    /// keeps no other from being followed; it keeps new ones from being sent.
    ///
    /// # Errors
    /// [`WorkerError`], the first one: what was stored stays, and the next tick goes on.
    pub async fn tick(&mut self) -> Result<Progress, WorkerError> {
        let mut progress = Progress::default();
        let mut failed = self.adopt().await.err();
        let mut waiting = BTreeSet::new();
        for batch in self.store.undecided().await? {
            if !self.is_ours(&batch) {
                continue;
            }
            // A counter's batches are concluded in their order.
            let blocked = batch
                .items
                .iter()
                .any(|item| waiting.contains(&item.owner()));
            match self.follow(&batch, blocked).await {
                Ok(true) => {
                    progress.concluded = progress.concluded.saturating_add(1);
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
            waiting.extend(batch.items.iter().map(BatchItem::owner));
            progress.undecided = progress.undecided.saturating_add(1);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(nonce) = self.foreign {
            return Err(WorkerError::ForeignTransaction { nonce });
        }
        // A node takes only so many transactions of one account ahead of the chain.
        while progress.undecided < MOST_UNDECIDED
            && let Some(batch) = self.claim().await?
        {
            self.send(&batch).await?;
            progress.sent = progress.sent.saturating_add(1);
            progress.undecided = progress.undecided.saturating_add(1);
        }
        Ok(progress)
    }

    /// Whether a batch is this worker's to follow: sent by its account, or left behind by one that it took over from.
    fn is_ours(&self, batch: &BatchRow) -> bool {
        batch.signer.chain == self.config.signer.chain
            && batch.settler == self.config.settler
            && (batch.signer == self.config.signer
                || self.clock.now().since(batch.updated) >= ABANDONED_AFTER)
    }

    /// Takes the account over at the first tick: its next nonce is the ledger's.
    async fn adopt(&mut self) -> Result<(), WorkerError> {
        if self.next_nonce.is_some() {
            return Ok(());
        }
        let chain = self.rail.nonce().await?;
        let ledger = self
            .store
            .transact(Adopt {
                signer: self.config.signer,
                chain_nonce: chain,
            })
            .await?;
        if chain > ledger {
            return Err(WorkerError::ForeignNonce { chain, ledger });
        }
        self.next_nonce = Some(ledger);
        Ok(())
    }

    /// Brings one undecided batch forward. Whether it is concluded.
    async fn follow(&mut self, batch: &BatchRow, blocked: bool) -> Result<bool, WorkerError> {
        let mine = batch.signer == self.config.signer;
        if batch.state == BatchState::Claimed {
            if mine {
                self.send(batch).await?;
                return Ok(false);
            }
            // Its account is gone and has signed nothing: the payments are due again, and this account's.
            let nothing = ItemFate::Wait(LossReason::Refused);
            let fate = Fate {
                transaction: None,
                block: 0,
                items: vec![nothing; batch.items.len()],
            };
            return self.conclude(batch, fate).await;
        }
        match self.rail.trace(batch).await? {
            Trace::Final(_) if blocked => {}
            Trace::Final(fate) => {
                if fate.transaction.is_none() && mine {
                    self.foreign = batch.nonce();
                }
                return self.conclude(batch, fate).await;
            }
            Trace::Included { transaction, block } => {
                let seen = BatchState::Included { transaction, block };
                if batch.state != seen {
                    self.store
                        .transact(Included {
                            batch: batch.id,
                            at: Some((transaction, block)),
                        })
                        .await?;
                }
            }
            Trace::Pending => {
                if matches!(batch.state, BatchState::Included { .. }) {
                    // A reorg took it out: the same bytes go in again.
                    tracing::warn!(batch = ?batch.id, "a settlement was reorganized away");
                    self.store
                        .transact(Included {
                            batch: batch.id,
                            at: None,
                        })
                        .await?;
                    self.submit(batch).await?;
                } else {
                    self.press(batch).await?;
                }
            }
        }
        Ok(false)
    }

    /// Writes what the finalized chain says of a batch. Whether it was written.
    async fn conclude(&mut self, batch: &BatchRow, fate: Fate) -> Result<bool, WorkerError> {
        let fates = fate.items.clone();
        let conclude = Conclude {
            batch: batch.clone(),
            fate,
            attempts: self.config.attempts,
        };
        match self.store.transact(conclude).await {
            Ok((_, lost)) => {
                for payment in lost {
                    tracing::error!(?payment, "a charge is lost");
                }
                for (item, fate) in batch.items.iter().zip(&fates) {
                    self.rest(item.owner().token, *fate);
                }
                Ok(true)
            }
            Err(StoreError::Refused(Refusal::Overtaken)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a token rest whose settlements fail through no doing of the payers: each attempt costs gas.
    fn rest(&mut self, token: Address, fate: ItemFate) {
        match fate {
            ItemFate::Wait(reason) => {
                let now = self.clock.now();
                let rest = self.resting.entry(token).or_default();
                if rest.until > now {
                    return;
                }
                let wait = self.config.backoff.saturating_mul(1 << rest.failures);
                rest.until = now.plus(wait);
                rest.failures = rest.failures.saturating_add(1).min(MOST_DOUBLINGS);
                tracing::error!(%token, ?reason, seconds = wait, "settlement of a token waits");
            }
            ItemFate::Paid | ItemFate::PaidBy { .. } => {
                self.resting.remove(&token);
            }
            ItemFate::Again(_) | ItemFate::Lost(_) => {}
        }
    }

    /// Sends a batch again that is in no block, or replaces it.
    async fn press(&mut self, batch: &BatchRow) -> Result<(), WorkerError> {
        let now = self.clock.now();
        let Some(last) = batch.sent.last() else {
            return self.send(batch).await;
        };
        let due = match last.sent {
            None | Some((_, Submission::NotSent)) => true,
            Some((at, _)) => now.since(at) >= self.config.resend_after,
        };
        let mine = batch.signer == self.config.signer;
        if mine && now.since(last.stored) >= self.config.replace_after {
            let replacement = self
                .rail
                .prepare(batch, last.nonce, Some(last.gas_price))
                .await;
            match replacement {
                Ok(instruction) => {
                    let seal = Seal {
                        batch: batch.id,
                        signer: self.config.signer,
                        instruction,
                    };
                    let sealed = self.store.transact(seal).await?;
                    return self.submit(&sealed).await;
                }
                // At the price cap: the last bytes go on being offered.
                Err(error) => tracing::warn!(%error, "a settlement cannot be replaced"),
            }
        }
        if due {
            self.submit(batch).await
        } else {
            Ok(())
        }
    }

    /// Signs a claimed batch, stores it, and sends it.
    async fn send(&mut self, batch: &BatchRow) -> Result<(), WorkerError> {
        let nonce = match self.next_nonce {
            Some(nonce) => nonce,
            None => return Ok(()),
        };
        let chain = self.rail.nonce().await?;
        if chain > nonce {
            return Err(WorkerError::ForeignNonce {
                chain,
                ledger: nonce,
            });
        }
        let instruction = self.rail.prepare(batch, nonce, None).await?;
        let seal = Seal {
            batch: batch.id,
            signer: self.config.signer,
            instruction,
        };
        match self.store.transact(seal).await {
            Ok(sealed) => {
                self.next_nonce = nonce.checked_add(1);
                self.submit(&sealed).await
            }
            Err(error) => {
                // Somebody else sealed with this nonce: look again.
                self.next_nonce = None;
                Err(error.into())
            }
        }
    }

    /// Sends the newest stored bytes.
    async fn submit(&self, batch: &BatchRow) -> Result<(), WorkerError> {
        let Some(last) = batch.sent.last() else {
            return Ok(());
        };
        let submission = self.rail.submit(last).await;
        self.store
            .transact(Submitted {
                batch: batch.id,
                hash: last.hash,
                submission,
            })
            .await?;
        Ok(())
    }

    /// Claims the next batch of ripe payments.
    async fn claim(&self) -> Result<Option<BatchRow>, WorkerError> {
        let now = self.clock.now();
        let queues = self.store.queues().await?;
        let mut totals: BTreeMap<_, u64> = BTreeMap::new();
        for queue in &queues {
            let total = totals.entry(queue.owner).or_default();
            *total = total.saturating_add(queue.payments);
        }
        let mut ripe: Vec<(Queue, u64)> = queues
            .into_iter()
            .filter(|queue| self.ripe(queue, now))
            .map(|queue| {
                let all = totals.get(&queue.owner).copied().unwrap_or_default();
                (queue, all)
            })
            .collect();
        self.drop_closed(&mut ripe).await?;
        let mut payments: Vec<PaymentKeys> = Vec::new();
        let mut taken = 0_usize;
        for (queue, total) in ripe {
            if taken >= self.config.queues || payments.len() >= self.config.payments {
                break;
            }
            let mut ready = self.ready(&queue, total, now).await?;
            ready.truncate(self.config.payments.saturating_sub(payments.len()));
            if !queue.allowance {
                // A once or exact payment is an item of its own.
                ready.truncate(self.config.queues.saturating_sub(taken));
            }
            let items = if queue.allowance {
                ready.len().min(1)
            } else {
                ready.len()
            };
            taken = taken.saturating_add(items);
            payments.extend(ready);
        }
        if payments.is_empty() {
            return Ok(None);
        }
        let claim = Claim {
            batch: BatchId(rand::random()),
            signer: self.config.signer,
            settler: self.config.settler,
            payments,
            undecided: self.config.undecided,
        };
        Ok(self.store.transact(claim).await?)
    }

    /// The payments of a queue that can be settled now, by this worker. `total` is how many are due of its payer.
    async fn ready(
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
    fn is_payee(&self, signed: &Authorization) -> bool {
        let payee = self.payee();
        match signed {
            Authorization::Allowance(signed) => signed.spender == payee,
            Authorization::Once(signed) => signed.to == payee && signed.facilitator == payee,
            Authorization::Exact(Exact::Eip3009(signed)) => signed.to == payee,
            Authorization::Exact(Exact::Permit2(signed)) => signed.to == payee,
        }
    }

    fn payee(&self) -> Address {
        self.config.settler.unwrap_or(self.config.signer.operator)
    }

    /// Leaves out queues whose counter takes no further batch now.
    async fn drop_closed(&self, queues: &mut Vec<(Queue, u64)>) -> Result<(), StoreError> {
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

    fn ripe(&self, queue: &Queue, now: Timestamp) -> bool {
        let policy = if queue.allowance {
            &self.config.allowances
        } else {
            &self.config.claims
        };
        let rests = self
            .resting
            .get(&queue.owner.token)
            .is_some_and(|rest| rest.until > now);
        queue.owner.chain == self.config.signer.chain
            && !rests
            && (!queue.allowance || queue.spender == Some(self.payee()))
            && policy.ripe(queue, now, self.config.deadline_margin)
    }

    /// Whether a payment that failed before has waited long enough.
    fn rested(&self, payment: &PaymentRow, now: Timestamp) -> bool {
        match payment.state {
            PaymentState::Due { attempts: 0 } => true,
            PaymentState::Due { attempts } => {
                let wait = self
                    .config
                    .backoff
                    .saturating_mul(1_u64.checked_shl(attempts).unwrap_or(u64::MAX));
                now.since(payment.updated) >= wait
            }
            _ => false,
        }
    }
}
