//! One offer, written so that clients of both versions read it.

use crate::common::*;
use serde_json::{Value, json};
use tollgate_x402::*;

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn the_unified_402_has_one_entry_with_both_dialects_fields_in_body_and_header() {
    let offer = offer(vec![upto()]);
    let body: Value = serde_json::from_str(&offer.to_body_v1()).unwrap();
    let decoded = header::decode(offer.to_header_v2().as_bytes(), &limits()).unwrap();
    let header: Value = serde_json::from_slice(&decoded).unwrap();
    let entry = json!({
        "scheme": "upto", "network": "eip155:56",
        "maxAmountRequired": "990000000000000000", "amount": "990000000000000000",
        "resource": "https://seller.example/x402/v1", "description": "LLM inference",
        "mimeType": "application/json",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "asset": "0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d", "maxTimeoutSeconds": 86400,
        "extra": {
            "name": "World Liberty Financial USD", "version": "1", "primaryType": "Permit",
            "minAmountRequired": "10000000000000000", "assetTransferMethod": "permit2",
            "facilitatorAddress": "0x2222222222222222222222222222222222222222",
        },
    });
    assert_eq!(
        body,
        json!({ "x402Version": 1, "error": "Payment required", "accepts": [entry] })
    );
    assert_eq!(
        header,
        json!({
            "x402Version": 2, "error": "Payment required",
            "resource": {
                "url": "https://seller.example/x402/v1", "description": "LLM inference",
                "mimeType": "application/json",
            },
            "accepts": [entry],
        })
    );
    // Proxies drop long headers.
    assert!(offer.to_header_v2().len() < 2048);
}

#[test]
fn a_client_prefers_the_header_and_reads_the_body_without_one() {
    let offer = offer(vec![upto()]);
    let (header, body) = (offer.to_header_v2(), offer.to_body_v1());
    let v2 = PaymentRequired::from_response(Some(header.as_bytes()), b"{}", &limits()).unwrap();
    assert_eq!(v2.version, X402Version::V2);
    assert_eq!(v2.resource, offer.resource);
    let v1 = PaymentRequired::from_response(None, body.as_bytes(), &limits()).unwrap();
    assert_eq!(v1.version, X402Version::V1);
    assert_eq!(v1.accepts, v2.accepts);
    assert_eq!(v1.accepts[0].extra, upto().extra);
    let broken = PaymentRequired::from_response(Some(b"***"), body.as_bytes(), &limits());
    assert_eq!(broken, Err(ReadError::Header(HeaderError::Base64)));
}

#[test]
fn what_is_written_is_ascii_whatever_the_description_says() {
    let mut offer = offer(vec![upto()]);
    offer.resource.as_mut().unwrap().description = Some("Größe 😀 \u{7f} \" \\".into());
    for text in [offer.to_body_v1(), offer.to_json_v2(), offer.to_header_v2()] {
        assert!(text.is_ascii());
    }
    let read = PaymentRequired::parse_header(offer.to_header_v2().as_bytes(), &limits()).unwrap();
    assert_eq!(read.resource, offer.resource);
}

#[test]
fn the_echo_is_the_entry_as_the_server_wrote_it() {
    let entry = json!({
        "scheme": "upto", "network": "eip155:56", "amount": "5", "asset": usd1().to_string().to_lowercase(),
        "payTo": payee().to_string().to_lowercase(), "maxTimeoutSeconds": 60, "extra": { "new": [1] }, "x": null,
    });
    let body =
        json!({ "x402Version": 2, "resource": { "url": "u" }, "accepts": [entry] }).to_string();
    let mut offer = PaymentRequired::parse_body(body.as_bytes(), &limits()).unwrap();
    assert_eq!(json(&offer.accepts[0].echo().to_string()), entry);
    // An entry that was changed since is written as it now stands.
    offer.accepts[0].amount = Amount::from(6_u64);
    assert_eq!(json(&offer.accepts[0].echo().to_string())["amount"], "6");
    assert_eq!(
        json(&offer.accepts[0].echo().to_string())["extra"]["new"],
        json!([1])
    );
}

#[test]
fn entries_of_other_worlds_do_not_spoil_an_offer() {
    let body = json!({ "x402Version": 2, "resource": { "url": "u" }, "accepts": [
        { "scheme": "exact", "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "amount": "1",
          "asset": "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "payTo": "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4",
          "maxTimeoutSeconds": 60 },
        json(&serde_json::to_string(&upto()).unwrap()),
        { "scheme": "upto", "network": "eip155:56", "amount": "1", "maxAmountRequired": "2",
          "asset": usd1().to_string(), "payTo": payee().to_string(), "maxTimeoutSeconds": 60 },
    ] })
    .to_string();
    let offer = PaymentRequired::parse_body(body.as_bytes(), &limits()).unwrap();
    assert_eq!(offer.accepts, [upto()]);
    assert_eq!(offer.unreadable.len(), 2);
    assert_eq!(offer.unreadable[0].error.problem, FieldProblem::Address);
    assert_eq!(offer.unreadable[1].error.problem, FieldProblem::Conflict);
}

