//! A naive twin of EIP-712: it hashes typed data as JSON, from the types' text alone.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256, U256, keccak256};
use serde_json::Value;

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

/// A number of typed data: a decimal string, or a JSON number.
pub(crate) fn uint(value: &Value) -> U256 {
    match value {
        Value::Number(number) => U256::from(number.as_u64().unwrap()),
        _ => U256::from_str_radix(value.as_str().unwrap(), 10).unwrap(),
    }
}

/// The twin: `hashStruct` of EIP-712 over JSON.
pub(crate) fn twin_hash(types: &Value, name: &str, message: &Value) -> B256 {
    let mut data = keccak256(twin_type(types, name)).to_vec();
    for field in types[name].as_array().unwrap() {
        let value = &message[field["name"].as_str().unwrap()];
        let word: B256 = match field["type"].as_str().unwrap() {
            "address" => parse::<Address>(value).into_word(),
            "uint256" => uint(value).into(),
            "bytes32" => parse(value),
            "string" => keccak256(value.as_str().unwrap()),
            inner => twin_hash(types, inner, value),
        };
        data.extend_from_slice(word.as_slice());
    }
    keccak256(data)
}

/// `encodeType`: the type, then all that it refers to, by name.
fn twin_type(types: &Value, name: &str) -> String {
    fn collect(types: &Value, name: &str, into: &mut BTreeSet<String>) {
        for field in types[name].as_array().unwrap() {
            let kind = field["type"].as_str().unwrap();
            if types.get(kind).is_some() && into.insert(kind.to_owned()) {
                collect(types, kind, into);
            }
        }
    }
    let one = |name: &str| {
        let fields = types[name].as_array().unwrap();
        let fields: Vec<_> = fields
            .iter()
            .map(|f| {
                format!(
                    "{} {}",
                    f["type"].as_str().unwrap(),
                    f["name"].as_str().unwrap()
                )
            })
            .collect();
        format!("{name}({})", fields.join(","))
    };
    let mut others = BTreeSet::new();
    collect(types, name, &mut others);
    others
        .iter()
        .fold(one(name), |text, other| text + &one(other))
}

/// The twin's domain separator: the domain's type has the fields that the domain has.
pub(crate) fn twin_separator(domain: &Value) -> B256 {
    let known = [
        ("name", "string"),
        ("version", "string"),
        ("chainId", "uint256"),
        ("verifyingContract", "address"),
    ];
    let fields: Vec<_> = known
        .iter()
        .filter(|(name, _)| domain.get(name).is_some())
        .map(|(name, kind)| serde_json::json!({"name": name, "type": kind}))
        .collect();
    twin_hash(
        &serde_json::json!({"EIP712Domain": fields}),
        "EIP712Domain",
        domain,
    )
}

/// The twin's digest.
pub(crate) fn twin_digest(typed_data: &Value) -> B256 {
    let hash = twin_hash(
        &typed_data["types"],
        typed_data["primaryType"].as_str().unwrap(),
        &typed_data["message"],
    );
    let mut bytes = vec![0x19, 0x01];
    bytes.extend_from_slice(twin_separator(&typed_data["domain"]).as_slice());
    bytes.extend_from_slice(hash.as_slice());
    keccak256(bytes)
}
