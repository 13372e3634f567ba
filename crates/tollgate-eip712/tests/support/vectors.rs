//! The vectors, read into the crate's nouns.

use alloy_primitives::{Address, B256, hex};
use serde_json::Value;
use tollgate_eip712::TokenDomain;
use tollgate_x402::{
    Allowance, Amount, Authorization, ChainId, Eip3009, Exact, Once, Permit2Exact, Signature65,
    Timestamp,
};

use crate::twin::{parse, uint};

/// A vector: typed data, what it must hash to, and the signature over it.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) typed_data: Value,
    pub(crate) digest: B256,
    pub(crate) separator: Option<B256>,
    pub(crate) struct_hash: Option<B256>,
    pub(crate) signature: Vec<u8>,
    pub(crate) signer: Address,
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(crate) fn eip712_json() -> Value {
    json(include_str!("../vectors/eip712.json"))
}

/// The vectors that were computed from the standards.
pub(crate) fn computed() -> Vec<Vector> {
    let all = eip712_json();
    let signer = parse(&all["address"]);
    let cases = all["cases"].as_object().unwrap();
    cases
        .iter()
        .map(|(name, case)| Vector {
            name: name.clone(),
            typed_data: case.clone(),
            digest: parse(&case["digest"]),
            separator: Some(parse(&case["domainSeparator"])),
            struct_hash: Some(parse(&case["structHash"])),
            signature: hex::decode(case["signature"].as_str().unwrap()).unwrap(),
            signer,
        })
        .collect()
}

/// The vectors that clients in use have signed.
pub(crate) fn captured() -> Vec<Vector> {
    let all = json(include_str!("../vectors/signed_payments.json"));
    let mut vectors = Vec::new();
    for payment in all["vectors"].as_array().unwrap() {
        for part in ["signed", "gasSponsoring"] {
            let signed = &payment[part];
            if signed.is_null() {
                continue;
            }
            vectors.push(Vector {
                name: format!("{} {part}", payment["capture"]),
                typed_data: signed["typedData"].clone(),
                digest: parse(&signed["digest"]),
                separator: signed.get("domainSeparator").map(parse),
                struct_hash: None,
                signature: hex::decode(signed["signature"].as_str().unwrap()).unwrap(),
                signer: parse(&signed["recovered"]),
            });
        }
    }
    vectors
}

pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = computed();
    vectors.extend(captured());
    vectors
}

fn amount(value: &Value) -> Amount {
    Amount::new(uint(value))
}

fn seconds(value: &Value) -> Timestamp {
    Timestamp(uint(value).to())
}

/// The authorization that a vector's typed data is the message of, and the domain of its token.
pub(crate) fn noun(vector: &Vector) -> (Authorization, TokenDomain) {
    let (domain, message) = (&vector.typed_data["domain"], &vector.typed_data["message"]);
    let chain = ChainId(uint(&domain["chainId"]).to());
    let signature = Signature65::from_bytes(&vector.signature).unwrap();
    let own = |chain| {
        TokenDomain::new(
            domain["name"].as_str().unwrap(),
            domain["version"].as_str().unwrap(),
            chain,
            parse(&domain["verifyingContract"]),
        )
    };
    match vector.typed_data["primaryType"].as_str().unwrap() {
        "Permit" => {
            let allowance = Allowance {
                chain,
                token: parse(&domain["verifyingContract"]),
                owner: parse(&message["owner"]),
                spender: parse(&message["spender"]),
                value: amount(&message["value"]),
                nonce: uint(&message["nonce"]),
                deadline: seconds(&message["deadline"]),
                signature,
            };
            (Authorization::Allowance(allowance), own(chain))
        }
        "TransferWithAuthorization" => {
            let transfer = Eip3009 {
                chain,
                token: parse(&domain["verifyingContract"]),
                owner: parse(&message["from"]),
                to: parse(&message["to"]),
                value: amount(&message["value"]),
                valid_after: seconds(&message["validAfter"]),
                valid_before: seconds(&message["validBefore"]),
                nonce: parse(&message["nonce"]),
                signature,
            };
            (Authorization::Exact(Exact::Eip3009(transfer)), own(chain))
        }
        "PermitWitnessTransferFrom" => {
            let (permitted, witness) = (&message["permitted"], &message["witness"]);
            let token = parse(&permitted["token"]);
            let authorization = if witness.get("facilitator").is_some() {
                Authorization::Once(Once {
                    chain,
                    token,
                    owner: vector.signer,
                    amount: amount(&permitted["amount"]),
                    spender: parse(&message["spender"]),
                    nonce: uint(&message["nonce"]),
                    deadline: seconds(&message["deadline"]),
                    to: parse(&witness["to"]),
                    facilitator: parse(&witness["facilitator"]),
                    valid_after: seconds(&witness["validAfter"]),
                    signature,
                })
            } else {
                Authorization::Exact(Exact::Permit2(Permit2Exact {
                    chain,
                    token,
                    owner: vector.signer,
                    amount: amount(&permitted["amount"]),
                    spender: parse(&message["spender"]),
                    nonce: uint(&message["nonce"]),
                    deadline: seconds(&message["deadline"]),
                    to: parse(&witness["to"]),
                    valid_after: seconds(&witness["validAfter"]),
                    signature,
                }))
            };
            (authorization, TokenDomain::permit2_only(chain, token))
        }
        other => panic!("a vector of another type: {other}"),
    }
}
