//! How a chain is set up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::MissedTickBehavior};

use crate::{
    accounts::is_dev_account,
    chain::{Chain, Settings},
    clock::{Clock, INTERVAL_MS, START_TIME},
    devchain::DevChain,
    error::StartError,
    genesis::Genesis,
    node::{GAS_PRICE_FLOOR, Node, World},
};

/// The chain id that development chains use: nothing signed for it is valid on
/// a real network.
pub const DEFAULT_CHAIN_ID: u64 = 31_337;

/// BSC's block interval.
pub const DEFAULT_BLOCK_TIME: Duration = Duration::from_millis(INTERVAL_MS);

/// Whether a chain id is for development only, so that nothing which is signed for it is good anywhere else. Every other id may
/// be a real network's: new ones come all the time.
#[must_use]
pub const fn is_development_chain_id(chain_id: u64) -> bool {
    chain_id == DEFAULT_CHAIN_ID
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockTime {
    /// One per interval, empty or not, on a tokio task. Timestamps come from
    /// the system's clock.
    Interval(Duration),
    /// One for each transaction, before the answer to its sender.
    Instant,
    /// Only by [`DevChain::mine`] and the methods for it.
    Manual,
}

impl Default for BlockTime {
    fn default() -> Self {
        Self::Interval(DEFAULT_BLOCK_TIME)
    }
}

/// Settings of a chain; made by [`DevChain::builder`].
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    chain_id: u64,
    real_chain_id: bool,
    block_time: BlockTime,
    genesis: Genesis,
    clock: Option<Clock>,
    block_gas_limit: u64,
    gas_price_floor: u128,
    finality_lag: u64,
    history: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            chain_id: DEFAULT_CHAIN_ID,
            real_chain_id: false,
            block_time: BlockTime::default(),
            genesis: Genesis::default(),
            clock: None,
            block_gas_limit: 55_000_000,
            gas_price_floor: GAS_PRICE_FLOOR,
            finality_lag: 2,
            history: 4096,
        }
    }
}

impl Builder {
    /// The chain id, 31337 if not set.
    pub fn chain_id(mut self, chain_id: u64) -> Self {
        self.chain_id = chain_id;
        self
    }

    /// Allows another chain id than 31337, which may be a real network's: 56 for example. What is signed
    /// here is then valid there, so the genesis must not hold well-known
    /// accounts, and every payee must be one that nobody else can own.
    pub fn allow_real_chain_id(mut self) -> Self {
        self.real_chain_id = true;
        self
    }

    /// When blocks are made, every 450 ms if not set.
    pub fn block_time(mut self, block_time: BlockTime) -> Self {
        self.block_time = block_time;
        self
    }

    /// What the chain begins with, nothing if not set.
    pub fn genesis(mut self, genesis: Genesis) -> Self {
        self.genesis = genesis;
        self
    }

    /// The timestamp of block 0 in seconds, with a clock of the chain's own:
    /// each block is 450 ms after the one before. This is the default of
    /// `Instant` and `Manual`, from [`START_TIME`](crate::START_TIME).
    pub fn start_time(mut self, seconds: u64) -> Self {
        self.clock = Some(Clock::stepped(seconds));
        self
    }

    /// Block timestamps come from this clock, in seconds.
    pub fn clock(mut self, now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Clock::given(now));
        self
    }

    /// Block timestamps come from the system's clock, the default of
    /// `Interval`.
    pub fn system_clock(mut self) -> Self {
        self.clock = Some(Clock::system());
        self
    }

    /// The gas limit of a block, 55 million if not set.
    pub fn block_gas_limit(mut self, gas: u64) -> Self {
        self.block_gas_limit = gas;
        self
    }

    /// The least that the pool takes, in wei per gas; 0.05 gwei if not set.
    pub fn gas_price_floor(mut self, wei: u128) -> Self {
        self.gas_price_floor = wei;
        self
    }

    /// Blocks between the head and the newest finalized block, 2 if not set;
    /// `safe` is half as far back, rounded up.
    pub fn finality_lag(mut self, blocks: u64) -> Self {
        self.finality_lag = blocks;
        self
    }

    /// Blocks whose state can be read or reorganized away, 4096 if not set.
    pub fn history(mut self, blocks: usize) -> Self {
        self.history = blocks;
        self
    }

    /// Builds block 0 and starts mining.
    ///
    /// # Errors
    /// A genesis step that fails, the id of a real network without leave, or
    /// interval mining outside of a tokio runtime.
    pub fn start(self) -> Result<DevChain, StartError> {
        self.check_chain_id()?;
        let clock = self.clock.unwrap_or_else(|| match self.block_time {
            BlockTime::Interval(_) => Clock::system(),
            BlockTime::Instant | BlockTime::Manual => Clock::stepped(START_TIME),
        });
        let runtime = match self.block_time {
            BlockTime::Interval(interval) => {
                let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
                Some((runtime, interval))
            }
            BlockTime::Instant | BlockTime::Manual => None,
        };
        let settings = Settings {
            chain_id: self.chain_id,
            block_gas_limit: self.block_gas_limit,
            finality_lag: self.finality_lag,
            history: self.history,
        };
        let chain = Chain::new(settings, clock, &self.genesis)?;
        let instant = self.block_time == BlockTime::Instant;
        let node = Arc::new(Node::new(chain, instant, self.gas_price_floor));
        let chain = DevChain::new(node);
        if let Some((runtime, interval)) = runtime {
            runtime.spawn(mine(chain.world(), interval, chain.stopped()));
        }
        Ok(chain)
    }

    fn check_chain_id(&self) -> Result<(), StartError> {
        if is_development_chain_id(self.chain_id) {
            return Ok(());
        }
        if !self.real_chain_id {
            return Err(StartError::RealChainId(self.chain_id));
        }
        match self.genesis.addresses().find(|a| is_dev_account(*a)) {
            Some(address) => Err(StartError::WellKnownAccount {
                chain_id: self.chain_id,
                address,
            }),
            None => Ok(()),
        }
    }
}

/// Makes a block per interval until stopped or until the chain is gone.
async fn mine(world: Weak<World>, interval: Duration, mut stop: watch::Receiver<bool>) {
    // An interval of 0 would panic in the timer.
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate: block 0 has just been made.
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        match world.upgrade() {
            Some(world) => world.tick(),
            None => return,
        }
    }
}
