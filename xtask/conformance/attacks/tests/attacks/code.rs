//! Owners with code: refused before they are served, and bounded in a batch.

use tollgate_ledger::{Status, Store};
use tollgate_payment::PaymentState;
use tollgate_x402::{Amount, U256, X402Version};

use crate::kit::{Answer, CHAT, Code, FIXED, FIXED_PATH, Payer, Step, World, cents, chat, tokens};

/// RELIABILITY 24; PROTOCOL 27. Whatever its code says, an owner with code pays by Permit2 nowhere here, since code can
/// change its mind: refused before anything is served. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_with_code_is_refused_for_permit2_whatever_its_code_says() {
    let world = World::new().await;
    let codes = [
        Code::Yes,
        Code::No,
        Code::Detector,
        Code::BurnGas,
        Code::RevertBomb,
    ];
    for (number, code) in (10_u64..).zip(codes) {
        let payer = Payer::fresh(number);
        world.fund(&payer, cents(500)).await;
        world.approve_permit2(&payer, U256::MAX).await;
        world.flip(&payer, code).await;
        let once = world.once(&payer, cents(99), 1).await;
        let exact = world.permit2_exact(&payer, Amount::from(FIXED), 2).await;
        for (path, signed) in [(CHAT, once), (FIXED_PATH, exact)] {
            let body = chat(100);
            let payment = world.payment(path, &body, X402Version::V2, &signed).await;
            let answer = world.request(path, &body, Some(&payment)).await;
            assert_eq!(answer.status, 402, "{code:?}");
            assert_eq!(answer.error(), "payer_is_contract", "{code:?}");
        }
    }
    assert_eq!(world.upstream.asked(), 0);
    assert_eq!(world.totals().await.payments.len(), 0);
}

/// The token's own signatures are recovered from the key, whatever code the account has: an allowance of an EIP-7702
/// account is good, and is paid. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowance_of_an_account_with_code_is_paid() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::fresh(20);
    world.fund(&payer, cents(500)).await;
    world.flip(&payer, Code::No).await;
    let signed = world.allowance(&payer, cents(99), 0).await;
    assert_eq!(world.buy(100, &signed).await.status, 200);
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.charge, tokens(100));
    world.books_equal_the_chain().await;
}

/// A toggle: code while it is looked at is refused, none is served, and code again when it is settled is lost, once.
/// Lost: one reservation, 0.10 dollars.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_toggles_its_code_costs_one_reservation_at_most() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let payer = Payer::fresh(21);
    world.fund(&payer, cents(500)).await;
    world.approve_permit2(&payer, U256::MAX).await;
    let mut served = 0;
    for round in 0..4 {
        world.flip(&payer, Code::Yes).await;
        world.chain.pass(10).await;
        let signed = world.once(&payer, cents(99), 2 * round).await;
        assert_eq!(world.buy(100, &signed).await.status, 402);
        world.flip_back(&payer).await;
        world.chain.pass(10).await;
        let signed = world.once(&payer, cents(99), 2 * round + 1).await;
        served += u64::from(world.buy(100, &signed).await.status == 200);
        world.flip(&payer, Code::No).await;
        world.settle().await;
    }
    assert_eq!(served, 1, "then it is blocked");
    assert_eq!(world.sum(Status::Lost).await.charge, tokens(100));
    world.books_equal_the_chain().await;
}

/// RELIABILITY 31; AU 3.2.3. Ten payments are due in one batch, and one or two of the payers have turned their accounts
/// into code that burns all gas, or reverts with 200,000 bytes: the others are settled. Lost: the attackers' own
/// reservations, 0.10 dollars each.
async fn the_others_settle(attackers: &[(u64, Code)]) {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(100)]);
    let mut paid = Vec::new();
    for number in 0..10 {
        let payer = Payer::fresh(30 + number);
        world.fund(&payer, cents(500)).await;
        world.approve_permit2(&payer, U256::MAX).await;
        let signed = world.once(&payer, cents(99), number).await;
        let answer: Answer = world.buy(100, &signed).await;
        assert_eq!(answer.status, 200);
        paid.push((payer, answer.payment().unwrap().to_owned()));
    }
    for (number, code) in attackers {
        let (payer, _) = &paid[usize::try_from(*number).unwrap()];
        world.flip(payer, *code).await;
    }
    world.settle().await;
    for (number, (_, id)) in (0_u64..).zip(&paid) {
        let row = world.store.payment(id.parse().unwrap()).await.unwrap();
        let attacker = attackers.iter().any(|(one, _)| *one == number);
        match row.unwrap().state {
            PaymentState::Lost { .. } if attacker => {}
            PaymentState::Final { .. } if !attacker => {}
            state => panic!("payment {number}: {state:?}"),
        }
    }
    let honest = 10 - u64::try_from(attackers.len()).unwrap();
    assert_eq!(world.received().await, tokens(100 * honest));
    world.books_equal_the_chain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gas_burning_payer_in_a_batch_takes_no_other_with_it() {
    the_others_settle(&[(4, Code::BurnGas)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_bomb_in_a_batch_takes_no_other_with_it() {
    the_others_settle(&[(0, Code::RevertBomb)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_burners_and_bombs_in_a_batch_take_no_other_with_them() {
    the_others_settle(&[
        (0, Code::BurnGas),
        (5, Code::RevertBomb),
        (9, Code::Detector),
    ])
    .await;
}
