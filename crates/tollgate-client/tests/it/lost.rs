//! No second signature after a lost answer.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tollgate_client::{Again, PayError, Policy, Refusal};
use tollgate_x402::{AssetTransferMethod, ErrorCode, Network, SettleResponse};

use crate::seller::*;

/// A seller of once or exact payments whose answers to payments are scripted.
pub(crate) fn answering(
    entry: tollgate_x402::PaymentRequirements,
    replies: impl IntoIterator<Item = Reply>,
) -> Seller {
    let mut replies: std::collections::VecDeque<Reply> = replies.into_iter().collect();
    Seller::new(move |seen| match seen.payment {
        Some(_) => replies.pop_front().expect("no more payments"),
        None => demand(vec![entry.clone()], "Payment required"),
    })
}

/// A client that tells of each failure.
pub(crate) fn impatient() -> Policy {
    Policy::default().retries(0).patience(0)
}

pub(crate) fn headers(seller: &Seller) -> Vec<http::HeaderValue> {
    let payments = seller.payments();
    payments
        .iter()
        .map(|seen| seen.request.headers()["payment-signature"].clone())
        .collect()
}

#[tokio::test]
async fn the_same_request_sends_the_same_authorization_again() {
    for entry in [
        once(),
        exact(None),
        exact(Some(AssetTransferMethod::Permit2)),
    ] {
        let seller = answering(
            entry,
            [
                Err("reset".into()),
                Err("reset".into()),
                ok("paid"),
                ok("again"),
            ],
        );
        let buyer = Buyer::at(&seller, impatient());
        for _ in 0..2 {
            let error = buyer.ask("{}").await.unwrap_err();
            assert!(matches!(error, PayError::AnswerLost { .. }), "{error}");
        }
        assert_eq!(buyer.read("{}").await, "paid");
        let sent = headers(&seller);
        assert!(sent.iter().all(|header| *header == sent[0]));
        assert_eq!(buyer.wallet.count(), 1);
        // It was answered: the same request once more is a new one.
        assert_eq!(buyer.read("{}").await, "again");
        assert_eq!(buyer.wallet.count(), 2);
    }
}

#[tokio::test]
async fn another_request_gets_an_authorization_of_its_own() {
    let seller = answering(once(), [Err("reset".into()), ok("paid")]);
    let buyer = Buyer::at(&seller, impatient());
    buyer.ask("1").await.unwrap_err();
    buyer.read("2").await;
    let sent = headers(&seller);
    assert_ne!(sent[0], sent[1]);
}

#[tokio::test]
async fn after_its_deadline_a_lost_authorization_is_dead_and_another_is_signed() {
    let seller = answering(once(), [Err("reset".into()), ok("paid")]);
    let buyer = Buyer::at(&seller, impatient());
    buyer.ask("{}").await.unwrap_err();
    buyer.clock.advance(3_601);
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 2);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_its_authorization_for_the_next() {
    let mut first = true;
    let seller = Seller::slow(move |seen| {
        let waits = seen.payment.is_some() && std::mem::replace(&mut first, false);
        let reply = if seen.payment.is_some() {
            ok("paid")
        } else {
            demand(vec![once()], "")
        };
        Box::pin(async move {
            if waits {
                std::future::pending::<()>().await;
            }
            reply
        })
    });
    let mut first = seller.clone();
    first = {
        let buyer = Buyer::at(&first, impatient());
        let mut call = Box::pin(buyer.ask("{}"));
        // Runs until the payment is on its way, and is dropped there.
        while seller.payments().is_empty() {
            assert!(
                std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx)))
                    .await
                    .is_pending()
            );
            tokio::task::yield_now().await;
        }
        drop(call);
        assert_eq!(buyer.read("{}").await, "paid");
        assert_eq!(buyer.wallet.count(), 1);
        first
    };
    let sent = headers(&first);
    assert_eq!(sent[0], sent[1]);
}

