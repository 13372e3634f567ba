//! What payers sign, in the words of EIP-712.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain, sol};
use tollgate_contracts::abi::Settler::{AllowanceItem, Eip3009Item, OnceItem, Permit2ExactItem};
use tollgate_contracts::abi::{ExactProxy, ISignatureTransfer, Settler, UptoProxy};
use tollgate_contracts::addresses;

use super::{LATER, World, interval, u};

sol! {
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    struct TransferWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }
}

pub(crate) mod exact {
    alloy_sol_types::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct Witness { address to; uint256 validAfter; }
        struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
    }
}

pub(crate) mod upto {
    alloy_sol_types::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct Witness { address to; address facilitator; uint256 validAfter; }
        struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
    }
}

/// USD1's domain, wherever it stands.
pub(crate) fn usd1_domain(world: &World, token: Address) -> Eip712Domain {
    eip712_domain! {
        name: "World Liberty Financial USD",
        version: "1",
        chain_id: world.chain,
        verifying_contract: token,
    }
}

pub(crate) fn permit2_domain(world: &World) -> Eip712Domain {
    eip712_domain! { name: "Permit2", chain_id: world.chain, verifying_contract: addresses::PERMIT2, }
}

/// r, s, v with v 27 or 28.
pub(crate) fn vrs(signature: &alloy_primitives::Signature) -> (u8, B256, B256) {
    (
        27 + u8::from(signature.v()),
        signature.r().into(),
        signature.s().into(),
    )
}

pub(crate) fn sign<T: SolStruct>(
    key: &PrivateKeySigner,
    domain: &Eip712Domain,
    what: &T,
) -> alloy_primitives::Signature {
    key.sign_hash_sync(&what.eip712_signing_hash(domain))
        .unwrap()
}

/// The n of a permit is the payer's ERC-2612 nonce.
pub(crate) fn permit_for(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    spender: Address,
    value: U256,
    nonce: u64,
) -> Settler::Permit {
    let deadline = u(LATER);
    let what = Permit {
        owner: key.address(),
        spender,
        value,
        nonce: u(nonce),
        deadline,
    };
    let (v, r, s) = vrs(&sign(key, &usd1_domain(world, token), &what));
    Settler::Permit {
        value,
        deadline,
        v,
        r,
        s,
    }
}

/// An allowance item with a permit.
pub(crate) fn permitted_interval(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    from: U256,
    to: U256,
    permit: (U256, u64),
) -> AllowanceItem {
    let permit = permit_for(world, key, token, world.settler, permit.0, permit.1);
    AllowanceItem {
        permit,
        ..interval(token, key.address(), from, to)
    }
}

pub(crate) fn once(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    permitted: U256,
    amount: U256,
    nonce: u64,
) -> OnceItem {
    let what = upto::PermitWitnessTransferFrom {
        permitted: upto::TokenPermissions {
            token,
            amount: permitted,
        },
        spender: addresses::UPTO_PROXY,
        nonce: u(nonce),
        deadline: u(LATER),
        witness: upto::Witness {
            to: world.settler,
            facilitator: world.settler,
            validAfter: U256::ZERO,
        },
    };
    let signature = sign(key, &permit2_domain(world), &what).as_bytes();
    OnceItem {
        token,
        owner: key.address(),
        permitted,
        amount,
        nonce: u(nonce),
        deadline: u(LATER),
        validAfter: U256::ZERO,
        signature: Bytes::copy_from_slice(&signature),
    }
}

pub(crate) fn permit2_exact(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    amount: U256,
    nonce: u64,
) -> Permit2ExactItem {
    let what = exact::PermitWitnessTransferFrom {
        permitted: exact::TokenPermissions { token, amount },
        spender: addresses::EXACT_PROXY,
        nonce: u(nonce),
        deadline: u(LATER),
        witness: exact::Witness {
            to: world.settler,
            validAfter: U256::ZERO,
        },
    };
    let signature = sign(key, &permit2_domain(world), &what).as_bytes();
    Permit2ExactItem {
        token,
        owner: key.address(),
        amount,
        nonce: u(nonce),
        deadline: u(LATER),
        validAfter: U256::ZERO,
        signature: Bytes::copy_from_slice(&signature),
    }
}

