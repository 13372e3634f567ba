//! The tokens that this client signs for, with what it knows of them.

use tollgate_eip712::TokenDomain;
use tollgate_x402::{Address, ChainId};

/// A token of one chain that the client may sign for: what a seller says of it besides is not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asset {
    symbol: Box<str>,
    decimals: u8,
    domain: TokenDomain,
    signatures: TokenSignatures,
}

/// Which signatures a token takes by itself. Permit2 takes every token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenSignatures {
    /// ERC-2612 `permit`.
    pub permit: bool,
    /// EIP-3009 `transferWithAuthorization`.
    pub eip3009: bool,
}

/// BNB Smart Chain's dollars: symbol, address, domain name, permit, EIP-3009. All have 18 decimals and version 1.
const BSC: [(&str, Address, Option<&str>, bool, bool); 5] = {
    use alloy_primitives::address;
    [
        (
            "USD1",
            address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d"),
            Some("World Liberty Financial USD"),
            true,
            true,
        ),
        (
            "U",
            address!("cE24439F2D9C6a2289F741120FE202248B666666"),
            Some("United Stables"),
            true,
            true,
        ),
        (
            "FDUSD",
            address!("c5f0f7b66764F6ec8C8Dff7BA683102295E16409"),
            Some("First Digital USD"),
            true,
            true,
        ),
        (
            "USDT",
            address!("55d398326f99059fF775485246999027B3197955"),
            None,
            false,
            false,
        ),
        (
            "USDC",
            address!("8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d"),
            None,
            false,
            false,
        ),
    ]
};

impl Asset {
    /// A token with typed data of its own. `domain` is its EIP-712 domain; compare its separator with the contract's
    /// `DOMAIN_SEPARATOR()`. One of it must be one dollar: limits are in dollars.
    pub fn new(
        symbol: impl Into<Box<str>>,
        decimals: u8,
        domain: TokenDomain,
        signatures: TokenSignatures,
    ) -> Self {
        let own = domain.has_own_domain();
        Self {
            symbol: symbol.into(),
            decimals,
            signatures: TokenSignatures {
                permit: signatures.permit && own,
                eip3009: signatures.eip3009 && own,
            },
            domain,
        }
    }

    /// The dollars of BNB Smart Chain (USD1, U, FDUSD, USDT, USDC), and those of the development chain (USD1, USDT).
    pub fn known() -> Vec<Self> {
        let on = |chain: ChainId, count: fn(&str) -> bool| {
            BSC.into_iter()
                .filter(move |(symbol, ..)| count(symbol))
                .map(move |(symbol, token, name, permit, eip3009)| {
                    let domain = match name {
                        Some(name) => TokenDomain::new(name, "1", chain, token),
                        None => TokenDomain::permit2_only(chain, token),
                    };
                    Self::new(symbol, 18, domain, TokenSignatures { permit, eip3009 })
                })
        };
        on(ChainId::BSC, |_| true)
            .chain(on(ChainId::DEV, |symbol| matches!(symbol, "USD1" | "USDT")))
            .collect()
    }

    /// The ticker, for people.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }

    /// How many decimals an atomic unit is away from one dollar.
    pub const fn decimals(&self) -> u8 {
        self.decimals
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.domain.chain()
    }

    /// The token's contract.
    pub const fn token(&self) -> Address {
        self.domain.token()
    }

    /// The signing domain, pinned.
    pub const fn domain(&self) -> &TokenDomain {
        &self.domain
    }

    /// Which signatures the token takes by itself.
    pub const fn signatures(&self) -> TokenSignatures {
        self.signatures
    }
}

#[cfg(test)]
mod tests {
    use super::Asset;
    use alloy_primitives::b256;
    use tollgate_x402::ChainId;

    #[test]
    fn pinned_domains_are_those_of_the_contracts() {
        // What DOMAIN_SEPARATOR() of the deployed tokens answers.
        let separators = [
            b256!("5d939dc193fd011c5e26fb861450a696546a09db6b26db26501fe354ba3ed4ba"),
            b256!("358738403e5a61fdc30a8be78a60f289cbe4d2545b735a344b6229c70c1679b6"),
            b256!("ac2ff863e00ee93e90d01514d46b9b8179ca650e856138a6d8aea00702ca62a0"),
            b256!("0df6793c658b0a9de8072213c5ac3864d566bc9694d94943123dac80b86228d9"),
        ];
        let known = Asset::known();
        let with_permit: Vec<_> = known.iter().filter(|a| a.signatures().permit).collect();
        assert_eq!(with_permit.len(), separators.len());
        for (asset, separator) in with_permit.iter().zip(separators) {
            assert_eq!(asset.domain().separator(), separator, "{}", asset.symbol());
        }
        assert!(
            known
                .iter()
                .all(|a| matches!(a.chain(), ChainId::BSC | ChainId::DEV))
        );
    }
}
