//! The allow-list of tokens: what each can do, pinned.
//!
//! Nothing here is asked of a token at run time but compared with it at start-up: USD1's `version()` answers the
//! number 2 while its EIP-712 version is the string "1", and other tokens answer selectors that they do not have.

use alloy_primitives::{Address, B256, address, b256};

/// BNB Smart Chain.
pub const BSC: u64 = 56;
/// BNB Smart Chain's test network, Chapel.
pub const CHAPEL: u64 = 97;
/// The development chain of `tollgate`.
pub const DEVCHAIN: u64 = 31337;

/// One token on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenInfo {
    /// The chain's id (EIP-155).
    pub chain: u64,
    /// The ticker by which people name it, like `USD1`.
    pub symbol: &'static str,
    /// The token's contract.
    pub address: Address,
    /// How many decimals an atomic unit is away from one dollar: 18 on BSC, not the 6 of other chains.
    pub decimals: u8,
    /// The EIP-712 domain, for tokens that take signatures.
    pub domain: Option<TokenDomain>,
    /// ERC-2612 `permit`; signatures are checked by plain `ecrecover`, so owners with code cannot sign one.
    pub permit: bool,
    /// EIP-3009 `transferWithAuthorization` with `(v, r, s)`; plain `ecrecover` as well.
    pub eip3009: bool,
    /// EIP-3009 with `bytes signature` beside it.
    pub eip3009_bytes: bool,
    /// EIP-3009's `cancelAuthorization`.
    pub eip3009_cancel: bool,
    /// Its admin can pause it and freeze accounts, shown by `paused()` and `frozen(address)`.
    pub freeze_pause: bool,
    /// Its code can be replaced behind the address: what it can do is to be probed again now and then.
    pub upgradeable: bool,
}

/// The EIP-712 domain of a token; its chain and contract are the token's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDomain {
    /// `name` of the domain, which may differ from the token's symbol and display name.
    pub name: &'static str,
    /// `version` of the domain.
    pub version: &'static str,
    /// What `DOMAIN_SEPARATOR()` must answer.
    pub separator: B256,
}

impl TokenInfo {
    /// The EIP-712 domain separator, for tokens that take signatures.
    #[must_use]
    pub const fn domain_separator(&self) -> Option<B256> {
        match &self.domain {
            Some(domain) => Some(domain.separator),
            None => None,
        }
    }

    /// One whole token, in atomic units; `None` if that does not fit 128 bits.
    #[must_use]
    pub const fn unit(&self) -> Option<u128> {
        10_u128.checked_pow(u32_from(self.decimals))
    }
}

const fn u32_from(small: u8) -> u32 {
    u32::from_be_bytes([0, 0, 0, small])
}

/// USD1's address on BSC; the development chain has its test token there.
pub const USD1: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
/// USDT's address on BSC (Binance-Peg); the development chain has its test token there.
pub const USDT: Address = address!("55d398326f99059fF775485246999027B3197955");

const SIGNED: TokenInfo = TokenInfo {
    chain: BSC,
    symbol: "",
    address: Address::ZERO,
    decimals: 18,
    domain: None,
    permit: true,
    eip3009: true,
    eip3009_bytes: true,
    eip3009_cancel: false,
    freeze_pause: true,
    upgradeable: true,
};

const PLAIN: TokenInfo = TokenInfo {
    permit: false,
    eip3009: false,
    eip3009_bytes: false,
    freeze_pause: false,
    upgradeable: false,
    ..SIGNED
};

