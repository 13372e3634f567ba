//! The transaction pool, with the rules and the words of BSC's client (geth).

use std::collections::{BTreeMap, HashMap};

use alloy_consensus::{Transaction as _, TxEnvelope, transaction::Recovered};
use alloy_primitives::{Address, B256, U256, map::AddressMap, utils::format_ether};
use revm::{context_interface::cfg::GasParams, primitives::eip3860};

use crate::{block::tip, evm, state::State};

/// The most gas one transaction may have (EIP-7825): 2^24.
pub const TX_GAS_CAP: u64 = 1 << 24;

/// What a node refuses to pay in fees for one transaction sent to it over
/// JSON-RPC: 1 BNB in wei.
const RPC_FEE_CAP: u128 = 1_000_000_000_000_000_000;

/// The percentage by which a replacement has to pay more.
const PRICE_BUMP: u128 = 10;

/// A transaction that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) tx: Recovered<TxEnvelope>,
    pub(crate) hash: B256,
    /// The order of arrival, which decides between equal prices.
    arrival: u64,
    /// The first block that may include it.
    not_before: u64,
}

/// Why the pool refuses a transaction. The texts are geth's, since clients
/// tell the cases apart by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("already known")]
    AlreadyKnown,
    #[error("transaction type not supported")]
    UnsupportedType,
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    ChainId { have: u64, want: u64 },
    #[error("invalid sender")]
    Sender,
    #[error("sender not an eoa: address {0}")]
    SenderHasCode(Address),
    #[error("tx fee ({0} ether) exceeds the configured cap (1.00 ether)")]
    FeeCap(String),
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    #[error("transaction underpriced: gas tip cap {tip}, minimum needed {floor}")]
    Underpriced { tip: u128, floor: u128 },
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error("nonce too low: next nonce {next}, tx nonce {tx}")]
    NonceTooLow { next: u64, tx: u64 },
    #[error("nonce has max value: address {0}, nonce: {max}", max = u64::MAX)]
    NonceMax(Address),
    #[error("transaction gas limit too high (cap: {TX_GAS_CAP}, tx: {0})")]
    GasAboveCap(u64),
    #[error("exceeds block gas limit")]
    GasAboveBlock,
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorGas { gas: u64, needed: u64 },
    #[error("max initcode size exceeded: code size {0}, limit {limit}", limit = eip3860::MAX_INITCODE_SIZE)]
    InitcodeSize(usize),
    #[error("EIP-7702 transaction with empty auth list")]
    NoAuthorizations,
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}",
        overshot = cost.saturating_sub(*balance)
    )]
    Funds { balance: U256, cost: U256 },
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}",
        overshot = queued.saturating_add(*cost).saturating_sub(*balance)
    )]
    QueuedFunds {
        balance: U256,
        queued: U256,
        cost: U256,
    },
}

/// The chain's side of the rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    pub(crate) block_gas_limit: u64,
    /// Wei per gas.
    pub(crate) floor: u128,
}

