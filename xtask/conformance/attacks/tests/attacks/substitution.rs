//! What exactly was paid for: every field of what goes over the wire, put in place of another.

use serde_json::{Value, json};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, UPTO_PROXY},
    tokens::{USD1, USDT},
};
use tollgate_eip712::{
    AllowanceTerms, Eip3009Terms, Permit2ExactTerms, TokenDomain, sign_allowance, sign_eip3009,
    sign_once, sign_permit2_exact,
};
use tollgate_ledger::Status;
use tollgate_x402::{
    Address, Amount, Authorization, B256, ChainId, Exact, Timestamp, U256, X402Version,
};

use crate::kit::{
    CHAT, FIXED, FIXED_PATH, Header, Payer, Step, Untouched, World, cents, chat, tokens,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Allowance,
    Once,
    Eip3009,
    Permit2Exact,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Allowance | Self::Once => CHAT,
            Self::Eip3009 | Self::Permit2Exact => FIXED_PATH,
        }
    }

    /// What an honest payment of this kind is charged here.
    fn price(self) -> Amount {
        match self {
            Self::Allowance | Self::Once => tokens(20),
            Self::Eip3009 | Self::Permit2Exact => Amount::from(FIXED),
        }
    }

    async fn sign(self, world: &World, payer: &Payer, nonce: u64) -> Authorization {
        match self {
            // Its nonce is the token's, and one permit serves many requests.
            Self::Allowance => world.allowance(payer, cents(9_900), 0).await,
            Self::Once => world.once(payer, cents(99), nonce).await,
            Self::Eip3009 => world.eip3009(payer, Amount::from(FIXED), nonce).await,
            Self::Permit2Exact => world.permit2_exact(payer, Amount::from(FIXED), nonce).await,
        }
    }
}

/// What must come of a substitution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// Refused from the bytes alone.
    Refused,
    /// The client's echo supplies no value: served and charged as if it had not been touched.
    NoEffect,
}

/// What the seller does not read: echoes that supply no value, and what a permit does not sign.
fn expected(kind: Kind, version: X402Version, path: &str, new: Option<&Value>) -> Expected {
    let removed = new.is_none();
    let echo = [
        "accepted/maxTimeoutSeconds",
        "accepted/extra",
        "accepted/description",
        "accepted/mimeType",
        "accepted/resource",
        "accepted/outputSchema",
        "resource",
        "extensions",
    ];
    // What it has must be well formed all the same; and the amount stands there twice.
    let malformed = path == "resource" && !removed
        || path == "resource/url" && removed
        || path.starts_with("extensions") && !path.contains("/schema") && !removed;
    let inert = !malformed
        && echo
            .iter()
            .any(|echo| path == *echo || path.starts_with(&format!("{echo}/")))
        // v2 names both in the echo as well, and either header carries either version.
        || removed && path.starts_with("accepted")
        || removed && version == X402Version::V2 && matches!(path, "scheme" | "network")
        || path == "x402Version" && new == Some(&json!(2))
        || kind == Kind::Allowance && path.ends_with("/validAfter")
        // What is left out was signed as 0.
        || removed && kind == Kind::Eip3009 && path.ends_with("/validAfter");
    if inert {
        Expected::NoEffect
    } else {
        Expected::Refused
    }
}

/// Every place of a JSON text, inner ones as well, as a path.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let inner = if at.is_empty() {
            key
        } else {
            format!("{at}/{key}")
        };
        places(child, &inner, found);
    }
}

/// What an attacker puts in place of a value: others of its kind, and none.
fn substitutes(value: &Value) -> Vec<Option<Value>> {
    let mut all = vec![None];
    match value {
        Value::String(text) if text.len() == 42 && text.starts_with("0x") => {
            let other = Address::repeat_byte(0xad).to_string();
            all.push(Some(json!(other)));
            all.push(Some(json!(USDT.to_string())));
        }
        Value::String(text) if text.starts_with("0x") => {
            // The last byte but one is of s or of the nonce; the last of a signature is v.
            for position in [4, text.len() - 4, text.len() - 1] {
                let mut digits: Vec<char> = text.chars().collect();
                digits[position] = if digits[position] == '7' { '8' } else { '7' };
                all.push(Some(json!(digits.into_iter().collect::<String>())));
            }
        }
        Value::String(text) if text.parse::<u128>().is_ok() => {
            let number: u128 = text.parse().unwrap();
            for other in [number + 1, number.saturating_sub(1), number * 2 + 5] {
                if other != number {
                    all.push(Some(json!(other.to_string())));
                }
            }
        }
        Value::String(text) if text.starts_with("eip155:") => {
            all.extend(["eip155:56", "eip155:97", "eip155:1", "bsc"].map(|one| Some(json!(one))));
        }
        Value::String(_) => {
            all.extend(["exact", "upto", "other"].map(|one| Some(json!(one))));
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            all.extend([number + 1, 0].map(|one| Some(json!(one))));
        }
        _ => all.push(Some(json!([]))),
    }
    all.retain(|one| one.as_ref() != Some(value));
    all
}

