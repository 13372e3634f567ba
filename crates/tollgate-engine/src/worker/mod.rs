//! The settlement worker: what is due becomes batches, batches become transactions, and each is followed
//! until the finalized chain has decided it.
//!
//! Every step is stored before it has an effect, so the worker keeps no state: it can be stopped at any
//! point, and goes on from the store at the next [`tick`](Worker::tick).

mod choose;
mod follow;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    BatchItem, BatchRow, Credit, Refusal, SignerKey,
    command::{Adopt, Commit},
    port::{Rail, RailError},
};
use tollgate_x402::{Address, Clock};

use self::follow::Rest;
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
    /// What payers of each token are lent: who owes half of it is settled whatever the policy says. Empty: the policy
    /// alone decides.
    pub credit: BTreeMap<Address, Credit>,
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
            credit: BTreeMap::new(),
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

    /// Whether a batch is this worker's to follow: sent by its account, or left behind by one that it took over from. A
    /// plain account is the payee, whom nobody can take over.
    fn is_ours(&self, batch: &BatchRow) -> bool {
        batch.signer.chain == self.config.signer.chain
            && batch.settler == self.config.settler
            && (batch.signer == self.config.signer
                || self.config.settler.is_some()
                    && self.clock.now().since(batch.updated) >= ABANDONED_AFTER)
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
}
