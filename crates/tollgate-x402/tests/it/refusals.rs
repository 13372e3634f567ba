//! Bad input of every kind is refused with a code that says what to do.

use crate::common::*;
use serde_json::{Value, json};
use tollgate_x402::*;

pub(crate) fn limits() -> Limits {
    Limits::default()
}

pub(crate) fn permit() -> Value {
    json!({
        "x402Version": 1, "scheme": "upto", "network": "eip155:56",
        "payload": {
            "signature": alloy_primitives::hex::encode_prefixed(signature().to_bytes()),
            "authorization": {
                "from": payer().to_string(), "to": payee().to_string(), "value": "990000000000000000",
                "validAfter": "0", "validBefore": "1795427314", "nonce": format!("0x{:064x}", 5),
            },
        },
    })
}

pub(crate) fn once() -> Value {
    json!({
        "x402Version": 2, "scheme": "upto", "network": "eip155:56",
        "payload": {
            "signature": alloy_primitives::hex::encode_prefixed(signature().to_bytes()),
            "permit2Authorization": {
                "from": payer().to_string(),
                "permitted": { "token": usd1().to_string(), "amount": "990000000000000000" },
                "spender": canonical::UPTO_PERMIT2_PROXY.to_string(), "nonce": "7", "deadline": "1795427314",
                "witness": { "to": payee().to_string(), "facilitator": facilitator().to_string(), "validAfter": "0" },
            },
        },
    })
}

pub(crate) fn exact_permit2() -> Value {
    let mut value = once();
    value["scheme"] = "exact".into();
    let permit2 = &mut value["payload"]["permit2Authorization"];
    permit2["spender"] = canonical::EXACT_PERMIT2_PROXY.to_string().into();
    permit2["witness"]
        .as_object_mut()
        .unwrap()
        .remove("facilitator");
    value
}

pub(crate) fn parse(value: &Value) -> Result<PaymentPayload, PayloadError> {
    PaymentPayload::parse_header(
        header::encode(value.to_string().as_bytes()).as_bytes(),
        &limits(),
    )
}

pub(crate) fn set(mut value: Value, pointer: &str, new: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = new;
    value
}

#[test]
fn what_is_not_base64_of_json_is_an_invalid_payload() {
    let good = permit().to_string();
    let standard = header::encode(good.as_bytes());
    assert!(PaymentPayload::parse_header(standard.as_bytes(), &limits()).is_ok());
    let duplicate = good.replacen("\"scheme\"", "\"scheme\":\"upto\",\"scheme\"", 1);
    let escaped = good.replacen("\"scheme\"", "\"\\u0073cheme\":\"exact\",\"scheme\"", 1);
    let inner = good.replacen("\"value\"", "\"value\":\"1\",\"value\"", 1);
    let unknown = good.replacen("\"scheme\"", "\"x\":{\"a\":1,\"a\":2},\"scheme\"", 1);
    let deep = good.replacen(
        "\"scheme\"",
        &format!("\"x\":{}{},\"scheme\"", "[".repeat(16), "]".repeat(16)),
        1,
    );
    let shallow = good.replacen(
        "\"scheme\"",
        &format!("\"x\":{}{},\"scheme\"", "[".repeat(15), "]".repeat(15)),
        1,
    );
    let encoded = |text: &str| header::encode(text.as_bytes()).into_bytes();
    let cases: [(&str, Vec<u8>, PayloadError); 15] = [
        ("empty", Vec::new(), PayloadError::Json(JsonError::Syntax)),
        (
            "not base64",
            b"{}".to_vec(),
            PayloadError::Header(HeaderError::Base64),
        ),
        (
            "url-safe",
            b"_-__".to_vec(),
            PayloadError::Header(HeaderError::Base64),
        ),
        (
            "two lines",
            b"eyJ4\nNDAy".to_vec(),
            PayloadError::Header(HeaderError::Base64),
        ),
        (
            "not ASCII",
            "é".as_bytes().to_vec(),
            PayloadError::Header(HeaderError::Base64),
        ),
        (
            "not JSON",
            encoded("x402"),
            PayloadError::Json(JsonError::Syntax),
        ),
        (
            "not UTF-8",
            header::encode(b"{\"a\":\"\xff\"}").into_bytes(),
            PayloadError::Json(JsonError::Syntax),
        ),
        (
            "trailing",
            encoded(&format!("{good}{{}}")),
            PayloadError::Json(JsonError::Syntax),
        ),
        (
            "half",
            encoded(&good[..good.len() / 2]),
            PayloadError::Json(JsonError::Syntax),
        ),
        (
            "same key twice",
            encoded(&duplicate),
            PayloadError::Json(JsonError::DuplicateKey),
        ),
        (
            "same key, escaped",
            encoded(&escaped),
            PayloadError::Json(JsonError::DuplicateKey),
        ),
        (
            "same key within",
            encoded(&inner),
            PayloadError::Json(JsonError::DuplicateKey),
        ),
        (
            "same key in the unknown",
            encoded(&unknown),
            PayloadError::Json(JsonError::DuplicateKey),
        ),
        (
            "too deep",
            encoded(&deep),
            PayloadError::Json(JsonError::TooDeep),
        ),
        (
            "a bomb",
            encoded(&"[".repeat(10_000)),
            PayloadError::Json(JsonError::TooDeep),
        ),
    ];
    for (name, value, error) in cases {
        let refused = PaymentPayload::parse_header(&value, &limits()).unwrap_err();
        assert_eq!(refused, error, "{name}");
        assert_eq!(refused.code(), ErrorCode::InvalidPayload, "{name}");
        assert_eq!(refused.code().status(), 402);
    }
    assert!(PaymentPayload::parse_header(&encoded(&shallow), &limits()).is_ok());
}