#[tokio::test]
async fn failures_and_early_answers_leave_the_authorization_good() {
    for code in [500, 502, 503, 504, 425, 429, 408] {
        let seller = answering(once(), [status(code), ok("paid")]);
        let buyer = Buyer::at(&seller, impatient());
        assert_eq!(buyer.ask("{}").await.unwrap().status(), code);
        assert_eq!(buyer.read("{}").await, "paid");
        assert_eq!(buyer.wallet.count(), 1, "{code}");
    }
    // 409: used for another request. 400: never taken.
    for code in [409, 400] {
        let seller = answering(once(), [status(code), ok("paid")]);
        let buyer = Buyer::at(&seller, impatient());
        drop(buyer.ask("{}").await.unwrap());
        buyer.read("{}").await;
        assert_eq!(buyer.wallet.count(), 2, "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_lost_one() {
    let broken = || {
        let body = chunks(vec![Ok(Bytes::from("half")), Err("reset".into())]);
        Ok(Response::new(body))
    };
    let seller = answering(once(), [broken(), ok("paid")]);
    let buyer = Buyer::at(&seller, impatient());
    let answer = buyer.ask("{}").await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 1);
}

#[tokio::test]
async fn equal_requests_at_one_time_are_two() {
    let seller = answering(once(), [ok("a"), ok("b")]);
    let buyer = Buyer::at(&seller, impatient());
    let (a, b) = tokio::join!(buyer.ask("{}"), buyer.ask("{}"));
    let _both = (a.unwrap(), b.unwrap());
    let sent = headers(&seller);
    assert_ne!(sent[0], sent[1]);
}

#[tokio::test]
async fn a_refused_authorization_is_sent_again_while_it_answers_the_offer() {
    let refused = || demand(vec![once()], "permit2_allowance_required");
    let seller = answering(once(), [refused(), refused(), ok("paid")]);
    let buyer = Buyer::at(&seller, impatient());
    for _ in 0..2 {
        let error = buyer.ask("{}").await.unwrap_err();
        let code = error.rejection().unwrap().code;
        assert_eq!(code, Some(ErrorCode::Permit2Allowance));
    }
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 1);
}

#[tokio::test]
async fn authorizations_that_stand_for_one_request_stay_within_the_limit_together() {
    let mut price = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            price += 1;
        }
        let mut entry = exact(None);
        entry.amount = cents(price);
        demand(
            vec![entry],
            "invalid_exact_evm_payload_authorization_value_mismatch",
        )
    });
    let policy = Policy::default().max_authorization("0.05".parse().unwrap());
    let buyer = Buyer::at(&seller, policy);
    for _ in 0..2 {
        assert!(buyer.ask("{}").await.unwrap_err().rejection().is_some());
    }
    // One and two cents stand; three more would be six.
    let error = buyer.ask("{}").await.unwrap_err();
    let refused = error.refusals().unwrap().first();
    assert!(matches!(refused, Refusal::Standing { .. }), "{refused}");
    assert_eq!(buyer.wallet.count(), 2);
    buyer.clock.advance(301);
    assert!(buyer.ask("{}").await.unwrap_err().rejection().is_some());
}

#[tokio::test]
async fn a_402_with_a_pending_transaction_is_not_an_answer() {
    let pending = || {
        let mut response = demand(vec![once()], "settlement_pending").unwrap();
        let settlement = SettleResponse::failed(
            Network::BSC,
            ErrorCode::SettlementPending,
            Some(alloy_primitives::B256::repeat_byte(1)),
        );
        let header = settlement.to_header_value().parse().unwrap();
        response.headers_mut().insert("payment-response", header);
        Ok(response)
    };
    let seller = answering(once(), [pending(), ok("paid")]);
    let buyer = Buyer::at(&seller, impatient());
    assert!(buyer.ask("{}").await.unwrap_err().rejection().is_some());
    buyer.read("{}").await;
    assert_eq!(buyer.wallet.count(), 1);
    assert_eq!(seller.seen().len(), 3, "the second call did not ask first");
}