pub(crate) fn eip3009(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    amount: U256,
    nonce: u64,
) -> Eip3009Item {
    let nonce = B256::from(u(nonce));
    let what = TransferWithAuthorization {
        from: key.address(),
        to: world.settler,
        value: amount,
        validAfter: U256::ZERO,
        validBefore: u(LATER),
        nonce,
    };
    let (v, r, s) = vrs(&sign(key, &usd1_domain(world, token), &what));
    Eip3009Item {
        token,
        owner: key.address(),
        amount,
        validAfter: U256::ZERO,
        validBefore: u(LATER),
        nonce,
        v,
        r,
        s,
    }
}

/// A call of the upto proxy by `facilitator`.
pub(crate) fn upto_call(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    (permitted, amount): (U256, U256),
    (to, facilitator): (Address, Address),
    nonce: u64,
) -> UptoProxy::settleCall {
    let what = upto::PermitWitnessTransferFrom {
        permitted: upto::TokenPermissions {
            token,
            amount: permitted,
        },
        spender: addresses::UPTO_PROXY,
        nonce: u(nonce),
        deadline: u(LATER),
        witness: upto::Witness {
            to,
            facilitator,
            validAfter: U256::ZERO,
        },
    };
    let signature = sign(key, &permit2_domain(world), &what).as_bytes();
    UptoProxy::settleCall {
        permit: UptoProxy::PermitTransferFrom {
            permitted: UptoProxy::TokenPermissions {
                token,
                amount: permitted,
            },
            nonce: u(nonce),
            deadline: u(LATER),
        },
        amount,
        owner: key.address(),
        witness: UptoProxy::Witness {
            to,
            facilitator,
            validAfter: U256::ZERO,
        },
        signature: Bytes::copy_from_slice(&signature),
    }
}

/// A call of the exact proxy.
pub(crate) fn exact_call(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    amount: U256,
    to: Address,
    nonce: u64,
) -> ExactProxy::settleCall {
    let what = exact::PermitWitnessTransferFrom {
        permitted: exact::TokenPermissions { token, amount },
        spender: addresses::EXACT_PROXY,
        nonce: u(nonce),
        deadline: u(LATER),
        witness: exact::Witness {
            to,
            validAfter: U256::ZERO,
        },
    };
    let signature = sign(key, &permit2_domain(world), &what).as_bytes();
    ExactProxy::settleCall {
        permit: ExactProxy::PermitTransferFrom {
            permitted: ExactProxy::TokenPermissions { token, amount },
            nonce: u(nonce),
            deadline: u(LATER),
        },
        owner: key.address(),
        witness: ExactProxy::Witness {
            to,
            validAfter: U256::ZERO,
        },
        signature: Bytes::copy_from_slice(&signature),
    }
}

/// A call of Permit2 itself by `spender`, in the type of the exact witness.
pub(crate) fn permit2_call(
    world: &World,
    key: &PrivateKeySigner,
    token: Address,
    (permitted, requested): (U256, U256),
    (spender, to): (Address, Address),
    nonce: u64,
) -> ISignatureTransfer::permitWitnessTransferFromCall {
    let witness = exact::Witness {
        to,
        validAfter: U256::ZERO,
    };
    let what = exact::PermitWitnessTransferFrom {
        permitted: exact::TokenPermissions {
            token,
            amount: permitted,
        },
        spender,
        nonce: u(nonce),
        deadline: u(LATER),
        witness: witness.clone(),
    };
    let signature = sign(key, &permit2_domain(world), &what).as_bytes();
    ISignatureTransfer::permitWitnessTransferFromCall {
        permit: ISignatureTransfer::PermitTransferFrom {
            permitted: ISignatureTransfer::TokenPermissions { token, amount: permitted },
            nonce: u(nonce),
            deadline: u(LATER),
        },
        transferDetails: ISignatureTransfer::SignatureTransferDetails { to, requestedAmount: requested },
        owner: key.address(),
        witness: witness.eip712_hash_struct(),
        witnessTypeString:
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)".into(),
        signature: Bytes::copy_from_slice(&signature),
    }
}
