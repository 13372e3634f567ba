//! What a payer signs: the kinds of authorization, kept apart by type.

use core::fmt;

use alloy_primitives::{Address, B256, U256, hex};
use serde::{Deserialize, Serialize};

use crate::{Amount, ChainId, Timestamp};

/// A payer's signed authorization, on one chain.
///
/// Two kinds of `upto` share one scheme name and are never confused here: an [`Allowance`] serves
/// many requests, a [`Once`] one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Authorization {
    /// `upto` by ERC-2612 `Permit`: the spender may draw up to `value`, over many requests.
    Allowance(Allowance),
    /// `upto` by Permit2 with a witness: one settlement of at most the permitted amount.
    Once(Once),
    /// `exact`: one transfer of exactly the signed amount.
    Exact(Exact),
}

/// An ERC-2612 `Permit` whose spender is the offer's `payTo`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allowance {
    /// The chain of the signing domain.
    pub chain: ChainId,
    /// The token: the domain's verifying contract.
    pub token: Address,
    /// Whose money it is, and who signed.
    pub owner: Address,
    /// Who may spend: the offer's `payTo`.
    pub spender: Address,
    /// The signed budget, in atomic units.
    pub value: Amount,
    /// The token's `nonces(owner)` at signing.
    pub nonce: U256,
    /// The last second in which `permit()` can be submitted. It does not end an allowance that stands.
    pub deadline: Timestamp,
    /// The signature over the permit.
    pub signature: Signature65,
}

/// A Permit2 `PermitWitnessTransferFrom` for the x402 upto proxy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Once {
    /// The chain of the signing domain.
    pub chain: ChainId,
    /// `permitted.token`.
    pub token: Address,
    /// Whose money it is, and who signed (`from`).
    pub owner: Address,
    /// `permitted.amount`, the most that can be settled, in atomic units.
    pub amount: Amount,
    /// Who may pull: the upto proxy.
    pub spender: Address,
    /// Permit2's unordered nonce.
    pub nonce: U256,
    /// The last second in which the settlement can be included.
    pub deadline: Timestamp,
    /// `witness.to`: where the money goes.
    pub to: Address,
    /// `witness.facilitator`: who alone may call the proxy.
    pub facilitator: Address,
    /// `witness.validAfter`: the first second in which it can be settled.
    pub valid_after: Timestamp,
    /// The signature over the permit and its witness.
    pub signature: Signature65,
}

/// An `exact` authorization: the amount is the price.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Exact {
    /// EIP-3009 `TransferWithAuthorization`.
    Eip3009(Eip3009),
    /// Permit2 with the exact proxy's witness.
    Permit2(Permit2Exact),
}

/// An EIP-3009 `TransferWithAuthorization`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Eip3009 {
    /// The chain of the signing domain.
    pub chain: ChainId,
    /// The token: the domain's verifying contract.
    pub token: Address,
    /// Whose money it is, and who signed (`from`).
    pub owner: Address,
    /// Where the money goes.
    pub to: Address,
    /// The amount, in atomic units.
    pub value: Amount,
    /// The second after which it can be settled.
    pub valid_after: Timestamp,
    /// The second before which it can be settled.
    pub valid_before: Timestamp,
    /// The authorization's nonce: 32 random bytes.
    pub nonce: B256,
    /// The signature.
    pub signature: Signature65,
}

/// A Permit2 `PermitWitnessTransferFrom` for the x402 exact proxy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Permit2Exact {
    /// The chain of the signing domain.
    pub chain: ChainId,
    /// `permitted.token`.
    pub token: Address,
    /// Whose money it is, and who signed (`from`).
    pub owner: Address,
    /// `permitted.amount`, in atomic units.
    pub amount: Amount,
    /// Who may pull: the exact proxy.
    pub spender: Address,
    /// Permit2's unordered nonce.
    pub nonce: U256,
    /// The last second in which the settlement can be included.
    pub deadline: Timestamp,
    /// `witness.to`: where the money goes.
    pub to: Address,
    /// `witness.validAfter`: the first second in which it can be settled.
    pub valid_after: Timestamp,
    /// The signature over the permit and its witness.
    pub signature: Signature65,
}

impl Authorization {
    /// The chain of the signing domain.
    pub const fn chain(&self) -> ChainId {
        match self {
            Self::Allowance(a) => a.chain,
            Self::Once(a) => a.chain,
            Self::Exact(Exact::Eip3009(a)) => a.chain,
            Self::Exact(Exact::Permit2(a)) => a.chain,
        }
    }

    /// The token to be moved.
    pub const fn token(&self) -> Address {
        match self {
            Self::Allowance(a) => a.token,
            Self::Once(a) => a.token,
            Self::Exact(Exact::Eip3009(a)) => a.token,
            Self::Exact(Exact::Permit2(a)) => a.token,
        }
    }

    /// Whose money it is, and who must have signed.
    pub const fn owner(&self) -> Address {
        match self {
            Self::Allowance(a) => a.owner,
            Self::Once(a) => a.owner,
            Self::Exact(Exact::Eip3009(a)) => a.owner,
            Self::Exact(Exact::Permit2(a)) => a.owner,
        }
    }

    /// Who is paid: an allowance's spender, and to whom a once or exact payment goes.
    pub const fn payee(&self) -> Address {
        match self {
            Self::Allowance(a) => a.spender,
            Self::Once(a) => a.to,
            Self::Exact(Exact::Eip3009(a)) => a.to,
            Self::Exact(Exact::Permit2(a)) => a.to,
        }
    }

