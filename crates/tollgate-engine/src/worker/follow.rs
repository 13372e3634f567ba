//! Following what is undecided: sent, sent again, replaced, concluded.

use std::collections::BTreeMap;

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    BatchRow, BatchState, Instruction, LossReason, PaymentState, Refusal, RowKey, Submission,
    command::{Conclude, Fate, Included, ItemFate, Permitted, Seal, Submitted},
    port::{Rail, RailError, Rehearsal, Trace},
};
use tollgate_x402::{Address, Amount, B256, Clock, Timestamp};

use super::{Worker, WorkerError};
use crate::elapsed::{age, passed};

/// Seconds after which what a node refused is offered again.
const RETRY_REFUSED: u64 = 1;

/// A rest is doubled so many times, at most.
const MOST_DOUBLINGS: u32 = 8;

/// Where a batch is found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Followed {
    /// Decided, and written.
    Concluded,
    /// In a block: its nonce is used, unless that block goes.
    InBlock,
    /// Ahead of the chain.
    Ahead,
}

impl Followed {
    /// Where a batch was when it was last looked at.
    pub(super) const fn last(batch: &BatchRow) -> Self {
        match batch.state {
            BatchState::Concluded { .. } => Self::Concluded,
            BatchState::Included { .. } => Self::InBlock,
            BatchState::Claimed | BatchState::Sealed => Self::Ahead,
        }
    }
}

/// How long a token is left alone.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Rest {
    /// When it began, and for how many seconds.
    began: Timestamp,
    wait: u64,
    failures: u32,
}

