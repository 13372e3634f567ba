//! Addresses that are the same on every EVM chain, and how they came about.
//!
//! Whether code stands there is a question to the chain: x402's upto proxy on BSC in particular is to be probed.

use alloy_primitives::{Address, B256, address, b256};

/// Permit2. On BSC (56) and Chapel (97).
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// x402's proxy of `exact` with Permit2 (`x402ExactPermit2Proxy`).
pub const EXACT_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");
/// x402's proxy of `upto` with Permit2 (`x402UptoPermit2Proxy`).
pub const UPTO_PROXY: Address = address!("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");
/// Multicall3.
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// The deterministic CREATE2 deployer that made Permit2 and the proxies: call it with `salt ‖ init code`.
pub const CREATE2_DEPLOYER: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");

/// How a contract got the same address everywhere: `CREATE2` by [`CREATE2_DEPLOYER`] with this salt and init code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create2 {
    /// The salt (EIP-1014).
    pub salt: B256,
    /// keccak256 of the init code.
    pub init_code_hash: B256,
}

impl Create2 {
    /// The address that this makes.
    #[must_use]
    pub fn address(&self) -> Address {
        CREATE2_DEPLOYER.create2(self.salt, self.init_code_hash)
    }
}

/// Makes [`PERMIT2`].
pub const PERMIT2_CREATE2: Create2 = Create2 {
    salt: b256!("0000000000000000000000000000000000000000d3af2663da51c10215000000"),
    init_code_hash: b256!("e2be1e05eedf35dacd66c65c862f8150ff9ab4b6b24b9bbe62be71b6b16cf0f8"),
};
/// Makes [`EXACT_PROXY`].
pub const EXACT_PROXY_CREATE2: Create2 = Create2 {
    salt: b256!("0000000000000000000000000000000000000000000000003000000007263b0e"),
    init_code_hash: b256!("e774d1d5a07218946ab54efe010b300481478b86861bb17d69c98a57f68a604c"),
};
/// Makes [`UPTO_PROXY`].
pub const UPTO_PROXY_CREATE2: Create2 = Create2 {
    salt: b256!("000000000000000000000000000000000000000000000000b000000001db633d"),
    init_code_hash: b256!("74f7a29cbc3c55f87cdef7f7c551643189e8bb62eed9de67753aebc402b83797"),
};

/// Permit2's EIP-712 domain separator on BSC. Its domain has a name, a chain and a contract, and no version.
pub const PERMIT2_SEPARATOR_56: B256 =
    b256!("4142cc3c823f819c467fa4437d637fe20589a31dfcd1da2ff22292c9ed9344e7");
/// Permit2's EIP-712 domain separator on Chapel.
pub const PERMIT2_SEPARATOR_97: B256 =
    b256!("4b0ae55c3d01d102f0a8e756724fe8f86b39420717f3217a9a35504cbfdf4553");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_canonical_address_is_what_its_salt_and_init_code_make() {
        assert_eq!(PERMIT2_CREATE2.address(), PERMIT2);
        assert_eq!(EXACT_PROXY_CREATE2.address(), EXACT_PROXY);
        assert_eq!(UPTO_PROXY_CREATE2.address(), UPTO_PROXY);
    }
}
