//! Unlimited identities against what is lent: one thief with as many addresses as it likes, which first pay a little,
//! or nothing, and then take what they can and move their coins on.
//!
//! The seller has its defaults: 0.10 dollars of credit for a stranger, as much as it paid for anybody else, and 5
//! dollars for all together above what they paid before.

use futures_util::future::join_all;
use tollgate_ledger::Status;
use tollgate_payment::Credit;
use tollgate_x402::{Address, Amount, U256};

use crate::kit::{DOLLAR, Payer, Setup, Step, World, cents, tokens};

fn defaults() -> Setup {
    Setup {
        credit: Credit::for_dollar(Amount::from(DOLLAR)),
        ..Setup::default()
    }
}

/// A seller with the defaults.
async fn world() -> World {
    let world = World::with(defaults()).await;
    world.upstream.play([Step::Say(1_000)]);
    world
}

/// A new address with the coins of the last.
async fn next(world: &World, number: u64, last: Option<&Payer>, coins: Amount) -> Payer {
    let payer = Payer::fresh(number);
    match last {
        None => world.fund(&payer, coins).await,
        Some(last) => {
            world
                .chain
                .set_bnb(payer.address(), 1_000_000_000_000_000_000)
                .await;
            world.leave_to(last, Amount::ZERO, payer.address()).await;
        }
    }
    payer
}

/// Asks for so many tokens' worth; answers with what was charged.
async fn take(world: &World, payer: &Payer, worth: u32) -> Amount {
    let signed = world.allowance(payer, cents(99), 0).await;
    let answer = world.buy(worth, &signed).await;
    match answer.status.as_u16() {
        200 => {
            let status = world.status(answer.payment().unwrap()).await;
            status.charge.unwrap()
        }
        // A bound is no reason to throw a permit away: never a 402.
        429 => {
            assert!(answer.header("retry-after").is_some());
            Amount::ZERO
        }
        _ => panic!("{}: {}", answer.status, answer.text()),
    }
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts
        .into_iter()
        .fold(Amount::ZERO, |sum, one| sum.checked_add(one).unwrap())
}

async fn lost(world: &World) -> Amount {
    world.sum(Status::Lost).await.charge
}

/// 70 identities that never pay, 64 of them at once. Lost: 5 dollars in all, exactly the bound, and 0.10 a piece; after
/// that nothing more, though all of theirs is decided and nothing is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_without_number_that_never_pay_take_five_dollars_in_all() {
    let mut world = world().await;
    let payers: Vec<_> = (0..64).map(Payer::fresh).collect();
    for payer in &payers {
        world.fund(payer, cents(100)).await;
    }
    let taken = join_all(payers.iter().map(|payer| take(&world, payer, 100))).await;
    assert!(taken.iter().all(|one| *one <= cents(10)));
    assert_eq!(sum(taken), cents(500));
    for payer in &payers {
        world.leave(payer, Amount::ZERO).await;
    }
    world.settle().await;
    assert_eq!(lost(&world).await, cents(500));
    for number in 64..70 {
        let payer = Payer::fresh(number);
        world.fund(&payer, cents(100)).await;
        assert_eq!(take(&world, &payer, 20).await, Amount::ZERO);
    }
    assert_eq!(world.upstream.asked(), 50);
    world.books_equal_the_chain().await;
}

/// The same coins go from address to address, one theft each, every theft decided before the next. Lost: 5 dollars in
/// all, however often they move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_coins_moved_from_address_to_address_take_five_dollars_in_all() {
    let mut world = world().await;
    let mut last = None;
    let mut taken = Amount::ZERO;
    for number in 0..56 {
        let payer = next(&world, number, last.as_ref(), cents(100)).await;
        let charge = take(&world, &payer, 100).await;
        assert!(charge <= cents(10));
        taken = taken.checked_add(charge).unwrap();
        if number % 7 == 6 {
            // The coins are gone from all addresses but the last; its own theft is decided in the next round.
            world.leave(&payer, Amount::ZERO).await;
            world.settle().await;
            last = None;
        } else {
            last = Some(payer);
        }
    }
    assert_eq!(taken, cents(500));
    world.settle().await;
    assert_eq!(lost(&world).await, cents(500));
    world.books_equal_the_chain().await;
}

