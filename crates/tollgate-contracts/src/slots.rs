//! Where our contracts keep their state, for those who write a genesis. A test compares all of it with what the
//! compiler says.

use alloy_primitives::{Address, B256, U256, keccak256};

/// The slot of `mapping(address => …)[key]`, for a mapping that stands at `slot`.
#[must_use]
pub fn mapped(slot: u64, key: Address) -> U256 {
    nested(U256::from(slot), key.into_word())
}

/// The slot of `mapping(address => mapping(address => …))[outer][inner]`, for a mapping that stands at `slot`.
#[must_use]
pub fn mapped_twice(slot: u64, outer: Address, inner: Address) -> U256 {
    nested(mapped(slot, outer), inner.into_word())
}

/// The slot of the value of `key` in the mapping that stands at `slot` itself.
#[must_use]
pub fn nested(slot: U256, key: B256) -> U256 {
    let mut preimage = [0; 64];
    preimage[..32].copy_from_slice(key.as_slice());
    preimage[32..].copy_from_slice(&slot.to_be_bytes::<32>());
    keccak256(preimage).into()
}

/// `Settler`: its treasury and ledger are in the code ([`crate::settler::runtime`]).
pub mod settler {
    /// `admin`, an address.
    pub const ADMIN: u64 = 0;
    /// `offeredAdmin`, an address.
    pub const OFFERED_ADMIN: u64 = 1;
    /// `isOperator`: address → 1 if it is.
    pub const IS_OPERATOR: u64 = 2;
    /// `charged`: token → owner → atomic units.
    pub const CHARGED: u64 = 3;
}

/// `TestUsd1`.
pub mod usd1 {
    /// `balanceOf`: address → atomic units. The genesis keeps their sum in [`TOTAL_SUPPLY`].
    pub const BALANCES: u64 = 0;
    /// `allowance`: owner → spender → atomic units.
    pub const ALLOWANCES: u64 = 1;
    /// `nonces` of permits: owner → number.
    pub const NONCES: u64 = 2;
    /// `authorizationState`: authorizer → nonce → 1 if used or canceled.
    pub const AUTHORIZATIONS: u64 = 3;
    /// `frozen`: address → 1 if it is.
    pub const FROZEN: u64 = 4;
    /// `totalSupply`, in atomic units.
    pub const TOTAL_SUPPLY: u64 = 5;
    /// `admin`, an address, who mints, pauses and freezes; in the same slot, above it, `paused`: `1 << 160`.
    pub const ADMIN_AND_PAUSED: u64 = 6;
}

/// `TestUsdt`.
pub mod usdt {
    /// `balanceOf`: address → atomic units. The genesis keeps their sum in [`TOTAL_SUPPLY`].
    pub const BALANCES: u64 = 0;
    /// `allowance`: owner → spender → atomic units.
    pub const ALLOWANCES: u64 = 1;
    /// `totalSupply`, in atomic units.
    pub const TOTAL_SUPPLY: u64 = 2;
    /// `getOwner`, an address, who mints.
    pub const OWNER: u64 = 3;
}

/// `SignatureTransfer`.
pub mod signature_transfer {
    /// `nonceBitmap`: owner → word → bits.
    pub const NONCE_BITMAP: u64 = 0;
}
