//! Work for nothing: floods of unpaid requests, of payments that are none, of payers without money.

use futures_util::future::join_all;
use serde_json::json;
use tollgate_x402::{Amount, X402Version};

use crate::kit::{CHAT, FIXED_PATH, Header, Payer, Untouched, World, cents, chat};

/// RELIABILITY 68. 1,000 unpaid requests: no call of a node, no write, no row, nothing open. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unpaid_requests_costs_no_call_and_no_write() {
    let world = World::new().await;
    let untouched = Untouched::begin(&world);
    for _ in 0..20 {
        let body = chat(20);
        let asked =
            (0..50).map(|n| world.request(if n % 2 == 0 { CHAT } else { FIXED_PATH }, &body, None));
        assert!(join_all(asked).await.iter().all(|one| one.status == 402));
    }
    untouched.check("a thousand unpaid requests");
    assert_eq!(world.gateway.drain().open(), 0);
    assert_eq!(world.totals().await, Default::default());
}

/// RELIABILITY 69. 600 payments whose signatures are of nobody: the key is recovered and nothing else is done. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_forged_payments_costs_no_call_and_no_write() {
    let world = World::new().await;
    let body = chat(20);
    let signed = world.allowance(&Payer::rich(0), cents(99), 0).await;
    let honest = world
        .payment(CHAT, &body, X402Version::V2, &signed)
        .await
        .json();
    let untouched = Untouched::begin(&world);
    for round in 0..12_u64 {
        let asked = (0..50).map(|number| {
            let mut payment = honest.clone();
            let payer = Payer::fresh(round * 50 + number);
            payment["payload"]["authorization"]["from"] = json!(payer.address());
            let header = Header::of(X402Version::V2, &payment);
            let (world, body) = (&world, &body);
            async move { world.request(CHAT, body, Some(&header)).await }
        });
        assert!(join_all(asked).await.iter().all(|one| one.status == 402));
    }
    untouched.check("six hundred forged payments");
    assert_eq!(world.totals().await, Default::default());
}

/// RELIABILITY 69. 60 good signatures of wallets without money: one call of the node each at most, no write, no row.
/// Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_payers_without_money_costs_one_call_each_and_no_write() {
    let world = World::new().await;
    let body = chat(20);
    let writes = world.writes();
    let (version, calls) = (writes.version(), world.rpc_calls());
    for number in 0..60 {
        let signed = world.allowance(&Payer::fresh(number), cents(99), 0).await;
        let payment = world.payment(CHAT, &body, X402Version::V2, &signed).await;
        let answer = world.request(CHAT, &body, Some(&payment)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (402, "insufficient_funds")
        );
    }
    assert!(world.rpc_calls() - calls <= 60);
    assert_eq!(writes.version(), version);
    assert_eq!(world.upstream.asked(), 0);
    assert_eq!(world.totals().await, Default::default());
}

/// RELIABILITY 18. Who reserves much and uses nothing has its own bounds and takes nobody else's: a griefer at its limit
/// of requests in flight is told to wait, and another payer is served meanwhile. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_griefer_at_its_limit_keeps_nobody_else_out() {
    use std::sync::Arc;

    use crate::kit::{DOLLAR, Setup, Step};

    let setup = Setup {
        credit: tollgate_payment::Credit::for_dollar(Amount::from(DOLLAR)),
        ..Setup::default()
    };
    let world = World::with(setup).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    world
        .upstream
        .play([Step::Gate(Arc::clone(&gate)), Step::Say(20)]);
    let griefer = world.allowance(&Payer::rich(0), cents(99), 0).await;
    let honest = world.allowance(&Payer::rich(1), cents(99), 0).await;
    let body = chat(20);
    let payment = world.payment(CHAT, &body, X402Version::V2, &griefer).await;
    let many = join_all((0..32).map(|_| world.request(CHAT, &body, Some(&payment))));
    let check = async {
        world.upstream.reach(4).await;
        let other = world.buy(20, &honest);
        let open = async {
            world.upstream.reach(5).await;
            gate.add_permits(64);
        };
        assert_eq!(tokio::join!(other, open).0.status, 200);
    };
    let (answers, ()) = tokio::join!(many, check);
    let served = answers.iter().filter(|one| one.status == 200).count();
    assert!(
        served <= 5,
        "0.10 dollars are 5 requests of 0.02, 4 at once"
    );
    assert!(
        answers
            .iter()
            .all(|one| matches!(one.status.as_u16(), 200 | 429))
    );
    assert!(
        answers
            .iter()
            .all(|one| one.status == 200 || one.header("retry-after").is_some())
    );
}