/// Every token of the allow-list.
pub static TOKENS: &[TokenInfo] = &[
    TokenInfo {
        symbol: "USD1",
        address: USD1,
        domain: Some(TokenDomain {
            name: "World Liberty Financial USD",
            version: "1",
            separator: b256!("5d939dc193fd011c5e26fb861450a696546a09db6b26db26501fe354ba3ed4ba"),
        }),
        eip3009_bytes: false,
        eip3009_cancel: true,
        ..SIGNED
    },
    TokenInfo {
        symbol: "U",
        address: address!("cE24439F2D9C6a2289F741120FE202248B666666"),
        domain: Some(TokenDomain {
            name: "United Stables",
            version: "1",
            separator: b256!("358738403e5a61fdc30a8be78a60f289cbe4d2545b735a344b6229c70c1679b6"),
        }),
        ..SIGNED
    },
    TokenInfo {
        symbol: "FDUSD",
        address: address!("c5f0f7b66764F6ec8C8Dff7BA683102295E16409"),
        domain: Some(TokenDomain {
            name: "First Digital USD",
            version: "1",
            separator: b256!("ac2ff863e00ee93e90d01514d46b9b8179ca650e856138a6d8aea00702ca62a0"),
        }),
        ..SIGNED
    },
    TokenInfo {
        symbol: "USDT",
        address: USDT,
        ..PLAIN
    },
    TokenInfo {
        symbol: "USDC",
        address: address!("8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d"),
        upgradeable: true,
        ..PLAIN
    },
    // Whether Chapel's U takes permits is not known, so it is not offered for allowances.
    TokenInfo {
        chain: CHAPEL,
        symbol: "U",
        address: address!("c70B8741B8B07A6d61E54fd4B20f22Fa648E5565"),
        domain: Some(TokenDomain {
            name: "United Stables",
            version: "1",
            separator: b256!("bfdacda9e354449fe1236dbd82c99a502d8fb126472b59cdd770a76099bede17"),
        }),
        permit: false,
        ..SIGNED
    },
    TokenInfo {
        chain: CHAPEL,
        symbol: "USDT",
        address: address!("337610d27c682E347C9cD60BD4b3b107C9d34dDd"),
        ..PLAIN
    },
    TokenInfo {
        chain: CHAPEL,
        symbol: "USDC",
        address: address!("64544969ed7EBf5f083679233325356EbE738930"),
        ..PLAIN
    },
    TokenInfo {
        chain: DEVCHAIN,
        symbol: "USD1",
        address: USD1,
        domain: Some(TokenDomain {
            name: "World Liberty Financial USD",
            version: "1",
            separator: b256!("0df6793c658b0a9de8072213c5ac3864d566bc9694d94943123dac80b86228d9"),
        }),
        eip3009_bytes: false,
        eip3009_cancel: true,
        upgradeable: false,
        ..SIGNED
    },
    TokenInfo {
        chain: DEVCHAIN,
        symbol: "USDT",
        address: USDT,
        ..PLAIN
    },
];

/// The token at this address of this chain, if it is on the allow-list.
#[must_use]
pub fn token(chain: u64, address: Address) -> Option<&'static TokenInfo> {
    TOKENS
        .iter()
        .find(|token| token.chain == chain && token.address == address)
}

/// The token that people call by this symbol on this chain, whatever the case of its letters.
#[must_use]
pub fn by_symbol(chain: u64, symbol: &str) -> Option<&'static TokenInfo> {
    TOKENS
        .iter()
        .find(|token| token.chain == chain && token.symbol.eq_ignore_ascii_case(symbol))
}

/// All tokens of this chain, the default settlement token first.
pub fn on_chain(chain: u64) -> impl Iterator<Item = &'static TokenInfo> {
    TOKENS.iter().filter(move |token| token.chain == chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use alloy_sol_types::Eip712Domain;

    #[test]
    fn every_pinned_separator_is_the_hash_of_its_domain() {
        for token in TOKENS {
            if let Some(domain) = &token.domain {
                let computed = Eip712Domain::new(
                    Some(domain.name.into()),
                    Some(domain.version.into()),
                    Some(U256::from(token.chain)),
                    Some(token.address),
                    None,
                )
                .separator();
                assert_eq!(
                    domain.separator, computed,
                    "{} on {}",
                    token.symbol, token.chain
                );
            }
        }
    }

    #[test]
    fn a_token_that_takes_signatures_has_a_domain_and_no_other_does() {
        for token in TOKENS {
            assert_eq!(
                token.domain.is_some(),
                token.permit || token.eip3009,
                "{}",
                token.symbol
            );
        }
    }

    #[test]
    fn tokens_are_found_by_address_and_symbol_on_their_own_chain_only() {
        assert_eq!(token(BSC, USD1).map(|t| t.symbol), Some("USD1"));
        assert_eq!(by_symbol(DEVCHAIN, "usdt").map(|t| t.address), Some(USDT));
        assert_eq!(token(CHAPEL, USD1), None);
        assert_eq!(by_symbol(1, "USD1"), None);
        assert_eq!(on_chain(BSC).next().map(|t| t.symbol), Some("USD1"));
    }

    #[test]
    fn one_whole_token_is_ten_to_the_eighteen_units_everywhere() {
        assert!(
            TOKENS
                .iter()
                .all(|t| t.unit() == Some(1_000_000_000_000_000_000))
        );
    }
}
