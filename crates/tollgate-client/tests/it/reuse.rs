//! One permit serves many requests.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use tollgate_client::{Paid, Pay, PayError, Policy};
use tollgate_x402::{Authorization, ErrorCode};
use tower::ServiceExt;

use crate::seller::*;

/// A seller that draws a cent a request until what was signed is used up, and answers 402 then.
fn metering(budget: u64) -> Seller {
    let mut left = 0;
    let mut known = None;
    Seller::new(move |seen| {
        if seen.payment.is_none() {
            return demand(vec![upto()], "Payment required");
        }
        let signed = seen.authorization(&upto());
        if known.as_ref() != Some(&signed) {
            // A new permit: the budget begins anew.
            known = Some(signed);
            left = budget;
        } else if left == 0 {
            return demand(vec![upto()], "allowance_exhausted");
        }
        left -= 1;
        stream(cents(1), cents(left))
    })
}

#[tokio::test]
async fn a_permit_is_sent_at_once_while_it_lasts_and_signed_anew_when_it_does_not() {
    let seller = metering(3);
    let buyer = Buyer::at(&seller, Policy::default());
    for _ in 0..3 {
        buyer.read("{}").await;
    }
    assert_eq!(buyer.wallet.count(), 1);
    assert_eq!(seller.seen().len(), 4, "one question, three payments");
    let headers: Vec<_> = seller
        .payments()
        .iter()
        .map(|seen| seen.request.headers()["payment-signature"].clone())
        .collect();
    assert!(headers.iter().all(|header| *header == headers[0]));

    // The seller said that nothing is left: it is asked again, and another permit is signed.
    buyer.clock.advance(1);
    let response = buyer.ask("{}").await.unwrap();
    assert!(!response.extensions().get::<Paid>().unwrap().reused);
    assert_eq!(buyer.wallet.count(), 2);
    assert_eq!(seller.seen().len(), 6);
}

#[tokio::test]
async fn a_permit_that_a_seller_calls_exhausted_is_replaced_within_the_call() {
    let mut payments = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            return demand(vec![upto()], "Payment required");
        }
        payments += 1;
        match payments {
            1 => ok("one"),
            2 => demand(vec![upto()], "allowance_exhausted"),
            _ => ok("three"),
        }
    });
    let buyer = Buyer::at(&seller, Policy::default());
    assert_eq!(buyer.read("{}").await, "one");
    assert_eq!(buyer.read("{}").await, "three");
    assert_eq!(buyer.wallet.count(), 2);
    // Unpaid, paid; re-used, signed anew.
    assert_eq!(seller.seen().len(), 4);
    assert_eq!(buyer.read("{}").await, "three");
    assert_eq!(buyer.wallet.count(), 2, "the new one is kept");
}

#[tokio::test]
async fn there_is_one_retry_and_no_more() {
    let always = |error: &'static str| Seller::new(move |_| demand(vec![upto()], error));
    let seller = always("invalid_permit_nonce");
    let buyer = Buyer::at(&seller, Policy::default());
    let error = buyer.ask("{}").await.unwrap_err();
    let rejection = error.rejection().unwrap();
    assert_eq!(rejection.code, Some(ErrorCode::InvalidPermitNonce));
    assert_eq!(rejection.reason, "invalid_permit_nonce");
    assert!(rejection.permit_dropped);
    assert!(error.to_string().contains("invalid_permit_nonce"));
    assert_eq!((seller.seen().len(), buyer.wallet.count()), (2, 1));
    // It was dropped: the next call asks, and signs anew.
    buyer.ask("{}").await.unwrap_err();
    assert_eq!((seller.seen().len(), buyer.wallet.count()), (4, 2));
}

#[tokio::test]
async fn a_402_to_a_reused_permit_and_to_its_successor_ends_the_call() {
    let mut payments = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            return demand(vec![upto()], "Payment required");
        }
        payments += 1;
        if payments == 1 {
            ok("paid")
        } else {
            demand(vec![upto()], "allowance_exhausted")
        }
    });
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    let error = buyer.ask("{}").await.unwrap_err();
    assert!(matches!(error, PayError::Rejected(_)));
    assert_eq!((seller.seen().len(), buyer.wallet.count()), (4, 2));
}

#[tokio::test]
async fn a_payer_without_funds_does_not_sign_again() {
    let mut payments = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            return demand(vec![upto()], "Payment required");
        }
        payments += 1;
        if payments == 1 {
            ok("paid")
        } else {
            demand(vec![upto()], "insufficient_funds")
        }
    });
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    let error = buyer.ask("{}").await.unwrap_err();
    assert_eq!(
        error.rejection().unwrap().code,
        Some(ErrorCode::InsufficientFunds)
    );
    assert_eq!((seller.seen().len(), buyer.wallet.count()), (3, 1));
}

