//! Each kind of payment arrives as it was offered.

use alloy_primitives::{B256, U256};
use http_body_util::BodyExt;
use tollgate_client::{AuthorizationKind, Paid, Policy};
use tollgate_x402::{
    AssetTransferMethod, Authorization, Exact, Extensions, Json, PaymentIdentifier, X402Version,
    canonical::{EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY},
};

use crate::seller::*;

#[tokio::test]
async fn an_allowance_is_signed_over_the_offered_amount_with_the_chains_nonce() {
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, Policy::default());
    let response = buyer.ask("{}").await.unwrap();
    let paid = response.extensions().get::<Paid>().unwrap().clone();
    assert_eq!(paid.kind, AuthorizationKind::Allowance);
    assert_eq!((paid.quoted, paid.reused), (Some(cents(1)), false));
    assert!(
        paid.authorized
            .to_string()
            .starts_with("$0.99 (990000000000000000 atomic units of USD1)")
    );
    let [bare, sent] = &*seller.seen() else {
        panic!("one retry")
    };
    assert!(bare.payment.is_none());
    let Authorization::Allowance(signed) = sent.authorization(&upto()) else {
        panic!("an allowance")
    };
    assert_eq!(signed.value, cents(99));
    assert_eq!(signed.nonce, U256::from(7));
    assert_eq!(signed.spender, PAYEE);
    assert_eq!(signed.deadline.0, NOW + 86_400);
    assert_eq!(sent.payment.as_ref().unwrap().version(), X402Version::V2);
    assert_eq!(bare.request.body(), sent.request.body());
}

#[tokio::test]
async fn a_once_payment_is_signed_for_just_the_worst_case_of_the_request() {
    let seller = Seller::taking(vec![once()]);
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    let Authorization::Once(signed) = seller.payments()[0].authorization(&once()) else {
        panic!("a once payment")
    };
    assert_eq!(signed.amount, cents(1));
    assert_eq!(signed.spender, UPTO_PERMIT2_PROXY);
    assert_eq!((signed.to, signed.facilitator), (PAYEE, FACILITATOR));
    assert_eq!(
        signed.deadline.0,
        NOW + 3_600,
        "shorter than the offer's day"
    );
}

#[tokio::test]
async fn without_right_size_or_minimum_a_once_payment_is_signed_for_the_offered_amount() {
    let mut plain = once();
    plain.extra.min_amount_required = None;
    plain.amount = cents(8);
    for (entry, policy) in [
        (once(), Policy::default().right_size(false)),
        (plain, Policy::default()),
    ] {
        let seller = Seller::taking(vec![entry.clone()]);
        Buyer::at(&seller, policy).read("{}").await;
        assert_eq!(
            seller.payments()[0].authorization(&entry).cap(),
            entry.amount
        );
    }
}

#[tokio::test]
async fn exact_is_paid_by_eip3009_and_by_permit2() {
    let eip3009 = exact(None);
    let seller = Seller::taking(vec![eip3009.clone()]);
    Buyer::at(&seller, Policy::default()).read("{}").await;
    let Authorization::Exact(Exact::Eip3009(signed)) = seller.payments()[0].authorization(&eip3009)
    else {
        panic!("EIP-3009")
    };
    assert_eq!((signed.value, signed.to), (cents(5), PAYEE));
    assert_ne!(signed.nonce, B256::ZERO);
    assert_eq!(signed.valid_before.0, NOW + 300);

    let permit2 = exact(Some(AssetTransferMethod::Permit2));
    let seller = Seller::taking(vec![permit2.clone()]);
    Buyer::at(&seller, Policy::default()).read("{}").await;
    let Authorization::Exact(Exact::Permit2(signed)) = seller.payments()[0].authorization(&permit2)
    else {
        panic!("Permit2")
    };
    assert_eq!(
        (signed.amount, signed.spender),
        (cents(5), EXACT_PERMIT2_PROXY)
    );
}

#[tokio::test]
async fn the_policys_order_decides_and_not_the_sellers() {
    let entries = vec![exact(None), upto()];
    for (kinds, expected) in [
        (Policy::default(), AuthorizationKind::Allowance),
        (
            Policy::default().kinds([AuthorizationKind::Once, AuthorizationKind::Allowance]),
            AuthorizationKind::Once,
        ),
        (
            Policy::default().kinds([AuthorizationKind::Exact]),
            AuthorizationKind::Exact,
        ),
    ] {
        let seller = Seller::taking(entries.clone());
        let response = Buyer::at(&seller, kinds).ask("{}").await.unwrap();
        assert_eq!(response.extensions().get::<Paid>().unwrap().kind, expected);
    }
}

#[tokio::test]
async fn without_a_chain_the_next_kind_is_taken() {
    let seller = Seller::taking(vec![upto()]);
    let wallet = Counting::ordinary();
    let payer = tollgate_client::Payer::builder(wallet).build();
    let pay = tollgate_client::Pay::new(seller.clone(), payer);
    let request = http::Request::post(URL).body(bytes::Bytes::new()).unwrap();
    tower::ServiceExt::oneshot(pay, request).await.unwrap();
    let signed = seller.payments()[0].authorization(&once());
    assert_eq!(signed.kind(), AuthorizationKind::Once);
}

