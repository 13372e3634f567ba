//! One look at everything: what is undecided is followed, then what is ripe is sent.
//!
//! A look ends in time, and the lead is renewed within it: else another worker takes the account meanwhile, and what this
//! one signs is refused.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_ledger::Store;
use tollgate_payment::{
    BatchItem, BatchRow, BatchState, OwnerKey, SpenderKey,
    port::{Rail, Room},
};
use tollgate_x402::{Clock, Timestamp};

use super::{Progress, Worker, WorkerError, follow::Followed};
use crate::elapsed::passed;

/// Batches that are begun in one look, at most: then what is undecided has its turn again.
const MOST_SENT: usize = 16;

/// Seconds for each part of a look: what is open, what has been open for long, what is sent. What is left has its turn in
/// the next one.
const LONGEST: u64 = 2;

/// Batches that may be undecided at once, in blocks or not, for each that may be ahead of the chain: while nothing becomes
/// final they are only waited for, and a reorganization can bring them back.
const MOST_UNDECIDED: usize = 8;

/// What one look has found.
#[derive(Default)]
struct Found {
    progress: Progress,
    /// Batches that take room.
    open: usize,
    /// Those of them that are in no block.
    ahead: usize,
    /// Batches with something of a payer in them, of any age.
    of: BTreeMap<OwnerKey, usize>,
    /// Counters of batches that are not decided.
    waiting: BTreeSet<SpenderKey>,
}

impl Found {
    fn undecided(&mut self, batch: &BatchRow, counts: bool, followed: Followed) {
        self.progress.undecided = self.progress.undecided.saturating_add(1);
        let ahead = counts && followed == Followed::Ahead;
        self.open = self.open.saturating_add(usize::from(counts));
        self.ahead = self.ahead.saturating_add(usize::from(ahead));
        let owners: BTreeSet<OwnerKey> = batch.items.iter().map(BatchItem::owner).collect();
        for owner in owners {
            let of = self.of.entry(owner).or_default();
            *of = of.saturating_add(1);
        }
    }

    fn has_room(&self, room: &Room) -> bool {
        self.ahead < room.batches && self.open < room.batches.saturating_mul(MOST_UNDECIDED)
    }
}

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    pub(super) async fn look(&mut self) -> Result<Progress, WorkerError> {
        let mut found = Found::default();
        let mut failed = match self.lead().await {
            Ok(true) => None,
            Ok(false) => return self.stand_by(found.progress).await,
            Err(error) => Some(error),
        };
        let room = self.rail.room();
        let undecided = self.store.undecided().await?;
        self.first = undecided
            .iter()
            .filter(|batch| batch.signer == self.config.signer)
            .filter(|batch| batch.state == BatchState::Sealed)
            .filter_map(BatchRow::nonce)
            .min();
        let mut ours = Vec::with_capacity(undecided.len());
        for batch in undecided {
            if self.is_ours(&batch).await? {
                ours.push(batch);
            }
        }
        let now = self.clock.now();
        let (new, long): (Vec<_>, Vec<_>) = ours
            .into_iter()
            .partition(|batch| takes_room(&room, batch, now));
        if !self.follow_all(&new, 0, &mut found, &mut failed).await? {
            return failed.map_or(Ok(found.progress), Err);
        }
        // What fails there is told, and keeps nothing new from being sent.
        let mut failed_long = None;
        if !self
            .follow_all(&long, 1, &mut found, &mut failed_long)
            .await?
        {
            return failed.or(failed_long).map_or(Ok(found.progress), Err);
        }
        self.feel().await?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(halt) = self.halt.clone() {
            return Err(WorkerError::Halted(halt));
        }
        let began = self.clock.now();
        while found.has_room(&room)
            && found.progress.sent < MOST_SENT
            && !passed(LONGEST, began, self.clock.now())
        {
            if !self.lead().await? {
                return self.stand_by(found.progress).await;
            }
            let full =
                |owner: &OwnerKey| found.of.get(owner).is_some_and(|of| *of >= room.of_a_payer);
            let Some(batch) = self.claim(full).await? else {
                break;
            };
            self.send(&batch).await?;
            found.progress.sent = found.progress.sent.saturating_add(1);
            found.undecided(&batch, true, Followed::Ahead);
        }
        failed_long.map_or(Ok(found.progress), Err)
    }

    /// Another worker settles: this gateway lends as well.
    async fn stand_by(&mut self, progress: Progress) -> Result<Progress, WorkerError> {
        self.feel().await?;
        Ok(Progress {
            standby: true,
            ..progress
        })
    }

    /// Follows these batches, from where the last look at them left off. What stands in the way of one keeps no other from
    /// being followed. Whether this worker still leads.
    async fn follow_all(
        &mut self,
        batches: &[BatchRow],
        part: usize,
        found: &mut Found,
        failed: &mut Option<WorkerError>,
    ) -> Result<bool, WorkerError> {
        let left_off = self.left_off.get_mut(part).and_then(Option::take);
        let from = batches
            .iter()
            .position(|batch| Some(batch.id) == left_off)
            .unwrap_or_default();
        let began = self.clock.now();
        let mut ended = false;
        for (place, batch) in batches.iter().enumerate() {
            if place > from && !ended && passed(LONGEST, began, self.clock.now()) {
                ended = true;
                if let Some(left_off) = self.left_off.get_mut(part) {
                    *left_off = Some(batch.id);
                }
            }
            let mut followed = Followed::last(batch);
            if place >= from && !ended {
                match self.lead().await {
                    Ok(true) => {}
                    Ok(false) => {
                        found.progress = self.stand_by(found.progress).await?;
                        return Ok(false);
                    }
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
                // A counter's batches are concluded in their order.
                let blocked = counters(batch).any(|counter| found.waiting.contains(&counter));
                match self.follow(batch, blocked).await {
                    Ok(Followed::Concluded) => {
                        found.progress.concluded = found.progress.concluded.saturating_add(1);
                        continue;
                    }
                    Ok(now) => followed = now,
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            found.waiting.extend(counters(batch));
            found.undecided(batch, part == 0, followed);
        }
        Ok(true)
    }
}

/// Whether a batch takes room. One from a time when the clock was ahead does not: it is not known for how long it has
/// been open.
const fn takes_room(room: &Room, batch: &BatchRow, now: Timestamp) -> bool {
    !passed(room.seconds, batch.created, now)
}

/// The counters that a batch draws, or sets the allowance of.
fn counters(batch: &BatchRow) -> impl Iterator<Item = SpenderKey> {
    batch.items.iter().filter_map(|item| match item {
        BatchItem::Allowance { spender, .. } | BatchItem::Permit { spender, .. } => Some(*spender),
        BatchItem::Once { .. } | BatchItem::Exact { .. } => None,
    })
}
