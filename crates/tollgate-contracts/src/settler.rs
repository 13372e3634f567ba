//! What is to be known about a `Settler` beside its interface ([`crate::abi::Settler`]).

use alloy_primitives::{Address, B256, Bytes, keccak256};

use crate::bytecode::SETTLER;

/// The kinds of items, as `Failed` and `Pulled` number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An interval of an allowance's counter.
    Allowance = 0,
    /// Permit2 by way of the upto proxy.
    Once = 1,
    /// EIP-3009.
    Eip3009 = 2,
    /// Permit2 by way of the exact proxy.
    Permit2Exact = 3,
}

impl Kind {
    /// The kind of this number, if it is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Allowance,
            1 => Self::Once,
            2 => Self::Eip3009,
            3 => Self::Permit2Exact,
            _ => return None,
        })
    }
}

/// More items than this revert the whole call.
pub const MAX_ITEMS: usize = 50;

/// The most gas that an allowance item can burn.
pub const GAS_ALLOWANCE: u64 = 140_000;
/// What an allowance item with a permit can burn beyond that.
pub const GAS_PERMIT: u64 = 110_000;
/// The most gas that a once item can burn.
pub const GAS_ONCE: u64 = 280_000;
/// The most gas that an EIP-3009 item can burn.
pub const GAS_EIP3009: u64 = 200_000;
/// The most gas that a Permit2 exact item can burn.
pub const GAS_PERMIT2_EXACT: u64 = 280_000;
/// What each item needs outside of that.
pub const GAS_OVERHEAD: u64 = 12_000;

/// How many items of each kind a batch has; tells the gas to send along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Allowance items without a permit.
    pub allowances: u64,
    /// Allowance items with a permit.
    pub allowances_with_permit: u64,
    /// Once items.
    pub onces: u64,
    /// EIP-3009 items.
    pub eip3009: u64,
    /// Permit2 exact items.
    pub permit2_exacts: u64,
}

impl Items {
    /// The gas that must be left when `settle` looks at its first item, so that every item gets its full share
    /// (63/64 rule, EIP-150) even if all others burn theirs. With less, `settle` reverts by `OutOfGasForItems`.
    #[must_use]
    pub const fn gas(&self) -> u64 {
        let with_permit = GAS_ALLOWANCE.saturating_add(GAS_PERMIT);
        times(self.allowances, GAS_ALLOWANCE)
            .saturating_add(times(self.allowances_with_permit, with_permit))
            .saturating_add(times(self.onces, GAS_ONCE))
            .saturating_add(times(self.eip3009, GAS_EIP3009))
            .saturating_add(times(self.permit2_exacts, GAS_PERMIT2_EXACT))
    }

    /// A limit for the transaction whose calldata this is: [`gas`](Self::gas), what the transaction costs before it
    /// runs (21,000 and the calldata, EIP-2028 and EIP-7623), and the reading of the lists. Gas that is not used is
    /// not paid.
    #[must_use]
    pub fn transaction_gas(&self, calldata: &[u8]) -> u64 {
        let zeros = calldata.iter().filter(|byte| **byte == 0).count();
        let zeros = u64::try_from(zeros).unwrap_or(u64::MAX);
        let length = u64::try_from(calldata.len()).unwrap_or(u64::MAX);
        let others = length.saturating_sub(zeros);
        let calldata_gas = zeros
            .saturating_mul(4)
            .saturating_add(others.saturating_mul(16));
        let floor = zeros
            .saturating_mul(10)
            .saturating_add(others.saturating_mul(40));
        // 3,000: whether the caller is an operator. 700 an item: adding up what they need.
        let reading = self.count().saturating_mul(700).saturating_add(6_000);
        let executed = calldata_gas
            .saturating_add(reading)
            .saturating_add(self.gas());
        executed.max(floor).saturating_add(21_000)
    }

    /// How many items there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.allowances
            .saturating_add(self.allowances_with_permit)
            .saturating_add(self.onces)
            .saturating_add(self.eip3009)
            .saturating_add(self.permit2_exacts)
    }
}

const fn times(count: u64, gas: u64) -> u64 {
    count.saturating_mul(
        gas.saturating_add(gas / 63)
            .saturating_add(1)
            .saturating_add(GAS_OVERHEAD),
    )
}

/// Where the immutables stand in the runtime code. A test compares this with what the compiler says.
const LEDGER_ID_AT: &[usize] = &[3922];
const TREASURY_AT: &[usize] = &[3989, 5831, 6156];

/// The code of a deployed `Settler` with this ledger and treasury, byte for byte: for a genesis, and to tell whether
/// what stands at an address is ours. Its storage is told by [`crate::slots::settler`].
#[must_use]
pub fn runtime(ledger_id: B256, treasury: Address) -> Bytes {
    let mut code = SETTLER.runtime().to_vec();
    let mut put = |places: &[usize], word: B256| {
        for place in places {
            if let Some(hole) = code.get_mut(*place..place.saturating_add(32)) {
                hole.copy_from_slice(word.as_slice());
            }
        }
    };
    put(LEDGER_ID_AT, ledger_id);
    put(TREASURY_AT, treasury.into_word());
    code.into()
}

/// The code hash (`EXTCODEHASH`) of a deployed `Settler` with this ledger and treasury.
#[must_use]
pub fn runtime_hash(ledger_id: B256, treasury: Address) -> B256 {
    keccak256(runtime(ledger_id, treasury))
}

/// The address at which a ledger's `Settler` lands if it is deployed by
/// [`CREATE2_DEPLOYER`](crate::addresses::CREATE2_DEPLOYER) with this salt and this [init code](init_code).
#[must_use]
pub fn create2_address(salt: B256, init_code: &[u8]) -> Address {
    crate::addresses::CREATE2_DEPLOYER.create2_from_code(salt, init_code)
}

/// What deploys a `Settler`: its creation code and the arguments of its constructor.
#[must_use]
pub fn init_code(
    ledger_id: B256,
    treasury: Address,
    admin: Address,
    operators: &[Address],
) -> Bytes {
    use alloy_sol_types::SolConstructor as _;
    let arguments = crate::abi::Settler::constructorCall {
        ledgerId: ledger_id,
        treasury,
        admin,
        operators: operators.to_vec(),
    };
    SETTLER.init_code(&arguments.abi_encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_of_the_dearest_items_stay_below_the_chains_limit_for_a_transaction() {
        let items = Items {
            onces: 50,
            ..Items::default()
        };
        // 544 bytes of arguments an item, with a 65-byte signature; a third of them zeros would be realistic.
        let calldata = vec![1_u8; 50 * 544 + 256];
        assert!(items.transaction_gas(&calldata) < 1 << 24);
    }
}