/// Each identity first pays honestly in dust, 0.04 dollars in 4 payments, and then takes what it can. Its history is
/// its own money; above it, all of them together get 5 dollars. Lost: at most each one's credit, and in all 5 dollars
/// above what they paid before; here exactly that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_farmed_with_dust_and_spent_by_many_takes_five_dollars_above_what_they_paid() {
    let mut world = world().await;
    let (mut paid, mut taken) = (Vec::new(), Vec::new());
    for round in 0..6_u64 {
        let payers: Vec<_> = (0..16)
            .map(|number| Payer::fresh(round * 16 + number))
            .collect();
        for payer in &payers {
            world.fund(payer, cents(100)).await;
            for _ in 0..4 {
                take(&world, payer, 10).await;
            }
        }
        let before = world.sum(Status::Final).await.charge;
        world.settle().await;
        let after = world.sum(Status::Final).await.charge;
        paid.push(after.checked_sub(before).unwrap());
        // Now all of them at once, each for nine times what it gets: 0.10 dollars.
        let now = join_all(payers.iter().map(|payer| take(&world, payer, 900))).await;
        assert!(now.iter().all(|one| *one <= cents(10)), "{now:?}");
        taken.extend(now);
        for payer in &payers {
            world.leave(payer, Amount::ZERO).await;
        }
        world.settle().await;
        assert!(lost(&world).await <= cents(500).checked_add(sum(paid.clone())).unwrap());
    }
    let (paid, taken) = (sum(paid), sum(taken));
    assert_eq!(lost(&world).await, taken);
    let bound = cents(500).checked_add(paid).unwrap();
    assert!(taken <= bound, "{taken} of {bound}");
    // Who cannot pay dust first because the bound is used up gets nothing: the sums show how far it went.
    assert!(taken >= cents(500), "the attack was made: {taken}");
    world.books_equal_the_chain().await;
}

/// An identity that paid 0.60 dollars may owe 0.60: a theft of what it paid before. Lost: its credit, exactly, and it
/// takes nothing from the bound of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_farmed_takes_what_it_paid_and_no_more() {
    let mut world = world().await;
    let payer = Payer::fresh(1);
    world.fund(&payer, cents(1_000)).await;
    for _ in 0..6 {
        assert_eq!(take(&world, &payer, 100).await, cents(10));
        world.settle().await;
        world.chain.pass(10).await;
    }
    let paid = world.sum(Status::Final).await.charge;
    assert_eq!(paid, cents(60));
    // A new permit: the first one was for 0.99 dollars in all.
    let signed = world.allowance(&payer, cents(300), 1).await;
    let mut taken = Amount::ZERO;
    for _ in 0..10 {
        let answer = world.buy(200, &signed).await;
        if answer.status == 200 {
            let charge = world.status(answer.payment().unwrap()).await.charge;
            taken = taken.checked_add(charge.unwrap()).unwrap();
        }
    }
    assert_eq!(taken, paid, "credit is one for one");
    world.leave(&payer, Amount::ZERO).await;
    world.settle().await;
    assert_eq!(lost(&world).await, taken);
    // The strangers' 5 dollars are still there.
    let strangers: Vec<_> = (100..160).map(Payer::fresh).collect();
    for stranger in &strangers {
        world.fund(stranger, cents(100)).await;
    }
    let more = join_all(strangers.iter().map(|one| take(&world, one, 100))).await;
    assert_eq!(sum(more), cents(500));
    world.settle().await;
    world.books_equal_the_chain().await;
}

