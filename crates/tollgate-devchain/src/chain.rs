//! The chain itself: blocks over state, tags, mining, reorgs. It knows nothing
//! of JSON-RPC.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use alloy_consensus::transaction::Recovered;
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Transaction as _, TxEnvelope, proofs};
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};

use crate::{
    block::{Block, Mined, tip},
    clock::Clock,
    error::{ReorgError, StartError},
    evm::{self, Mode},
    genesis::Genesis,
    pool::{Pool, Refused, Rules},
    state::{State, Undo, View},
};

/// The account that fees go to: the system address of BSC's consensus.
pub const FEE_RECIPIENT: Address = address!("fffffffffffffffffffffffffffffffffffffffe");

/// What does not change while a chain lives.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) chain_id: u64,
    pub(crate) block_gas_limit: u64,
    /// Blocks between the head and the newest finalized block.
    pub(crate) finality_lag: u64,
    /// Blocks whose state is remembered.
    pub(crate) history: usize,
}

/// What becomes of the transactions of removed blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// They are gone, as if the network never saw them again.
    #[default]
    Vanish,
    /// They wait in the pool for the next block.
    ReturnToPool,
}

/// Blocks, state and pool.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) settings: Arc<Settings>,
    pub(crate) state: State,
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) finality_frozen: bool,
    blocks: Vec<Arc<Block>>,
    /// Undo records of the newest blocks, oldest first.
    undos: VecDeque<Undo>,
    numbers: HashMap<B256, u64>,
    places: HashMap<B256, (u64, usize)>,
    safe: u64,
    finalized: u64,
    /// How often the chain was reorganized: part of each header, so that a
    /// block that replaces another has another hash.
    forks: u64,
}

