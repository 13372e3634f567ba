//! Payments that are well-formed and not for what was offered.

use crate::common::*;
use crate::refusals::{exact_permit2, once, parse, permit, set};
use serde_json::{Value, json};
use tollgate_x402::*;

#[test]
fn a_payment_for_something_else_is_refused_with_the_references_code() {
    let other = "0x1111111111111111111111111111111111111111";
    let permit2 = |key: &str, value: Value| {
        set(
            once(),
            &format!("/payload/permit2Authorization/{key}"),
            value,
        )
    };
    let authorization =
        |key: &str, value: Value| set(permit(), &format!("/payload/authorization/{key}"), value);
    let accepted = |value: Value| set(permit(), "/accepted", value);
    let eip3009 = || set(permit(), "/scheme", "exact".into());
    let mut unmetered = upto();
    unmetered.extra.primary_type = None;
    let mut no_proxy = upto();
    no_proxy.extra.facilitator_address = None;
    let exact2 = || exact(Some(AssetTransferMethod::Permit2));
    let cases = [
        (
            "another network",
            set(permit(), "/network", "eip155:97".into()),
            upto(),
            "invalid_network",
        ),
        (
            "another scheme",
            set(permit(), "/scheme", "exact".into()),
            upto(),
            "invalid_scheme",
        ),
        (
            "another asset in the echo",
            accepted(json!({ "asset": other })),
            upto(),
            "invalid_payment_requirements",
        ),
        (
            "another payee in the echo",
            accepted(json!({ "payTo": other })),
            upto(),
            "invalid_payment_requirements",
        ),
        (
            "another spender",
            authorization("to", other.into()),
            upto(),
            "invalid_exact_evm_recipient_mismatch",
        ),
        (
            "a permit of zero",
            authorization("value", "0".into()),
            upto(),
            "invalid_payment_amount",
        ),
        (
            "EIP-3009 for a metered offer",
            permit(),
            unmetered,
            "unsupported_payload_type",
        ),
        (
            "another proxy",
            permit2("spender", canonical::EXACT_PERMIT2_PROXY.to_string().into()),
            upto(),
            "invalid_permit2_spender",
        ),
        (
            "another witness",
            permit2("witness/to", other.into()),
            upto(),
            "invalid_permit2_recipient_mismatch",
        ),
        (
            "another facilitator",
            permit2("witness/facilitator", other.into()),
            upto(),
            "upto_facilitator_mismatch",
        ),
        (
            "no facilitator",
            permit2("witness/facilitator", Value::Null),
            upto(),
            "upto_facilitator_mismatch",
        ),
        (
            "another token",
            permit2("permitted/token", other.into()),
            upto(),
            "permit2_token_mismatch",
        ),
        (
            "a maximum of zero",
            permit2("permitted/amount", "0".into()),
            upto(),
            "invalid_payment_amount",
        ),
        (
            "Permit2 where it is not offered",
            once(),
            no_proxy,
            "unsupported_payload_type",
        ),
        (
            "another exact value",
            set(eip3009(), "/payload/authorization/value", "1".into()),
            exact(None),
            "invalid_exact_evm_payload_authorization_value_mismatch",
        ),
        (
            "another recipient",
            set(eip3009(), "/payload/authorization/to", other.into()),
            exact(None),
            "invalid_exact_evm_recipient_mismatch",
        ),
        (
            "EIP-3009 for a Permit2 offer",
            eip3009(),
            exact2(),
            "unsupported_payload_type",
        ),
        (
            "Permit2 for an EIP-3009 offer",
            exact_permit2(),
            exact(None),
            "unsupported_payload_type",
        ),
        (
            "an upto witness for exact",
            set(once(), "/scheme", "exact".into()),
            exact2(),
            "unsupported_payload_type",
        ),
        (
            "another exact amount",
            set(
                exact_permit2(),
                "/payload/permit2Authorization/permitted/amount",
                "1".into(),
            ),
            exact2(),
            "permit2_amount_mismatch",
        ),
        (
            "an unknown scheme",
            set(permit(), "/scheme", "batch-settlement".into()),
            {
                let mut offer = upto();
                offer.scheme = Scheme::from("batch-settlement");
                offer
            },
            "unsupported_payload_type",
        ),
    ];
    for (name, value, offer, code) in cases {
        let payment = parse(&value).unwrap_or_else(|error| panic!("{name}: {error}"));
        let refused = payment.authorization_for(&offer).expect_err(name);
        assert_eq!(refused.code().as_str(), code, "{name}");
        assert_eq!(refused.code().status(), 402, "{name}");
    }
}

#[test]
fn the_echo_supplies_no_value() {
    // The echo names another amount, times and extra: what counts is our offer and what was signed.
    let mut value = once();
    value["accepted"] = json!({
        "scheme": "upto", "network": "eip155:56", "amount": "1", "asset": usd1().to_string(),
        "payTo": payee().to_string(), "maxTimeoutSeconds": 1,
        "extra": { "facilitatorAddress": "0x1111111111111111111111111111111111111111", "primaryType": "Permit" },
    });
    let payment = parse(&value).unwrap();
    assert_eq!(payment.selector().amount, Some(Amount::from(1_u64)));
    match payment.authorization_for(&upto()).unwrap() {
        Authorization::Once(it) => {
            assert_eq!(it.facilitator, facilitator());
            assert_eq!(it.amount, maximum());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_that_was_sent_shows_in_errors_or_debug() {
    let secret = alloy_primitives::hex::encode(signature().to_bytes());
    let mut value = set(once(), "/accepted", json!({ "note": secret }));
    value["extensions"] = json!({ "other": { "info": { "s": secret } } });
    let payment = parse(&value).unwrap();
    assert!(!format!("{payment:?}").contains(&secret[..40]));
    let authorization = payment.authorization_for(&upto()).unwrap();
    assert!(!format!("{authorization:?}").contains(&secret[..40]));
    for pointer in [
        "/payload/signature",
        "/payload/permit2Authorization/nonce",
        "/network",
        "/x402Version",
    ] {
        let refused =
            parse(&set(once(), pointer, format!("{secret}{secret} !").into())).unwrap_err();
        assert!(
            !format!("{refused} {refused:?}").contains(&secret[..16]),
            "{pointer}"
        );
    }
}