#[test]
fn a_header_over_the_limit_is_431_and_two_are_400() {
    let long = PaymentPayload::parse_header(&vec![b'A'; 16 * 1024 + 1], &limits()).unwrap_err();
    assert_eq!((long, long.code().status()), (PayloadError::TooLong, 431));
    let tight = Limits {
        decoded_bytes: 8,
        ..limits()
    };
    assert_eq!(
        PaymentPayload::parse_header(b"eyJ4NDAyVmVyc2lvbiI6MX0=", &tight),
        Err(PayloadError::TooLong)
    );

    let value: &[u8] = b"eyJ9";
    let found = |names: &[&'static str]| {
        PaymentPayload::find_header(names.iter().map(|name| (*name, value)))
    };
    assert_eq!(found(&["accept", "host"]), Ok(None));
    assert_eq!(
        found(&["accept", "X-Payment"]),
        Ok(Some((PaymentHeader::XPayment, value)))
    );
    assert_eq!(
        found(&["PAYMENT-SIGNATURE"]),
        Ok(Some((PaymentHeader::PaymentSignature, value)))
    );
    for two in [
        ["x-payment", "payment-signature"],
        ["x-payment", "x-payment"],
    ] {
        let refused = found(&two).unwrap_err();
        assert_eq!(
            (refused, refused.code().status()),
            (PayloadError::Multiple, 400)
        );
    }
}