/// Waiting transactions by sender and nonce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    senders: AddressMap<BTreeMap<u64, Waiting>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    /// Whether the pool would take a transaction, alone or in place of another
    /// of the same nonce.
    pub(crate) fn check(
        &self,
        tx: &Recovered<TxEnvelope>,
        state: &State,
        rules: Rules,
    ) -> Result<(), Refused> {
        if self.by_hash.contains_key(tx.tx_hash()) {
            return Err(Refused::AlreadyKnown);
        }
        check_alone(tx, rules)?;
        self.check_sender(tx, state)
    }

    /// Puts a transaction in that was checked, in place of any other of its
    /// nonce.
    pub(crate) fn put(&mut self, tx: Recovered<TxEnvelope>, not_before: u64) {
        let (sender, nonce, hash) = (tx.signer(), tx.nonce(), *tx.tx_hash());
        self.arrivals += 1;
        let waiting = Waiting {
            tx,
            hash,
            arrival: self.arrivals,
            not_before,
        };
        if let Some(old) = self
            .senders
            .entry(sender)
            .or_default()
            .insert(nonce, waiting)
        {
            self.by_hash.remove(&old.hash);
        }
        self.by_hash.insert(hash, (sender, nonce));
    }

    fn check_sender(&self, tx: &Recovered<TxEnvelope>, state: &State) -> Result<(), Refused> {
        let sender = tx.signer();
        let account = state.account(sender).cloned().unwrap_or_default();
        if tx.nonce() < account.nonce {
            return Err(Refused::NonceTooLow {
                next: account.nonce,
                tx: tx.nonce(),
            });
        }
        if account
            .code
            .as_ref()
            .is_some_and(|code| !code.is_empty() && !code.is_eip7702())
        {
            return Err(Refused::SenderHasCode(sender));
        }
        let cost = cost(tx);
        if cost > account.balance {
            return Err(Refused::Funds {
                balance: account.balance,
                cost,
            });
        }
        let mine = self.senders.get(&sender);
        let replaced = mine.and_then(|txs| txs.get(&tx.nonce()));
        if let Some(old) = replaced {
            let bumped = |price: u128| price.saturating_mul(100 + PRICE_BUMP).div_ceil(100);
            let (fee, old_fee) = (tx.max_fee_per_gas(), old.tx.max_fee_per_gas());
            if fee < bumped(old_fee) || tip_cap(tx) < bumped(tip_cap(&old.tx)) {
                return Err(Refused::ReplacementUnderpriced);
            }
        }
        let queued = mine.into_iter().flatten().fold(U256::ZERO, |sum, (_, w)| {
            sum.saturating_add(self::cost(&w.tx))
        });
        let queued = queued.saturating_sub(replaced.map_or(U256::ZERO, |w| self::cost(&w.tx)));
        if queued.saturating_add(cost) > account.balance {
            return Err(Refused::QueuedFunds {
                balance: account.balance,
                queued,
                cost,
            });
        }
        Ok(())
    }

    pub(crate) fn get(&self, hash: B256) -> Option<&Waiting> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        self.senders.get(sender)?.get(nonce)
    }

    pub(crate) fn remove(&mut self, hash: B256) -> Option<Waiting> {
        let (sender, nonce) = self.by_hash.remove(&hash)?;
        let txs = self.senders.get_mut(&sender)?;
        let removed = txs.remove(&nonce);
        if txs.is_empty() {
            self.senders.remove(&sender);
        }
        removed
    }

    pub(crate) fn clear(&mut self) {
        *self = Self {
            arrivals: self.arrivals,
            ..Self::default()
        };
    }

    /// The next nonce to use after what waits without a gap.
    pub(crate) fn next_nonce(&self, sender: Address, from: u64) -> u64 {
        let Some(txs) = self.senders.get(&sender) else {
            return from;
        };
        let mut next = from;
        while txs.contains_key(&next) {
            next += 1;
        }
        next
    }

    /// How many transactions could go into a block, and how many wait for a
    /// nonce.
    pub(crate) fn counts(&self, state: &State) -> (u64, u64) {
        let (mut pending, mut all) = (0, 0);
        for (sender, txs) in &self.senders {
            let nonce = state.nonce(*sender);
            pending += self.next_nonce(*sender, nonce) - nonce;
            all += u64::try_from(txs.len()).unwrap_or(u64::MAX);
        }
        (pending, all.saturating_sub(pending))
    }

    /// The best paying transaction that may go into block `number` now.
    pub(crate) fn best(
        &self,
        state: &State,
        number: u64,
        gas_left: u64,
        skip: &[Address],
    ) -> Option<&Waiting> {
        self.senders
            .iter()
            .filter(|(sender, _)| !skip.contains(sender))
            .filter_map(|(sender, txs)| txs.get(&state.nonce(*sender)))
            .filter(|w| w.not_before <= number && w.tx.gas_limit() <= gas_left)
            .max_by_key(|w| (tip(&w.tx), std::cmp::Reverse(w.arrival)))
    }

    /// Forgets what the chain has passed.
    pub(crate) fn prune(&mut self, state: &State) {
        let mut gone = Vec::new();
        for (sender, txs) in &self.senders {
            let next = state.nonce(*sender);
            gone.extend(txs.range(..next).map(|(_, waiting)| waiting.hash));
        }
        for hash in gone {
            self.remove(hash);
        }
    }
}

/// The checks that need no state.
fn check_alone(tx: &Recovered<TxEnvelope>, rules: Rules) -> Result<(), Refused> {
    match tx.chain_id() {
        None => return Err(Refused::Unprotected),
        Some(have) if have != rules.chain_id => {
            return Err(Refused::ChainId {
                have,
                want: rules.chain_id,
            });
        }
        Some(_) => {}
    }
    // EIP-2681: it could not be followed by another.
    if tx.nonce() == u64::MAX {
        return Err(Refused::NonceMax(tx.signer()));
    }
    let gas = tx.gas_limit();
    let fee = tx.max_fee_per_gas().saturating_mul(u128::from(gas));
    if fee > RPC_FEE_CAP {
        return Err(Refused::FeeCap(format_ether(fee)));
    }
    let input = tx.input();
    if tx.kind().is_create() && input.len() > eip3860::MAX_INITCODE_SIZE {
        return Err(Refused::InitcodeSize(input.len()));
    }
    if gas > TX_GAS_CAP {
        return Err(Refused::GasAboveCap(gas));
    }
    if gas > rules.block_gas_limit {
        return Err(Refused::GasAboveBlock);
    }
    if tip_cap(tx) > tx.max_fee_per_gas() {
        return Err(Refused::TipAboveFeeCap);
    }
    if tx.authorization_list().is_some_and(<[_]>::is_empty) {
        return Err(Refused::NoAuthorizations);
    }
    let needed = GasParams::new_spec(evm::SPEC).initial_tx_gas_for_tx(evm::tx_env(tx), None);
    if gas < needed.initial_regular_gas {
        return Err(Refused::IntrinsicGas {
            gas,
            needed: needed.initial_regular_gas,
        });
    }
    if gas < needed.floor_gas {
        return Err(Refused::FloorGas {
            gas,
            needed: needed.floor_gas,
        });
    }
    if tip(tx) < rules.floor {
        return Err(Refused::Underpriced {
            tip: tip(tx),
            floor: rules.floor,
        });
    }
    Ok(())
}

fn tip_cap(tx: &TxEnvelope) -> u128 {
    tx.max_priority_fee_per_gas()
        .unwrap_or_else(|| tx.max_fee_per_gas())
}

/// The most that a transaction can take from its sender, in wei.
fn cost(tx: &TxEnvelope) -> U256 {
    U256::from(tx.max_fee_per_gas())
        .saturating_mul(U256::from(tx.gas_limit()))
        .saturating_add(tx.value())
}
