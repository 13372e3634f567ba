//! Digests of authorizations, without allocation.

use alloy_primitives::{Address, B256, U256, b256, keccak256};
use tollgate_x402::{
    Allowance, Authorization, ChainId, Eip3009, Exact, Once, Permit2Exact, Signature65, Timestamp,
};

use crate::TokenDomain;

// keccak256 of the types' encodeType strings. Tests compute them from the Solidity declarations.
const PERMIT: B256 = b256!("6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");
const TRANSFER_WITH_AUTHORIZATION: B256 =
    b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");
const TOKEN_PERMISSIONS: B256 =
    b256!("618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1");
const EXACT_WITNESS: B256 =
    b256!("d97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37");
const UPTO_WITNESS: B256 =
    b256!("d4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75");
const EXACT_PERMIT: B256 =
    b256!("ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7");
const UPTO_PERMIT: B256 = b256!("51dff6974ad4388c499e7fcfe838d2bd767162553a144098ce20ea661d70c2ee");

/// Whose domain a message is signed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigningDomain {
    /// The token's own (ERC-2612, EIP-3009).
    Token,
    /// Permit2's on the token's chain.
    Permit2,
}

/// What there is to know of an authorization beside its message: where it was signed, by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope<'a> {
    /// The chain that the payer named.
    pub chain: ChainId,
    /// The token that the payer named.
    pub token: Address,
    /// Who must have signed.
    pub owner: Address,
    /// Whose domain it is signed in.
    pub domain: SigningDomain,
    /// The signature.
    pub signature: &'a Signature65,
}

/// A signed authorization, as EIP-712 sees it.
pub trait TypedData {
    /// Where and by whom it was signed.
    fn envelope(&self) -> Envelope<'_>;

    /// `hashStruct` of the message (EIP-712).
    fn struct_hash(&self) -> B256;
}

/// The digest that the payer signs, `keccak256(0x1901 ‖ domainSeparator ‖ hashStruct(message))`
/// (EIP-712).
///
/// The domain is taken as given: [`verify`](crate::verify) is what compares it with the chain and token
/// that the authorization names.
pub fn digest<T: TypedData + ?Sized>(authorization: &T, domain: &TokenDomain) -> B256 {
    let separator = match authorization.envelope().domain {
        SigningDomain::Token => domain.separator(),
        SigningDomain::Permit2 => domain.permit2_separator(),
    };
    signing_hash(&separator, &authorization.struct_hash())
}

/// `keccak256(0x1901 ‖ separator ‖ struct_hash)`.
pub(crate) fn signing_hash(separator: &B256, struct_hash: &B256) -> B256 {
    let mut bytes = [0; 66];
    let (prefix, rest) = bytes.split_at_mut(2);
    prefix.copy_from_slice(&[0x19, 0x01]);
    let (left, right) = rest.split_at_mut(32);
    left.copy_from_slice(separator.as_slice());
    right.copy_from_slice(struct_hash.as_slice());
    keccak256(bytes)
}

/// One field of a message, as `encodeData` writes it: 32 bytes.
type Word = [u8; 32];

fn address(address: Address) -> Word {
    address.into_word().0
}

fn uint(number: U256) -> Word {
    number.to_be_bytes()
}

fn seconds(time: Timestamp) -> Word {
    uint(U256::from(time.0))
}

/// `keccak256(typeHash ‖ encodeData)`: the words begin with the type's hash.
fn hash_struct(words: &[Word]) -> B256 {
    keccak256(words.as_flattened())
}

fn token_permissions(token: Address, amount: U256) -> B256 {
    hash_struct(&[TOKEN_PERMISSIONS.0, address(token), uint(amount)])
}

/// The hash of an ERC-2612 `Permit`.
pub(crate) fn permit(
    owner: Address,
    spender: Address,
    value: U256,
    nonce: U256,
    deadline: Timestamp,
) -> B256 {
    hash_struct(&[
        PERMIT.0,
        address(owner),
        address(spender),
        uint(value),
        uint(nonce),
        seconds(deadline),
    ])
}

impl TypedData for Allowance {
    fn envelope(&self) -> Envelope<'_> {
        let Self {
            chain,
            token,
            owner,
            ref signature,
            ..
        } = *self;
        Envelope {
            chain,
            token,
            owner,
            domain: SigningDomain::Token,
            signature,
        }
    }

    fn struct_hash(&self) -> B256 {
        permit(
            self.owner,
            self.spender,
            self.value.get(),
            self.nonce,
            self.deadline,
        )
    }
}

