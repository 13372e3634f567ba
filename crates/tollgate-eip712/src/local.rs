//! A key in this process's memory.

use core::{fmt, future::Future, str::FromStr};

use alloy_primitives::{Address, B256, hex};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use tollgate_x402::Signature65;
use zeroize::Zeroizing;

use crate::{Wallet, WalletError};

/// A wallet whose key is in memory. It is wiped when the wallet is dropped.
///
/// `Debug` shows the address alone, and there is no way to read the key back.
#[derive(Clone)]
pub struct LocalWallet(PrivateKeySigner);

/// Why a string is not a private key. No part of the string is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// Not 64 digits, with or without `0x` before them.
    #[error("a private key is 64 hexadecimal digits, with or without 0x; this has another length")]
    Length,
    /// A character that is no hexadecimal digit.
    #[error("a private key is 64 hexadecimal digits; this has another character in it")]
    NotHex,
    /// Zero, or not below the curve's order.
    #[error("a private key is a number from 1 to the order of secp256k1 less 1; make a new key")]
    OutOfRange,
}

impl LocalWallet {
    /// The wallet of a private key in hexadecimal: 64 digits, with or without `0x`, space around it
    /// ignored (files end in a newline).
    ///
    /// # Errors
    /// Every variant of [`ParseKeyError`].
    pub fn from_hex(key: &str) -> Result<Self, ParseKeyError> {
        let key = key.trim();
        let digits = key
            .strip_prefix("0x")
            .or_else(|| key.strip_prefix("0X"))
            .unwrap_or(key);
        if digits.len() != 64 {
            return Err(ParseKeyError::Length);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        // A second 0x would be taken for a prefix by the decoder.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit())
            || hex::decode_to_slice(digits, &mut *bytes).is_err()
        {
            return Err(ParseKeyError::NotHex);
        }
        Self::from_bytes(&bytes)
    }

    /// The wallet of a private key in 32 bytes. Wiping them is the caller's matter.
    ///
    /// # Errors
    /// [`ParseKeyError::OutOfRange`].
    pub fn from_bytes(key: &[u8; 32]) -> Result<Self, ParseKeyError> {
        PrivateKeySigner::from_slice(key)
            .map(Self)
            .map_err(|_| ParseKeyError::OutOfRange)
    }

    /// The key's address.
    pub const fn address(&self) -> Address {
        self.0.address()
    }

    /// Signs a digest as it is, at once: what [`Wallet::sign_hash`] does, without a future.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`] or [`WalletError::BadSignature`], neither of which is to be
    /// expected of a key in memory.
    pub fn sign_hash_sync(&self, digest: &B256) -> Result<Signature65, WalletError> {
        let signature = self
            .0
            .sign_hash_sync(digest)
            .map_err(|_| WalletError::Unavailable("the key in memory could not sign".into()))?;
        Ok(Signature65::new(
            signature.r().into(),
            signature.s().into(),
            signature.v(),
        )?)
    }
}

impl Wallet for LocalWallet {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign_hash(
        &self,
        digest: &B256,
    ) -> impl Future<Output = Result<Signature65, WalletError>> + Send {
        core::future::ready(self.sign_hash_sync(digest))
    }
}

impl FromStr for LocalWallet {
    type Err = ParseKeyError;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        Self::from_hex(key)
    }
}

impl fmt::Debug for LocalWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalWallet")
            .field(&self.0.address())
            .finish()
    }
}
