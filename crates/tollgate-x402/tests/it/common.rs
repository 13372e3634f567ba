//! Offers and captured payments that several tests use.

use serde_json::Value;
use tollgate_x402::*;

pub(crate) fn usd1() -> Address {
    "0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d"
        .parse()
        .unwrap()
}

pub(crate) fn payee() -> Address {
    "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
        .parse()
        .unwrap()
}

pub(crate) fn payer() -> Address {
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
        .parse()
        .unwrap()
}

pub(crate) fn facilitator() -> Address {
    "0x2222222222222222222222222222222222222222"
        .parse()
        .unwrap()
}

pub(crate) fn maximum() -> Amount {
    Amount::from(990_000_000_000_000_000_u64)
}

/// The entry that clients of either dialect pay: an allowance or a once payment.
pub(crate) fn upto() -> PaymentRequirements {
    let mut entry = PaymentRequirements::new(
        Scheme::Upto,
        Network::BSC,
        maximum(),
        usd1(),
        payee(),
        86_400,
    );
    entry.extra = Extra {
        name: Some("World Liberty Financial USD".into()),
        version: Some("1".into()),
        primary_type: Some(PrimaryType::Permit),
        min_amount_required: Some(Amount::from(10_000_000_000_000_000_u64)),
        asset_transfer_method: Some(AssetTransferMethod::Permit2),
        facilitator_address: Some(facilitator()),
        ..Extra::default()
    };
    entry
}

pub(crate) fn exact(method: Option<AssetTransferMethod>) -> PaymentRequirements {
    let mut entry =
        PaymentRequirements::new(Scheme::Exact, Network::BSC, maximum(), usd1(), payee(), 300);
    entry.extra.name = Some("World Liberty Financial USD".into());
    entry.extra.version = Some("1".into());
    entry.extra.asset_transfer_method = method;
    entry
}

pub(crate) fn offer(accepts: Vec<PaymentRequirements>) -> PaymentRequired {
    let mut resource = ResourceInfo::new("https://seller.example/x402/v1");
    resource.description = Some("LLM inference".into());
    resource.mime_type = Some("application/json".into());
    PaymentRequired {
        error: Some("Payment required".into()),
        ..PaymentRequired::new(resource, accepts)
    }
}

pub(crate) fn signature() -> Signature65 {
    Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), true).unwrap()
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The captures of real clients' paid requests: file name and content.
pub(crate) fn captures() -> Vec<(String, Value)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/captures");
    let mut captures: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                json(&std::fs::read_to_string(file.path()).unwrap()),
            )
        })
        .collect();
    captures.sort_by(|a, b| a.0.cmp(&b.0));
    captures
}

/// Every payment header of the captures: a label, and the header's name and value.
pub(crate) fn payment_headers() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut take = |label: &str, headers: &Value| {
        for (name, value) in headers.as_object().unwrap() {
            if PaymentHeader::from_name(name).is_some() {
                found.push((
                    label.to_owned(),
                    name.clone(),
                    value.as_str().unwrap().to_owned(),
                ));
            }
        }
    };
    for (file, capture) in captures() {
        if let Some(request) = capture.get("paid_request") {
            take(&file, &request["headers"]);
        }
        for request in capture
            .get("requests")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            take(&file, &request["headers"]);
        }
    }
    assert!(found.len() > 40, "the captures are there");
    found
}
