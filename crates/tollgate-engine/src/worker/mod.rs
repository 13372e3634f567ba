//! The settlement worker: what is due becomes batches, batches become transactions, and each is followed
//! until the finalized chain has decided it.
//!
//! Every step is stored before it has an effect, so the worker keeps no state: it can be stopped at any
//! point, and goes on from the store at the next [`tick`](Worker::tick).

mod choose;
mod follow;
mod lead;
mod look;
mod pulse;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    BatchId, Credit, Halt, SignerKey,
    port::{Rail, RailError},
};
use tollgate_x402::{Address, Clock, Timestamp};

use self::{follow::Rest, lead::Led};
use crate::{health::Health, ids::Ids, payees::Payees, policy::Policy};

/// How a worker settles.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The account that sends.
    pub signer: SignerKey,
    /// The contract that it calls, or `None` for a plain account's own calls.
    pub settler: Option<Address>,
    /// Whose once and exact payments it settles.
    pub payees: Payees,
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
    /// Seconds for which the account is leased from the ledger: so long after this worker fell silent may another that
    /// has the same key go on. It is renewed three times as often. At most 60.
    pub lease: u64,
    /// No other process shares the ledger: at its first tick the worker takes the account from whoever had it.
    pub sole: bool,
    /// Whether a batch is simulated before it is signed.
    pub rehearse: bool,
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
            payees: Payees::Own,
            allowances,
            claims: Policy::AtOnce,
            credit: BTreeMap::new(),
            queues: if settler.is_some() { 50 } else { 1 },
            payments: 1_000,
            undecided: if settler.is_some() { 8 } else { 1 },
            attempts: 4,
            resend_after: 5,
            replace_after: 15,
            deadline_margin: 600,
            backoff: 3,
            lease: 6,
            sole: false,
            rehearse: true,
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
    /// This worker's name in leases.
    holder: u128,
    led: Option<Led>,
    /// Why nothing new is signed with the account, as far as is known.
    halt: Option<Halt>,
    resting: BTreeMap<Address, Rest>,
    /// The first of the account's nonces that no block has: those after it wait for it.
    first: Option<u64>,
    health: Health,
    /// When the account and the chain were last felt.
    felt: Option<Timestamp>,
    /// Where the last look at what is open, and at what has been open for long, ran out of time.
    left_off: [Option<BatchId>; 2],
    ids: Ids,
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
    /// Another worker leads the account: this one waits for the end of its lease.
    pub standby: bool,
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
    /// Nothing is sent with the account until a person has looked: its key is used elsewhere, or the ledger is an old
    /// copy. The ledger remembers it, through restarts; [`Resume`](tollgate_payment::command::Resume) ends it.
    #[error("the account is stopped, reconcile the ledger with the chain: {}", .0.reason)]
    Halted(Halt),
}

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// A worker. It looks when `work` is notified, and by itself.
    pub fn new(store: S, rail: R, clock: C, config: WorkerConfig, work: Arc<Notify>) -> Self {
        let ids = Ids::default();
        Self {
            store,
            rail,
            clock,
            config,
            work,
            holder: ids.draw(),
            led: None,
            halt: None,
            resting: BTreeMap::new(),
            first: None,
            health: Health::default(),
            felt: None,
            left_off: [None; 2],
            ids,
        }
    }

    /// The same, with its own name and the names of batches from elsewhere.
    #[must_use]
    pub fn with_ids(self, ids: Ids) -> Self {
        Self {
            holder: ids.draw(),
            ids,
            ..self
        }
    }

    /// Concludes the payments of runs that died: what their last checkpoint says is owed. `epoch` is the run that asks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recover(&self, epoch: u64) -> Result<usize, StoreError> {
        crate::recover(&self.store, epoch).await
    }

    /// What the worker tells of itself: for readiness, and for a till that is not to lend what cannot be settled.
    pub fn health(&self) -> Health {
        self.health.clone()
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
                _ = stop.wait_for(|stop| *stop) => break,
            }
            tokio::select! {
                () = self.work.notified() => {}
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.hand_over().await;
    }

    /// Looks at everything once: follows what is undecided, then sends what is ripe. What stands in the way of one batch
    /// keeps no other from being followed; it keeps new ones from being sent.
    ///
    /// # Errors
    /// [`WorkerError`], the first one: what was stored stays, and the next tick goes on.
    pub async fn tick(&mut self) -> Result<Progress, WorkerError> {
        let done = self.look().await;
        self.tell(&done);
        done
    }
}