impl Chain {
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        genesis: &Genesis,
    ) -> Result<Self, StartError> {
        let header = Header {
            timestamp: clock.now(),
            gas_limit: settings.block_gas_limit,
            ..blank_header()
        };
        let state = genesis.build(settings.chain_id, &header)?;
        let mut chain = Self {
            settings: Arc::new(settings),
            state,
            pool: Pool::default(),
            clock,
            finality_frozen: false,
            blocks: Vec::new(),
            undos: VecDeque::new(),
            numbers: HashMap::new(),
            places: HashMap::new(),
            safe: 0,
            finalized: 0,
            forks: 0,
        };
        chain.push(header, Vec::new());
        Ok(chain)
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        // The genesis block is never removed.
        &self.blocks[self.blocks.len() - 1]
    }

    pub(crate) fn height(&self) -> u64 {
        self.head().header.number
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_by_hash(&self, hash: B256) -> Option<&Arc<Block>> {
        self.block(*self.numbers.get(&hash)?)
    }

    /// The block and index of a transaction.
    pub(crate) fn place(&self, tx: B256) -> Option<(&Arc<Block>, usize)> {
        let (number, index) = self.places.get(&tx)?;
        Some((self.block(*number)?, *index))
    }

    pub(crate) fn finalized(&self) -> u64 {
        self.finalized
    }

    /// The number that a tag means to someone who sees the chain up to
    /// `head`.
    pub(crate) fn resolve(&self, tag: BlockNumberOrTag, head: u64) -> u64 {
        match tag {
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => head,
            BlockNumberOrTag::Safe => self.safe.min(head),
            BlockNumberOrTag::Finalized => self.finalized.min(head),
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Number(number) => number,
        }
    }

    /// The state after a block, if it is still remembered.
    pub(crate) fn view(&self, number: u64) -> Option<View<'_>> {
        let above = usize::try_from(self.height().checked_sub(number)?).ok()?;
        if above > self.undos.len() {
            return None;
        }
        let undos = self.undos.iter().rev().take(above);
        Some(View::new(&self.state, &self.blocks, undos))
    }

    /// Whether a transaction may enter the pool at this price floor.
    pub(crate) fn check(&self, tx: &Recovered<TxEnvelope>, floor: u128) -> Result<(), Refused> {
        if self.places.contains_key(tx.tx_hash()) {
            return Err(Refused::AlreadyKnown);
        }
        let rules = Rules {
            chain_id: self.settings.chain_id,
            block_gas_limit: self.settings.block_gas_limit,
            floor,
        };
        self.pool.check(tx, &self.state, rules)
    }

    /// Puts a checked transaction into the pool; it is included `delay` blocks
    /// later than it could be.
    pub(crate) fn submit(&mut self, tx: Recovered<TxEnvelope>, delay: u64) {
        let next = self.height().saturating_add(1);
        self.pool.put(tx, next.saturating_add(delay));
    }

    /// The header of the block that would come next.
    pub(crate) fn next_header(&self) -> Header {
        let parent = self.head();
        let number = parent.header.number + 1;
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        seed[8..].copy_from_slice(&self.forks.to_be_bytes());
        Header {
            parent_hash: parent.hash,
            number,
            timestamp: self.clock.now().max(parent.header.timestamp),
            gas_limit: self.settings.block_gas_limit,
            mix_hash: keccak256(seed),
            ..blank_header()
        }
    }

    /// Makes one block of what waits.
    pub(crate) fn mine(&mut self) -> &Arc<Block> {
        let header = self.next_header();
        let mut txs: Vec<Mined> = Vec::new();
        let mut skip: Vec<Address> = Vec::new();
        let (mut gas_used, mut logs) = (0u64, 0u64);
        loop {
            let gas_left = header.gas_limit.saturating_sub(gas_used);
            let best = self.pool.best(&self.state, header.number, gas_left, &skip);
            let Some((tx, hash)) = best.map(|best| (best.tx.clone(), best.hash)) else {
                break;
            };
            let (result, changes) = match self.execute(&header, &tx) {
                Ok(done) => done,
                Err(error) => {
                    // It was good when it came in, and is no more.
                    if unpayable(&error) {
                        self.pool.remove(hash);
                    }
                    skip.push(tx.signer());
                    continue;
                }
            };
            self.state.apply(changes);
            self.pool.remove(hash);
            let mined = mined(tx, hash, result, gas_used, logs);
            gas_used = mined.cumulative_gas_used;
            logs += u64::try_from(mined.logs.len()).unwrap_or(0);
            txs.push(mined);
        }
        self.push(header, txs);
        self.pool.prune(&self.state);
        self.advance_finality();
        self.head()
    }

    fn execute(
        &self,
        header: &Header,
        tx: &Recovered<TxEnvelope>,
    ) -> Result<(ExecutionResult, revm::state::EvmState), EVMError<std::convert::Infallible>> {
        let view = View::new(&self.state, &self.blocks, std::iter::empty());
        let env = evm::block_env(header);
        let chain_id = self.settings.chain_id;
        evm::run(view, chain_id, env, evm::tx_env(tx), Mode::Block)
    }

    fn push(&mut self, mut header: Header, txs: Vec<Mined>) {
        let receipts: Vec<_> = txs.iter().map(Mined::receipt).collect();
        let envelopes: Vec<&TxEnvelope> = txs.iter().map(|mined| mined.tx.inner()).collect();
        header.transactions_root = proofs::calculate_transaction_root(&envelopes);
        header.receipts_root = proofs::calculate_receipt_root(&receipts);
        header.logs_bloom = txs
            .iter()
            .fold(Default::default(), |all, tx| all | tx.bloom());
        header.gas_used = txs.last().map_or(0, |tx| tx.cumulative_gas_used);
        let hash = header.hash_slow();
        let number = header.number;
        self.clock.tick(header.timestamp);
        self.numbers.insert(hash, number);
        for (index, tx) in txs.iter().enumerate() {
            self.places.insert(tx.hash, (number, index));
        }
        self.blocks.push(Arc::new(Block { header, hash, txs }));
        if number > 0 {
            self.undos.push_back(self.state.seal());
            if self.undos.len() > self.settings.history {
                self.undos.pop_front();
            }
        }
    }

    /// Moves `safe` and `finalized` up to what the head allows. They never
    /// move back.
    pub(crate) fn advance_finality(&mut self) {
        if self.finality_frozen {
            return;
        }
        let head = self.height();
        let lag = self.settings.finality_lag;
        self.finalized = self.finalized.max(head.saturating_sub(lag));
        let safe = head.saturating_sub(lag.div_ceil(2));
        self.safe = self.safe.max(safe).max(self.finalized);
    }

    /// Changes the state outside of a transaction. The change belongs to the
    /// head block: a reorg that removes the block takes it back.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state);
        let undo = self.state.seal();
        if let Some(last) = self.undos.back_mut() {
            last.absorb(undo);
        }
    }

    /// Replaces the newest `depth` blocks by as many empty ones.
    pub(crate) fn reorg(&mut self, depth: u64, orphans: Orphans) -> Result<(), ReorgError> {
        let head = self.height();
        if head.saturating_sub(depth) < self.finalized || depth > head {
            return Err(ReorgError::Finalized {
                depth,
                head,
                finalized: self.finalized,
            });
        }
        let kept = u64::try_from(self.undos.len()).unwrap_or(u64::MAX);
        if depth > kept {
            return Err(ReorgError::Forgotten { depth, kept });
        }
        let mut removed = Vec::new();
        for _ in 0..depth {
            if let (Some(block), Some(undo)) = (self.blocks.pop(), self.undos.pop_back()) {
                self.state.rollback(undo);
                self.numbers.remove(&block.hash);
                for tx in &block.txs {
                    self.places.remove(&tx.hash);
                }
                removed.push(block);
            }
        }
        self.forks += 1;
        self.safe = self.safe.min(self.height()).max(self.finalized);
        for _ in 0..depth {
            let header = self.next_header();
            self.push(header, Vec::new());
        }
        if orphans == Orphans::ReturnToPool {
            for block in removed.into_iter().rev() {
                for tx in &block.txs {
                    // A transaction of the same nonce that came in later stays.
                    let taken = self.pool.next_nonce(tx.tx.signer(), tx.tx.nonce());
                    if taken == tx.tx.nonce() {
                        self.pool.put(tx.tx.clone(), 0);
                    }
                }
            }
        }
        self.advance_finality();
        Ok(())
    }
}

/// Whether the sender's funds are the cause, so that the transaction leaves
/// the pool rather than wait.
fn unpayable(error: &EVMError<std::convert::Infallible>) -> bool {
    matches!(
        error,
        EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { .. })
    )
}

fn mined(
    tx: Recovered<TxEnvelope>,
    hash: B256,
    result: ExecutionResult,
    gas_before: u64,
    first_log: u64,
) -> Mined {
    let gas_used = result.tx_gas_used();
    let success = result.is_success();
    // CREATE's rule gives the address, whether or not the creation succeeded.
    let contract = tx
        .kind()
        .is_create()
        .then(|| tx.signer().create(tx.nonce()));
    Mined {
        hash,
        success,
        gas_used,
        cumulative_gas_used: gas_before + gas_used,
        price: tip(&tx),
        contract,
        // What a failed transaction logged is undone with it.
        logs: match result {
            ExecutionResult::Success { logs, .. } => logs,
            _ => Vec::new(),
        },
        first_log,
        tx,
    }
}

/// The fields that are the same in every header.
fn blank_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: FEE_RECIPIENT,
        // BSC's validators that are in turn write 2.
        difficulty: U256::from(2),
        extra_data: Bytes::from_static(b"tollgate-devchain"),
        base_fee_per_gas: Some(0),
        ..Header::default()
    }
}