fn put(payment: &mut Value, place: &str, value: Option<Value>) {
    let (parent, key) = place.rsplit_once('/').unwrap_or(("", place));
    let parent = if parent.is_empty() {
        payment
    } else {
        payment.pointer_mut(&format!("/{parent}")).unwrap()
    };
    let map = parent.as_object_mut().unwrap();
    match value {
        Some(value) => {
            map.insert(key.to_owned(), value);
        }
        None => {
            map.remove(key);
        }
    }
}

async fn every_field(kind: Kind, version: X402Version) {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let body = chat(20);
    let (mut served, mut refused, mut nonce) = (0_u64, 0, 0_u64);
    let honest = kind.sign(&world, &payer, nonce).await;
    let honest = world
        .payment(kind.path(), &body, version, &honest)
        .await
        .json();
    let mut wrong: Vec<String> = Vec::new();
    let mut all = Vec::new();
    places(&honest, "", &mut all);
    assert!(all.len() >= 10, "{all:?}");
    for place in all {
        let value = honest.pointer(&format!("/{place}")).unwrap().clone();
        for substitute in substitutes(&value) {
            let what = format!("{kind:?} {version:?} {place}: {value} -> {substitute:?}");
            nonce += 1;
            let signed = kind.sign(&world, &payer, nonce).await;
            let mut payment = world
                .payment(kind.path(), &body, version, &signed)
                .await
                .json();
            put(&mut payment, &place, substitute.clone());
            let header = Header::of(version, &payment);
            let untouched = Untouched::begin(&world);
            let answer = world.request(kind.path(), &body, Some(&header)).await;
            if answer.status == 200 {
                let status = world.status(answer.payment().unwrap()).await;
                assert_eq!(status.charge, Some(kind.price()), "{what}");
                served += 1;
            }
            match (
                expected(kind, version, &place, substitute.as_ref()),
                answer.status.as_u16(),
            ) {
                (Expected::NoEffect, 200) => {}
                (Expected::Refused, 400 | 402) => {
                    untouched.check(&what);
                    refused += 1;
                }
                _ => wrong.push(format!("{what}: {}", answer.status)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused >= 20, "{refused} refused");
    world.settle().await;
    let paid = world.sum(Status::Final).await;
    assert_eq!(paid.payments, served);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 24, 25; RELIABILITY 1, 2. Lost: 0; charged: nothing but our own price.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_an_allowance_substituted_is_refused_or_has_no_effect() {
    every_field(Kind::Allowance, X402Version::V1).await;
    every_field(Kind::Allowance, X402Version::V2).await;
}

/// The same for once payments. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_once_payment_substituted_is_refused_or_has_no_effect() {
    every_field(Kind::Once, X402Version::V1).await;
    every_field(Kind::Once, X402Version::V2).await;
}

/// The same for exact payments by EIP-3009. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_an_eip3009_payment_substituted_is_refused_or_has_no_effect() {
    every_field(Kind::Eip3009, X402Version::V1).await;
    every_field(Kind::Eip3009, X402Version::V2).await;
}

/// The same for exact payments by Permit2. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_a_permit2_exact_payment_substituted_is_refused_or_has_no_effect() {
    every_field(Kind::Permit2Exact, X402Version::V1).await;
    every_field(Kind::Permit2Exact, X402Version::V2).await;
}

/// Signed for the attacker's own terms with a good signature, and echoed alike, so that nothing contradicts itself:
/// another payee, payee and facilitator, proxy, token, amount, chain. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_honestly_signed_for_other_terms_is_refused_whatever_it_echoes() {
    let world = World::new().await;
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let body = chat(20);
    let mine = Address::repeat_byte(0xad);
    for (what, kind, signed, echo) in other_terms(&world, &payer, mine).await {
        for version in [X402Version::V1, X402Version::V2] {
            let honest = kind.sign(&world, &payer, 1).await;
            let honest = world.payment(kind.path(), &body, version, &honest).await;
            let mut payment = honest.json();
            let forged = world.payment(kind.path(), &body, version, &signed).await;
            payment["payload"] = forged.json()["payload"].clone();
            for (place, value) in &echo {
                if payment.pointer(&format!("/{place}")).is_some() {
                    put(&mut payment, place, Some(value.clone()));
                }
            }
            let untouched = Untouched::begin(&world);
            let header = Header::of(version, &payment);
            let answer = world.request(kind.path(), &body, Some(&header)).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 402),
                "{what}, {version:?}: {} {}",
                answer.status,
                answer.text()
            );
            untouched.check(&format!("{what}, {version:?}"));
        }
    }
    assert_eq!(world.totals().await.payments.len(), 0);
}