#[test]
fn numbers_are_canonical_decimal_strings_within_256_bits() {
    let bad = [
        "",
        "-1",
        "+1",
        "01",
        "00",
        "1.0",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "１",
        "1_000",
        "115792089237316195423570985008687907853269984665640564039457584007913129639936",
        "1000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ];
    for text in bad {
        for (base, pointer) in [
            (permit(), "/payload/authorization/value"),
            (permit(), "/payload/authorization/validBefore"),
            (permit(), "/payload/authorization/validAfter"),
            (once(), "/payload/permit2Authorization/permitted/amount"),
            (once(), "/payload/permit2Authorization/deadline"),
            (once(), "/payload/permit2Authorization/witness/validAfter"),
            (exact_permit2(), "/payload/permit2Authorization/nonce"),
        ] {
            let refused = parse(&set(base, pointer, text.into())).unwrap_err();
            assert_eq!(
                refused.code(),
                ErrorCode::InvalidPayload,
                "{text:?} at {pointer}"
            );
        }
        if text != "0x10" {
            assert!(
                parse(&set(
                    once(),
                    "/payload/permit2Authorization/nonce",
                    text.into()
                ))
                .is_err(),
                "{text:?}"
            );
        }
    }
    for number in [
        json!(1),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        Value::Null,
    ] {
        assert!(parse(&set(permit(), "/payload/authorization/value", number)).is_err());
    }
    let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let payment = parse(&set(permit(), "/payload/authorization/value", max.into())).unwrap();
    assert_eq!(
        payment.authorization_for(&upto()).unwrap().cap(),
        Amount::MAX
    );
}

#[test]
fn an_upto_nonce_may_be_hexadecimal_and_is_the_same_number() {
    for (text, number) in [("0x10", 16_u64), ("0xFf", 255), ("16", 16), ("0x0", 0)] {
        let payment = parse(&set(
            once(),
            "/payload/permit2Authorization/nonce",
            text.into(),
        ))
        .unwrap();
        match payment.authorization_for(&upto()).unwrap() {
            Authorization::Once(it) => assert_eq!(it.nonce, U256::from(number)),
            other => panic!("{other:?}"),
        }
    }
    for text in [
        "0x",
        "0xg",
        "0x-1",
        "0X10",
        &format!("0x1{}", "0".repeat(64)),
    ] {
        assert!(
            parse(&set(
                once(),
                "/payload/permit2Authorization/nonce",
                text.into()
            ))
            .is_err(),
            "{text}"
        );
    }
}

#[test]
fn addresses_nonces_and_signatures_have_their_exact_length() {
    for (base, pointer) in [
        (permit(), "/payload/authorization/from"),
        (permit(), "/payload/authorization/to"),
        (once(), "/payload/permit2Authorization/from"),
        (once(), "/payload/permit2Authorization/spender"),
        (once(), "/payload/permit2Authorization/permitted/token"),
        (once(), "/payload/permit2Authorization/witness/to"),
        (once(), "/payload/permit2Authorization/witness/facilitator"),
    ] {
        let good = payer().to_string();
        for text in [
            "",
            "0x",
            &good[2..],
            &good[..41],
            &format!("{good}0"),
            &format!("0x0x{}", &good[4..]),
        ] {
            let refused = parse(&set(base.clone(), pointer, text.into())).unwrap_err();
            assert!(
                matches!(refused, PayloadError::Field(e) if e.problem == FieldProblem::Address),
                "{text}"
            );
        }
        assert!(parse(&set(base.clone(), pointer, good.to_lowercase().into())).is_ok());
    }
    for text in [
        "0x5",
        "5",
        &"0".repeat(64),
        &format!("0x{}", "0".repeat(63)),
        &format!("0x{}", "0".repeat(65)),
    ] {
        let refused =
            parse(&set(permit(), "/payload/authorization/nonce", text.into())).unwrap_err();
        assert!(
            matches!(refused, PayloadError::Field(e) if e.problem == FieldProblem::Bytes32),
            "{text}"
        );
    }
    let good = alloy_primitives::hex::encode_prefixed(signature().to_bytes());
    let high = format!("0x{}{}1b", "01".repeat(32), "ff".repeat(31) + "00");
    // Half the order plus one: the twin of a signature that would be good (EIP-2).
    let twin = format!(
        "0x{}7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a11b",
        "01".repeat(32)
    );
    let compact = &good[..130];
    for (text, problem) in [
        ("0x", FieldProblem::Signature(ParseSignatureError::Length)),
        (&good[2..], FieldProblem::Hex),
        (&good[..131], FieldProblem::Hex),
        (
            &good[..128],
            FieldProblem::Signature(ParseSignatureError::Length),
        ),
        (
            compact,
            FieldProblem::Signature(ParseSignatureError::Length),
        ),
        (&twin, FieldProblem::Signature(ParseSignatureError::HighS)),
        (&high, FieldProblem::Signature(ParseSignatureError::Range)),
        (
            &format!("{compact}02"),
            FieldProblem::Signature(ParseSignatureError::V),
        ),
    ] {
        let refused = parse(&set(permit(), "/payload/signature", text.into())).unwrap_err();
        assert!(
            matches!(refused, PayloadError::Field(e) if e.problem == problem),
            "{text}: {refused:?}"
        );
    }
    // Permit2 takes EIP-2098, the tokens do not.
    assert!(parse(&set(once(), "/payload/signature", compact.into())).is_ok());
    assert!(parse(&set(exact_permit2(), "/payload/signature", compact.into())).is_ok());
}

#[test]
fn contradictions_and_unknown_payloads_are_refused() {
    let echo = |key: &str, value: Value| {
        set(
            set(once(), "/accepted", json!({})),
            &format!("/accepted/{key}"),
            value,
        )
    };
    for value in [
        echo("scheme", "exact".into()),
        echo("network", "eip155:97".into()),
    ] {
        assert_eq!(parse(&value).unwrap_err().code(), ErrorCode::InvalidPayload);
    }
    let mut both = once();
    both["payload"]["authorization"] = permit()["payload"]["authorization"].clone();
    assert_eq!(parse(&both).unwrap_err().code(), ErrorCode::InvalidPayload);
    let delegated = set(
        once(),
        "/payload",
        json!({ "delegator": "0x", "permissionContext": "0x" }),
    );
    assert_eq!(
        parse(&delegated).unwrap_err().code(),
        ErrorCode::UnsupportedPayloadType
    );
    assert_eq!(
        parse(&set(once(), "/x402Version", 3.into()))
            .unwrap_err()
            .code(),
        ErrorCode::InvalidX402Version
    );
    assert_eq!(
        parse(&set(once(), "/network", "eip155:0x38".into()))
            .unwrap_err()
            .code(),
        ErrorCode::InvalidNetwork
    );
    let id = |id: Value| {
        set(
            once(),
            "/extensions",
            json!({ "payment-identifier": { "info": { "id": id } } }),
        )
    };
    for bad in [
        json!("short"),
        json!("x".repeat(129)),
        json!("has blanks in the middle"),
        json!(5),
    ] {
        assert_eq!(
            parse(&id(bad)).unwrap_err().code(),
            ErrorCode::InvalidPayload
        );
    }
    assert!(parse(&id("x".repeat(128).into())).is_ok());
    let sponsored = json!({ "eip2612GasSponsoring": { "info": { "signature": "0x" } } });
    let refused = parse(&set(once(), "/extensions", sponsored)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Eip2612ExtensionFormat);
}
