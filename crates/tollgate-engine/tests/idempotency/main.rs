//! A request that comes again is charged once, whatever is signed for it, and gets the same answer: over every store.

mod shop;

use std::sync::atomic::Ordering;

use shop::{InMemory, OnDisk, OnServer, Place, START, Shop};
use tollgate_ledger::Store as _;
use tollgate_payment::{
    StoredBody,
    command::Told,
    port::{Admission, Hold, Kept},
};
use tollgate_x402::{Amount, Authorization, ErrorCode, PaymentState};

macro_rules! over_every_store {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $promise() {
                super::$promise(super::Shop::new(super::InMemory::default()).await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $promise() {
                let place = super::OnDisk(tempfile::tempdir().unwrap());
                super::$promise(super::Shop::new(place).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            #[ignore = "needs PostgreSQL: cargo xtask postgres"]
            async fn $promise() {
                super::$promise(super::Shop::new(super::OnServer::new()).await).await;
            })*
        }
    };
}

over_every_store! {
    the_same_name_and_request_get_the_same_answer_and_one_charge
    the_same_once_or_exact_payment_gets_the_same_answer_and_one_charge
    another_request_is_refused_and_binds_nothing
    what_is_in_flight_is_to_be_asked_for_later
    a_fresh_payment_under_a_known_name_stays_unused
    an_allowance_without_a_name_pays_anew_each_time
    a_released_request_is_served_under_its_name_and_its_once_payment_stays_burned
    an_answer_that_was_committed_comes_again_after_a_restart
    a_request_whose_gateway_died_is_charged_by_its_checkpoint_and_told_so
    answers_are_kept_within_their_length_and_their_time
    a_payment_past_its_deadline_still_gets_its_answer_and_nothing_else
    sixty_four_requests_of_one_name_at_once_are_served_once
    an_exact_payment_gets_its_answer_after_its_price_has_changed_and_nothing_else
    what_was_paid_for_is_answered_while_the_settling_account_has_no_gas_money
    a_payer_whose_allowance_was_used_at_other_prices_is_told_once_and_then_served
}

fn code<H>(got: Result<Admission<H>, tollgate_payment::port::AdmitError>) -> ErrorCode {
    match got {
        Ok(Admission::New(_)) => panic!("it is served"),
        Ok(Admission::Replay(_)) => panic!("it is answered"),
        Err(error) => error.code,
    }
}

fn answer<H>(
    got: Result<Admission<H>, tollgate_payment::port::AdmitError>,
) -> (Option<Amount>, Kept) {
    let replay = got.unwrap().replay().expect("a request that was served");
    (replay.status.charge, replay.answer)
}

fn whole(text: &str) -> Kept {
    Kept::Answer(Told {
        status: 200,
        content_type: "text/plain".to_owned(),
        body: StoredBody::Whole(text.as_bytes().to_vec().into()),
    })
}

fn too_long() -> Kept {
    Kept::Answer(Told {
        status: 200,
        content_type: "text/plain".to_owned(),
        body: StoredBody::TooLong,
    })
}

fn units(amount: u64) -> Option<Amount> {
    Some(Amount::from(amount))
}

/// One payment of each kind.
async fn kinds<P: Place>(shop: &Shop<P>, nonce: u64) -> [Authorization; 4] {
    [
        shop.allowance().await,
        shop.once(nonce).await,
        shop.transfer(nonce + 1).await,
        shop.permit2(nonce + 2).await,
    ]
}

async fn the_same_name_and_request_get_the_same_answer_and_one_charge<P: Place>(shop: Shop<P>) {
    let fresh = kinds(&shop, 10).await;
    let names = ["a", "b", "c", "d"];
    for ((signed, fresh), name) in kinds(&shop, 1).await.iter().zip(&fresh).zip(names) {
        let id = shop
            .serve(shop.ask(signed, Some(name), 1).await, 1_000, name)
            .await;
        let asked = shop.asked.load(Ordering::SeqCst);
        // What was read of the payer is too old to serve it by.
        shop.pass(10);
        // With the same payment, and with one that was signed after the answer was lost.
        for signed in [signed, fresh] {
            let again = shop
                .ask(signed, Some(name), 1)
                .await
                .unwrap()
                .replay()
                .unwrap();
            assert_eq!(again.status.id, id);
            assert_eq!(again.status.state, PaymentState::Accepted);
            assert_eq!(again.status.charge, units(1_000));
            assert_eq!(again.answer, whole(&format!("{name} for 1000")));
        }
        assert_eq!(
            shop.asked.load(Ordering::SeqCst),
            asked,
            "no look at the chain"
        );
    }
    assert_eq!(shop.charged().await, [1_000; 4]);
}

async fn the_same_once_or_exact_payment_gets_the_same_answer_and_one_charge<P: Place>(
    shop: Shop<P>,
) {
    let [_, claims @ ..] = kinds(&shop, 1).await;
    for signed in &claims {
        shop.serve(shop.ask(signed, None, 1).await, 1_000, "x")
            .await;
        for name in [None, Some("late")] {
            let again = answer(shop.ask(signed, name, 1).await);
            assert_eq!(again, (units(1_000), whole("x for 1000")));
        }
        assert_eq!(
            code(shop.ask(signed, None, 2).await),
            ErrorCode::DuplicateSettlement
        );
    }
    assert_eq!(shop.charged().await, [1_000; 3]);
}

async fn another_request_is_refused_and_binds_nothing<P: Place>(shop: Shop<P>) {
    let (first, second) = (shop.once(1).await, shop.once(2).await);
    shop.serve(shop.ask(&first, Some("a"), 1).await, 10, "x")
        .await;
    for signed in [&first, &second, &shop.allowance().await] {
        let refused = code(shop.ask(signed, Some("a"), 2).await);
        assert_eq!(refused, ErrorCode::PaymentIdentifierConflict);
    }
    // Under another name the used payment is still used, and the fresh one is still fresh.
    let used = code(shop.ask(&first, Some("b"), 2).await);
    assert_eq!(used, ErrorCode::DuplicateSettlement);
    shop.serve(shop.ask(&second, Some("b"), 2).await, 20, "y")
        .await;
    assert_eq!(shop.charged().await, [10, 20]);
}

async fn what_is_in_flight_is_to_be_asked_for_later<P: Place>(shop: Shop<P>) {
    let (once, allowance) = (shop.once(1).await, shop.allowance().await);
    for (signed, name, fresh) in [
        (&once, None, &once),
        (&allowance, Some("a"), &shop.once(9).await),
    ] {
        let first = shop.ask(signed, name, 1).await;
        for signed in [signed, fresh] {
            let early = shop.ask(signed, name, 1).await.err().unwrap();
            assert_eq!(
                (early.code, early.retry_after),
                (ErrorCode::PaymentInFlight, Some(1))
            );
        }
        shop.serve(first, 10, "x").await;
        assert_eq!(answer(shop.ask(signed, name, 1).await).0, units(10));
    }
}

async fn a_fresh_payment_under_a_known_name_stays_unused<P: Place>(shop: Shop<P>) {
    let (lost, fresh) = (shop.once(1).await, shop.once(2).await);
    shop.serve(shop.ask(&lost, Some("a"), 1).await, 10, "x")
        .await;
    assert_eq!(answer(shop.ask(&fresh, Some("a"), 1).await).0, units(10));
    // It is neither burned nor bound to the request with which it came.
    shop.serve(shop.ask(&fresh, Some("b"), 2).await, 20, "y")
        .await;
    assert_eq!(shop.charged().await, [10, 20]);
}

async fn an_allowance_without_a_name_pays_anew_each_time<P: Place>(shop: Shop<P>) {
    let signed = shop.allowance().await;
    for _ in 0..2 {
        let hold = shop.ask(&signed, None, 1).await.unwrap().hold().unwrap();
        assert_eq!(hold.retention(), None, "nobody can ask for it again");
        shop.serve(Ok(Admission::New(hold)), 10, "x").await;
    }
    assert_eq!(shop.charged().await, [10, 10]);
}

async fn a_released_request_is_served_under_its_name_and_its_once_payment_stays_burned<P: Place>(
    shop: Shop<P>,
) {
    let (once, fresh, allowance) = (
        shop.once(1).await,
        shop.once(2).await,
        shop.allowance().await,
    );
    for (signed, name) in [(&once, "a"), (&allowance, "b")] {
        let hold = shop
            .ask(signed, Some(name), 1)
            .await
            .unwrap()
            .hold()
            .unwrap();
        hold.release().await.unwrap();
    }
    assert_eq!(
        code(shop.ask(&once, None, 1).await),
        ErrorCode::DuplicateSettlement
    );
    assert_eq!(
        code(shop.ask(&once, Some("a"), 1).await),
        ErrorCode::DuplicateSettlement
    );
    assert_eq!(
        code(shop.ask(&fresh, Some("a"), 2).await),
        ErrorCode::PaymentIdentifierConflict
    );
    shop.serve(shop.ask(&fresh, Some("a"), 1).await, 10, "x")
        .await;
    shop.serve(shop.ask(&allowance, Some("b"), 1).await, 20, "y")
        .await;
    assert_eq!(
        answer(shop.ask(&fresh, Some("a"), 1).await).1,
        whole("x for 10")
    );
    assert_eq!(
        answer(shop.ask(&allowance, Some("b"), 1).await).1,
        whole("y for 20")
    );
    assert_eq!(shop.charged().await, [10, 20]);
}

async fn an_answer_that_was_committed_comes_again_after_a_restart<P: Place>(mut shop: Shop<P>) {
    let (once, allowance) = (shop.once(1).await, shop.allowance().await);
    shop.serve(shop.ask(&once, None, 1).await, 10, "x").await;
    shop.serve(shop.ask(&allowance, Some("a"), 1).await, 20, "y")
        .await;
    // Nothing was delivered.
    shop.start().await;
    assert_eq!(
        answer(shop.ask(&once, None, 1).await),
        (units(10), whole("x for 10"))
    );
    assert_eq!(
        answer(shop.ask(&allowance, Some("a"), 1).await),
        (units(20), whole("y for 20"))
    );
    assert_eq!(
        code(shop.ask(&allowance, Some("a"), 2).await),
        ErrorCode::PaymentIdentifierConflict
    );
    assert_eq!(shop.charged().await, [10, 20]);
}

async fn a_request_whose_gateway_died_is_charged_by_its_checkpoint_and_told_so<P: Place>(
    mut shop: Shop<P>,
) {
    let (once, allowance) = (shop.once(1).await, shop.allowance().await);
    let mut dead = Vec::new();
    for (signed, name, used) in [
        (&once, None, 7),
        (&allowance, Some("a"), 8),
        (&allowance, Some("b"), 0),
    ] {
        let mut hold = shop.ask(signed, name, 1).await.unwrap().hold().unwrap();
        hold.durable().await.unwrap();
        hold.checkpoint(Amount::from(used as u64)).await.unwrap();
        dead.push(hold);
    }
    // A process that dies runs no destructors.
    dead.into_iter().for_each(std::mem::forget);
    shop.start().await;
    assert_eq!(
        answer(shop.ask(&once, None, 1).await),
        (units(7), Kept::BrokenOff)
    );
    assert_eq!(
        answer(shop.ask(&allowance, Some("a"), 1).await),
        (units(8), Kept::BrokenOff)
    );
    // Nothing of it was delivered: it is served.
    shop.serve(shop.ask(&allowance, Some("b"), 1).await, 9, "z")
        .await;
    assert_eq!(shop.charged().await, [7, 8, 9]);
}

async fn answers_are_kept_within_their_length_and_their_time<P: Place>(shop: Shop<P>) {
    let long = "a text that with its charge is longer than the sixty-four bytes that are kept";
    let (short, once) = (shop.once(1).await, shop.once(2).await);
    shop.serve(shop.ask(&short, Some("a"), 1).await, 10, "x")
        .await;
    shop.serve(shop.ask(&once, None, 1).await, 20, long).await;
    assert_eq!(
        answer(shop.ask(&once, None, 1).await),
        (units(20), too_long())
    );
    shop.pass(86_399);
    assert_eq!(shop.store().prune(10).await.unwrap(), 0);
    assert_eq!(answer(shop.ask(&short, None, 1).await).1, whole("x for 10"));
    shop.pass(1);
    assert_eq!(
        answer(shop.ask(&short, None, 1).await),
        (units(10), Kept::Expired)
    );
    assert!(shop.store().prune(10).await.unwrap() > 0);
    assert_eq!(
        answer(shop.ask(&short, None, 1).await),
        (units(10), Kept::Expired)
    );
    assert_eq!(
        answer(shop.ask(&once, None, 1).await),
        (units(20), Kept::Expired)
    );
    // The name is forgotten as well, so it can be given anew.
    let renewed = shop.allowance().await;
    shop.serve(shop.ask(&renewed, Some("a"), 2).await, 30, "y")
        .await;
    assert_eq!(shop.charged().await, [10, 20, 30]);
}

async fn a_payment_past_its_deadline_still_gets_its_answer_and_nothing_else<P: Place>(
    shop: Shop<P>,
) {
    let (used, unused, allowance) = (
        shop.once(1).await,
        shop.once(2).await,
        shop.allowance().await,
    );
    shop.serve(shop.ask(&used, None, 1).await, 10, "x").await;
    shop.serve(shop.ask(&allowance, Some("a"), 1).await, 20, "y")
        .await;
    shop.pass(86_400 - 30);
    assert!(shop.now().0 > START + 3_600);
    assert_eq!(answer(shop.ask(&used, None, 1).await).1, whole("x for 10"));
    assert_eq!(
        answer(shop.ask(&allowance, Some("a"), 1).await).1,
        whole("y for 20")
    );
    assert_eq!(
        code(shop.ask(&used, None, 2).await),
        ErrorCode::Permit2Deadline
    );
    assert_eq!(
        code(shop.ask(&unused, None, 1).await),
        ErrorCode::Permit2Deadline
    );
    assert_eq!(
        code(shop.ask(&allowance, Some("b"), 1).await),
        ErrorCode::PaymentExpired
    );
    assert_eq!(
        code(shop.ask(&allowance, None, 1).await),
        ErrorCode::PaymentExpired
    );
}

async fn sixty_four_requests_of_one_name_at_once_are_served_once<P: Place>(shop: Shop<P>) {
    let allowance = shop.allowance().await;
    let all = (0..64).map(|_| shop.ask(&allowance, Some("a"), 1));
    let mut served = Vec::new();
    for got in futures_util::future::join_all(all).await {
        match got {
            Ok(admission) => served.push(Ok(admission)),
            Err(error) => assert_eq!(error.code, ErrorCode::PaymentInFlight),
        }
    }
    assert_eq!(served.len(), 1);
    shop.serve(served.pop().unwrap(), 10, "x").await;
    let all = (0..64).map(|_| shop.ask(&allowance, Some("a"), 1));
    for got in futures_util::future::join_all(all).await {
        assert_eq!(answer(got), (units(10), whole("x for 10")));
    }
    assert_eq!(shop.charged().await, [10]);
}

async fn an_exact_payment_gets_its_answer_after_its_price_has_changed_and_nothing_else<P: Place>(
    mut shop: Shop<P>,
) {
    let used = [shop.transfer(1).await, shop.permit2(2).await];
    let unused = [shop.transfer(3).await, shop.permit2(4).await];
    for signed in &used {
        shop.serve(shop.ask(signed, None, 1).await, 1_000, "x")
            .await;
    }
    shop.price = 1_001;
    let codes = [ErrorCode::ValueMismatch, ErrorCode::Permit2Amount];
    for ((used, unused), refusal) in used.iter().zip(&unused).zip(codes) {
        let again = answer(shop.ask(used, None, 1).await);
        assert_eq!(again, (units(1_000), whole("x for 1000")));
        assert_eq!(code(shop.ask(used, None, 2).await), refusal);
        assert_eq!(code(shop.ask(unused, None, 1).await), refusal);
    }
    assert_eq!(shop.charged().await, [1_000; 2]);
}

async fn what_was_paid_for_is_answered_while_the_settling_account_has_no_gas_money<P: Place>(
    mut shop: Shop<P>,
) {
    let (once, allowance) = (shop.once(1).await, shop.allowance().await);
    shop.serve(shop.ask(&once, None, 1).await, 10, "x").await;
    shop.serve(shop.ask(&allowance, Some("a"), 1).await, 20, "y")
        .await;
    shop.out_of_gas();
    assert_eq!(answer(shop.ask(&once, None, 1).await).0, units(10));
    assert_eq!(
        answer(shop.ask(&allowance, Some("a"), 1).await).0,
        units(20)
    );
    for (signed, name) in [(&allowance, None), (&allowance, Some("b"))] {
        let refused = code(shop.ask(signed, name, 2).await);
        assert_eq!(refused, ErrorCode::ChainUnavailable);
    }
    assert_eq!(shop.charged().await, [10, 20]);
}

async fn a_payer_whose_allowance_was_used_at_other_prices_is_told_once_and_then_served<P: Place>(
    mut shop: Shop<P>,
) {
    let (allowance, once) = (shop.allowance().await, shop.once(1).await);
    shop.serve(shop.ask(&allowance, Some("a"), 1).await, 10, "a")
        .await;
    shop.serve(shop.ask(&allowance, None, 2).await, 10, "b")
        .await;
    // At the same prices a restart changes nothing.
    shop.start().await;
    shop.serve(shop.ask(&allowance, None, 3).await, 10, "c")
        .await;
    shop.price = 2_000;
    shop.start().await;
    // An answer that was paid for comes all the same, and is no occasion to tell of prices.
    assert_eq!(
        answer(shop.ask(&allowance, Some("a"), 1).await),
        (units(10), whole("a for 10"))
    );
    let asked = shop.asked.load(Ordering::SeqCst);
    assert_eq!(
        code(shop.ask(&allowance, None, 4).await),
        ErrorCode::PriceChanged
    );
    assert_eq!(shop.asked.load(Ordering::SeqCst), asked, "of the chain");
    // The same header again, and again after another restart.
    shop.serve(shop.ask(&allowance, None, 4).await, 20, "d")
        .await;
    shop.start().await;
    shop.serve(shop.ask(&allowance, None, 5).await, 20, "e")
        .await;
    // What is signed now was offered at the prices of now.
    shop.serve(shop.ask(&once, None, 6).await, 20, "f").await;
    shop.pass(1);
    let fresh = shop.allowance().await;
    shop.serve(shop.ask(&fresh, None, 7).await, 20, "g").await;
    assert_eq!(shop.charged().await, [10, 10, 10, 20, 20, 20, 20]);
}
