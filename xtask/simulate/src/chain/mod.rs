//! The chain: a pool, blocks, reorganizations above the finalized block and never below it.

pub(crate) mod node;
pub(crate) mod state;

use std::sync::Arc;

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, TxKind};
use tollgate_bsc::{BlockId, BlockRef, Log, TxReceipt};
use tollgate_x402::Timestamp;

use self::state::{Effects, Move, Purse, State, What};
use crate::{
    names::{OPERATORS, operator_of},
    rng::Rng,
};

/// The number of the first block: there are blocks below every one that is asked for.
const FIRST: u64 = 1_000;

/// Milliseconds between blocks.
pub(crate) const BLOCK_MS: u64 = 450;

/// What a payer, or a stranger, does on the chain.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Permit2's `invalidateUnorderedNonces`, or EIP-3009's `cancelAuthorization`.
    Void(usize, What),
    /// `approve(Permit2, amount)`.
    ApprovePermit2(usize, u64),
    /// `approve(seller, amount)`.
    ApproveSeller(usize, u64),
    /// Money goes elsewhere.
    Send(usize, u64),
    /// Money comes in.
    Receive(usize, u64),
    /// EIP-7702: the account gains code, or loses it.
    Code(usize, bool),
    /// The token's owner freezes a payer, or thaws it.
    Freeze(usize, bool),
    /// The same Permit2 nonce, settled by another seller.
    Elsewhere(usize, alloy_primitives::U256, u64),
    /// Somebody submits a permit that he saw: owner, spender, value, deadline, signature.
    Permit(Address, Address, u64, u64, B256),
    /// Somebody submits a signed transfer that he saw.
    Transfer(Box<Signed3009>),
    /// Another ledger draws a payer's counter.
    Foreign(usize, u64),
    /// The token is paused, or goes on.
    Pause(bool),
    /// An operator is dismissed, or appointed.
    Dismiss(usize, bool),
}

/// An EIP-3009 transfer.
#[derive(Clone, Debug)]
pub(crate) struct Signed3009 {
    pub(crate) owner: Address,
    pub(crate) to: Address,
    pub(crate) amount: u64,
    pub(crate) valid: (u64, u64),
    pub(crate) nonce: B256,
    pub(crate) signature: B256,
}

/// A transaction.
#[derive(Clone, Debug)]
pub(crate) struct Tx {
    pub(crate) hash: B256,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Of one of the seller's accounts.
    Ours {
        from: usize,
        nonce: u64,
        price: u128,
        to: Address,
        input: Bytes,
    },
    /// Of anybody else.
    Act(Act),
}

/// A block.
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) parent: usize,
    /// Seconds.
    pub(crate) time: u64,
    /// The newest finalized block when this one was made.
    pub(crate) finalized: u64,
    pub(crate) state: Arc<State>,
    pub(crate) txs: Vec<Tx>,
    pub(crate) receipts: Vec<TxReceipt>,
    /// What moved, and by which transaction.
    pub(crate) moves: Vec<(B256, Move)>,
}

impl Block {
    pub(crate) fn id(&self) -> BlockId {
        BlockId {
            number: self.number,
            hash: self.hash,
        }
    }

    pub(crate) fn told(&self) -> BlockRef {
        BlockRef {
            number: self.number,
            hash: self.hash,
            timestamp: Timestamp(self.time),
        }
    }
}

/// The chain as it truly is, beside what nodes say of it.
pub(crate) struct Chain {
    /// Every block that ever was.
    pub(crate) blocks: Vec<Block>,
    /// The canonical ones by height, the first at 0.
    pub(crate) canonical: Vec<usize>,
    /// The height of the finalized one.
    pub(crate) final_height: usize,
    /// Blocks between the newest and the finalized one.
    pub(crate) lag: usize,
    pub(crate) pool: Vec<Tx>,
    /// The least price with which a transaction gets in.
    pub(crate) floor: u128,
    /// Bytes that were read, so that hashing them once is enough.
    known: Vec<(Bytes, Tx)>,
    hashes: u64,
}

/// How a pool took a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    Known,
    NonceTooLow,
    Gap,
    Underpriced,
    Replacement,
    Invalid,
}

impl Chain {
    pub(crate) fn new(purses: Vec<Purse>, time: u64, lag: usize) -> Self {
        let state = State {
            purses,
            ..State::default()
        };
        let genesis = Block {
            number: FIRST,
            hash: hash_of(0),
            parent: 0,
            time,
            finalized: FIRST,
            state: Arc::new(state),
            txs: Vec::new(),
            receipts: Vec::new(),
            moves: Vec::new(),
        };
        Self {
            blocks: vec![genesis],
            canonical: vec![0],
            final_height: 0,
            lag,
            pool: Vec::new(),
            floor: 0,
            known: Vec::new(),
            hashes: 1,
        }
    }

