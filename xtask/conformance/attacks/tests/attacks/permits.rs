//! ERC-2612: permits with one nonce, permits that set, permits that others submit.

use alloy_sol_types::SolCall;
use tollgate_contracts::{abi::IErc2612, tokens::USD1};
use tollgate_ledger::Status;
use tollgate_x402::{Amount, Authorization, B256};

use crate::kit::{Payer, Step, World, cents, tokens};

/// Submits a permit as anybody can who saw it.
pub(crate) async fn submit(world: &World, from: &Payer, signed: &Authorization) {
    let Authorization::Allowance(permit) = signed else {
        panic!("not a permit");
    };
    let call = IErc2612::permitCall {
        owner: permit.owner,
        spender: permit.spender,
        value: permit.value.get(),
        deadline: alloy_primitives::U256::from(permit.deadline.0),
        v: permit.signature.v(),
        r: B256::from(permit.signature.r().0),
        s: B256::from(permit.signature.s().0),
    };
    let receipt = world.send_input(from, USD1, call.abi_encode()).await;
    assert_eq!(receipt["status"], "0x1");
}

/// PROTOCOL 8. Two permits with one nonce are one budget: only one of them can go in. Of 0.50 and 0.60 dollars, at most
/// 0.60 is served. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_permits_with_one_nonce_are_one_budget() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::rich(0);
    let one = world.allowance(&payer, cents(50), 0).await;
    let until = world.now().plus(7_200);
    let two = world.allowance_until(&payer, cents(60), 0, until).await;
    let mut served = 0;
    for round in 0..12 {
        let signed = if round % 2 == 0 { &one } else { &two };
        let answer = world.buy(100, signed).await;
        assert!(
            matches!(answer.status.as_u16(), 200 | 402),
            "{}",
            answer.text()
        );
        served += u64::from(answer.status == 200);
    }
    assert!(served <= 6, "{served} requests of 0.10 on 0.60 dollars");
    world.settle().await;
    let totals = world.totals().await;
    assert_eq!(totals.of(Status::Lost).payments, 0);
    assert_eq!(totals.of(Status::Final).charge, tokens(served * 100));
    world.books_equal_the_chain().await;
}

/// PROTOCOL 10; RELIABILITY 17. A later permit sets the allowance: what the first one owes is drawn before the second
/// goes in, and their values are never added up. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_permit_that_sets_less_takes_nothing_from_what_is_owed() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::rich(0);
    let first = world.allowance(&payer, cents(80), 0).await;
    for _ in 0..5 {
        assert_eq!(world.buy(100, &first).await.status, 200);
    }
    // The payer has the first one put in by itself, and signs a smaller one.
    submit(&world, &Payer::rich(5), &first).await;
    let second = world.allowance(&payer, cents(30), 1).await;
    world.chain.pass(30).await;
    let mut more = 0;
    for _ in 0..8 {
        more += u64::from(world.buy(100, &second).await.status == 200);
    }
    assert!(
        more <= 3,
        "0.30 dollars are 3 requests of 0.10, and {more} were served"
    );
    world.settle().await;
    let totals = world.totals().await;
    assert_eq!(totals.of(Status::Lost).payments, 0);
    assert_eq!(totals.of(Status::Final).charge, tokens((5 + more) * 100));
    world.books_equal_the_chain().await;
}

/// PROTOCOL 9; RELIABILITY 28. Anybody may submit a permit that it saw, so that ours reverts: the allowance is there,
/// and is drawn. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_somebody_else_submits_first_is_drawn_all_the_same() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::rich(0);
    let signed = world.allowance(&payer, cents(80), 0).await;
    assert_eq!(world.buy(100, &signed).await.status, 200);
    submit(&world, &Payer::rich(5), &signed).await;
    assert_eq!(
        world.allowance_of(payer.address(), world.pay_to).await,
        cents(80)
    );
    world.settle().await;
    assert_eq!(world.received().await, tokens(100));
    // The rest of the budget is good as well.
    for _ in 0..9 {
        world.buy(100, &signed).await;
    }
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.charge, cents(80));
    assert_eq!(world.sum(Status::Lost).await.charge, Amount::ZERO);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 1. A permit whose nonce is not the token's next one is no budget: it could never go in. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_of_a_nonce_to_come_is_refused() {
    let world = World::new().await;
    let signed = world.allowance(&Payer::rich(0), cents(80), 3).await;
    let answer = world.buy(100, &signed).await;
    assert_eq!(answer.status, 402);
    assert_eq!(world.upstream.asked(), 0);
    assert_eq!(world.totals().await.payments.len(), 0);
}

/// PROTOCOL 10. A permit that was used up, shown again when its payer has signed another, pays for nothing of the other: who was given
/// the first one's header spends nothing that was not signed there. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_another_succeeded_spends_nothing_of_its_successor() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::rich(0);
    let first = world.allowance(&payer, cents(20), 0).await;
    let never_shown = world.allowance(&payer, cents(15), 0).await;
    for _ in 0..2 {
        assert_eq!(world.buy(100, &first).await.status, 200);
        world.settle().await;
    }
    let second = world.allowance(&payer, cents(90), 1).await;
    assert_eq!(world.buy(100, &second).await.status, 200);
    for signed in [&first, &never_shown] {
        for _ in 0..2 {
            let calls = world.rpc_calls();
            let answer = world.buy(100, signed).await;
            assert_eq!(answer.status, 402);
            assert!(
                answer.text().contains("invalid_permit_nonce"),
                "{}",
                answer.text()
            );
            assert_eq!(world.rpc_calls(), calls, "no look at the chain");
            // Nor when what was read of the payer is too old.
            world.chain.pass(10).await;
        }
    }
    // What was signed for is all there.
    for _ in 0..8 {
        assert_eq!(world.buy(100, &second).await.status, 200);
        world.settle().await;
    }
    assert_eq!(world.sum(Status::Final).await.charge, cents(110));
    assert_eq!(world.sum(Status::Lost).await.charge, Amount::ZERO);
    world.books_equal_the_chain().await;
}

/// PROTOCOL 8. A permit of less, of the nonce of one that is worth more: who was given its header spends what was signed there, and
/// nothing of the other. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lesser_permit_of_a_nonce_spends_nothing_of_the_one_that_is_worth_more() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::rich(0);
    let given_away = world.allowance(&payer, cents(20), 0).await;
    let kept = world.allowance(&payer, cents(90), 0).await;
    for first in [&kept, &given_away] {
        assert_eq!(world.buy(100, first).await.status, 200);
    }
    for _ in 0..2 {
        let answer = world.buy(100, &given_away).await;
        assert_eq!(answer.status, 402);
        assert!(
            answer.text().contains("allowance_exhausted"),
            "{}",
            answer.text()
        );
        world.settle().await;
    }
    for _ in 0..7 {
        assert_eq!(world.buy(100, &kept).await.status, 200);
        world.settle().await;
    }
    assert_eq!(world.buy(100, &kept).await.status, 402);
    assert_eq!(world.sum(Status::Final).await.charge, cents(90));
    world.books_equal_the_chain().await;
}
