//! What a running chain shares between its handles, its miner and its server.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    chain::{Chain, Orphans},
    error::ReorgError,
    faults::Faults,
};

/// BSC's price floor on its mainnet: 0.05 gwei, in wei per gas.
pub const GAS_PRICE_FLOOR: u128 = 50_000_000;

/// The chain that all nodes of it agree on.
pub(crate) struct World {
    chain: RwLock<Chain>,
    snapshots: Mutex<BTreeMap<u64, Chain>>,
    snapshot_ids: AtomicU64,
    /// Whether a sent transaction makes a block at once.
    instant: bool,
    floor: u128,
    /// Counts blocks made and taken back, for those who wait.
    heads: watch::Sender<u64>,
    /// The first node's switchboard: it is the one that mines.
    miner: Faults,
}

/// A node: a window on the chain with faults and counters of its own.
pub(crate) struct Node {
    pub(crate) world: Arc<World>,
    pub(crate) faults: Faults,
}

impl Deref for Node {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Node {
    pub(crate) fn new(chain: Chain, instant: bool, floor: u128) -> Self {
        let faults = Faults::default();
        let world = World {
            chain: RwLock::new(chain),
            snapshots: Mutex::default(),
            snapshot_ids: AtomicU64::new(0),
            instant,
            floor,
            heads: watch::Sender::new(0),
            miner: faults.clone(),
        };
        Self {
            world: Arc::new(world),
            faults,
        }
    }

    /// Another node of the same chain.
    pub(crate) fn peer(&self) -> Self {
        Self {
            world: self.world.clone(),
            faults: Faults::default(),
        }
    }

    /// Wei per gas that the pool asks for here.
    pub(crate) fn floor(&self) -> u128 {
        self.world.floor.max(self.faults.switches().floor)
    }
}

impl World {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a transaction is mined as it is sent.
    pub(crate) fn instant(&self) -> bool {
        self.instant && !self.miner.switches().hold
    }

    /// Wakes at each change of the head.
    pub(crate) fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    /// Makes a block under a lock that is already held.
    pub(crate) fn mine_locked(&self, chain: &mut Chain) -> u64 {
        let number = chain.mine().header.number;
        self.heads.send_modify(|changes| *changes += 1);
        number
    }

    pub(crate) fn mine(&self) -> u64 {
        self.mine_locked(&mut self.write())
    }

    /// The miner's tick: nothing while mining is held.
    pub(crate) fn tick(&self) {
        if !self.miner.switches().hold {
            self.mine();
        }
    }

    pub(crate) fn reorg(&self, depth: u64, orphans: Orphans) -> Result<(), ReorgError> {
        self.write().reorg(depth, orphans)?;
        self.heads.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(crate) fn freeze_finality(&self, frozen: bool) {
        let mut chain = self.write();
        chain.finality_frozen = frozen;
        chain.advance_finality();
    }

    pub(crate) fn snapshot(&self) -> u64 {
        let id = self.snapshot_ids.fetch_add(1, Ordering::Relaxed) + 1;
        let chain = self.read().clone();
        self.snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, chain);
        id
    }

    /// Goes back to a snapshot, which is used up with all later ones.
    pub(crate) fn restore(&self, id: u64) -> bool {
        let mut snapshots = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(chain) = snapshots.get(&id).cloned() else {
            return false;
        };
        snapshots.retain(|other, _| *other < id);
        *self.write() = chain;
        self.heads.send_modify(|changes| *changes += 1);
        true
    }
}
