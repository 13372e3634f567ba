//! Every vector, byte for byte: computed from the standards, and signed by clients in use.

#[path = "support/twin.rs"]
mod twin;
#[path = "support/vectors.rs"]
mod vectors;

use alloy_primitives::{B256, keccak256};
use alloy_sol_types::SolStruct;

use tollgate_eip712::{
    LocalWallet, SigningDomain, TypedData, digest, permit2_separator, recover, typed, verify,
};
use tollgate_x402::{ChainId, Signature65};
use twin::{parse, twin_digest, twin_hash, twin_separator};
use vectors::{Vector, all, captured, computed, eip712_json, noun};

fn signature(vector: &Vector) -> Signature65 {
    Signature65::from_bytes(&vector.signature).unwrap()
}

#[test]
fn the_vectors_are_all_there() {
    assert_eq!(computed().len(), 10);
    assert_eq!(captured().len(), 25);
}

#[test]
fn every_digest_separator_and_struct_hash_is_the_vectors() {
    for vector in all() {
        let (authorization, domain) = noun(&vector);
        assert_eq!(
            digest(&authorization, &domain),
            vector.digest,
            "{}",
            vector.name
        );
        let separator = match authorization.envelope().domain {
            SigningDomain::Token => domain.separator(),
            SigningDomain::Permit2 => domain.permit2_separator(),
        };
        if let Some(expected) = vector.separator {
            assert_eq!(separator, expected, "{}", vector.name);
        }
        if let Some(expected) = vector.struct_hash {
            assert_eq!(authorization.struct_hash(), expected, "{}", vector.name);
        }
    }
}

#[test]
fn every_signature_recovers_to_its_payer_and_verifies() {
    for vector in all() {
        let (authorization, domain) = noun(&vector);
        assert_eq!(
            recover(vector.digest, &signature(&vector)),
            Ok(vector.signer),
            "{}",
            vector.name
        );
        assert_eq!(authorization.owner(), vector.signer, "{}", vector.name);
        assert_eq!(verify(&authorization, &domain), Ok(()), "{}", vector.name);
        assert_eq!(
            signature(&vector).to_bytes().as_slice(),
            vector.signature,
            "{}",
            vector.name
        );
    }
}

#[test]
fn the_local_wallet_makes_the_very_same_signatures() {
    // RFC 6979 leaves no choice: every implementation signs a digest with the same bytes.
    let all = eip712_json();
    let wallet: LocalWallet = parse(&all["privateKey"]);
    assert_eq!(
        wallet.address(),
        parse::<alloy_primitives::Address>(&all["address"])
    );
    for vector in computed() {
        let signature = wallet.sign_hash_sync(&vector.digest).unwrap();
        assert_eq!(
            signature.to_bytes().as_slice(),
            vector.signature,
            "{}",
            vector.name
        );
    }
}

#[test]
fn the_twin_agrees_with_every_vector() {
    for vector in all() {
        assert_eq!(
            twin_digest(&vector.typed_data),
            vector.digest,
            "{}",
            vector.name
        );
    }
    for vector in computed() {
        let data = &vector.typed_data;
        assert_eq!(Some(twin_separator(&data["domain"])), vector.separator);
        let primary = data["primaryType"].as_str().unwrap();
        assert_eq!(
            Some(twin_hash(&data["types"], primary, &data["message"])),
            vector.struct_hash
        );
    }
}

#[test]
fn every_type_hash_is_the_vectors() {
    fn of<T: SolStruct>() -> B256 {
        keccak256(T::eip712_encode_type().as_bytes())
    }
    let hashes = &eip712_json()["typehashes"];
    let checks = [
        ("Permit", of::<typed::Permit>()),
        (
            "TransferWithAuthorization",
            of::<typed::TransferWithAuthorization>(),
        ),
        ("TokenPermissions", of::<typed::exact::TokenPermissions>()),
        ("exactWitness", of::<typed::exact::Witness>()),
        ("uptoWitness", of::<typed::upto::Witness>()),
        (
            "PermitWitnessTransferFrom_exact",
            of::<typed::exact::PermitWitnessTransferFrom>(),
        ),
        (
            "PermitWitnessTransferFrom_upto",
            of::<typed::upto::PermitWitnessTransferFrom>(),
        ),
        (
            "EIP712Domain4",
            keccak256(
                "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
            ),
        ),
        (
            "EIP712Domain3",
            keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
        ),
    ];
    assert_eq!(checks.len(), hashes.as_object().unwrap().len());
    for (name, hash) in checks {
        assert_eq!(hash, parse::<B256>(&hashes[name]), "{name}");
    }
}

#[test]
fn permit2_has_the_separators_that_its_contracts_answer() {
    // `DOMAIN_SEPARATOR()` as read on the chains 56 and 97.
    let expected = [
        (
            ChainId::BSC,
            "0x4142cc3c823f819c467fa4437d637fe20589a31dfcd1da2ff22292c9ed9344e7",
        ),
        (
            ChainId::CHAPEL,
            "0x4b0ae55c3d01d102f0a8e756724fe8f86b39420717f3217a9a35504cbfdf4553",
        ),
    ];
    for (chain, separator) in expected {
        assert_eq!(permit2_separator(chain), separator.parse::<B256>().unwrap());
    }
}
