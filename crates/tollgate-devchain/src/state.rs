//! The world state with an undo log.
//!
//! The state is one flat map of the head. Each block keeps what it overwrote,
//! so that a reorg is an undo and a historical read is the head seen through
//! the undo records of the blocks above. Both cost what changed, not what is
//! there.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256, map::AddressMap};
use revm::{
    DatabaseRef,
    bytecode::Bytecode,
    state::{AccountInfo, EvmState},
};

use crate::block::Block;

/// Accounts and storage slots at the head of the chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    accounts: AddressMap<AccountInfo>,
    slots: HashMap<(Address, U256), U256>,
    undo: Undo,
}

/// What a block overwrote: the values from before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Undo {
    accounts: AddressMap<Option<AccountInfo>>,
    slots: HashMap<(Address, U256), U256>,
}

impl Undo {
    /// Adds a later record of the same block: where both know a value, the
    /// earlier one is the value from before the block.
    pub(crate) fn absorb(&mut self, later: Self) {
        for (address, info) in later.accounts {
            self.accounts.entry(address).or_insert(info);
        }
        for (slot, value) in later.slots {
            self.slots.entry(slot).or_insert(value);
        }
    }

    /// Puts the record of an earlier block over this one.
    fn overlay(&mut self, earlier: &Self) {
        for (address, info) in &earlier.accounts {
            self.accounts.insert(*address, info.clone());
        }
        for (slot, value) in &earlier.slots {
            self.slots.insert(*slot, *value);
        }
    }
}

impl State {
    /// The account as revm wants it, with its code.
    pub(crate) fn account(&self, address: Address) -> Option<&AccountInfo> {
        self.accounts.get(&address)
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |info| info.nonce)
    }

    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address)
            .map_or(U256::ZERO, |info| info.balance)
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        self.slots
            .get(&(address, slot))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn set_account(&mut self, address: Address, info: Option<AccountInfo>) {
        let before = match info {
            Some(info) if !info.is_empty() => self.accounts.insert(address, info),
            _ => self.accounts.remove(&address),
        };
        self.undo.accounts.entry(address).or_insert(before);
    }

    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        let key = (address, slot);
        let before = if value.is_zero() {
            self.slots.remove(&key)
        } else {
            self.slots.insert(key, value)
        };
        self.undo
            .slots
            .entry(key)
            .or_insert(before.unwrap_or_default());
    }

    pub(crate) fn edit_account(&mut self, address: Address, edit: impl FnOnce(&mut AccountInfo)) {
        let mut info = self.account(address).cloned().unwrap_or_default();
        edit(&mut info);
        self.set_account(address, Some(info));
    }

    /// Replaces the code. Code that is not a valid EIP-7702 designation but
    /// begins like one is taken as plain code.
    pub(crate) fn set_code(&mut self, address: Address, code: Bytes) {
        let code =
            Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code));
        self.edit_account(address, |info| {
            info.set_code(code);
        });
    }

    /// Writes what a transaction changed.
    pub(crate) fn apply(&mut self, changes: EvmState) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            // Since Cancun only what was created in the same transaction is
            // destroyed, so there is no older storage to wipe.
            if account.is_selfdestructed() {
                self.set_account(address, None);
                continue;
            }
            let mut info = account.info;
            if info.code.is_none() {
                // revm leaves the code out where it did not load it.
                info.code = self.account(address).and_then(|old| old.code.clone());
            }
            self.set_account(address, Some(info));
            for (slot, value) in account.storage {
                if value.is_changed() {
                    self.set_slot(address, slot, value.present_value());
                }
            }
        }
    }

    /// Ends a block: everything overwritten since the last call.
    pub(crate) fn seal(&mut self) -> Undo {
        std::mem::take(&mut self.undo)
    }

    /// Takes a block back.
    pub(crate) fn rollback(&mut self, undo: Undo) {
        for (address, info) in undo.accounts {
            match info {
                Some(info) => self.accounts.insert(address, info),
                None => self.accounts.remove(&address),
            };
        }
        for (key, value) in undo.slots {
            if value.is_zero() {
                self.slots.remove(&key);
            } else {
                self.slots.insert(key, value);
            }
        }
        self.undo = Undo::default();
    }

    /// The sum of all balances: fees move, nothing is burned.
    pub(crate) fn total_balance(&self) -> U256 {
        self.accounts
            .values()
            .fold(U256::ZERO, |sum, info| sum.wrapping_add(info.balance))
    }
}

/// The state as it was after some block.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    state: &'a State,
    past: Undo,
    blocks: &'a [Arc<Block>],
}

impl<'a> View<'a> {
    /// `undos`: the records of the blocks above the one that is looked at,
    /// newest first.
    pub(crate) fn new<'u>(
        state: &'a State,
        blocks: &'a [Arc<Block>],
        undos: impl Iterator<Item = &'u Undo>,
    ) -> Self {
        let mut past = Undo::default();
        for undo in undos {
            past.overlay(undo);
        }
        Self {
            state,
            past,
            blocks,
        }
    }

    pub(crate) fn account(&self, address: Address) -> Option<&AccountInfo> {
        match self.past.accounts.get(&address) {
            Some(info) => info.as_ref(),
            None => self.state.account(address),
        }
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        match self.past.slots.get(&(address, slot)) {
            Some(value) => *value,
            None => self.state.slot(address, slot),
        }
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |info| info.nonce)
    }

    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address)
            .map_or(U256::ZERO, |info| info.balance)
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        self.account(address)
            .and_then(|info| info.code.as_ref())
            .map(Bytecode::original_bytes)
            .unwrap_or_default()
    }
}

impl DatabaseRef for View<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.account(address).cloned())
    }

    fn code_by_hash_ref(&self, _: B256) -> Result<Bytecode, Infallible> {
        // Accounts carry their code, so revm has no cause to ask by hash.
        Ok(Bytecode::default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.slot(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        let block = usize::try_from(number)
            .ok()
            .and_then(|index| self.blocks.get(index));
        Ok(block.map_or(B256::ZERO, |block| block.hash))
    }
}
