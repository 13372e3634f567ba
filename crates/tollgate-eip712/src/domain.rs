//! Signing domains, with their separators computed once.

use core::fmt;
use std::borrow::Cow;

use alloy_primitives::{Address, B256, U256, address};
use alloy_sol_types::Eip712Domain;
use tollgate_x402::ChainId;

/// Permit2, at the same address on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

/// Permit2's domain separator on a chain.
///
/// Its domain has three fields and no version: `EIP712Domain(string name,uint256 chainId,address
/// verifyingContract)` with the name `Permit2`.
pub fn permit2_separator(chain: ChainId) -> B256 {
    separator(Some("Permit2"), None, chain, Some(PERMIT2))
}

/// The signing domains of a token on a chain: its own (ERC-2612, EIP-3009) and Permit2's.
///
/// Both separators are computed once, here: build it at start-up and keep it. The name and version
/// are the token's EIP-712 ones, which need not be what its `name()` and `version()` answer: compare
/// [`separator`](Self::separator) with the contract's `DOMAIN_SEPARATOR()`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDomain {
    named: Option<Named>,
    chain: ChainId,
    token: Address,
    separator: B256,
    permit2: B256,
}

#[derive(Clone, PartialEq, Eq)]
struct Named {
    name: Box<str>,
    version: Box<str>,
}

impl TokenDomain {
    /// The domain of a token with typed data of its own (x402: `extra.name`, `extra.version`, the
    /// network's chain, `asset`).
    pub fn new(
        name: impl Into<Box<str>>,
        version: impl Into<Box<str>>,
        chain: ChainId,
        token: Address,
    ) -> Self {
        let (name, version) = (name.into(), version.into());
        Self {
            separator: separator(Some(&name), Some(&version), chain, Some(token)),
            permit2: permit2_separator(chain),
            named: Some(Named { name, version }),
            chain,
            token,
        }
    }

    /// The domain of a token that has neither `permit` nor EIP-3009 (Binance-Peg USDT, USDC): only
    /// Permit2 authorizations of it can be signed and verified.
    pub fn permit2_only(chain: ChainId, token: Address) -> Self {
        Self {
            // A domain like no token's, so that a digest exists. `verify` and the signing functions refuse it.
            separator: separator(None, None, chain, Some(token)),
            permit2: permit2_separator(chain),
            named: None,
            chain,
            token,
        }
    }

    /// The domain's name, if the token has a domain.
    pub fn name(&self) -> Option<&str> {
        self.named.as_ref().map(|named| &*named.name)
    }

    /// The domain's version, if the token has a domain.
    pub fn version(&self) -> Option<&str> {
        self.named.as_ref().map(|named| &*named.version)
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The token, which is its domain's verifying contract.
    pub const fn token(&self) -> Address {
        self.token
    }

    /// Whether the token has typed data of its own, and not only Permit2's.
    pub const fn has_own_domain(&self) -> bool {
        self.named.is_some()
    }

    /// The token's domain separator, `hashStruct(EIP712Domain)` of EIP-712.
    pub const fn separator(&self) -> B256 {
        self.separator
    }

    /// Permit2's domain separator on the token's chain.
    pub const fn permit2_separator(&self) -> B256 {
        self.permit2
    }
}

impl fmt::Debug for TokenDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenDomain")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("chain", &self.chain)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// The separator of a domain of these fields; a field that is `None` is not part of the domain's type.
pub(crate) fn separator(
    name: Option<&str>,
    version: Option<&str>,
    chain: ChainId,
    verifying_contract: Option<Address>,
) -> B256 {
    let owned = |s: &str| Cow::Owned(s.to_owned());
    Eip712Domain::new(
        name.map(owned),
        version.map(owned),
        Some(U256::from(chain.0)),
        verifying_contract,
        None,
    )
    .separator()
}