#[tokio::test]
async fn nothing_is_lost_before_something_was_paid() {
    let seller = Seller::scripted([Err("refused".into())]);
    let buyer = Buyer::at(&seller, impatient());
    let error = buyer.ask("{}").await.unwrap_err();
    assert!(matches!(error, PayError::Transport(_)));
}

#[tokio::test]
async fn a_request_whose_answer_did_not_come_is_sent_again_with_the_same_payment() {
    for entry in [once(), exact(None)] {
        let replies = [Err("reset".into()), Err("reset".into()), ok("paid")];
        let seller = answering(entry, replies);
        let buyer = Buyer::at(&seller, Policy::default());
        assert_eq!(buyer.read("{}").await, "paid");
        let sent = headers(&seller);
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|header| *header == sent[0]));
        assert_eq!(buyer.wallet.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_still_being_served_is_waited_for_and_not_for_ever() {
    let early = || {
        let mut response = status(425)?;
        let wait = http::HeaderValue::from_static("7");
        response.headers_mut().insert("retry-after", wait);
        Ok(response)
    };
    let seller = answering(once(), [early(), early(), ok("paid")]);
    let buyer = Buyer::at(&seller, Policy::default());
    let begun = tokio::time::Instant::now();
    assert_eq!(buyer.read("{}").await, "paid");
    assert_eq!(begun.elapsed().as_secs(), 14);
    assert_eq!(buyer.wallet.count(), 1);

    let seller = answering(once(), [early(), early(), ok("paid")]);
    let buyer = Buyer::at(&seller, Policy::default().patience(5));
    let begun = tokio::time::Instant::now();
    assert_eq!(buyer.ask("{}").await.unwrap().status(), 425);
    assert_eq!(begun.elapsed().as_secs(), 5);
    // The payment stays good for another try.
    assert_eq!(buyer.read("{}").await, "paid");
    assert_eq!(buyer.wallet.count(), 1);
}

#[tokio::test]
async fn a_payment_that_is_used_up_stands_and_another_is_signed_within_the_limit() {
    let seller = answering(exact(None), [status(409), status(409)]);
    let both = Policy::default().max_authorization("0.12".parse().unwrap());
    let buyer = Buyer::at(&seller, both);
    for _ in 0..2 {
        assert_eq!(buyer.ask("{}").await.unwrap().status(), 409);
    }
    let sent = headers(&seller);
    assert_ne!(sent[0], sent[1], "what is used up is not sent again");
    let error = buyer.ask("{}").await.unwrap_err();
    let refused = error.refusals().unwrap().first();
    assert!(matches!(refused, Refusal::Standing { .. }), "{refused}");
}

/// What is said of a lost answer to this offer.
async fn said(offer: fn() -> Reply) -> (Again, String) {
    let seller = Seller::new(move |seen| match seen.payment {
        Some(_) => Err("reset".into()),
        None => offer(),
    });
    let error = Buyer::at(&seller, impatient()).ask("{}").await.unwrap_err();
    let text = error.to_string();
    match error {
        PayError::AnswerLost { again, .. } => (again, text),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_payment_that_each_sending_makes_anew_is_never_said_to_be_safe_to_send_again() {
    let (again, text) = said(|| demand(vec![upto()], "")).await;
    assert_eq!(again, Again::NewPayment);
    assert!(
        text.contains("sending it again can be charged again"),
        "{text}"
    );
    assert!(!text.contains("to use the same authorization"), "{text}");
    // Where it is bound to its request, it is.
    for offer in [|| demand(vec![once()], ""), || named(vec![upto()])] {
        let (again, text) = said(offer).await;
        assert_eq!(again, Again::SamePayment);
        assert!(
            text.contains("the very same request again to use the same authorization"),
            "{text}"
        );
    }
}
