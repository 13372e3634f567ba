//! The accounts that everybody has the keys of.

use alloy_primitives::{Address, address};
use tollgate_x402::ChainId;

/// The ten accounts of the mnemonic `test test test test test test test test test test test junk`, which development
/// chains fund. Their keys are public: what they hold on a real chain is anybody's.
pub const DEVELOPMENT_ACCOUNTS: [Address; 10] = [
    address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    address!("90F79bf6EB2c4f870365E785982E1f101E93b906"),
    address!("15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
    address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
    address!("976EA74026E726554dB657fA54763abd0C3a0aa9"),
    address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
    address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
    address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"),
];

/// Whether an account is one of [`DEVELOPMENT_ACCOUNTS`].
pub fn is_development_account(account: Address) -> bool {
    DEVELOPMENT_ACCOUNTS.contains(&account)
}

/// Whether an account may sign for a chain: development accounts for the development chain, all others for the others.
pub(crate) fn may_sign(account: Address, chain: ChainId) -> bool {
    is_development_account(account) == (chain == ChainId::DEV)
}
