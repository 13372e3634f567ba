//! What real clients sent is read as what they signed.

use crate::common::*;
use serde_json::{Value, json};
use tollgate_x402::*;

fn limits() -> Limits {
    Limits::default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is a string"))
}

fn vectors() -> Vec<Value> {
    let all = json(include_str!("../vectors/signed_payments.json"));
    all["vectors"].as_array().unwrap().clone()
}

/// The payload as the vector's client writes it.
fn payload_of(vector: &Value) -> Value {
    let signed = &vector["signed"];
    let message = &signed["typedData"]["message"];
    let payload = match text(signed, "kind") {
        "erc2612-permit(thirdweb)" => json!({
            "signature": signed["signature"],
            "authorization": {
                "from": message["owner"], "to": message["spender"], "value": message["value"],
                "validAfter": "1795254514", "validBefore": message["deadline"],
                "nonce": format!("0x{:064x}", text(message, "nonce").parse::<u64>().unwrap()),
            }
        }),
        "eip3009" => json!({ "signature": signed["signature"], "authorization": message }),
        _ => {
            let mut permit2 = message.clone();
            permit2["from"] = signed["recovered"].clone();
            json!({ "signature": signed["signature"], "permit2Authorization": permit2 })
        }
    };
    json!({
        "x402Version": vector["x402Version"], "scheme": vector["scheme"], "network": vector["network"],
        "payload": payload,
    })
}

/// The offer of ours that the vector's payment answers.
fn offer_of(vector: &Value) -> PaymentRequirements {
    match text(&vector["signed"], "kind") {
        "eip3009" => exact(None),
        "permit2-exact" => exact(Some(AssetTransferMethod::Permit2)),
        _ => upto(),
    }
}

#[test]
fn every_signed_payment_is_read_as_the_kind_and_the_values_that_were_signed() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 23);
    for vector in vectors {
        let bytes = payload_of(&vector).to_string();
        let payment = PaymentPayload::parse_json(bytes.as_bytes(), &limits()).unwrap();
        let message = &vector["signed"]["typedData"]["message"];
        let signature = vector["signed"]["signature"].as_str().unwrap();

        if vector["network"] == "base" {
            // A v1 name of a network is readable, and answers none of our offers.
            assert_eq!(
                payment.authorization_for(&exact(None)),
                Err(MatchError::Network)
            );
            continue;
        }
        let authorization = payment.authorization_for(&offer_of(&vector)).unwrap();
        assert_eq!(
            alloy_primitives::hex::encode_prefixed(authorization.signature().to_bytes()),
            signature
        );
        assert_eq!(authorization.owner(), payer());
        assert_eq!(authorization.token(), usd1());
        assert_eq!(authorization.chain(), ChainId::BSC);
        match (&authorization, text(&vector["signed"], "kind")) {
            (Authorization::Allowance(it), "erc2612-permit(thirdweb)") => {
                assert_eq!(it.owner.to_string(), text(message, "owner"));
                assert_eq!(it.spender.to_string(), text(message, "spender"));
                assert_eq!(it.value.to_string(), text(message, "value"));
                assert_eq!(it.nonce.to_string(), text(message, "nonce"));
                assert_eq!(it.deadline.to_string(), text(message, "deadline"));
            }
            (Authorization::Once(it), "permit2-upto") => {
                assert_eq!(it.amount.to_string(), text(&message["permitted"], "amount"));
                assert_eq!(it.spender.to_string(), text(message, "spender"));
                assert_eq!(it.nonce.to_string(), text(message, "nonce"));
                assert_eq!(it.deadline.to_string(), text(message, "deadline"));
                assert_eq!(it.to.to_string(), text(&message["witness"], "to"));
                assert_eq!(
                    it.facilitator.to_string(),
                    text(&message["witness"], "facilitator")
                );
                assert_eq!(
                    it.valid_after.to_string(),
                    text(&message["witness"], "validAfter")
                );
            }
            (Authorization::Exact(Exact::Permit2(it)), "permit2-exact") => {
                assert_eq!(it.amount.to_string(), text(&message["permitted"], "amount"));
                assert_eq!(it.spender.to_string(), text(message, "spender"));
                assert_eq!(it.nonce.to_string(), text(message, "nonce"));
                assert_eq!(it.to.to_string(), text(&message["witness"], "to"));
            }
            (Authorization::Exact(Exact::Eip3009(it)), "eip3009") => {
                assert_eq!(it.to.to_string(), text(message, "to"));
                assert_eq!(it.value.to_string(), text(message, "value"));
                assert_eq!(it.nonce.to_string(), text(message, "nonce"));
                assert_eq!(it.valid_before.to_string(), text(message, "validBefore"));
            }
            (other, kind) => panic!("{kind} was read as {other:?}"),
        }
    }
}

