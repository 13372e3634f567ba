//! Properties: round trips, no panic on mutated input, and naive twins.

use crate::common::*;
use proptest::prelude::*;
use tollgate_x402::*;

fn limits() -> Limits {
    Limits::default()
}

fn address() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::from)
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        any::<u64>().prop_map(Amount::from),
        any::<u128>().prop_map(Amount::from),
        any::<[u8; 32]>().prop_map(Amount::from_be_bytes),
    ]
    .prop_filter("above zero", |amount| !amount.is_zero())
}

fn a_signature() -> impl Strategy<Value = Signature65> {
    (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<bool>()).prop_filter_map(
        "in range",
        |(r, mut s, odd)| {
            s[0] &= 0x3f;
            Signature65::new(r.into(), s.into(), odd).ok()
        },
    )
}

/// An authorization and an offer that it answers.
fn payments() -> impl Strategy<Value = (PaymentRequirements, Authorization)> {
    let times = (any::<u64>(), any::<u64>());
    (
        0_u8..4,
        [address(), address(), address(), address()],
        amount(),
        any::<[u8; 32]>(),
        times,
        a_signature(),
        1..u64::MAX,
    )
        .prop_map(
            |(
                kind,
                [token, owner, pay_to, facilitator],
                amount,
                nonce,
                (after, before),
                signature,
                chain,
            )| {
                let chain = ChainId(chain);
                let (scheme, method) = match kind {
                    0 | 1 => (Scheme::Upto, AssetTransferMethod::Permit2),
                    2 => (Scheme::Exact, AssetTransferMethod::Eip3009),
                    _ => (Scheme::Exact, AssetTransferMethod::Permit2),
                };
                let mut offer =
                    PaymentRequirements::new(scheme, chain.into(), amount, token, pay_to, 60);
                offer.extra.asset_transfer_method = Some(method);
                offer.extra.facilitator_address = Some(facilitator);
                if kind < 2 {
                    offer.extra.primary_type = Some(PrimaryType::Permit);
                }
                let (valid_after, deadline) = (Timestamp(after), Timestamp(before));
                let number = U256::from_be_bytes(nonce);
                let authorization = match kind {
                    0 => Authorization::Allowance(Allowance {
                        chain,
                        token,
                        owner,
                        spender: pay_to,
                        value: amount,
                        nonce: number,
                        deadline,
                        signature,
                    }),
                    1 => Authorization::Once(Once {
                        chain,
                        token,
                        owner,
                        amount,
                        spender: canonical::UPTO_PERMIT2_PROXY,
                        nonce: number,
                        deadline,
                        to: pay_to,
                        facilitator,
                        valid_after,
                        signature,
                    }),
                    2 => Authorization::Exact(Exact::Eip3009(Eip3009 {
                        chain,
                        token,
                        owner,
                        to: pay_to,
                        value: amount,
                        valid_after,
                        valid_before: deadline,
                        nonce: nonce.into(),
                        signature,
                    })),
                    _ => Authorization::Exact(Exact::Permit2(Permit2Exact {
                        chain,
                        token,
                        owner,
                        amount,
                        spender: canonical::EXACT_PERMIT2_PROXY,
                        nonce: number,
                        deadline,
                        to: pay_to,
                        valid_after,
                        signature,
                    })),
                };
                (offer, authorization)
            },
        )
}

/// JSON as a tree that may have a key twice, which serde_json's cannot.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(&'static str),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn good(&self, depth: usize) -> bool {
        match self {
            Self::Leaf(_) | Self::Text(_) => true,
            Self::List(items) => depth > 0 && items.iter().all(|item| item.good(depth - 1)),
            Self::Object(entries) => {
                depth > 0
                    && entries.iter().all(|(_, value)| value.good(depth - 1))
                    && entries
                        .iter()
                        .enumerate()
                        .all(|(i, (key, _))| entries[..i].iter().all(|(k, _)| k != key))
            }
        }
    }

    /// JSON, with every second character of a string escaped when `escape` says so, and blanks.
    fn write(&self, out: &mut String, escape: bool) {
        let text = |text: &str, out: &mut String| {
            out.push('"');
            for (i, c) in text.chars().enumerate() {
                if c == '"' || c == '\\' || c < ' ' || (escape && i % 2 == 0) {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04X}"));
                    }
                } else {
                    out.push(c);
                }
            }
            out.push('"');
        };
        match self {
            Self::Leaf(leaf) => out.push_str(leaf),
            Self::Text(string) => text(string, out),
            Self::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { " ,\n" } else { "" });
                    item.write(out, escape);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push_str("{ ");
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if i > 0 { "\t," } else { "" });
                    text(key, out);
                    out.push_str(" : ");
                    value.write(out, !escape);
                }
                out.push('}');
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-1",
            "1.5e3",
            "18446744073709551615"
        ])
        .prop_map(Tree::Leaf),
        ".{0,4}".prop_map(Tree::Text),
    ];
    leaf.prop_recursive(20, 60, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Tree::List),
            prop::collection::vec(("[abé]{0,2}", inner), 0..4).prop_map(Tree::Object),
        ]
    })
}

