//! One payment used many times at once, and one balance promised many times.

use std::sync::Arc;

use futures_util::future::join_all;
use tollgate_ledger::Status;
use tollgate_x402::{Amount, Authorization, U256, X402Version};

use crate::kit::{
    Answer, CHAT, FIXED, FIXED_PATH, Payer, Step, World, cents, chat, statuses, tokens,
};

/// Presents the same bytes so often at once.
async fn present(world: &World, times: usize, path: &str, signed: &Authorization) -> Vec<Answer> {
    let body = chat(20);
    let payment = world.payment(path, &body, X402Version::V2, signed).await;
    join_all((0..times).map(|_| world.request(path, &body, Some(&payment)))).await
}

/// Exactly one of the 64 is served; the rest learn of that one (200 with its id), or are told that it is used (409)
/// or in flight (425). Lost: 0; charged: one answer.
async fn served_once(kind: &str, path: &str, charge: Amount) {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(20)]);
    let payer = Payer::rich(0);
    world.approve_permit2(&payer, U256::MAX).await;
    let signed = match kind {
        "once" => world.once(&payer, cents(99), 7).await,
        "eip3009" => world.eip3009(&payer, Amount::from(FIXED), 7).await,
        _ => world.permit2_exact(&payer, Amount::from(FIXED), 7).await,
    };
    let answers = present(&world, 64, path, &signed).await;

    assert_eq!(world.upstream.asked(), 1, "{kind}: served once");
    let ok: Vec<_> = answers.iter().filter(|one| one.status == 200).collect();
    assert!(!ok.is_empty());
    assert!(ok.iter().all(|one| one.payment() == ok[0].payment()));
    let allowed = [200, 409, 425].into();
    assert!(
        statuses(&answers).is_subset(&allowed),
        "{:?}",
        statuses(&answers)
    );
    world.settle().await;
    let paid = world.sum(Status::Final).await;
    assert_eq!((paid.payments, paid.charge), (1, charge));
    world.books_equal_the_chain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_once_payment_sixty_four_times_at_once_is_served_once() {
    served_once("once", CHAT, tokens(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_eip3009_payment_sixty_four_times_at_once_is_served_once() {
    served_once("eip3009", FIXED_PATH, Amount::from(FIXED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_permit2_exact_payment_sixty_four_times_at_once_is_served_once() {
    served_once("permit2", FIXED_PATH, Amount::from(FIXED)).await;
}

/// 64 requests of 0.02 dollars each on a permit of 0.50: what is served never passes 0.50, and all of it is paid.
/// Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowance_overdrawn_by_sixty_four_requests_at_once_pays_for_all_that_was_served() {
    let mut world = World::new().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    // Nothing is charged before all were admitted or refused.
    world
        .upstream
        .play([Step::Gate(Arc::clone(&gate)), Step::Say(20)]);
    let signed = world.allowance(&Payer::rich(0), cents(50), 0).await;
    let body = chat(20);
    let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
    let asked = join_all((0..64).map(|_| world.request(CHAT, &body, Some(&payment))));
    let open = async {
        while world.upstream.live() < 25 {
            tokio::task::yield_now().await;
        }
        assert!(world.totals().await.held <= cents(50));
        gate.add_permits(64);
    };
    let (answers, ()) = tokio::join!(asked, open);
    let served = answers.iter().filter(|one| one.status == 200).count();
    assert_eq!(served, 25, "0.50 dollars are 25 requests of 0.02");
    assert_eq!(world.upstream.asked(), 25);
    assert_eq!(statuses(&answers), [200, 402].into());
    world.settle().await;
    assert_eq!(world.sum(Status::Final).await.charge, cents(50));
    world.books_equal_the_chain().await;
}

/// The same against a balance of 0.50 dollars, over allowance, once and exact payments together: one balance, whoever
/// may draw it. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_promised_to_every_kind_at_once_pays_for_all_that_was_served() {
    let mut world = World::new().await;
    world.upstream.play([Step::Say(50)]);
    let payer = Payer::fresh(1);
    world.fund(&payer, cents(50)).await;
    world.approve_permit2(&payer, U256::MAX).await;
    let allowance = world.allowance(&payer, cents(99), 0).await;
    let body = chat(50);
    let mut all = Vec::new();
    for number in 0..8 {
        let once = world.once(&payer, cents(99), number).await;
        let exact = world
            .permit2_exact(&payer, Amount::from(FIXED), 100 + number)
            .await;
        let transfer = world.eip3009(&payer, Amount::from(FIXED), number).await;
        for (path, signed) in [
            (CHAT, &allowance),
            (CHAT, &once),
            (FIXED_PATH, &exact),
            (FIXED_PATH, &transfer),
        ] {
            all.push((
                path,
                world.payment(path, &body, X402Version::V2, signed).await,
            ));
        }
    }
    let asked = all
        .iter()
        .map(|(path, payment)| world.request(path, &body, Some(payment)));
    let answers = join_all(asked).await;
    assert_eq!(statuses(&answers), [200, 402].into());
    world.settle().await;
    let totals = world.totals().await;
    assert_eq!(
        totals.of(Status::Lost).payments,
        0,
        "nothing was served that cannot be paid"
    );
    assert!(totals.of(Status::Final).charge <= cents(50));
    world.books_equal_the_chain().await;
}
