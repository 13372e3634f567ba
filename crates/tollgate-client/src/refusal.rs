//! Why the client does not pay.

use core::fmt;

use tollgate_price::amount_to_dollars;
use tollgate_x402::{Address, Amount, ChainId, Network, Timestamp};

use crate::{Asset, Dollars, Origin};

/// An amount of a token, for people: in dollars, and in the atomic units that were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Priced {
    /// The atomic units.
    pub amount: Amount,
    /// The token's ticker.
    pub symbol: Box<str>,
    /// The token's decimals.
    pub decimals: u8,
}

impl Priced {
    pub(crate) fn new(amount: Amount, asset: &Asset) -> Self {
        Self {
            amount,
            symbol: asset.symbol().into(),
            decimals: asset.decimals(),
        }
    }

    /// The dollars, for a token of which one is one dollar.
    pub fn dollars(&self) -> Dollars {
        Dollars::of(self.amount, self.decimals)
    }
}

impl fmt::Display for Priced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "${} ({} atomic units of {})",
            amount_to_dollars(self.amount, self.decimals),
            self.amount,
            self.symbol
        )
    }
}

/// Why this client does not pay in one of the ways that a seller offers. Nothing was signed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Anybody on the way could read the payment, and change the offer and the answer.
    #[error("{origin} is not reached by https; use https, or allow plain http for this host")]
    PlainHttp {
        /// The seller.
        origin: Origin,
    },
    /// The host is not on the list.
    #[error("{origin} is not among the hosts that may be paid; add its host if you trust it")]
    Host {
        /// The seller.
        origin: Origin,
    },
    /// The seller took more than this client may be charged, or more than was signed.
    #[error(
        "{origin} charged more than it may, and is not paid any more; look at its receipts, then unblock it"
    )]
    Blocked {
        /// The seller.
        origin: Origin,
    },
    /// The chain is not on the list.
    #[error(
        "the seller asks for payment on {network}; allow that network if you mean to pay there"
    )]
    WrongNetwork {
        /// The chain.
        network: Network,
    },
    /// A development chain is paid with development keys, and nothing else is.
    #[error("{account} {} of chain {chain}; pay development gateways (chain 31337) with development keys and real ones with your own", if *chain == ChainId::DEV { "is no development account, and this is a development gateway" } else { "is a development account, whose key is public: do not use it on the real network" })]
    DevelopmentKey {
        /// Who would sign.
        account: Address,
        /// The chain.
        chain: ChainId,
    },
    /// The token is not on the list.
    #[error(
        "the seller asks for the token {token} of chain {chain}, which is not known here; add it to the assets with its decimals and domain if you trust it"
    )]
    UnknownAsset {
        /// The chain.
        chain: ChainId,
        /// The token.
        token: Address,
    },
    /// The seller is another than before, or somebody changed the offer on its way.
    #[error(
        "{origin} now asks to pay {payee} instead of {known}; if the seller says that this is right, allow the new payee"
    )]
    PayeeChanged {
        /// The seller.
        origin: Origin,
        /// Whom the offer names.
        payee: Address,
        /// Whom it named before, or who is configured.
        known: Address,
    },
    /// The request can cost too much.
    #[error(
        "the request can cost {asked}, above the limit of {limit} a request; ask for less output, or raise max_charge"
    )]
    ChargeCap {
        /// What the request can cost.
        asked: Priced,
        /// The limit.
        limit: Dollars,
    },
    /// Too much would be signed.
    #[error(
        "the seller asks for a signature over {asked}, above the limit of {limit} a request; raise max_authorization if you trust the seller with so much"
    )]
    AuthorizationCap {
        /// What would be signed.
        asked: Priced,
        /// The limit.
        limit: Dollars,
    },
    /// The authorization would stay good for too long.
    #[error(
        "the seller asks for an authorization of {seconds} seconds, above the limit of {limit}; raise max_validity if you mean it"
    )]
    Validity {
        /// What the seller asks, in seconds.
        seconds: u64,
        /// The limit, in seconds.
        limit: u64,
    },
    /// The offer's amount is nothing.
    #[error(
        "the seller asks for an authorization over nothing, which no seller can settle; tell the seller"
    )]
    ZeroAmount,
    /// Earlier payments for this very request still stand, and another would exceed the limit together with them.
    #[error(
        "payments of {standing} for this very request were refused by the seller and can still be settled until {until} (Unix time); wait until then, or raise max_authorization"
    )]
    Standing {
        /// What was signed for it before.
        standing: Dollars,
        /// Until when it can be settled.
        until: Timestamp,
    },
    /// Permits need the chain, and none is configured.
    #[error(
        "an allowance on chain {chain} needs the token's nonce; configure a connection to the chain"
    )]
    NoChain {
        /// The chain.
        chain: ChainId,
    },
    /// Nothing that the seller offers is a way in which this client pays.
    #[error(
        "none of the {offered} offers can be paid: this client pays upto by ERC-2612 permit or Permit2, and exact by EIP-3009 or Permit2"
    )]
    NoWay {
        /// How many ways the seller offers.
        offered: usize,
    },
}

/// Why none of the ways that a seller offers is paid. There is at least one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusals {
    first: Refusal,
    more: Vec<Refusal>,
}

impl Refusals {
    pub(crate) fn from_reasons(reasons: impl IntoIterator<Item = Refusal>, offered: usize) -> Self {
        let mut distinct: Vec<Refusal> = Vec::new();
        for reason in reasons {
            if !distinct.contains(&reason) {
                distinct.push(reason);
            }
        }
        let mut distinct = distinct.into_iter();
        Self {
            first: distinct.next().unwrap_or(Refusal::NoWay { offered }),
            more: distinct.collect(),
        }
    }

    /// The reason of the preferred way.
    pub const fn first(&self) -> &Refusal {
        &self.first
    }

    /// All reasons, the preferred way's first.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        core::iter::once(&self.first).chain(&self.more)
    }
}

impl From<Refusal> for Refusals {
    fn from(first: Refusal) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.first, f)?;
        for more in &self.more {
            write!(f, "; and {more}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusals {}