    pub(crate) fn tip(&self) -> usize {
        self.canonical.last().copied().unwrap_or_default()
    }

    pub(crate) fn head(&self) -> &Block {
        &self.blocks[self.tip()]
    }

    pub(crate) fn state(&self) -> &State {
        &self.head().state
    }

    /// The finalized block.
    pub(crate) fn finalized(&self) -> &Block {
        &self.blocks[self.canonical[self.final_height]]
    }

    /// Finalized blocks above a height.
    pub(crate) fn finalized_above(&self, height: usize) -> impl Iterator<Item = &Block> {
        self.canonical
            .iter()
            .take(self.final_height + 1)
            .skip(height + 1)
            .map(|index| &self.blocks[*index])
    }

    /// The block of this number on the branch of `tip`.
    pub(crate) fn at(&self, tip: usize, number: u64) -> Option<&Block> {
        let mut block = &self.blocks[tip];
        if number > block.number || number < FIRST {
            return None;
        }
        let height = usize::try_from(number - FIRST).unwrap_or_default();
        loop {
            // Where the branch joins the canonical one the rest is known by height.
            let place = usize::try_from(block.number - FIRST).unwrap_or_default();
            let joined = self.canonical.get(place).map(|index| &self.blocks[*index]);
            if joined.is_some_and(|joined| joined.hash == block.hash) {
                return self.canonical.get(height).map(|index| &self.blocks[*index]);
            }
            if block.number == number {
                return Some(block);
            }
            block = &self.blocks[block.parent];
        }
    }

    /// A transaction's receipt on the branch of `tip`.
    pub(crate) fn receipt(&self, tip: usize, hash: B256) -> Option<TxReceipt> {
        self.blocks
            .iter()
            .rev()
            .flat_map(|block| &block.receipts)
            .find(|receipt| {
                receipt.hash == hash
                    && self
                        .at(tip, receipt.block.number)
                        .is_some_and(|block| block.hash == receipt.block.hash)
            })
            .cloned()
    }

    /// A transaction that waits, or is in a block of this branch.
    pub(crate) fn transaction(&self, tip: usize, hash: B256) -> Option<&Tx> {
        let same = |tx: &&Tx| tx.hash == hash;
        let block = self.receipt(tip, hash).map(|receipt| receipt.block.number);
        block
            .and_then(|number| self.at(tip, number)?.txs.iter().find(same))
            .or_else(|| self.pool.iter().find(same))
    }

    /// What an operator's bytes say, if they are a transaction.
    pub(crate) fn read(&mut self, raw: &[u8]) -> Option<Tx> {
        if let Some((_, tx)) = self.known.iter().rev().find(|(bytes, _)| **bytes == *raw) {
            return Some(tx.clone());
        }
        let tx = Self::decode(raw)?;
        self.known.push((Bytes::copy_from_slice(raw), tx.clone()));
        Some(tx)
    }

    fn decode(raw: &[u8]) -> Option<Tx> {
        let envelope = TxEnvelope::decode_2718_exact(raw).ok()?;
        let signed = envelope.as_eip1559()?;
        // The simulated wallet signs with its address.
        let r = signed.signature().r().to_be_bytes::<32>();
        let from = operator_of(Address::from_slice(r.get(12..)?))?;
        let TxKind::Call(to) = signed.tx().to else {
            return None;
        };
        Some(Tx {
            hash: *envelope.tx_hash(),
            body: Body::Ours {
                from,
                nonce: signed.tx().nonce,
                price: signed.tx().max_priority_fee_per_gas,
                to,
                input: envelope.input().clone(),
            },
        })
    }

    /// Offers a transaction to the pool, as a node whose newest block is `tip` does.
    pub(crate) fn offer(&mut self, tip: usize, tx: Tx) -> Taken {
        let Body::Ours {
            from, nonce, price, ..
        } = &tx.body
        else {
            self.pool.push(tx);
            return Taken::New;
        };
        let (from, nonce, price) = (*from, *nonce, *price);
        if self.pool.iter().any(|known| known.hash == tx.hash) {
            return Taken::Known;
        }
        let next = self.blocks[tip].state.nonces[from];
        if nonce < next {
            return Taken::NonceTooLow;
        }
        if nonce > next + 32 {
            return Taken::Gap;
        }
        if price < self.floor {
            return Taken::Underpriced;
        }
        let same = self.pool.iter().position(|known| {
            matches!(&known.body, Body::Ours { from: by, nonce: n, .. } if *by == from && *n == nonce)
        });
        if let Some(place) = same {
            let Body::Ours { price: known, .. } = &self.pool[place].body else {
                return Taken::Invalid;
            };
            if price < known + known / 10 {
                return Taken::Replacement;
            }
            self.pool.remove(place);
        }
        self.pool.push(tx);
        Taken::New
    }