type Terms = (
    &'static str,
    Kind,
    Authorization,
    Vec<(&'static str, Value)>,
);

async fn other_terms(world: &World, payer: &Payer, mine: Address) -> Vec<Terms> {
    let wallet = &payer.0;
    let domain = &world.domain;
    let hour = world.now().plus(3_600);
    let payee = || vec![("accepted/payTo", json!(mine))];
    let allowance = AllowanceTerms {
        spender: world.pay_to,
        value: cents(99),
        nonce: U256::ZERO,
        deadline: hour,
    };
    let once = world.once_terms(cents(99), 1);
    let transfer = Eip3009Terms {
        to: world.pay_to,
        value: Amount::from(FIXED),
        valid_after: Timestamp(0),
        valid_before: hour,
        nonce: B256::repeat_byte(1),
    };
    let exact = Permit2ExactTerms {
        amount: Amount::from(FIXED),
        spender: EXACT_PROXY,
        nonce: U256::from(1),
        deadline: hour,
        to: world.pay_to,
        valid_after: Timestamp(0),
    };
    let permit = async |terms: AllowanceTerms, domain: &TokenDomain| {
        Authorization::Allowance(sign_allowance(wallet, domain, &terms).await.unwrap())
    };
    let once_by = async |terms, domain: &TokenDomain| {
        Authorization::Once(sign_once(wallet, domain, &terms).await.unwrap())
    };
    let transfer_by = async |terms, domain: &TokenDomain| {
        let signed = sign_eip3009(wallet, domain, &terms).await;
        Authorization::Exact(Exact::Eip3009(signed.unwrap()))
    };
    let exact_by = async |terms, domain: &TokenDomain| {
        let signed = sign_permit2_exact(wallet, domain, &terms).await;
        Authorization::Exact(Exact::Permit2(signed.unwrap()))
    };
    let one = Amount::from(1_u64);
    let mut all = vec![
        (
            "an allowance for another spender",
            Kind::Allowance,
            permit(
                AllowanceTerms {
                    spender: mine,
                    ..allowance
                },
                domain,
            )
            .await,
            payee(),
        ),
        (
            "an allowance of nothing",
            Kind::Allowance,
            permit(
                AllowanceTerms {
                    value: Amount::ZERO,
                    ..allowance
                },
                domain,
            )
            .await,
            vec![],
        ),
        (
            "an allowance of 1",
            Kind::Allowance,
            permit(
                AllowanceTerms {
                    value: one,
                    ..allowance
                },
                domain,
            )
            .await,
            vec![("accepted/amount", json!("1"))],
        ),
        (
            "a once payment to another payee",
            Kind::Once,
            once_by(tollgate_eip712::OnceTerms { to: mine, ..once }, domain).await,
            payee(),
        ),
        (
            "a once payment for another facilitator",
            Kind::Once,
            once_by(
                tollgate_eip712::OnceTerms {
                    facilitator: mine,
                    ..once
                },
                domain,
            )
            .await,
            vec![("accepted/extra/facilitatorAddress", json!(mine))],
        ),
        (
            "a once payment through the exact proxy",
            Kind::Once,
            once_by(
                tollgate_eip712::OnceTerms {
                    spender: EXACT_PROXY,
                    ..once
                },
                domain,
            )
            .await,
            vec![],
        ),
        (
            "a once payment of 1",
            Kind::Once,
            once_by(
                tollgate_eip712::OnceTerms {
                    amount: one,
                    ..once
                },
                domain,
            )
            .await,
            vec![("accepted/amount", json!("1"))],
        ),
        (
            "a transfer to another payee",
            Kind::Eip3009,
            transfer_by(
                Eip3009Terms {
                    to: mine,
                    ..transfer
                },
                domain,
            )
            .await,
            payee(),
        ),
        (
            "a transfer of 1",
            Kind::Eip3009,
            transfer_by(
                Eip3009Terms {
                    value: one,
                    ..transfer
                },
                domain,
            )
            .await,
            vec![("accepted/amount", json!("1"))],
        ),
        (
            "an exact payment to another payee",
            Kind::Permit2Exact,
            exact_by(Permit2ExactTerms { to: mine, ..exact }, domain).await,
            payee(),
        ),
        (
            "an exact payment through the upto proxy",
            Kind::Permit2Exact,
            exact_by(
                Permit2ExactTerms {
                    spender: UPTO_PROXY,
                    ..exact
                },
                domain,
            )
            .await,
            vec![],
        ),
        (
            "an exact payment of 1",
            Kind::Permit2Exact,
            exact_by(
                Permit2ExactTerms {
                    amount: one,
                    ..exact
                },
                domain,
            )
            .await,
            vec![("accepted/amount", json!("1"))],
        ),
    ];
    let name = "World Liberty Financial USD";
    for (what, domain, echo) in [
        (
            "another token",
            TokenDomain::new(name, "1", ChainId::DEV, USDT),
            vec![("accepted/asset", json!(USDT))],
        ),
        (
            "the token's display version",
            TokenDomain::new(name, "2", ChainId::DEV, USD1),
            vec![("accepted/extra/version", json!("2"))],
        ),
        (
            "BSC",
            TokenDomain::new(name, "1", ChainId(56), USD1),
            vec![("accepted/network", json!("eip155:56"))],
        ),
        (
            "BSC's testnet",
            TokenDomain::new(name, "1", ChainId(97), USD1),
            vec![("accepted/network", json!("eip155:97"))],
        ),
        (
            "BSC, echoed as ours",
            TokenDomain::new(name, "1", ChainId(56), USD1),
            vec![],
        ),
    ] {
        all.push((
            what,
            Kind::Allowance,
            permit(allowance, &domain).await,
            echo.clone(),
        ));
        all.push((
            what,
            Kind::Eip3009,
            transfer_by(transfer, &domain).await,
            echo.clone(),
        ));
        // Permit2's own domain has no version.
        if !what.contains("version") {
            all.push((what, Kind::Once, once_by(once, &domain).await, echo.clone()));
            all.push((
                what,
                Kind::Permit2Exact,
                exact_by(exact, &domain).await,
                echo,
            ));
        }
    }
    all
}

/// RELIABILITY 8; PROTOCOL 28. One signature in its three encodings (65 bytes, v of 0 or 1, EIP-2098) is one
/// authorization, and the one with a high s is none: served once. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_encodings_of_one_signature_are_one_payment() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let signed = world.once(&payer, cents(99), 5).await;
    let body = chat(20);
    let honest = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let bytes = signed.signature().to_bytes();
    let mut v01 = bytes;
    v01[64] -= 27;
    let mut compact = bytes[..64].to_vec();
    compact[32] |= (bytes[64] - 27) << 7;
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let mut high = bytes;
    let s = U256::from_be_slice(&bytes[32..64]);
    high[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    high[64] = 55 - bytes[64];
    let mut outcomes = Vec::new();
    for encoding in [&high[..], &compact[..], &v01[..], &bytes[..]] {
        let mut payment = honest.json();
        payment["payload"]["signature"] = json!(alloy_primitives::hex::encode_prefixed(encoding));
        let header = Header::of(X402Version::V2, &payment);
        outcomes.push(world.request(CHAT, &body, Some(&header)).await);
    }
    assert_eq!(world.upstream.asked(), 1);
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.payments, 1);
    world.books_equal_the_chain().await;
}