impl TypedData for Eip3009 {
    fn envelope(&self) -> Envelope<'_> {
        let Self {
            chain,
            token,
            owner,
            ref signature,
            ..
        } = *self;
        Envelope {
            chain,
            token,
            owner,
            domain: SigningDomain::Token,
            signature,
        }
    }

    fn struct_hash(&self) -> B256 {
        hash_struct(&[
            TRANSFER_WITH_AUTHORIZATION.0,
            address(self.owner),
            address(self.to),
            uint(self.value.get()),
            seconds(self.valid_after),
            seconds(self.valid_before),
            self.nonce.0,
        ])
    }
}

impl TypedData for Once {
    fn envelope(&self) -> Envelope<'_> {
        let Self {
            chain,
            token,
            owner,
            ref signature,
            ..
        } = *self;
        Envelope {
            chain,
            token,
            owner,
            domain: SigningDomain::Permit2,
            signature,
        }
    }

    fn struct_hash(&self) -> B256 {
        let witness = hash_struct(&[
            UPTO_WITNESS.0,
            address(self.to),
            address(self.facilitator),
            seconds(self.valid_after),
        ]);
        hash_struct(&[
            UPTO_PERMIT.0,
            token_permissions(self.token, self.amount.get()).0,
            address(self.spender),
            uint(self.nonce),
            seconds(self.deadline),
            witness.0,
        ])
    }
}

impl TypedData for Permit2Exact {
    fn envelope(&self) -> Envelope<'_> {
        let Self {
            chain,
            token,
            owner,
            ref signature,
            ..
        } = *self;
        Envelope {
            chain,
            token,
            owner,
            domain: SigningDomain::Permit2,
            signature,
        }
    }

    fn struct_hash(&self) -> B256 {
        let witness = hash_struct(&[EXACT_WITNESS.0, address(self.to), seconds(self.valid_after)]);
        hash_struct(&[
            EXACT_PERMIT.0,
            token_permissions(self.token, self.amount.get()).0,
            address(self.spender),
            uint(self.nonce),
            seconds(self.deadline),
            witness.0,
        ])
    }
}

impl TypedData for Exact {
    fn envelope(&self) -> Envelope<'_> {
        match self {
            Self::Eip3009(a) => a.envelope(),
            Self::Permit2(a) => a.envelope(),
        }
    }

    fn struct_hash(&self) -> B256 {
        match self {
            Self::Eip3009(a) => a.struct_hash(),
            Self::Permit2(a) => a.struct_hash(),
        }
    }
}

impl TypedData for Authorization {
    fn envelope(&self) -> Envelope<'_> {
        match self {
            Self::Allowance(a) => a.envelope(),
            Self::Once(a) => a.envelope(),
            Self::Exact(a) => a.envelope(),
        }
    }

    fn struct_hash(&self) -> B256 {
        match self {
            Self::Allowance(a) => a.struct_hash(),
            Self::Once(a) => a.struct_hash(),
            Self::Exact(a) => a.struct_hash(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_sol_types::SolStruct;

    use super::*;
    use crate::typed::{self, exact, upto};

    fn type_hash<T: SolStruct>() -> B256 {
        keccak256(T::eip712_encode_type().as_bytes())
    }

    #[test]
    fn the_type_hashes_are_those_of_the_declared_types() {
        assert_eq!(PERMIT, type_hash::<typed::Permit>());
        assert_eq!(
            TRANSFER_WITH_AUTHORIZATION,
            type_hash::<typed::TransferWithAuthorization>()
        );
        assert_eq!(TOKEN_PERMISSIONS, type_hash::<exact::TokenPermissions>());
        assert_eq!(TOKEN_PERMISSIONS, type_hash::<upto::TokenPermissions>());
        assert_eq!(EXACT_WITNESS, type_hash::<exact::Witness>());
        assert_eq!(UPTO_WITNESS, type_hash::<upto::Witness>());
        assert_eq!(
            EXACT_PERMIT,
            type_hash::<exact::PermitWitnessTransferFrom>()
        );
        assert_eq!(UPTO_PERMIT, type_hash::<upto::PermitWitnessTransferFrom>());
    }
}
