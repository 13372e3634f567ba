//! The port to whatever holds a key.

use core::future::Future;
use std::sync::Arc;

use alloy_primitives::{Address, B256};
use tollgate_x402::{ParseSignatureError, Signature65};

/// Something that signs 32-byte digests with one key: authorizations, receipts, and transactions (by
/// the hash of their signing payload).
///
/// A key in memory is [`LocalWallet`](crate::LocalWallet); a service that keeps keys implements it
/// elsewhere.
pub trait Wallet: Send + Sync {
    /// The key's address.
    fn address(&self) -> Address;

    /// Signs a digest as it is, without any prefix.
    ///
    /// The digest is opaque to the wallet: whoever may call this may sign anything, so give it only
    /// digests that were built here or of one's own transactions.
    ///
    /// # Errors
    /// Every variant of [`WalletError`].
    fn sign_hash(
        &self,
        digest: &B256,
    ) -> impl Future<Output = Result<Signature65, WalletError>> + Send;
}

/// Why a wallet did not sign. Whatever it says, it never says the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The wallet's owner or its policy refuses this signature: asking again does not help.
    #[error("the wallet refuses to sign: {0}")]
    Refused(Box<str>),
    /// The wallet cannot be reached or failed: asking again may help.
    #[error("the wallet cannot sign now ({0}); try again")]
    Unavailable(Box<str>),
    /// The wallet answered with something that is no canonical signature.
    #[error("the wallet answered with a bad signature: {0}")]
    BadSignature(#[from] ParseSignatureError),
}

impl<W: Wallet + ?Sized> Wallet for &W {
    fn address(&self) -> Address {
        (**self).address()
    }

    fn sign_hash(
        &self,
        digest: &B256,
    ) -> impl Future<Output = Result<Signature65, WalletError>> + Send {
        (**self).sign_hash(digest)
    }
}

impl<W: Wallet + ?Sized> Wallet for Arc<W> {
    fn address(&self) -> Address {
        (**self).address()
    }

    fn sign_hash(
        &self,
        digest: &B256,
    ) -> impl Future<Output = Result<Signature65, WalletError>> + Send {
        (**self).sign_hash(digest)
    }
}
