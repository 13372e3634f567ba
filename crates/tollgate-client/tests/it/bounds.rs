//! A seller whose answers fail does not keep this client from paying others.

use tollgate_client::{PayError, Policy};

use crate::{lost::headers, seller::*};

/// How many payments of unknown end are remembered of a seller.
const CAPACITY: usize = 4096;
const OTHER: &str = "https://other.example.com/x402/v1";

fn policy() -> Policy {
    Policy::default().retries(0).patience(0)
}

/// A seller that fails to serve every payment.
fn failing(offer: fn() -> Reply) -> Seller {
    Seller::new(move |seen| match seen.payment {
        Some(_) => status(500),
        None => offer(),
    })
}

#[tokio::test]
async fn a_seller_whose_answers_all_fail_is_paid_no_more_and_every_other_one_is() {
    let seller = failing(|| demand(vec![once()], ""));
    let buyer = Buyer::at(&seller, policy());
    for request in 0..CAPACITY {
        assert_eq!(buyer.ask(&request.to_string()).await.unwrap().status(), 500);
    }
    let error = buyer.ask("one more").await.unwrap_err();
    assert!(matches!(error, PayError::TooManyOpen { .. }), "{error}");
    assert!(
        error.to_string().contains("https://api.example.com"),
        "{error}"
    );
    assert_eq!(buyer.wallet.count(), CAPACITY, "nothing was signed for it");
    // Another seller is paid.
    assert_eq!(buyer.ask_at(OTHER, "{}").await.unwrap().status(), 500);
    // None of what was signed is forgotten: the very first request sends the same again.
    buyer.ask("0").await.unwrap();
    let sent = headers(&seller);
    assert_eq!(sent.first(), sent.last());
    assert_eq!(buyer.wallet.count(), CAPACITY + 1);
    // After the deadlines there is room.
    buyer.clock.advance(86_401);
    assert_eq!(buyer.ask("one more").await.unwrap().status(), 500);
}

#[tokio::test]
async fn a_named_allowance_makes_room_for_the_next_the_oldest_first() {
    let seller = failing(|| named(vec![upto()]));
    let buyer = Buyer::at(&seller, policy());
    for request in 0..=CAPACITY {
        assert_eq!(buyer.ask(&request.to_string()).await.unwrap().status(), 500);
    }
    assert_eq!(buyer.wallet.count(), 1, "it is one permit that is sent");
    // The second one is still known by its name; the first has a new one.
    buyer.ask("1").await.unwrap();
    buyer.ask("0").await.unwrap();
    let sent = headers(&seller);
    let [first, second, .., second_again, first_again] = &sent[..] else {
        panic!("{}", sent.len())
    };
    assert_eq!(second, second_again);
    assert_ne!(first, first_again);
}

#[tokio::test]
async fn allowances_that_were_refused_go_before_those_whose_answer_can_be_fetched() {
    let mut payments = 0;
    let seller = Seller::new(move |seen| {
        if seen.payment.is_none() {
            return named(vec![upto()]);
        }
        payments += 1;
        match payments {
            1 => status(500),
            2 => demand(vec![upto()], "insufficient_funds"),
            _ => status(500),
        }
    });
    let buyer = Buyer::at(&seller, policy());
    buyer.ask("0").await.unwrap();
    buyer.ask("refused").await.unwrap_err();
    for request in 1..CAPACITY {
        buyer.ask(&request.to_string()).await.unwrap();
    }
    buyer.ask("0").await.unwrap();
    let sent = headers(&seller);
    assert_eq!(sent.first(), sent.last());
}
