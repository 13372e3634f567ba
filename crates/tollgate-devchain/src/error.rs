//! What can go wrong when a chain is started or steered from Rust.

use alloy_primitives::Address;

/// A chain could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Interval mining was asked for outside of a tokio runtime.
    #[error(
        "mining at an interval needs a tokio runtime; start the chain inside of one, or mine by hand"
    )]
    NoRuntime,
    /// A contract of the genesis did not run.
    #[error("the genesis step at {address} failed: {reason}")]
    Genesis {
        /// The contract that was deployed or called.
        address: Address,
        /// Why it failed.
        reason: String,
    },
    /// A signature for this chain would be worth money on the real one.
    #[error(
        "chain id {0} may be a real network's, and signatures made here would be valid there; use 31337, or allow it explicitly with `allow_real_chain_id`"
    )]
    RealChainId(u64),
    /// The chain id of a real network together with keys that everybody has.
    #[error(
        "{address} is a well-known development account: on chain id {chain_id} use keys made for this run, or anyone could spend there what is signed here"
    )]
    WellKnownAccount {
        /// The chain id asked for.
        chain_id: u64,
        /// The account in the genesis.
        address: Address,
    },
}

/// A reorg that no chain of this kind would make.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReorgError {
    /// Finalized blocks stay.
    #[error(
        "a reorg of {depth} blocks at block {head} would remove finalized block {finalized}; freeze finality or raise its lag first"
    )]
    Finalized {
        /// Blocks to remove.
        depth: u64,
        /// The newest block.
        head: u64,
        /// The newest finalized block.
        finalized: u64,
    },
    /// The undo records do not reach that far.
    #[error("the chain remembers the state of {kept} blocks, a reorg of {depth} is deeper")]
    Forgotten {
        /// Blocks to remove.
        depth: u64,
        /// Blocks that can be undone.
        kept: u64,
    },
}
