//! What the chain begins with.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use revm::{
    context::TxEnv,
    context::result::{ExecutionResult, Output},
};

use crate::{
    block::Block,
    error::StartError,
    evm::{self, Mode},
    state::{State, View},
};

/// The gas that a genesis step may use. It is not part of any block.
const STEP_GAS: u64 = 1_000_000_000;

/// An account at genesis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenesisAccount {
    /// Wei.
    pub balance: U256,
    /// The next nonce.
    pub nonce: u64,
    /// Runtime code; empty for a plain account.
    pub code: Bytes,
    /// Storage slots.
    pub storage: BTreeMap<U256, U256>,
}

/// The state before the first block: accounts as they are, then steps that run
/// in order, before any block, outside of gas limits and fees.
#[derive(Clone, Debug, Default)]
pub struct Genesis {
    accounts: BTreeMap<Address, GenesisAccount>,
    steps: Vec<Step>,
    /// Accounts that steps give rights to.
    owners: Vec<Address>,
}

#[derive(Clone, Debug)]
enum Step {
    Deploy {
        at: Address,
        from: Address,
        init_code: Bytes,
    },
    Call {
        from: Address,
        to: Address,
        data: Bytes,
    },
}

impl Genesis {
    /// No accounts at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets an account.
    #[must_use]
    pub fn account(mut self, address: Address, account: GenesisAccount) -> Self {
        self.accounts.insert(address, account);
        self
    }

    /// Gives an account a balance in wei.
    #[must_use]
    pub fn fund(mut self, address: Address, balance: U256) -> Self {
        self.accounts.entry(address).or_default().balance = balance;
        self
    }

    /// Gives an account runtime code.
    #[must_use]
    pub fn code(mut self, address: Address, code: impl Into<Bytes>) -> Self {
        self.accounts.entry(address).or_default().code = code.into();
        self
    }

    /// Places a contract at an address of choice: its constructor runs there
    /// (`address(this)` is `at`, `msg.sender` is `from`), and what it returns
    /// becomes the code. `init_code` ends with the constructor's arguments.
    #[must_use]
    pub fn deploy(mut self, at: Address, from: Address, init_code: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Deploy {
            at,
            from,
            init_code: init_code.into(),
        });
        self
    }

    /// Calls a contract, as `from`, with no value.
    #[must_use]
    pub fn call(mut self, from: Address, to: Address, data: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Call {
            from,
            to,
            data: data.into(),
        });
        self
    }

    /// Remembers who gets a say, so that a real chain id can be refused to
    /// keys that everybody has.
    pub(crate) fn owners(mut self, owners: impl IntoIterator<Item = Address>) -> Self {
        self.owners.extend(owners);
        self
    }

    /// The accounts that have something or a say.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.accounts.keys().chain(&self.owners).copied()
    }

    /// Builds the state; `header` is block 0.
    pub(crate) fn build(&self, chain_id: u64, header: &Header) -> Result<State, StartError> {
        let mut state = State::default();
        for (address, account) in &self.accounts {
            state.edit_account(*address, |info| {
                info.balance = account.balance;
                info.nonce = account.nonce;
            });
            if !account.code.is_empty() {
                state.set_code(*address, account.code.clone());
            }
            for (slot, value) in &account.storage {
                state.set_slot(*address, *slot, *value);
            }
        }
        for step in &self.steps {
            match step {
                Step::Deploy {
                    at,
                    from,
                    init_code,
                } => {
                    // The init code runs as if it were the contract's code:
                    // it reads its arguments with CODECOPY, writes the storage
                    // of `at`, and returns the runtime code.
                    state.set_code(*at, init_code.clone());
                    let runtime = run(&mut state, chain_id, header, *from, *at, Bytes::new())?;
                    state.set_code(*at, runtime);
                    // A created contract has nonce 1 (EIP-161).
                    state.edit_account(*at, |info| info.nonce = info.nonce.max(1));
                }
                Step::Call { from, to, data } => {
                    run(&mut state, chain_id, header, *from, *to, data.clone())?;
                }
            }
        }
        state.seal();
        Ok(state)
    }
}

fn run(
    state: &mut State,
    chain_id: u64,
    header: &Header,
    from: Address,
    to: Address,
    data: Bytes,
) -> Result<Bytes, StartError> {
    let no_blocks: &[Arc<Block>] = &[];
    let nonce = state.account(from).map(|info| info.nonce);
    let tx = TxEnv {
        caller: from,
        kind: TxKind::Call(to),
        data,
        gas_limit: STEP_GAS,
        chain_id: Some(chain_id),
        ..TxEnv::default()
    };
    let block = revm::context::BlockEnv {
        gas_limit: STEP_GAS,
        ..evm::block_env(header)
    };
    let view = View::new(state, no_blocks, std::iter::empty());
    let fail = |reason: String| StartError::Genesis {
        address: to,
        reason,
    };
    let (result, changes) = evm::run(view, chain_id, block, tx, Mode::Call)
        .map_err(|error| fail(format!("{error:?}")))?;
    match result {
        ExecutionResult::Success {
            output: Output::Call(output) | Output::Create(output, _),
            ..
        } => {
            state.apply(changes);
            // The steps are not transactions of `from`: its nonce stays.
            match nonce {
                Some(nonce) => state.edit_account(from, |info| info.nonce = nonce),
                None => state.set_account(from, None),
            }
            Ok(output)
        }
        ExecutionResult::Revert { output, .. } => Err(fail(crate::revert::message(&output))),
        ExecutionResult::Halt { reason, .. } => Err(fail(crate::revert::halt(&reason))),
    }
}
