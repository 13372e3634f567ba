//! The names of rows: what a command locks.

use serde::{Deserialize, Serialize};
use tollgate_x402::{Address, Authorization, B256, ChainId, Exact, PaymentId, U256};

/// Whose money it is: everything open of all kinds must fit this owner's balance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OwnerKey {
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// The payer.
    pub owner: Address,
}

/// Who may spend it: everything open through one spender must fit what the spender may draw.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SpenderKey {
    /// Whose money it is.
    pub owner: OwnerKey,
    /// The account that draws: the offer's `payTo` for an allowance, Permit2 for a Permit2 payment.
    pub spender: Address,
}

/// An authorization's name. It is never made of signature bytes: a signature has several encodings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum AuthorizationKey {
    /// A once or exact authorization: it admits one request.
    Claim {
        /// The chain.
        chain: ChainId,
        /// The contract that burns the nonce: Permit2, or the token of an EIP-3009 transfer.
        verifying: Address,
        /// The payer.
        owner: Address,
        /// The nonce.
        nonce: U256,
    },
    /// An allowance: the digest of its permit, which serves many requests.
    Permit {
        /// The chain.
        chain: ChainId,
        /// The EIP-712 digest of the permit.
        digest: B256,
    },
}

impl AuthorizationKey {
    /// The name of an authorization with this EIP-712 digest, whose Permit2 contract (if it needs one) is `permit2`.
    pub fn of(authorization: &Authorization, digest: B256, permit2: Address) -> Self {
        let (verifying, nonce) = match authorization {
            Authorization::Allowance(a) => {
                return Self::Permit {
                    chain: a.chain,
                    digest,
                };
            }
            Authorization::Once(a) => (permit2, a.nonce),
            Authorization::Exact(Exact::Permit2(a)) => (permit2, a.nonce),
            Authorization::Exact(Exact::Eip3009(a)) => (a.token, U256::from_be_bytes(a.nonce.0)),
        };
        Self::Claim {
            chain: authorization.chain(),
            verifying,
            owner: authorization.owner(),
            nonce,
        }
    }
}

/// A group of payments that settle together: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BatchId(pub u128);

/// An account that sends settlements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SignerKey {
    /// The chain.
    pub chain: ChainId,
    /// The account.
    pub operator: Address,
}

/// One gateway's slice of the bound on everything unsettled above payers' own paid history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ExposureKey {
    /// The chain.
    pub chain: ChainId,
    /// The token.
    pub token: Address,
    /// The slice: one a gateway.
    pub slice: u32,
}

/// What a payer called a request by the `payment-identifier` extension: the same identifier means the same payment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IdentifierKey {
    /// The chain.
    pub chain: ChainId,
    /// The payer: an identifier is good for one payer alone, so that nobody can take or guess another's.
    pub owner: Address,
    /// Keccak-256 of the identifier.
    pub digest: B256,
}

/// The name of any row. The order of keys is the order in which stores lock them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RowKey {
    /// A payer.
    Owner(OwnerKey),
    /// A payer's spender.
    Spender(SpenderKey),
    /// An authorization.
    Authorization(AuthorizationKey),
    /// A payment.
    Payment(PaymentId),
    /// A batch.
    Batch(BatchId),
    /// A settling account.
    Signer(SignerKey),
    /// A slice of the global bound.
    Exposure(ExposureKey),
    /// A payer's name for a request.
    Identifier(IdentifierKey),
    /// What a payment's request was answered.
    Outcome(PaymentId),
}

/// The names of every row that one payment's commands touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentKeys {
    /// The payment.
    pub id: PaymentId,
    /// Whose money it is.
    pub owner: OwnerKey,
    /// Who draws it; nobody for EIP-3009, which the token itself executes.
    pub spender: Option<Address>,
    /// What was signed.
    pub authorization: AuthorizationKey,
    /// Where its unproven part counts.
    pub exposure: ExposureKey,
}

impl PaymentKeys {
    /// The spender's row, if there is one.
    pub fn spender_key(&self) -> Option<SpenderKey> {
        self.spender.map(|spender| SpenderKey {
            owner: self.owner,
            spender,
        })
    }

    /// The rows that commit, release and conclude touch: payment, owner, spender, exposure.
    pub fn rows(&self) -> impl Iterator<Item = RowKey> {
        [
            RowKey::Payment(self.id),
            RowKey::Owner(self.owner),
            RowKey::Exposure(self.exposure),
        ]
        .into_iter()
        .chain(self.spender_key().map(RowKey::Spender))
    }
}
