//! Who signed.

use alloy_primitives::{Address, B256, Signature};
use tollgate_x402::{ChainId, Signature65};

use crate::{SigningDomain, TokenDomain, TypedData, digest};

/// A signature that no key can have made: its r is not on the curve, or the key would be infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not one of any key; sign the message again")]
pub struct RecoverError;

/// Why an authorization is not what its owner signed.
///
/// All but [`NoTokenDomain`](Self::NoTokenDomain) and the two mismatches are the payer's fault;
/// these say that the authorization was held against another token than it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The authorization is for another chain than the domain.
    #[error("the authorization is for chain {named}; pay on chain {expected}")]
    Chain {
        /// The chain that the authorization names.
        named: ChainId,
        /// The domain's chain.
        expected: ChainId,
    },
    /// The authorization is for another token than the domain.
    #[error("the authorization is for the token {named}; pay with the token {expected}")]
    Token {
        /// The token that the authorization names.
        named: Address,
        /// The domain's token.
        expected: Address,
    },
    /// The token has no `permit` and no EIP-3009.
    #[error("the token {token} knows neither permit nor EIP-3009; pay through Permit2")]
    NoTokenDomain {
        /// The token.
        token: Address,
    },
    /// No key can have made the signature.
    #[error(transparent)]
    Unrecoverable(#[from] RecoverError),
    /// Another key than the owner's signed this message, or the owner signed another message.
    #[error(
        "the signature is by {signer}, not by the owner {owner}; sign exactly the values sent (nonce, amount, deadline) in the token's domain (name, version, chain)"
    )]
    WrongSigner {
        /// Who signed, if the message is what was signed.
        signer: Address,
        /// Who should have.
        owner: Address,
    },
}

/// Who signed a digest, by ecrecover on libsecp256k1: some 40 µs.
///
/// Malleable and out-of-range signatures do not get here: [`Signature65`] cannot hold them.
///
/// # Errors
/// [`RecoverError`] if no key can have made the signature.
pub fn recover(digest: B256, signature: &Signature65) -> Result<Address, RecoverError> {
    Signature::from_scalars_and_parity(signature.r(), signature.s(), signature.odd_y())
        .recover_address_from_prehash(&digest)
        .map_err(|_| RecoverError)
}

/// Checks that the owner of an authorization signed it, for the token and chain of `domain`.
///
/// Times, amounts, nonces and recipients are not looked at: they are the offer's and the chain's
/// matter. An owner with code (ERC-1271) is not served: the answer is ecrecover's.
///
/// # Errors
/// Every variant of [`VerifyError`].
pub fn verify<T: TypedData + ?Sized>(
    authorization: &T,
    domain: &TokenDomain,
) -> Result<(), VerifyError> {
    let envelope = authorization.envelope();
    if envelope.chain != domain.chain() {
        return Err(VerifyError::Chain {
            named: envelope.chain,
            expected: domain.chain(),
        });
    }
    if envelope.token != domain.token() {
        return Err(VerifyError::Token {
            named: envelope.token,
            expected: domain.token(),
        });
    }
    if envelope.domain == SigningDomain::Token && !domain.has_own_domain() {
        return Err(VerifyError::NoTokenDomain {
            token: domain.token(),
        });
    }
    let signer = recover(digest(authorization, domain), envelope.signature)?;
    if signer != envelope.owner {
        return Err(VerifyError::WrongSigner {
            signer,
            owner: envelope.owner,
        });
    }
    Ok(())
}
