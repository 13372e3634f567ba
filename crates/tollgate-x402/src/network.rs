//! Networks as CAIP-2 names them.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The chain id of an EVM chain (EIP-155): 56 is BNB Smart Chain, 97 its testnet, 31337 a development chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub u64);

impl ChainId {
    /// BNB Smart Chain.
    pub const BSC: Self = Self(56);
    /// BNB Smart Chain's testnet, Chapel.
    pub const CHAPEL: Self = Self(97);
    /// The development chain's default.
    pub const DEV: Self = Self(31337);
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A network as a payment names it: CAIP-2 (`eip155:56`), or a name of x402 v1 (`base-sepolia`).
///
/// What we offer and accept is always [`Network::Eip155`]; the other arm keeps entries of foreign
/// offers readable that a client does not choose.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Network {
    /// An EVM chain.
    Eip155(ChainId),
    /// Any other name, kept as it came (1 to 64 visible ASCII characters).
    Other(Box<str>),
}

/// Why a string is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNetworkError {
    /// Empty, longer than 64 characters, or with a character that is not visible ASCII.
    #[error("a network is 1 to 64 visible ASCII characters, such as eip155:56")]
    Malformed,
    /// `eip155:` with something that is not a canonical chain id.
    #[error("eip155: must be followed by a decimal chain id, such as eip155:56")]
    ChainId,
}

impl Network {
    /// BNB Smart Chain.
    pub const BSC: Self = Self::Eip155(ChainId::BSC);

    /// The chain id, if the network is an EVM chain.
    pub const fn chain_id(&self) -> Option<ChainId> {
        match self {
            Self::Eip155(id) => Some(*id),
            Self::Other(_) => None,
        }
    }
}

impl From<ChainId> for Network {
    fn from(id: ChainId) -> Self {
        Self::Eip155(id)
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() || s.len() > 64 || !s.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ParseNetworkError::Malformed);
        }
        let Some(id) = s.strip_prefix("eip155:") else {
            return Ok(Self::Other(s.into()));
        };
        let canonical =
            !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !id.starts_with('0');
        match id.parse() {
            Ok(id) if canonical => Ok(Self::Eip155(ChainId(id))),
            _ => Err(ParseNetworkError::ChainId),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eip155(id) => write!(f, "eip155:{id}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}