/// Whether a string is an amount, by comparing digits only.
fn naively_an_amount(text: &str) -> bool {
    let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let digits = !text.is_empty() && text.chars().all(|c: char| c.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    digits && canonical && (text.len() < max.len() || (text.len() == max.len() && text <= max))
}

proptest! {
    #[test]
    fn what_a_client_sends_is_what_the_seller_reads((entry, signed) in payments(), v2 in any::<bool>()) {
        let mut offer = offer(vec![entry.clone()]);
        offer.version = if v2 { X402Version::V2 } else { X402Version::V1 };
        let written = if v2 {
            PaymentRequired::from_response(Some(offer.to_header_v2().as_bytes()), b"", &limits())
        } else {
            PaymentRequired::from_response(None, offer.to_body_v1().as_bytes(), &limits())
        };
        let read = written.unwrap();
        prop_assert_eq!(&read.accepts[0].extra, &entry.extra);
        prop_assert_eq!(read.accepts[0].amount, entry.amount);
        let payment = PaymentPayload::answering(&read, &read.accepts[0], &signed);
        prop_assert_eq!(payment.header() == PaymentHeader::PaymentSignature, v2);
        let header = payment.to_header_value();
        prop_assert!(header.is_ascii());
        let arrived = PaymentPayload::parse_header(header.as_bytes(), &limits()).unwrap();
        prop_assert_eq!(arrived.authorization_for(&entry), Ok(signed));
    }

    #[test]
    fn no_mutation_of_a_payment_panics(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..4),
        within in any::<bool>(),
    ) {
        let headers = payment_headers();
        let (_, _, value) = &headers[which.index(headers.len())];
        let mut bytes = if within { header::decode(value.as_bytes(), &limits()).unwrap() } else { value.clone().into_bytes() };
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let header = if within { header::encode(&bytes).into_bytes() } else { bytes };
        if let Ok(payment) = PaymentPayload::parse_header(&header, &limits()) {
            // What still parses and matches moves money only between the payer and our payee, in our token.
            if let Ok(authorization) = payment.authorization_for(&upto()) {
                prop_assert_eq!(authorization.token(), usd1());
                prop_assert_eq!(authorization.chain(), ChainId::BSC);
            }
            let again = PaymentPayload::parse_header(payment.to_header_value().as_bytes(), &Limits { header_bytes: 1 << 20, decoded_bytes: 1 << 20, ..limits() });
            let again = again.unwrap();
            prop_assert_eq!(again.scheme_payload(), payment.scheme_payload());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PaymentPayload::parse_header(&bytes, &limits());
        let _ = PaymentPayload::parse_json(&bytes, &limits());
        let _ = PaymentRequired::parse_body(&bytes, &limits());
        let _ = PaymentRequired::parse_header(&bytes, &limits());
        let _ = SettleResponse::parse_header(&bytes, &limits());
        let _ = VerifyResponse::parse_body(&bytes, &limits());
        let _ = SupportedResponse::parse_body(&bytes, &limits());
        let _ = FacilitatorRequest::parse_body(&bytes, &limits());
        let _ = PaymentStatus::parse_body(&bytes, &limits());
    }

    #[test]
    fn a_key_twice_and_too_much_depth_are_refused_and_nothing_else(tree in trees(), escape in any::<bool>()) {
        let mut text = String::new();
        tree.write(&mut text, escape);
        let read = Json::parse(&text);
        prop_assert_eq!(read.is_ok(), tree.good(16), "{}", text);
        if let Ok(json) = read {
            let written = json.to_string();
            prop_assert!(written.is_ascii());
            prop_assert_eq!(Json::parse(&written), Ok(json));
            prop_assert_eq!(
                serde_json::from_str::<serde_json::Value>(&written).unwrap(),
                serde_json::from_str::<serde_json::Value>(&text).unwrap()
            );
        }
    }

    #[test]
    fn an_amount_is_a_canonical_decimal_within_256_bits(
        text in prop_oneof!["[0-9]{0,80}", "1157920892373161954235709850086879078532699846656405[0-9]{26}", "[0-9a-fx+. -]{0,6}"],
    ) {
        let read = text.parse::<Amount>();
        prop_assert_eq!(read.is_ok(), naively_an_amount(&text), "{}", text);
        if let Ok(amount) = read {
            prop_assert_eq!(amount.to_string(), text);
            prop_assert_eq!(Amount::from_be_bytes(amount.to_be_bytes()), amount);
        }
    }

    #[test]
    fn base64_is_written_padded_and_read_padded_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = header::encode(&bytes);
        prop_assert_eq!(text.len() % 4, 0);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')));
        prop_assert_eq!(header::decode(text.as_bytes(), &limits()), Ok(bytes.clone()));
        prop_assert_eq!(header::decode(text.trim_end_matches('=').as_bytes(), &limits()), Ok(bytes));
    }

    #[test]
    fn payment_ids_round_trip_and_hide(bytes in any::<[u8; 16]>()) {
        let id = PaymentId::from_random(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(PaymentId::from_random(id.to_bytes()), id);
        let shown = format!("{id:?}");
        prop_assert!(!shown.contains(&id.to_string()));
    }
}
