#![doc = include_str!("../README.md")]

mod accounts;
mod block;
mod builder;
mod chain;
mod clock;
mod devchain;
mod development;
mod error;
mod evm;
mod faults;
mod genesis;
mod http;
mod node;
mod pool;
mod revert;
mod rpc;
mod state;

pub use accounts::{DEV_ACCOUNTS, DEV_MNEMONIC, DevAccount, dev_accounts, is_dev_account};
pub use builder::{
    BlockTime, Builder, DEFAULT_BLOCK_TIME, DEFAULT_CHAIN_ID, is_development_chain_id,
};
pub use chain::{FEE_RECIPIENT, Orphans};
pub use clock::START_TIME;
pub use devchain::DevChain;
pub use development::{DEV_SETTLER, Development};
pub use error::{ReorgError, StartError};
pub use faults::{Fault, Faults};
pub use genesis::{Genesis, GenesisAccount};
pub use node::GAS_PRICE_FLOOR;
pub use pool::TX_GAS_CAP;
pub use rpc::RpcError;
