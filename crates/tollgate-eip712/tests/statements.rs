//! What a gateway signs, against the naive twin and on the wire.

#[path = "support/twin.rs"]
mod twin;

use alloy_primitives::{B256, address, keccak256};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tollgate_eip712::{
    CounterInterval, LocalWallet, Offer, PaymentKind, Receipt, Signed, Statement, StatementError,
    TokenCounts, UsageReceipt, Version1, sign_statement,
};
use tollgate_x402::{Amount, ChainId, PaymentId, Timestamp};
use twin::twin_digest;

fn gateway() -> LocalWallet {
    "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
        .parse()
        .unwrap()
}

fn offer() -> Offer {
    Offer {
        version: Version1,
        resource_url: "https://api.example/x402/v1".into(),
        scheme: "upto".into(),
        network: "eip155:56".into(),
        asset: "0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d".into(),
        pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
        amount: "990000000000000000".into(),
        valid_until: Timestamp(1_800_000_000),
    }
}

fn receipt() -> Receipt {
    Receipt {
        version: Version1,
        network: "eip155:56".into(),
        resource_url: "https://api.example/x402/v1".into(),
        payer: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".into(),
        issued_at: Timestamp(1_795_427_314),
        transaction: String::new(),
    }
}

fn usage() -> UsageReceipt {
    UsageReceipt {
        version: Version1,
        chain: ChainId::BSC,
        pay_to: address!("209693Bc6afc0C5328bA36FaF03C514EF312287C"),
        payment: UsageReceipt::payment_digest(PaymentId::from_random([7; 16])),
        authorization: B256::repeat_byte(0xaa),
        request: B256::repeat_byte(0xbb),
        kind: PaymentKind::Allowance,
        payer: address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        token: address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d"),
        amount: Amount::from(123_u64),
        model: "anthropic/claude-opus-4.5".into(),
        tokens: TokenCounts {
            input: 11,
            output: 22,
        },
        counter: Some(CounterInterval {
            from: Amount::from(1000_u64),
            to: Amount::from(1123_u64),
        }),
        issued_at: Timestamp(1_795_427_314),
    }
}

/// `Name(type field,…)` as the JSON of typed data has it.
fn fields(text: &str) -> Value {
    text.split(',')
        .map(|field| field.split_once(' ').unwrap())
        .map(|(kind, name)| json!({"type": kind, "name": name}))
        .collect()
}

fn sign<T: Statement>(statement: T) -> Signed<T> {
    sign_statement(&gateway(), statement)
        .now_or_never()
        .unwrap()
        .unwrap()
}

#[test]
fn an_offer_hashes_as_the_extension_says() {
    let data = json!({
        "domain": {"name": "x402 offer", "version": "1", "chainId": 1},
        "primaryType": "Offer",
        "types": {"Offer": fields(
            "uint256 version,string resourceUrl,string scheme,string network,string asset,string payTo,string amount,uint256 validUntil",
        )},
        "message": serde_json::to_value(offer()).unwrap(),
    });
    assert_eq!(offer().digest(), twin_digest(&data));
}

#[test]
fn a_receipt_hashes_as_the_extension_says() {
    let data = json!({
        "domain": {"name": "x402 receipt", "version": "1", "chainId": 1},
        "primaryType": "Receipt",
        "types": {"Receipt": fields(
            "uint256 version,string network,string resourceUrl,string payer,uint256 issuedAt,string transaction",
        )},
        "message": serde_json::to_value(receipt()).unwrap(),
    });
    assert_eq!(receipt().digest(), twin_digest(&data));
}

#[test]
fn a_usage_receipt_hashes_as_its_declaration_says() {
    let receipt = usage();
    let data = json!({
        "domain": {
            "name": "tollgate usage receipt", "version": "1", "chainId": 56, "verifyingContract": receipt.pay_to,
        },
        "primaryType": "UsageReceipt",
        "types": {"UsageReceipt": fields(
            "uint256 version,bytes32 payment,bytes32 authorization,bytes32 request,string kind,address payer,address token,uint256 amount,string model,uint256 inputTokens,uint256 outputTokens,uint256 counterFrom,uint256 counterTo,uint256 issuedAt",
        )},
        "message": {
            "version": 1, "payment": keccak256([7; 16]), "authorization": receipt.authorization,
            "request": receipt.request, "kind": "allowance", "payer": receipt.payer, "token": receipt.token,
            "amount": "123", "model": receipt.model, "inputTokens": 11, "outputTokens": 22,
            "counterFrom": "1000", "counterTo": "1123", "issuedAt": 1_795_427_314,
        },
    });
    assert_eq!(receipt.digest(), twin_digest(&data));
}