impl Rest {
    /// Whether it lasts.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        !passed(self.wait, self.began, now)
    }
}

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// Brings one undecided batch forward.
    pub(super) async fn follow(
        &mut self,
        batch: &BatchRow,
        blocked: bool,
    ) -> Result<Followed, WorkerError> {
        let mine = batch.signer == self.config.signer;
        if batch.state == BatchState::Claimed {
            if mine {
                self.send(batch).await?;
                return Ok(Followed::Ahead);
            }
            // Its account is gone and has signed nothing: the payments are due again, and this account's.
            let fate = Fate {
                transaction: None,
                block: 0,
                items: vec![ItemFate::Untried; batch.items.len()],
            };
            return self.concluded(batch, fate).await;
        }
        let trace = match self.rail.trace(batch).await {
            // It outlives a restart: whoever looks next may see nothing of it.
            Err(RailError::Ahead(reason)) => {
                self.stop(reason).await?;
                return Ok(Followed::Ahead);
            }
            trace => trace?,
        };
        match trace {
            Trace::Final(_) if blocked => Ok(Followed::InBlock),
            Trace::Final(fate) => self.concluded(batch, fate).await,
            Trace::Included {
                transaction,
                block,
                good,
            } => {
                let seen = BatchState::Included { transaction, block };
                if batch.state != seen {
                    self.store
                        .transact(Included {
                            batch: batch.id,
                            at: Some((transaction, block)),
                        })
                        .await?;
                }
                if good && Permitted::concerns(batch) {
                    self.permitted(batch, (transaction, block)).await?;
                }
                Ok(Followed::InBlock)
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
                Ok(Followed::Ahead)
            }
        }
    }

    async fn concluded(&mut self, batch: &BatchRow, fate: Fate) -> Result<Followed, WorkerError> {
        Ok(if self.conclude(batch, fate).await? {
            Followed::Concluded
        } else {
            Followed::InBlock
        })
    }

    /// What waited for a permit is drawn, since it is in a block.
    async fn permitted(&self, batch: &BatchRow, at: (B256, u64)) -> Result<(), WorkerError> {
        let permitted = Permitted {
            batch: batch.clone(),
            at,
            attempts: self.config.attempts,
        };
        match self.store.transact(permitted).await {
            Ok(()) | Err(StoreError::Refused(Refusal::Overtaken)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the finalized chain says of a batch. Whether it was written.
    pub(super) async fn conclude(
        &mut self,
        batch: &BatchRow,
        fate: Fate,
    ) -> Result<bool, WorkerError> {
        let fates = fate.items.clone();
        let conclude = Conclude {
            batch: batch.clone(),
            fate,
            attempts: self.config.attempts,
        };
        match self.store.transact(conclude).await {
            Ok(concluded) => {
                for payment in concluded.lost {
                    tracing::error!(?payment, "a charge is lost");
                }
                if let Some(halt) = concluded.halt {
                    self.halted(batch.signer, halt);
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
    pub(super) fn rest(&mut self, token: Address, fate: ItemFate) {
        match fate {
            ItemFate::Wait(reason) => {
                let now = self.clock.now();
                let rest = self.resting.entry(token).or_default();
                if rest.lasts(now) {
                    return;
                }
                let wait = self.config.backoff.saturating_mul(1 << rest.failures);
                (rest.began, rest.wait) = (now, wait);
                rest.failures = rest.failures.saturating_add(1).min(MOST_DOUBLINGS);
                tracing::error!(%token, ?reason, seconds = wait, "settlement of a token waits");
            }
            ItemFate::Paid | ItemFate::PaidBy { .. } => {
                self.resting.remove(&token);
            }
            ItemFate::Untried
            | ItemFate::Again(_)
            | ItemFate::Short { .. }
            | ItemFate::Deferred(_)
            | ItemFate::Parted(_)
            | ItemFate::Lost(_) => {}
        }
    }

    /// Sends a batch again that is in no block, or replaces it.
    pub(super) async fn press(&mut self, batch: &BatchRow) -> Result<(), WorkerError> {
        let now = self.clock.now();
        let Some(last) = batch.sent.last() else {
            return self.send(batch).await;
        };
        let due = match last.sent {
            None => true,
            Some((at, Submission::NotSent | Submission::Invalid)) => passed(RETRY_REFUSED, at, now),
            Some((at, _)) => {
                let rest = self.rail.rest(age(batch.created, now));
                passed(self.config.resend_after.max(rest), at, now)
            }
        };
        let replace = match last.sent {
            // It waits for something else than a price, the account's BNB perhaps: to raise it would only be dearer then.
            Some((_, Submission::NotSent)) => false,
            Some((_, Submission::Underpriced)) => due,
            _ => passed(self.config.replace_after, last.stored, now),
        };
        // What waits for an earlier nonce gains nothing by a higher price.
        let first = self.first.is_none_or(|first| last.nonce <= first);
        if replace && first && batch.signer == self.config.signer {
            let hopeless = matches!(last.sent, Some((_, Submission::Invalid)));
            let replacement = if hopeless || last.void {
                // No node will ever take it, and every later nonce waits for this one.
                self.rail.void(batch, last.nonce, last.gas_price).await
            } else {
                let behind = self.behind(last.nonce).await?;
                let above = last.gas_price;
                self.rail.replace(batch, last.nonce, above, &behind).await
            };
            match replacement {
                Ok(instruction) => {
                    let sealed = self.seal(batch, instruction).await?;
                    return self.submit(&sealed).await;
                }
                // At the most that it and what waits for it are worth: the last bytes go on being offered.
                Err(error) => tracing::warn!(%error, "a settlement cannot be replaced"),
            }
        }
        if due {
            self.submit(batch).await
        } else {
            Ok(())
        }
    }

    /// What waits for a nonce of the account: later batches, and what is due. By token, in atomic units.
    async fn behind(&self, nonce: u64) -> Result<BTreeMap<Address, Amount>, StoreError> {
        let mut behind = BTreeMap::<Address, Amount>::new();
        let mut add = |token, amount| {
            let sum = behind.entry(token).or_default();
            *sum = sum.saturating_add(amount);
        };
        for batch in self.store.undecided().await? {
            let later = batch.nonce().is_none_or(|later| later > nonce);
            if later && batch.signer == self.config.signer {
                for item in &batch.items {
                    add(item.owner().token, item.amount());
                }
            }
        }
        for queue in self.store.queues().await? {
            add(queue.owner.token, queue.sum);
        }
        Ok(behind)
    }

    /// Signs a claimed batch, stores it, and sends it.
    pub(super) async fn send(&mut self, batch: &BatchRow) -> Result<(), WorkerError> {
        self.check_nonce().await?;
        let Some(nonce) = self.led.as_ref().map(|led| led.next_nonce) else {
            return Ok(());
        };
        if let Some(fate) = self.rehearse(batch).await? {
            // What would not fail is due again at once, without what would.
            self.conclude(batch, fate).await?;
            return Ok(());
        }
        let instruction = self.rail.prepare(batch, nonce, None).await?;
        let sealed = self.seal(batch, instruction).await?;
        if let Some(led) = &mut self.led {
            led.next_nonce = nonce.saturating_add(1);
        }
        self.submit(&sealed).await
    }

    /// Simulates a batch before gas is spent on it: the fate of one that would fail in part. What has failed so often
    /// that this is the last time is tried on the chain, which alone makes a charge lost; but not while its nonce is used,
    /// and it is not known whether that paid it.
    async fn rehearse(&self, batch: &BatchRow) -> Result<Option<Fate>, WorkerError> {
        if !self.config.rehearse {
            return Ok(None);
        }
        let Rehearsal::Items(mut items) = self.rail.rehearse(batch).await? else {
            return Ok(None);
        };
        let names = batch.payments().map(|keys| RowKey::Payment(keys.id));
        let rows = self.store.read(names.collect()).await?;
        let last = self.config.attempts.saturating_sub(1);
        for (item, fate) in batch.items.iter().zip(&mut items) {
            let decisive = item.payments().iter().any(|keys| {
                rows.payment(&keys.id).is_some_and(|payment| {
                    matches!(payment.state, PaymentState::Claimed { attempts, .. } if attempts >= last)
                })
            });
            let unclear = *fate == ItemFate::Deferred(LossReason::Nonce);
            if decisive && !unclear && matches!(fate, ItemFate::Deferred(_)) {
                *fate = ItemFate::Untried;
            }
        }
        if items.iter().all(|fate| *fate == ItemFate::Untried) {
            return Ok(None);
        }
        Ok(Some(Fate {
            transaction: None,
            block: 0,
            items,
        }))
    }

    /// Stores what was signed, if this worker still leads the account.
    async fn seal(
        &mut self,
        batch: &BatchRow,
        instruction: Instruction,
    ) -> Result<BatchRow, WorkerError> {
        let seal = Seal {
            batch: batch.id,
            signer: self.config.signer,
            term: self.led.as_ref().map_or(0, |led| led.term),
            instruction,
        };
        let sealed = self.store.transact(seal).await;
        if sealed.is_err() {
            // Somebody else signed meanwhile: look again, at who leads and at which nonce.
            self.led = None;
        }
        Ok(sealed?)
    }

    /// Sends the newest stored bytes.
    pub(super) async fn submit(&self, batch: &BatchRow) -> Result<(), WorkerError> {
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
}
