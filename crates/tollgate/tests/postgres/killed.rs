//! Gateways that are killed, paused, and killed while they are paused, at moments that a seed decides.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use tokio::task::JoinSet;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_eip712::{AllowanceTerms, sign_allowance};
use tollgate_payment::PaymentState;
use tollgate_x402::{Amount, Authorization, PaymentId, Timestamp, U256};

use crate::{LEASE, World, client, domain, offer, paid, wallet};

/// What one payer heard: the payments that it was answered whole, with what each was said to cost.
#[derive(Default)]
struct Heard {
    told: BTreeMap<PaymentId, Amount>,
    asked: u64,
}

/// One payer with one permit, who asks one gateway after the other, wherever they are now.
async fn buy(
    apis: Arc<Mutex<[String; 2]>>,
    number: usize,
    deadline: Timestamp,
    stop: Arc<AtomicBool>,
) -> Heard {
    let http = client();
    let mut heard = Heard::default();
    let mut signed = None;
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let api = apis.lock().unwrap()[turn % 2].clone();
        let Some(offer) = offer(&http, &api).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if signed.is_none() {
            let terms = AllowanceTerms {
                spender: offer.accepts[0].pay_to,
                value: offer.accepts[0].amount,
                nonce: U256::ZERO,
                deadline,
            };
            let permit = sign_allowance(&wallet(number), &domain(), &terms)
                .await
                .unwrap();
            signed = Some(Authorization::Allowance(permit));
        }
        heard.asked += 1;
        if let Some((200, Some((id, charge)))) =
            paid(&http, &api, &offer, signed.as_ref().unwrap()).await
        {
            let before = heard.told.insert(id, charge);
            assert_eq!(before, None, "one payment for two requests: {id:?}");
        }
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    heard
}

/// What is done to one of two gateways.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Blow {
    Kill,
    Pause,
    /// For longer than its lease.
    PauseLong,
    KillPaused,
}

/// What a gateway says that was paused past its lease.
const DEAD: &str = "taken for dead";

/// Three to five blows at random moments at random gateways; each seed has one of every kind that is short, and those
/// that are odd a pause beyond the lease.
async fn killed_and_paused(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let short = [Blow::Kill, Blow::Pause, Blow::KillPaused];
    let mut blows = short.to_vec();
    if dice.random() {
        blows.extend(short.choose(&mut dice));
    }
    if seed % 2 == 1 {
        blows.push(Blow::PauseLong);
    }
    blows.shuffle(&mut dice);
    let what = format!("seed {seed}: {blows:?}");

    let world = World::new().await;
    let before = world.received().await;
    let mut gateways = [world.gateway("a"), world.gateway("b")];
    for gateway in &mut gateways {
        gateway.ready().await;
    }
    let apis = gateways.each_ref().map(|gateway| gateway.api.clone());
    let apis = Arc::new(Mutex::new(apis));
    let stop = Arc::new(AtomicBool::new(false));
    let deadline = world.deadline().await;
    let mut had = BTreeMap::new();
    let mut payers = JoinSet::new();
    for (number, account) in DEV_ACCOUNTS.iter().enumerate().skip(1).take(4) {
        let payer = account.address;
        had.insert(payer, world.balance(payer).await);
        let (apis, stop) = (Arc::clone(&apis), Arc::clone(&stop));
        payers.spawn(buy(apis, number, deadline, stop));
    }
    for blow in &blows {
        tokio::time::sleep(Duration::from_millis(dice.random_range(1_000..3_500))).await;
        let which = dice.random_range(0..2);
        let gateway = &mut gateways[which];
        if *blow != Blow::Kill {
            gateway.signal("-STOP");
            let pause = match blow {
                Blow::PauseLong => LEASE,
                _ => Duration::from_millis(dice.random_range(0..5_000)),
            };
            tokio::time::sleep(pause).await;
        }
        if matches!(blow, Blow::Kill | Blow::KillPaused) {
            gateway.child.kill().unwrap();
            gateway.child.wait().unwrap();
            *gateway = world.gateway(["a", "b"][which]);
            gateway.ready().await;
            apis.lock().unwrap()[which] = gateway.api.clone();
        } else {
            gateway.signal("-CONT");
        }
    }
    tokio::time::sleep(Duration::from_secs(7)).await;
    // On a machine that does much else it wakes up late.
    let mut dead = 60;
    while blows.contains(&Blow::PauseLong) && !world.logs().contains(DEAD) && dead > 0 {
        dead -= 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    stop.store(true, Ordering::SeqCst);
    let all = payers.join_all().await;
    let (paid, charge) = world.settled(before).await;
    let logs = world.logs();
    let asked: u64 = all.iter().map(|one| one.asked).sum();
    let told: BTreeMap<_, _> = all.into_iter().flat_map(|one| one.told).collect();
    if blows.contains(&Blow::PauseLong) {
        assert!(logs.contains(DEAD), "{what}\n{logs}");
    }
    assert!(told.len() > 10, "{what}: {told:?} of {asked}\n{logs}");
    assert!(paid <= asked, "{what}: {asked} were asked for, {paid} paid");
    let books = world.payments().await;
    for (id, charge) in &told {
        let Some(row) = books.iter().find(|row| row.keys.id == *id) else {
            panic!("{what}: {id:?} is not in the books\n{logs}");
        };
        let is_final = matches!(row.state, PaymentState::Final { .. });
        assert!(is_final, "{what}: {id:?} is {:?}\n{logs}", row.state);
        assert_eq!(row.charge, *charge, "{what}: {id:?} is not what was told");
    }
    for (payer, had) in had {
        let booked = books
            .iter()
            .filter(|row| row.keys.owner.owner == payer)
            .fold(Amount::ZERO, |sum, row| sum.saturating_add(row.charge));
        let moved = had.saturating_sub(world.balance(payer).await);
        assert_eq!(
            moved, booked,
            "{what}: {payer} paid what is booked, to the unit"
        );
    }
    let lost = books
        .iter()
        .find(|row| matches!(row.state, PaymentState::Lost { .. }));
    assert_eq!(lost, None, "{what}: {paid} for {charge}\n{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: cargo xtask postgres"]
async fn nothing_is_double_and_nothing_lost_while_gateways_are_killed_and_paused() {
    let seeds = std::env::var("TOLLGATE_SEEDS").unwrap_or_else(|_| "1 2".to_owned());
    for seed in seeds.split_whitespace() {
        killed_and_paused(seed.parse().unwrap()).await;
    }
}