#[test]
fn a_signed_statement_is_the_gateways_and_nobody_elses() {
    let signed = sign(usage());
    let key = gateway().address();
    assert_eq!(signed.signer(), Ok(key));
    assert_eq!(signed.verify(key), Ok(()));
    let other = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
    assert_eq!(
        signed.verify(other),
        Err(StatementError::WrongSigner {
            signer: key,
            expected: other
        })
    );
}

#[test]
fn every_changed_field_of_a_usage_receipt_is_found() {
    let changes: [fn(&mut UsageReceipt); 14] = [
        |r| r.chain = ChainId::CHAPEL,
        |r| r.pay_to = r.payer,
        |r| r.payment = B256::ZERO,
        |r| r.authorization = B256::ZERO,
        |r| r.request = B256::ZERO,
        |r| r.kind = PaymentKind::Once,
        |r| r.payer = r.token,
        |r| r.token = r.payer,
        |r| r.amount = Amount::from(124_u64),
        |r| r.model.push(' '),
        |r| r.tokens.input = 12,
        |r| r.tokens.output = 23,
        |r| {
            r.counter = Some(CounterInterval {
                from: Amount::from(1001_u64),
                to: Amount::from(1123_u64),
            })
        },
        |r| r.issued_at = Timestamp(1),
    ];
    let signed = sign(usage());
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = signed.clone();
        change(&mut changed.payload);
        assert!(
            changed.verify(gateway().address()).is_err(),
            "change {index}"
        );
    }
}

#[test]
fn statements_survive_the_wire() {
    fn there_and_back<T: Statement + serde::Serialize + serde::de::DeserializeOwned>(
        statement: T,
    ) -> Value {
        let signed = sign(statement);
        let text = serde_json::to_string(&signed).unwrap();
        let back: Signed<T> = serde_json::from_str(&text).unwrap();
        assert_eq!(back.verify(gateway().address()), Ok(()));
        serde_json::from_str(&text).unwrap()
    }
    let wire = there_and_back(offer());
    assert_eq!(wire["format"], "eip712");
    assert_eq!(wire["payload"]["version"], 1);
    assert_eq!(wire["payload"]["validUntil"], 1_800_000_000);
    assert_eq!(wire["signature"].as_str().unwrap().len(), 132);
    assert_eq!(there_and_back(receipt())["payload"]["transaction"], "");
    let wire = there_and_back(usage());
    assert_eq!(wire["payload"]["kind"], "allowance");
    assert_eq!(wire["payload"]["amount"], "123");
    assert_eq!(
        wire["payload"]["counter"],
        json!({"from": "1000", "to": "1123"})
    );
    let once = there_and_back(UsageReceipt {
        kind: PaymentKind::Once,
        counter: None,
        ..usage()
    });
    assert_eq!(once["payload"].get("counter"), None);
}

#[test]
fn what_the_extension_leaves_out_reads_as_unset() {
    let mut wire = serde_json::to_value(sign(Offer {
        valid_until: Timestamp(0),
        ..offer()
    }))
    .unwrap();
    wire["payload"]
        .as_object_mut()
        .unwrap()
        .remove("validUntil");
    wire["acceptIndex"] = json!(0);
    let back: Signed<Offer> = serde_json::from_value(wire).unwrap();
    assert_eq!(back.verify(gateway().address()), Ok(()));
}

#[test]
fn other_versions_formats_and_signatures_are_refused_on_reading() {
    let good = serde_json::to_value(sign(offer())).unwrap();
    let refused = |change: fn(&mut Value)| {
        let mut wire = good.clone();
        change(&mut wire);
        serde_json::from_value::<Signed<Offer>>(wire)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|w| w["payload"]["version"] = json!(2)).contains("version 2"));
    refused(|w| w["format"] = json!("jws"));
    assert!(refused(|w| w["signature"] = json!("0x1234")).contains("65 bytes"));
    refused(|w| w["signature"] = json!(format!("0x{}", "ff".repeat(65))));
}

#[test]
fn an_honest_counter_holds_the_charge() {
    let mut receipt = usage();
    assert!(receipt.counter_holds_amount());
    receipt.counter = Some(CounterInterval {
        from: Amount::from(1123_u64),
        to: Amount::from(1000_u64),
    });
    assert!(!receipt.counter_holds_amount());
    receipt.counter = None;
    assert!(receipt.counter_holds_amount());
}