#[tokio::test]
async fn a_price_rise_is_looked_at_and_the_same_permit_sent_again() {
    let dearer = || {
        let mut entry = upto();
        entry.extra.min_amount_required = Some(cents(9));
        entry
    };
    let mut payments = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            return demand(vec![upto()], "Payment required");
        }
        payments += 1;
        if payments == 2 {
            demand(vec![dearer()], "price_changed")
        } else {
            ok("paid")
        }
    });
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    let response = buyer.ask("{}").await.unwrap();
    let paid = response.extensions().get::<Paid>().unwrap();
    assert_eq!((paid.quoted, paid.reused), (Some(cents(9)), true));
    assert_eq!(buyer.wallet.count(), 1);
}

#[tokio::test]
async fn two_parallel_first_calls_sign_one_permit() {
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let seller = Seller::slow(move |seen| {
        let (paid, barrier) = (seen.payment.is_some(), barrier.clone());
        Box::pin(async move {
            if paid {
                return ok("paid");
            }
            // Both have their 402 before either pays.
            barrier.wait().await;
            demand(vec![upto()], "Payment required")
        })
    });
    let buyer = Buyer::at(&seller, Policy::default());
    let (a, b) = tokio::join!(buyer.ask("1"), buyer.ask("2"));
    let reused = [a, b].map(|answer| answer.unwrap().extensions().get::<Paid>().unwrap().reused);
    assert!(reused[0] != reused[1], "one signed, the other used it too");
    assert_eq!(buyer.wallet.count(), 1);
    let signed: Vec<_> = seller
        .payments()
        .iter()
        .map(|s| s.authorization(&upto()))
        .collect();
    assert_eq!(signed[0], signed[1]);
}

#[tokio::test]
async fn a_request_that_may_cost_more_asks_first_and_uses_the_same_permit() {
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, Policy::default());
    buyer
        .read(r#"{"model":"m","maxTokens":10,"messages":[1]}"#)
        .await;
    assert_eq!(seller.seen().len(), 2);
    // The same but longer: at once.
    buyer
        .read(r#"{"model":"m","maxTokens":10,"messages":[1,2]}"#)
        .await;
    assert_eq!(seller.seen().len(), 3);
    // More output: asked first.
    buyer
        .read(r#"{"model":"m","maxTokens":999,"messages":[1]}"#)
        .await;
    assert_eq!(seller.seen().len(), 5);
    // Longer than the limit on the charge allows by the last quote: asked first.
    let long = format!(
        r#"{{"model":"m","maxTokens":10,"messages":["{}"]}}"#,
        "a".repeat(2_000)
    );
    buyer.read(&long).await;
    assert_eq!(seller.seen().len(), 7);
    assert_eq!(buyer.wallet.count(), 1);
}

#[tokio::test]
async fn a_permit_near_its_deadline_is_not_used_again() {
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    buyer.clock.advance(86_400 - 600);
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 2);
}

#[tokio::test]
async fn another_host_gets_the_permit_only_for_the_same_spender() {
    let seller = Seller::taking(vec![upto()]);
    let buyer = Buyer::at(&seller, Policy::default());
    buyer.read("{}").await;
    // The same contract behind another name: asked first, then paid by the same permit.
    buyer
        .ask_at("https://mirror.example.com/x402/v1", "{}")
        .await
        .unwrap();
    assert_eq!((seller.seen().len(), buyer.wallet.count()), (4, 1));
}

#[tokio::test]
async fn what_is_left_is_counted_though_the_seller_does_not_tell() {
    let mut entry = upto();
    entry.extra.min_amount_required = Some(cents(10));
    entry.amount = cents(30);
    let seller = Seller::taking(vec![entry]);
    let buyer = Buyer::at(&seller, Policy::default());
    for _ in 0..3 {
        buyer.read("{}").await;
    }
    assert_eq!(buyer.wallet.count(), 1);
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 2);
}

#[tokio::test]
async fn clones_and_services_of_one_payer_share_the_permit() {
    let seller = Seller::taking(vec![upto()]);
    let wallet = Counting::ordinary();
    let payer = payer(&wallet, Policy::default()).build();
    for _ in 0..2 {
        let pay = Pay::new(seller.clone(), payer.clone());
        let request = Request::post(URL).body(bytes::Bytes::new()).unwrap();
        let answer = pay.oneshot(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!(wallet.count(), 1);
    assert!(matches!(
        seller.payments()[1].authorization(&upto()),
        Authorization::Allowance(_)
    ));
}