    /// The most that was signed, in atomic units.
    pub const fn cap(&self) -> Amount {
        match self {
            Self::Allowance(a) => a.value,
            Self::Once(a) => a.amount,
            Self::Exact(Exact::Eip3009(a)) => a.value,
            Self::Exact(Exact::Permit2(a)) => a.amount,
        }
    }

    /// The last second in which it can be submitted to the chain.
    pub const fn deadline(&self) -> Timestamp {
        match self {
            Self::Allowance(a) => a.deadline,
            Self::Once(a) => a.deadline,
            // EIP-3009 demands now < validBefore, so the last good second is the one before.
            Self::Exact(Exact::Eip3009(a)) => a.valid_before.minus(1),
            Self::Exact(Exact::Permit2(a)) => a.deadline,
        }
    }

    /// The signature.
    pub const fn signature(&self) -> &Signature65 {
        match self {
            Self::Allowance(a) => &a.signature,
            Self::Once(a) => &a.signature,
            Self::Exact(Exact::Eip3009(a)) => &a.signature,
            Self::Exact(Exact::Permit2(a)) => &a.signature,
        }
    }
}

/// An ECDSA signature in canonical form: r, s in the lower half (EIP-2), v 27 or 28.
///
/// `Debug` does not print it: a signature is a bearer credential until it is settled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature65 {
    r: B256,
    s: B256,
    odd_y: bool,
}

/// Why bytes are not a signature that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSignatureError {
    /// Neither 65 bytes (r, s, v) nor, where Permit2 takes it, 64 (EIP-2098).
    #[error("a signature is 65 bytes, r then s then v, or for Permit2 64 bytes as in EIP-2098")]
    Length,
    /// v is none of 0, 1, 27, 28.
    #[error("a signature's v is 27 or 28 (0 and 1 are taken as such)")]
    V,
    /// s is in the upper half of the curve's order (EIP-2).
    #[error("a signature's s must be in the lower half of the curve order (EIP-2)")]
    HighS,
    /// r or s is zero or not below the curve's order.
    #[error("a signature's r and s must be between 1 and the curve order")]
    Range,
}

/// Half the order of secp256k1, the largest `s` of a canonical signature (EIP-2).
const HALF_ORDER: U256 = alloy_primitives::uint!(
    0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0_U256
);
/// The order of secp256k1.
const ORDER: U256 = alloy_primitives::uint!(
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256
);

impl Signature65 {
    /// The signature of these parts.
    ///
    /// # Errors
    /// [`ParseSignatureError::HighS`], [`ParseSignatureError::Range`].
    pub fn new(r: B256, s: B256, odd_y: bool) -> Result<Self, ParseSignatureError> {
        let (r_number, s_number) = (U256::from_be_bytes(r.0), U256::from_be_bytes(s.0));
        if r_number.is_zero() || r_number >= ORDER || s_number.is_zero() || s_number >= ORDER {
            return Err(ParseSignatureError::Range);
        }
        if s_number > HALF_ORDER {
            return Err(ParseSignatureError::HighS);
        }
        Ok(Self { r, s, odd_y })
    }

    /// The signature in 65 bytes: r, s, v with v one of 0, 1, 27, 28.
    ///
    /// # Errors
    /// Every variant of [`ParseSignatureError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseSignatureError> {
        let (Some((r, rest)), 65) = (bytes.split_first_chunk::<32>(), bytes.len()) else {
            return Err(ParseSignatureError::Length);
        };
        let Some((s, &[v])) = rest.split_first_chunk::<32>() else {
            return Err(ParseSignatureError::Length);
        };
        let odd_y = match v {
            0 | 27 => false,
            1 | 28 => true,
            _ => return Err(ParseSignatureError::V),
        };
        Self::new(B256::from(*r), B256::from(*s), odd_y)
    }

    /// The signature in 65 bytes, or in the 64 of EIP-2098, whose top bit of s is the parity.
    ///
    /// # Errors
    /// Every variant of [`ParseSignatureError`].
    pub fn from_bytes_or_compact(bytes: &[u8]) -> Result<Self, ParseSignatureError> {
        let (Some((r, rest)), 64) = (bytes.split_first_chunk::<32>(), bytes.len()) else {
            return Self::from_bytes(bytes);
        };
        let Ok(mut s) = <[u8; 32]>::try_from(rest) else {
            return Err(ParseSignatureError::Length);
        };
        let [top, ..] = &mut s;
        let odd_y = *top & 0x80 != 0;
        *top &= 0x7f;
        Self::new(B256::from(*r), B256::from(s), odd_y)
    }

    /// r.
    pub const fn r(&self) -> B256 {
        self.r
    }

    /// s, in the lower half of the order.
    pub const fn s(&self) -> B256 {
        self.s
    }

    /// The parity of the point's y coordinate.
    pub const fn odd_y(&self) -> bool {
        self.odd_y
    }

    /// v as the tokens and Permit2 take it: 27 or 28.
    pub const fn v(&self) -> u8 {
        if self.odd_y { 28 } else { 27 }
    }

    /// r, s, v (27 or 28) in 65 bytes.
    pub fn to_bytes(&self) -> [u8; 65] {
        let mut bytes = [0; 65];
        let (r, rest) = bytes.split_at_mut(32);
        r.copy_from_slice(self.r.as_slice());
        let (s, v) = rest.split_at_mut(32);
        s.copy_from_slice(self.s.as_slice());
        v.fill(self.v());
        bytes
    }
}

impl fmt::Debug for Signature65 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature65(…)")
    }
}

/// For the durable stores alone: the form holds the secret that `Debug` hides.
impl Serialize for Signature65 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_prefixed(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Signature65 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = hex::decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("not hexadecimal"))?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}
