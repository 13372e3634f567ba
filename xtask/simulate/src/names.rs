//! Who is who, and what a signature is here: a digest of what was signed, which the chain computes again.

use alloy_primitives::{Address, B256, U256};
use tollgate_x402::Signature65;

use crate::rng::Rng;

/// The one token.
pub(crate) const TOKEN: Address = Address::repeat_byte(0x70);
/// The contract that settles.
pub(crate) const SETTLER: Address = Address::repeat_byte(0x5e);
/// Where its money ends.
pub(crate) const TREASURY: Address = Address::repeat_byte(0x7e);
/// Settling accounts.
pub(crate) const OPERATORS: usize = 3;

/// A settling account. The first is also the plain account that is paid where there is no contract.
pub(crate) fn operator(index: usize) -> Address {
    Address::repeat_byte(0x90 + u8::try_from(index).unwrap_or_default())
}

pub(crate) fn operator_of(address: Address) -> Option<usize> {
    (0..OPERATORS).find(|index| operator(*index) == address)
}

/// A payer.
pub(crate) fn payer(index: usize) -> Address {
    Address::repeat_byte(0x10 + u8::try_from(index).unwrap_or_default())
}

/// Which payer.
pub(crate) fn payer_of(address: Address) -> Option<usize> {
    let byte = address.as_slice().first().copied()?;
    let index = byte.checked_sub(0x10).filter(|index| *index < 0x40)?;
    (address == payer(usize::from(index))).then_some(usize::from(index))
}

fn tag(parts: &[u64]) -> B256 {
    let mut bytes = [0_u8; 32];
    for (place, lane) in bytes.chunks_mut(8).enumerate() {
        let mut state = Rng::new(place as u64 + 1);
        let mut word = state.next();
        for part in parts {
            word = Rng::new(word ^ part).next();
        }
        lane.copy_from_slice(&word.to_be_bytes());
    }
    // Below half the curve's order, above 0.
    bytes[0] = 0x11;
    B256::from(bytes)
}

fn word(address: Address) -> u64 {
    let bytes = address.as_slice();
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(word)
}

fn low(value: U256) -> u64 {
    value.as_limbs()[0]
}

pub(crate) fn permit_tag(
    owner: Address,
    spender: Address,
    value: u64,
    nonce: u64,
    deadline: u64,
) -> B256 {
    tag(&[1, word(owner), word(spender), value, nonce, deadline])
}

pub(crate) fn once_tag(
    owner: Address,
    amount: u64,
    nonce: U256,
    deadline: u64,
    to: Address,
    facilitator: Address,
) -> B256 {
    tag(&[
        2,
        word(owner),
        amount,
        low(nonce),
        deadline,
        word(to),
        word(facilitator),
    ])
}

pub(crate) fn exact_tag(
    owner: Address,
    amount: u64,
    nonce: U256,
    deadline: u64,
    to: Address,
) -> B256 {
    tag(&[3, word(owner), amount, low(nonce), deadline, word(to)])
}

pub(crate) fn eip3009_tag(
    owner: Address,
    to: Address,
    amount: u64,
    valid_before: u64,
    nonce: B256,
) -> B256 {
    let nonce = low(U256::from_be_bytes(nonce.0));
    tag(&[4, word(owner), word(to), amount, valid_before, nonce])
}

/// The signature that carries a digest.
pub(crate) fn signature(tag: B256) -> Signature65 {
    let one = B256::with_last_byte(1);
    Signature65::new(tag, one, false)
        .unwrap_or_else(|_| unreachable!("a digest is a number below the curve's order"))
}