#[test]
fn every_captured_header_is_read_and_says_what_its_client_said() {
    for (file, name, value) in payment_headers() {
        let header = PaymentHeader::from_name(&name).unwrap();
        let payment = PaymentPayload::parse_header(value.as_bytes(), &limits()).unwrap();
        assert_eq!(payment.header(), header, "{file}");
        let decoded: Value =
            serde_json::from_slice(&header::decode(value.as_bytes(), &limits()).unwrap()).unwrap();
        let selector = payment.selector();
        assert_eq!(selector.network, Network::BSC);
        let kind = match decoded["payload"].get("permit2Authorization") {
            Some(permit2) if permit2["witness"].get("facilitator").is_some() => {
                PayloadKind::Permit2Upto
            }
            Some(_) => PayloadKind::Permit2Exact,
            None => PayloadKind::Authorization,
        };
        assert_eq!(selector.kind, kind, "{file}");
        let ours = match (&selector.scheme, kind) {
            (Scheme::Exact, PayloadKind::Permit2Exact) => exact(Some(AssetTransferMethod::Permit2)),
            (Scheme::Exact, _) => exact(None),
            _ => upto(),
        };
        let authorization = payment.authorization_for(&ours).unwrap();
        assert_eq!(authorization.owner(), payer());
        assert_eq!(authorization.cap(), maximum());

        // Without its padding, as JavaScript's atob takes it, and with blanks around, it is the same payment.
        let unpadded = format!(" {} ", value.trim_end_matches('='));
        assert_eq!(
            PaymentPayload::parse_header(unpadded.as_bytes(), &limits()).unwrap(),
            payment
        );
        // Written by us, it is still the same payment.
        let again =
            PaymentPayload::parse_header(payment.to_header_value().as_bytes(), &limits()).unwrap();
        assert_eq!(again.authorization_for(&ours).unwrap(), authorization);
        assert_eq!(again.selector(), selector);
    }
}

#[test]
fn a_sponsored_permit_is_read_from_the_extension() {
    let (_, _, value) = payment_headers()
        .into_iter()
        .find(|(file, _, _)| file.contains("2612"))
        .expect("a capture with the extension");
    let payment = PaymentPayload::parse_header(value.as_bytes(), &limits()).unwrap();
    let sponsoring = payment.extensions().eip2612_gas_sponsoring().unwrap();
    let permit = sponsoring.permit.as_ref().unwrap();
    assert_eq!(permit.from, payer());
    assert_eq!(permit.asset, usd1());
    assert_eq!(permit.spender, canonical::PERMIT2);
    assert_eq!(permit.amount, maximum());
    assert_eq!(permit.nonce, U256::from(5));
    assert_eq!(permit.deadline, Timestamp(1_795_341_160));
}

#[test]
fn a_v2_payment_without_the_echo_is_read_by_its_top_level_fields() {
    // thirdweb 5.119 and 5.120 send no `accepted`.
    let vector = vectors()
        .into_iter()
        .find(|v| v["client"] == "thirdweb" && v["x402Version"] == 2)
        .unwrap();
    let payment =
        PaymentPayload::parse_json(payload_of(&vector).to_string().as_bytes(), &limits()).unwrap();
    assert_eq!(payment.version(), X402Version::V2);
    assert_eq!(payment.selector().asset, None);
    assert!(matches!(
        payment.authorization_for(&upto()),
        Ok(Authorization::Allowance(_))
    ));
}

#[test]
fn an_echo_written_anew_with_nulls_blanks_and_other_order_is_the_same_echo() {
    let vector = vectors()
        .into_iter()
        .find(|v| v["signed"]["kind"] == "permit2-upto")
        .unwrap();
    let mut payload = payload_of(&vector);
    let scheme = payload.as_object_mut().unwrap().remove("scheme").unwrap();
    payload.as_object_mut().unwrap().remove("network");
    payload["accepted"] = json!({
        "unknown": { "deep": [1, 2.5, null] }, "extra": null, "maxTimeoutSeconds": 300.0, "description": null,
        "payTo": payee().to_string().to_lowercase(), "asset": format!("0x{:X}", usd1()),
        "amount": "990000000000000000", "maxAmountRequired": "990000000000000000", "outputSchema": null,
        "network": "eip155:56", "scheme": scheme,
    });
    payload["extensions"] = Value::Null;
    payload["resource"] = Value::Null;
    let bytes = serde_json::to_string_pretty(&payload).unwrap();
    let payment = PaymentPayload::parse_json(bytes.as_bytes(), &limits()).unwrap();
    assert!(matches!(
        payment.authorization_for(&upto()),
        Ok(Authorization::Once(_))
    ));
}

#[test]
fn the_reference_facilitators_bodies_are_read_and_written() {
    let captures = captures();
    let (_, server) = captures
        .iter()
        .find(|(file, _)| file.starts_with("reference_server"))
        .unwrap();
    let mut seen = 0;
    for route in server["routes"].as_object().unwrap().values() {
        let unpaid = PaymentRequired::from_response(
            Some(text(&route["unpaid"]["headers"], "payment-required").as_bytes()),
            b"{}",
            &limits(),
        )
        .unwrap();
        assert_eq!(unpaid.version, X402Version::V2);
        assert!(unpaid.unreadable.is_empty());
        let settled = SettleResponse::parse_header(
            text(&route["paid"]["headers"], "payment-response").as_bytes(),
            &limits(),
        )
        .unwrap();
        assert_eq!(settled.payer, Some(payer()));
        assert_eq!(
            SettleResponse::parse_body(settled.to_json().as_bytes(), &limits()).unwrap(),
            settled
        );

        for call in route["facilitator_calls"].as_array().unwrap() {
            if call["method"] != "POST" {
                continue;
            }
            let request =
                FacilitatorRequest::parse_body(call["body"].to_string().as_bytes(), &limits())
                    .unwrap();
            assert_eq!(unpaid.accepts[0].asset, request.requirements.asset);
            // At /settle an upto amount is the charge; the offer is what the payment answers.
            let authorization = request
                .payload
                .authorization_for(&unpaid.accepts[0])
                .unwrap();
            assert_eq!(authorization.owner(), payer());
            let again =
                FacilitatorRequest::parse_body(request.to_json().as_bytes(), &limits()).unwrap();
            assert_eq!(
                again.payload.authorization_for(&unpaid.accepts[0]).unwrap(),
                authorization
            );
            assert_eq!(again.requirements, request.requirements);
            seen += 1;
        }
    }
    assert!(seen >= 2);
}