#[test]
fn an_offer_without_entries_or_of_another_version_is_refused() {
    let cases = [
        (
            json!({ "x402Version": 2, "accepts": [] }),
            FieldProblem::Count,
        ),
        (json!({ "x402Version": 2 }), FieldProblem::Missing),
        (
            json!({ "x402Version": 3, "accepts": [{}] }),
            FieldProblem::Unknown,
        ),
        (
            json!({ "x402Version": "2", "accepts": [{}] }),
            FieldProblem::Type("a whole number, not below 0"),
        ),
        (
            json!({ "x402Version": 2, "accepts": vec![json!({}); 65] }),
            FieldProblem::Count,
        ),
    ];
    for (body, problem) in cases {
        match PaymentRequired::parse_body(body.to_string().as_bytes(), &limits()) {
            Err(ReadError::Field(error)) => assert_eq!(error.problem, problem, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let long = vec![b' '; 256 * 1024 + 1];
    assert_eq!(
        PaymentRequired::parse_body(&long, &limits()),
        Err(ReadError::Json(JsonError::TooLong))
    );
}

#[test]
fn the_example_in_dgrids_documentation_is_readable() {
    let body = json!({ "x402Version": 1, "error": "Payment required", "accepts": [{
        "scheme": "upto", "network": "eip155:56", "maxAmountRequired": "990000000000000000",
        "resource": "https://seller.example/x402/v1", "payTo": payee().to_string(), "asset": usd1().to_string(),
        "maxTimeoutSeconds": 86400,
    }] });
    let offer =
        PaymentRequired::from_response(None, body.to_string().as_bytes(), &limits()).unwrap();
    assert_eq!(offer.accepts[0].amount, maximum());
    assert_eq!(offer.accepts[0].minimum(), maximum());
    assert!(offer.accepts[0].extra.is_empty());
}

#[test]
fn a_minimum_above_the_amount_or_of_zero_does_not_count() {
    let mut entry = upto();
    assert_eq!(entry.minimum(), Amount::from(10_000_000_000_000_000_u64));
    entry.extra.min_amount_required = Some(Amount::ZERO);
    assert_eq!(entry.minimum(), maximum());
    entry.extra.min_amount_required = Some(Amount::MAX);
    assert_eq!(entry.minimum(), maximum());
}

#[test]
fn an_offer_to_honour_payment_identifiers_says_what_one_is() {
    let mut offer = offer(vec![upto()]);
    offer.extensions = Extensions::new().offering_payment_identifier(false);
    let sent = json(&offer.to_json_v2());
    let entry = &sent["extensions"]["payment-identifier"];
    assert_eq!(entry["info"], json!({ "required": false }));
    let id = &entry["schema"]["properties"]["id"];
    assert_eq!(
        (&id["minLength"], &id["maxLength"]),
        (&json!(16), &json!(128))
    );
    let read = PaymentRequired::parse_header(offer.to_header_v2().as_bytes(), &limits()).unwrap();
    let offered = read.extensions.payment_identifier();
    assert_eq!(offered, Some(&PaymentIdentifier::default()));
}

#[test]
fn a_client_completes_the_sellers_extensions_and_loses_nothing_of_them() {
    let mut offer = offer(vec![upto()]);
    let schema =
        Json::parse(r#"{"info":{"required":true,"more":1},"schema":{"type":"object"}}"#).unwrap();
    offer.extensions = Extensions::new()
        .with("payment-identifier", schema)
        .unwrap()
        .with("other", Json::from("kept"))
        .unwrap()
        .with_eip2612_gas_sponsoring(Eip2612GasSponsoring::default());
    let read = PaymentRequired::parse_header(offer.to_header_v2().as_bytes(), &limits()).unwrap();
    assert!(read.extensions.payment_identifier().unwrap().required);

    let id: Identifier = "pay_0123456789abcdef".parse().unwrap();
    let signed = Authorization::Allowance(Allowance {
        chain: ChainId::BSC,
        token: usd1(),
        owner: payer(),
        spender: payee(),
        value: maximum(),
        nonce: U256::from(7),
        deadline: Timestamp(9),
        signature: signature(),
    });
    let payment = PaymentPayload::answering(&read, &read.accepts[0], &signed).with_extensions(
        read.extensions
            .clone()
            .with_payment_identifier(PaymentIdentifier {
                required: true,
                id: Some(id.clone()),
            }),
    );
    let sent = json(&payment.to_json());
    assert_eq!(
        sent["extensions"]["payment-identifier"],
        json!({ "info": { "required": true, "more": 1, "id": id.as_str() }, "schema": { "type": "object" } })
    );
    assert_eq!(sent["extensions"]["other"], "kept");
    assert_eq!(sent["accepted"], json(&read.accepts[0].echo().to_string()));
    let arrived =
        PaymentPayload::parse_header(payment.to_header_value().as_bytes(), &limits()).unwrap();
    assert_eq!(
        arrived.extensions().payment_identifier().unwrap().id,
        Some(id)
    );
    assert_eq!(arrived.authorization_for(&upto()), Ok(signed));
}

#[test]
fn settlements_say_the_standards_empty_string_where_there_is_no_transaction() {
    let failed = SettleResponse::failed(Network::BSC, ErrorCode::InsufficientFunds, None);
    let text = failed.to_json();
    assert_eq!(json(&text)["transaction"], "");
    assert_eq!(json(&text)["errorReason"], "insufficient_funds");
    assert_eq!(
        SettleResponse::parse_header(failed.to_header_value().as_bytes(), &limits()),
        Ok(failed)
    );
    let settled = SettleResponse::settled(
        Network::BSC,
        payer(),
        maximum(),
        Some(B256::repeat_byte(0xab)),
    );
    assert_eq!(
        SettleResponse::parse_body(settled.to_json().as_bytes(), &limits()),
        Ok(settled)
    );
    let foreign = br#"{"success":false,"errorReason":"some_new_code","transaction":"","network":"base","payer":""}"#;
    let foreign = SettleResponse::parse_body(foreign, &limits()).unwrap();
    assert_eq!(foreign.error_reason.as_deref(), Some("some_new_code"));
    let html = SettleResponse::parse_body(b"<html></html>", &limits());
    assert_eq!(html, Err(ReadError::Json(JsonError::Syntax)));
}

#[test]
fn verifications_and_supported_kinds_round_trip() {
    for verified in [
        VerifyResponse::valid(payer()),
        VerifyResponse::invalid(ErrorCode::Permit2Signature, Some(payer())),
    ] {
        assert_eq!(
            VerifyResponse::parse_body(verified.to_json().as_bytes(), &limits()),
            Ok(verified)
        );
    }
    let text = json!({
        "kinds": [
            { "x402Version": 2, "scheme": "upto", "network": "eip155:56",
              "extra": { "facilitatorAddress": facilitator().to_string() } },
            { "x402Version": 9, "scheme": "new", "network": "eip155:56" },
        ],
        "extensions": ["eip2612GasSponsoring"],
        "signers": { "eip155:*": [facilitator().to_string()], "solana:*": ["2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4"] },
    });
    let supported = SupportedResponse::parse_body(text.to_string().as_bytes(), &limits()).unwrap();
    assert_eq!(supported.kinds.len(), 1);
    assert_eq!(supported.signers["eip155:*"], [facilitator()]);
    assert_eq!(
        SupportedResponse::parse_body(supported.to_json().as_bytes(), &limits()),
        Ok(supported)
    );
}

#[test]
fn a_payments_status_round_trips() {
    let id = PaymentId::from_random([0xab; 16]);
    let amounts = PaymentAmounts {
        authorized: maximum(),
        reserved: Amount::from(10_u64),
        calculated: Some(Amount::from(7_u64)),
    };
    let mut status = PaymentStatus::accepted(
        id,
        AuthorizationKind::Allowance,
        Network::BSC,
        usd1(),
        payer(),
        payee(),
        amounts,
        Timestamp(5),
    );
    assert_eq!(
        PaymentStatus::parse_body(status.to_json().as_bytes(), &limits()),
        Ok(status.clone())
    );
    status.state = PaymentState::Final;
    status.charge = Some(Amount::from(7_u64));
    status.interval = Some(Interval {
        from: Amount::from(3_u64),
        to: Amount::from(10_u64),
    });
    status.transaction = Some(B256::repeat_byte(1));
    status.block = Some(12);
    status.model = Some("tollgate/echo".into());
    status.usage = Some(TokenUsage {
        input_tokens: 3,
        output_tokens: 4,
        ..TokenUsage::default()
    });
    let text = status.to_json();
    assert_eq!(json(&text)["state"], "final");
    assert_eq!(json(&text)["interval"], json!({ "from": "3", "to": "10" }));
    assert_eq!(json(&text)["usage"]["outputTokens"], 4);
    assert_eq!(
        PaymentStatus::parse_body(text.as_bytes(), &limits()),
        Ok(status)
    );
    assert_eq!(format!("{id:?}"), "abababab…");
}