    /// Does something as anybody can.
    pub(crate) fn act(&mut self, act: Act) {
        self.hashes += 1;
        let hash = hash_of(self.hashes | 1 << 63);
        self.pool.push(Tx {
            hash,
            body: Body::Act(act),
        });
    }

    /// The next block.
    pub(crate) fn mine(&mut self, time: u64, luck: u64, rng: &mut Rng, finalize: bool) {
        let parent = self.tip();
        let mut state = Arc::clone(&self.blocks[parent].state);
        let time = time.max(self.blocks[parent].time);
        self.hashes += 1;
        let (number, hash) = (self.blocks[parent].number + 1, hash_of(self.hashes));
        let mut block = Block {
            number,
            hash,
            parent,
            time,
            finalized: self.finalized().number,
            state: Arc::clone(&state),
            txs: Vec::new(),
            receipts: Vec::new(),
            moves: Vec::new(),
        };
        if !self.pool.is_empty() {
            let pool = core::mem::take(&mut self.pool);
            let acts_first = rng.permille(500);
            let (acts, ours): (Vec<Tx>, Vec<Tx>) = pool
                .into_iter()
                .partition(|tx| matches!(tx.body, Body::Act(_)));
            if acts_first {
                self.run_acts(acts, luck, rng, &mut state, &mut block);
                self.run_ours(ours, luck, rng, &mut state, &mut block);
            } else {
                self.run_ours(ours, luck, rng, &mut state, &mut block);
                self.run_acts(acts, luck, rng, &mut state, &mut block);
            }
        }
        block.state = state;
        self.canonical.push(self.blocks.len());
        self.blocks.push(block);
        if finalize {
            let height = self.canonical.len() - 1;
            self.final_height = self.final_height.max(height.saturating_sub(self.lag));
        }
        let finalized = self.finalized().number;
        if let Some(block) = self.blocks.last_mut() {
            block.finalized = finalized;
        }
    }

    fn run_acts(
        &mut self,
        acts: Vec<Tx>,
        luck: u64,
        rng: &mut Rng,
        state: &mut Arc<State>,
        block: &mut Block,
    ) {
        for tx in acts {
            // The token's owner and the admin do one thing after the other.
            let ordered = matches!(tx.body, Body::Act(Act::Pause(_) | Act::Dismiss(..)));
            if !ordered && !rng.permille(luck) {
                self.pool.push(tx);
                continue;
            }
            if let Body::Act(act) = &tx.body {
                let mut effects = Effects::default();
                Arc::make_mut(state).act(act, block.time, &mut effects);
                block.settle(&tx, Address::ZERO, true, effects);
                block.txs.push(tx);
            }
        }
    }

    fn run_ours(
        &mut self,
        mut ours: Vec<Tx>,
        luck: u64,
        rng: &mut Rng,
        state: &mut Arc<State>,
        block: &mut Block,
    ) {
        for account in 0..OPERATORS {
            loop {
                let next = state.nonces[account];
                let place = ours.iter().position(|tx| {
                    matches!(&tx.body, Body::Ours { from, nonce, price, .. }
                        if *from == account && *nonce == next && *price >= self.floor)
                });
                let Some(place) = place.filter(|_| rng.permille(luck)) else {
                    break;
                };
                let tx = ours.remove(place);
                let Body::Ours {
                    from, to, input, ..
                } = &tx.body
                else {
                    continue;
                };
                let after = Arc::make_mut(state);
                let done = after.call(*from, *to, input, block.time);
                after.nonces[account] += 1;
                let success = done.is_ok();
                let effects = done.unwrap_or_default();
                block.settle(&tx, crate::names::operator(account), success, effects);
                block.txs.push(tx);
            }
        }
        ours.retain(|tx| match &tx.body {
            Body::Ours { from, nonce, .. } => *nonce >= state.nonces[*from],
            Body::Act(_) => true,
        });
        self.pool.append(&mut ours);
    }

