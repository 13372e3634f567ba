//! What a gateway signs: statements with their signature beside them.

use alloy_primitives::{Address, B256, hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tollgate_x402::Signature65;

use crate::{RecoverError, Wallet, WalletError, recover};

/// Something that a gateway signs, in a domain that the statement itself determines.
pub trait Statement {
    /// The digest that is signed (EIP-712).
    fn digest(&self) -> B256;
}

/// A statement and its signature.
///
/// On the wire it is `{"format":"eip712","payload":…,"signature":"0x…"}`, as in x402's offer-receipt
/// extension.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed<T> {
    /// What is said.
    pub payload: T,
    /// The gateway's signature.
    pub signature: Signature65,
}

/// Why a statement is not the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// No key can have made the signature.
    #[error(transparent)]
    Unrecoverable(#[from] RecoverError),
    /// Another key signed, or the statement was changed.
    #[error(
        "the statement is signed by {signer}, not by the gateway's key {expected}, or it was changed"
    )]
    WrongSigner {
        /// Who signed, if the statement is what was signed.
        signer: Address,
        /// Who should have.
        expected: Address,
    },
}

/// Signs a statement.
///
/// # Errors
/// Every variant of [`WalletError`].
pub async fn sign_statement<W: Wallet + ?Sized, T: Statement>(
    wallet: &W,
    payload: T,
) -> Result<Signed<T>, WalletError> {
    let digest = payload.digest();
    let signature = wallet.sign_hash(&digest).await?;
    Ok(Signed { payload, signature })
}

impl<T: Statement> Signed<T> {
    /// Who signed, if nothing was changed since.
    ///
    /// # Errors
    /// [`RecoverError`] if no key can have made the signature.
    pub fn signer(&self) -> Result<Address, RecoverError> {
        recover(self.payload.digest(), &self.signature)
    }

    /// Checks that the gateway's key `expected` signed.
    ///
    /// # Errors
    /// Every variant of [`StatementError`].
    pub fn verify(&self, expected: Address) -> Result<(), StatementError> {
        let signer = self.signer()?;
        if signer != expected {
            return Err(StatementError::WrongSigner { signer, expected });
        }
        Ok(())
    }
}

/// The version of a statement's layout: always 1, and refused on reading if it is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version1;

impl Serialize for Version1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(de::Error::custom(format_args!(
                "version {other} of a signed statement is unknown; 1 is read"
            ))),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Format {
    #[serde(rename = "eip712")]
    Eip712,
}

impl<T: Serialize> Serialize for Signed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a, T> {
            format: Format,
            payload: &'a T,
            signature: String,
        }
        let signature = hex::encode_prefixed(self.signature.to_bytes());
        Wire {
            format: Format::Eip712,
            payload: &self.payload,
            signature,
        }
        .serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Signed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire<T> {
            #[serde(rename = "format")]
            _format: Format,
            payload: T,
            signature: String,
        }
        let Wire {
            payload, signature, ..
        } = Wire::deserialize(deserializer)?;
        let mut bytes = [0; 65];
        let digits = signature.strip_prefix("0x").unwrap_or(&signature);
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| de::Error::custom("a statement's signature is 65 bytes in hexadecimal"))?;
        let signature = Signature65::from_bytes(&bytes).map_err(de::Error::custom)?;
        Ok(Self { payload, signature })
    }
}
