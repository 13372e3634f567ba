//! Signing authorizations: the payer's terms in, the signed noun out.
//!
//! Terms name neither owner nor chain nor token: the wallet and the domain do, so they cannot differ
//! from what is signed.

use alloy_primitives::{Address, B256, U256};
use tollgate_x402::{Allowance, Amount, Eip3009, Once, Permit2Exact, Signature65, Timestamp};

use crate::{
    SigningDomain, TokenDomain, TypedData, VerifyError, Wallet, WalletError, digest, verify,
};

/// Terms of an ERC-2612 `Permit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllowanceTerms {
    /// Who may draw: the offer's `payTo`, or [`PERMIT2`](crate::PERMIT2) for a sponsored approval.
    pub spender: Address,
    /// The budget, in atomic units.
    pub value: Amount,
    /// The token's `nonces(owner)`.
    pub nonce: U256,
    /// The last second in which `permit()` can be included.
    pub deadline: Timestamp,
}

/// Terms of a Permit2 `PermitWitnessTransferFrom` for the x402 upto proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnceTerms {
    /// The most that can be settled, in atomic units.
    pub amount: Amount,
    /// The upto proxy.
    pub spender: Address,
    /// Permit2's unordered nonce, random.
    pub nonce: U256,
    /// The last second in which the settlement can be included.
    pub deadline: Timestamp,
    /// `witness.to`: where the money goes.
    pub to: Address,
    /// `witness.facilitator`: who alone may call the proxy.
    pub facilitator: Address,
    /// `witness.validAfter`: the first second in which it can be settled.
    pub valid_after: Timestamp,
}

/// Terms of an EIP-3009 `TransferWithAuthorization`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eip3009Terms {
    /// Where the money goes.
    pub to: Address,
    /// The amount, in atomic units.
    pub value: Amount,
    /// The second after which it can be settled.
    pub valid_after: Timestamp,
    /// The second before which it can be settled.
    pub valid_before: Timestamp,
    /// 32 random bytes.
    pub nonce: B256,
}

/// Terms of a Permit2 `PermitWitnessTransferFrom` for the x402 exact proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permit2ExactTerms {
    /// The amount, in atomic units.
    pub amount: Amount,
    /// The exact proxy.
    pub spender: Address,
    /// Permit2's unordered nonce, random.
    pub nonce: U256,
    /// The last second in which the settlement can be included.
    pub deadline: Timestamp,
    /// `witness.to`: where the money goes.
    pub to: Address,
    /// `witness.validAfter`: the first second in which it can be settled.
    pub valid_after: Timestamp,
}

/// Why an authorization was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The token knows neither `permit` nor EIP-3009.
    #[error("the token {token} knows neither permit nor EIP-3009; sign for Permit2")]
    NoTokenDomain {
        /// The token.
        token: Address,
    },
    /// The wallet did not sign.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The wallet's signature is not by the address that it names.
    #[error("the wallet's signature does not verify: {0}")]
    Unverified(#[source] VerifyError),
}

/// Signs an ERC-2612 `Permit` of `wallet`'s money for the token of `domain`.
///
/// # Errors
/// Every variant of [`SignError`].
pub async fn sign_allowance<W: Wallet + ?Sized>(
    wallet: &W,
    domain: &TokenDomain,
    terms: &AllowanceTerms,
) -> Result<Allowance, SignError> {
    let AllowanceTerms {
        spender,
        value,
        nonce,
        deadline,
    } = *terms;
    sign(wallet, domain, |signature| Allowance {
        chain: domain.chain(),
        token: domain.token(),
        owner: wallet.address(),
        spender,
        value,
        nonce,
        deadline,
        signature,
    })
    .await
}

/// Signs a Permit2 transfer of `wallet`'s money with the witness of the upto proxy.
///
/// # Errors
/// [`SignError::Wallet`], [`SignError::Unverified`].
pub async fn sign_once<W: Wallet + ?Sized>(
    wallet: &W,
    domain: &TokenDomain,
    terms: &OnceTerms,
) -> Result<Once, SignError> {
    let OnceTerms {
        amount,
        spender,
        nonce,
        deadline,
        to,
        facilitator,
        valid_after,
    } = *terms;
    sign(wallet, domain, |signature| Once {
        chain: domain.chain(),
        token: domain.token(),
        owner: wallet.address(),
        amount,
        spender,
        nonce,
        deadline,
        to,
        facilitator,
        valid_after,
        signature,
    })
    .await
}

/// Signs an EIP-3009 `TransferWithAuthorization` of `wallet`'s money for the token of `domain`.
///
/// # Errors
/// Every variant of [`SignError`].
pub async fn sign_eip3009<W: Wallet + ?Sized>(
    wallet: &W,
    domain: &TokenDomain,
    terms: &Eip3009Terms,
) -> Result<Eip3009, SignError> {
    let Eip3009Terms {
        to,
        value,
        valid_after,
        valid_before,
        nonce,
    } = *terms;
    sign(wallet, domain, |signature| Eip3009 {
        chain: domain.chain(),
        token: domain.token(),
        owner: wallet.address(),
        to,
        value,
        valid_after,
        valid_before,
        nonce,
        signature,
    })
    .await
}

/// Signs a Permit2 transfer of `wallet`'s money with the witness of the exact proxy.
///
/// # Errors
/// [`SignError::Wallet`], [`SignError::Unverified`].
pub async fn sign_permit2_exact<W: Wallet + ?Sized>(
    wallet: &W,
    domain: &TokenDomain,
    terms: &Permit2ExactTerms,
) -> Result<Permit2Exact, SignError> {
    let Permit2ExactTerms {
        amount,
        spender,
        nonce,
        deadline,
        to,
        valid_after,
    } = *terms;
    sign(wallet, domain, |signature| Permit2Exact {
        chain: domain.chain(),
        token: domain.token(),
        owner: wallet.address(),
        amount,
        spender,
        nonce,
        deadline,
        to,
        valid_after,
        signature,
    })
    .await
}

/// Signs what `with` builds around a signature, which is no part of what is signed.
async fn sign<W: Wallet + ?Sized, T: TypedData>(
    wallet: &W,
    domain: &TokenDomain,
    with: impl Fn(Signature65) -> T,
) -> Result<T, SignError> {
    let unsigned = with(placeholder()?);
    if unsigned.envelope().domain == SigningDomain::Token && !domain.has_own_domain() {
        return Err(SignError::NoTokenDomain {
            token: domain.token(),
        });
    }
    let signed = with(wallet.sign_hash(&digest(&unsigned, domain)).await?);
    // A wallet that is set to one address and holds the key of another is found here, not by a seller.
    verify(&signed, domain).map_err(SignError::Unverified)?;
    Ok(signed)
}

/// A signature of nothing, to hold the place of the one to come.
fn placeholder() -> Result<Signature65, WalletError> {
    let one = B256::with_last_byte(1);
    Ok(Signature65::new(one, one, false)?)
}