/// Two gateways, each with its slice of the bound, and six identities that each paid 0.60 dollars, six times what a
/// stranger is lent. Then all of them take all they can from both gateways at once, and 60 strangers with them. Lost:
/// what the six paid before, and 5 dollars above that in all, for each token; a slice is no second bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_farmed_take_five_dollars_above_what_they_paid_from_two_gateways_together() {
    let mut world = World::with(Setup {
        gateways: 2,
        ..defaults()
    })
    .await;
    world.upstream.play([Step::Say(1_000)]);
    let payers: Vec<_> = (0..6).map(Payer::fresh).collect();
    for payer in &payers {
        world.fund(payer, cents(1_000)).await;
    }
    for _ in 0..6 {
        let now = join_all(payers.iter().map(|payer| take(&world, payer, 100))).await;
        assert_eq!(now, [cents(10); 6], "they are honest so far");
        world.settle().await;
        world.chain.pass(10).await;
    }
    let paid = world.sum(Status::Final).await.charge;
    assert_eq!(paid, cents(360));

    let strangers: Vec<_> = (100..160).map(Payer::fresh).collect();
    for stranger in &strangers {
        world.fund(stranger, cents(100)).await;
    }
    let farmed = payers.iter().map(|payer| {
        let world = &world;
        async move {
            // A new permit: the first one was for 0.99 dollars in all.
            let signed = world.allowance(payer, cents(300), 1).await;
            let mut taken = Amount::ZERO;
            for _ in 0..10 {
                let answer = world.buy(200, &signed).await;
                if answer.status == 200 {
                    let charge = world.status(answer.payment().unwrap()).await.charge;
                    taken = taken.checked_add(charge.unwrap()).unwrap();
                }
            }
            taken
        }
    });
    let lent = join_all(strangers.iter().map(|one| take(&world, one, 100)));
    let (farmed, lent) = tokio::join!(join_all(farmed), lent);
    assert!(farmed.iter().all(|one| *one <= cents(60)), "{farmed:?}");
    let taken = sum(farmed).checked_add(sum(lent)).unwrap();
    let bound = paid.checked_add(cents(500)).unwrap();
    assert!(taken <= bound, "{taken} of {bound}");
    assert!(taken > cents(500), "the attack was made: {taken}");
    for payer in payers.iter().chain(&strangers) {
        world.leave(payer, Amount::ZERO).await;
    }
    world.settle().await;
    assert_eq!(lost(&world).await, taken);
    // Nothing is left for the next, at either of them.
    for number in 200..204 {
        let payer = Payer::fresh(number);
        world.fund(&payer, cents(100)).await;
        let more = take(&world, &payer, 100).await;
        let all = taken.checked_add(more).unwrap();
        assert!(all <= bound, "{all} of {bound}");
    }
    world.settle().await;
    world.books_equal_the_chain().await;
}

/// What is paid to somebody else, by the same coins, with the same proxy, earns nothing here. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coins_that_go_round_between_ones_own_addresses_earn_no_credit() {
    let mut world = world().await;
    let (one, two) = (Payer::fresh(1), Payer::fresh(2));
    world.fund(&one, cents(5_000)).await;
    world.fund(&two, cents(0)).await;
    for _ in 0..4 {
        world.leave_to(&one, Amount::ZERO, two.address()).await;
        world.leave_to(&two, Amount::ZERO, one.address()).await;
    }
    // A permit for the seller's own address, drawn by nobody.
    world
        .send(
            &one,
            tollgate_contracts::tokens::USD1,
            "approve(address,uint256)",
            &[crate::kit::word(world.pay_to), U256::MAX],
        )
        .await;
    assert_ne!(world.pay_to, Address::ZERO);
    assert_eq!(
        take(&world, &one, 500).await,
        cents(10),
        "a stranger's credit"
    );
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.charge, tokens(100));
    world.books_equal_the_chain().await;
}

/// Credit is of the last 30 days: who paid 0.60 dollars and comes back after a month is a stranger. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_last_month_earns_no_credit() {
    let mut world = world().await;
    let payer = Payer::fresh(1);
    world.fund(&payer, cents(1_000)).await;
    for _ in 0..3 {
        take(&world, &payer, 100).await;
        world.settle().await;
        world.chain.pass(10).await;
    }
    world.chain.pass(31 * 86_400).await;
    let until = world.now().plus(3_600);
    let signed = world.allowance_until(&payer, cents(99), 1, until).await;
    let answer = world.buy(300, &signed).await;
    assert_eq!(answer.status, 200);
    let charge = world.status(answer.payment().unwrap()).await.charge;
    assert_eq!(charge, Some(cents(10)));
    world.settle().await;
    world.books_equal_the_chain().await;
}