#[tokio::test]
async fn the_domain_is_the_pinned_one_whatever_the_seller_says() {
    let mut lying = upto();
    lying.extra.name = Some("Tether USD".into());
    lying.extra.version = Some("9".into());
    let seller = Seller::taking(vec![lying]);
    Buyer::at(&seller, Policy::default()).read("{}").await;
    // Checked against the token's own domain.
    seller.payments()[0].authorization(&upto());
}

#[tokio::test]
async fn a_v1_body_alone_is_answered_in_v1() {
    let seller = Seller::new(|seen| {
        if seen.payment.is_some() {
            return ok("paid");
        }
        let mut response = demand(vec![upto()], "Payment required").unwrap();
        response.headers_mut().remove("payment-required");
        Ok(response)
    });
    Buyer::at(&seller, Policy::default()).read("{}").await;
    let sent = &seller.payments()[0];
    assert_eq!(sent.payment.as_ref().unwrap().version(), X402Version::V1);
    assert!(sent.request.headers().contains_key("x-payment"));
    assert!(!sent.request.headers().contains_key("payment-signature"));
}

#[tokio::test]
async fn a_bad_v2_header_is_not_mended_by_a_good_body() {
    let seller = Seller::new(|_| {
        let mut response = demand(vec![upto()], "Payment required").unwrap();
        let headers = response.headers_mut();
        headers.insert("payment-required", "!!!".parse().unwrap());
        Ok(response)
    });
    let buyer = Buyer::at(&seller, Policy::default());
    let error = buyer.ask("{}").await.unwrap_err();
    assert!(
        matches!(error, tollgate_client::PayError::Offer(_)),
        "{error}"
    );
    assert_eq!(buyer.wallet.count(), 0);
}

#[tokio::test]
async fn streamed_bytes_pass_untouched_frame_by_frame() {
    let seller = Seller::new(|seen| match seen.payment {
        Some(_) => stream(cents(1), cents(98)),
        None => demand(vec![upto()], "Payment required"),
    });
    let buyer = Buyer::at(&seller, Policy::default());
    let mut body = buyer.ask("{}").await.unwrap().into_body();
    let mut plain = stream(cents(1), cents(98)).unwrap().into_body();
    loop {
        let theirs = plain.frame().await.map(|f| f.unwrap().into_data().unwrap());
        let ours = body.frame().await.map(|f| f.unwrap().into_data().unwrap());
        assert_eq!(ours, theirs);
        if theirs.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn what_is_not_a_402_and_what_carries_a_payment_already_pass_through() {
    let seller = Seller::scripted([status(404)]);
    let buyer = Buyer::at(&seller, Policy::default());
    let response = buyer.ask("{}").await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.extensions().get::<Paid>().is_none());

    let paying = Seller::taking(vec![upto()]);
    let first = Buyer::at(&paying, Policy::default());
    first.read("{}").await;
    let mut request = paying.payments()[0].request.clone();
    *request.body_mut() = "other".into();
    let refusing = Seller::scripted([demand(vec![upto()], "payment_expired")]);
    let buyer = Buyer::at(&refusing, Policy::default());
    let response = tower::ServiceExt::oneshot(buyer.pay.clone(), request)
        .await
        .unwrap();
    assert_eq!(response.status(), 402);
    assert_eq!(buyer.wallet.count(), 0);
}

#[tokio::test]
async fn a_request_is_named_if_the_seller_knows_names() {
    let seller = Seller::new(|seen| {
        if seen.payment.is_some() {
            return ok("paid");
        }
        let mut offer = required(vec![once()], "Payment required");
        offer.extensions = Extensions::new()
            .with("bazaar", Json::parse(r#"{"info":{"a":1}}"#).unwrap())
            .unwrap()
            .with_payment_identifier(PaymentIdentifier::default());
        let mut response = demand(vec![], "").unwrap();
        let header = offer.to_header_v2().parse().unwrap();
        response.headers_mut().insert("payment-required", header);
        Ok(response)
    });
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("1").await;
    buyer.read("2").await;
    let ids: Vec<_> = seller
        .payments()
        .iter()
        .map(|seen| {
            let extensions = seen.payment.as_ref().unwrap().extensions();
            assert!(extensions.value("bazaar").is_some(), "echoed");
            extensions.payment_identifier().unwrap().id.clone().unwrap()
        })
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn nothing_secret_is_in_debug() {
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, Policy::default());
    let response = buyer.ask("{}").await.unwrap();
    let header = seller.payments()[0].request.headers()["payment-signature"].clone();
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        buyer.pay,
        buyer.pay.payer(),
        response,
        seller.payments()[0].request.headers()
    );
    assert!(!shown.contains(header.to_str().unwrap()));
    assert!(!shown.contains(&"46".repeat(32)));
    let paid = response.extensions().get::<Paid>().unwrap();
    let signature = paid.authorization().signature().to_bytes();
    assert!(!shown.contains(&alloy_primitives::hex::encode(&signature[..32])));
}