    /// Takes the newest blocks out, at most down to the finalized one. Their transactions go back into the pool, or are
    /// forgotten. How many blocks.
    pub(crate) fn reorganize(&mut self, depth: usize, keep: u64, rng: &mut Rng) -> usize {
        let most = self.canonical.len() - 1 - self.final_height;
        let depth = depth.min(most);
        let out = self.canonical.split_off(self.canonical.len() - depth);
        // In the order in which they were: what was done last stays last.
        let mut back: Vec<Tx> = Vec::new();
        for index in out {
            for tx in self.blocks[index].txs.clone() {
                // Transactions that carry a signature of somebody else are nobody's to send again.
                let act = match &tx.body {
                    Body::Act(Act::Permit(..) | Act::Transfer(_)) | Body::Ours { .. } => false,
                    Body::Act(_) => true,
                };
                let known = self.pool.iter().any(|known| known.hash == tx.hash);
                if (act || rng.permille(keep)) && !known {
                    back.push(tx);
                }
            }
        }
        back.append(&mut self.pool);
        self.pool = back;
        depth
    }
}

impl Block {
    fn settle(&mut self, tx: &Tx, from: Address, success: bool, effects: Effects) {
        let id = self.id();
        let first: usize = self.receipts.iter().map(|receipt| receipt.logs.len()).sum();
        let logs = effects
            .logs
            .into_iter()
            .enumerate()
            .map(|(place, (address, data))| Log {
                address,
                topics: data.topics().to_vec(),
                data: data.data,
                index: (first + place) as u64,
                transaction: tx.hash,
                block: id,
            })
            .collect();
        let (to, price) = match &tx.body {
            Body::Ours { to, price, .. } => (Some(*to), *price),
            Body::Act(_) => (None, 1),
        };
        self.receipts.push(TxReceipt {
            hash: tx.hash,
            block: id,
            success,
            from,
            to,
            gas_used: 100_000,
            gas_price: price,
            logs,
        });
        let moves = effects.moves.into_iter().map(|moved| (tx.hash, moved));
        self.moves.extend(moves);
    }
}

impl State {
    fn act(&mut self, act: &Act, now: u64, effects: &mut Effects) {
        match act {
            Act::Void(payer, what) => match what {
                What::Permit2(nonce) => self.purses[*payer].permit2_used.push(*nonce),
                What::Eip3009(nonce) => self.purses[*payer].eip3009_used.push(*nonce),
                What::Interval(..) | What::Plain | What::Away => {}
            },
            Act::ApprovePermit2(payer, amount) => self.purses[*payer].permit2 = *amount,
            Act::ApproveSeller(payer, amount) => self.purses[*payer].seller = *amount,
            Act::Send(payer, amount) => {
                let purse = &mut self.purses[*payer];
                purse.balance = purse.balance.saturating_sub(*amount);
            }
            Act::Receive(payer, amount) => self.purses[*payer].balance += amount,
            Act::Code(payer, code) => self.purses[*payer].code = *code,
            Act::Freeze(payer, frozen) => self.purses[*payer].frozen = *frozen,
            Act::Elsewhere(payer, nonce, amount) => {
                let purse = &mut self.purses[*payer];
                if !purse.permit2_used.contains(nonce) && purse.balance >= *amount {
                    purse.permit2_used.push(*nonce);
                    purse.balance -= amount;
                }
            }
            Act::Permit(owner, spender, value, deadline, signature) => {
                // It fails if it was submitted already.
                let _ = self.permit(*owner, *spender, *value, *deadline, *signature, now);
            }
            Act::Transfer(signed) => {
                let mut copy = self.clone();
                let mut own = Effects::default();
                let done = copy.authorized(
                    signed.owner,
                    signed.to,
                    signed.amount,
                    signed.valid,
                    signed.nonce,
                    signed.signature,
                    now,
                    &mut own,
                );
                if done.is_ok() {
                    *self = copy;
                    *effects = own;
                }
            }
            Act::Foreign(payer, amount) => {
                let purse = &mut self.purses[*payer];
                if purse.seller >= *amount && purse.balance >= *amount {
                    let from = purse.charged;
                    purse.seller -= amount;
                    purse.balance -= amount;
                    purse.charged += amount;
                    effects.moves.push(Move {
                        payer: *payer,
                        amount: *amount,
                        what: What::Interval(from, from + amount),
                    });
                }
            }
            Act::Pause(paused) => self.paused = *paused,
            Act::Dismiss(operator, dismissed) => self.dismissed[*operator] = *dismissed,
        }
    }
}

fn hash_of(number: u64) -> B256 {
    let mut rng = Rng::new(number);
    let mut bytes = [0; 32];
    for lane in bytes.chunks_mut(8) {
        lane.copy_from_slice(&rng.next().to_be_bytes());
    }
    B256::from(bytes)
}
