//! Who waits for a block is told of it, and nobody waits for what is not settled soon.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::time::Duration;

use common::*;
use tollgate_engine::{Pace, Policy};
use tollgate_ledger::Outage;
use tollgate_payment::{Halt, Pricing, port::Hold};
use tollgate_x402::{
    Amount, Authorization, PaymentId, PaymentState, PaymentStatus, Timestamp, U256,
};

const AGGREGATE: Policy = Policy::Aggregate {
    max_unsettled: Amount::MAX,
    max_age: 600,
};

/// A seller whose callers may wait.
async fn world(allowances: Policy) -> World {
    let setup = Setup {
        allowances,
        ..Setup::default()
    };
    let mut world = World::new(Backend::devchain().await, setup).await;
    let pace = Pace {
        allowances,
        claims: Policy::AtOnce,
        block_time: Duration::from_millis(1),
        health: world.worker.health(),
    };
    world.till = world.till.clone().with_pace(pace);
    world.approve_permit2(PAYER, U256::MAX).await;
    world
}

async fn serving(world: &World, signed: &Authorization) -> TestHold {
    let offer = match signed {
        Authorization::Exact(_) => world.offer(Pricing::Fixed(dollars(20))),
        _ => world.metered(dollars(20)),
    };
    let mut hold = world.admit(&offer, signed).await.unwrap();
    hold.durable().await.unwrap();
    hold
}

/// Seven cents that are owed by a once payment, and the wait for their block.
async fn owed(
    world: &World,
) -> (
    PaymentId,
    impl Future<Output = Option<PaymentStatus>> + use<>,
) {
    let once = world.once(PAYER, dollars(90), 1).await;
    let hold = serving(world, &once).await;
    let (id, wait) = (hold.id(), hold.inclusion().unwrap());
    hold.commit(dollars(7), None).await.unwrap();
    (id, wait)
}

/// They are paid after all.
async fn paid(mut world: World, id: PaymentId) {
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(7));
}

/// Lets the worker work and blocks pass while it is waited.
async fn meanwhile(
    world: &mut World,
    wait: impl Future<Output = Option<PaymentStatus>>,
) -> Option<PaymentStatus> {
    let settle = async {
        loop {
            world.tick().await;
            world.pass(1).await;
        }
    };
    tokio::select! {
        status = wait => status,
        () = settle => None,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("no block"),
    }
}

#[tokio::test]
async fn who_waits_for_what_is_settled_at_once_is_told_the_transaction_that_the_chain_has() {
    let mut world = world(Policy::AtOnce).await;
    for signed in [
        world.once(PAYER, dollars(90), 1).await,
        world.transfer(PAYER, dollars(20), 9).await,
        world.permit2_exact(PAYER, dollars(20), 77).await,
        world.allowance(PAYER, dollars(90), 0).await,
    ] {
        let hold = serving(&world, &signed).await;
        let id = hold.id();
        let wait = hold.inclusion().expect("it is settled at once");
        let charge = hold.commit(dollars(20), None).await.unwrap();
        assert_eq!(world.state(id).await, PaymentState::Accepted);
        let told = meanwhile(&mut world, wait).await.unwrap();
        assert!(
            matches!(told.state, PaymentState::Included | PaymentState::Final),
            "{told:?}"
        );
        assert_eq!((told.id, told.charge), (id, Some(charge.amount)));
        let hash = told.transaction.unwrap();
        let receipt = world.reader.receipt(hash).await.unwrap().unwrap();
        assert!(receipt.success);
        assert_eq!(Some(receipt.block.number), told.block);
    }
    world.settle().await;
    assert_eq!(world.received().await, dollars(80));
}

#[tokio::test]
async fn nobody_waits_for_an_allowance_that_is_settled_with_others() {
    let world = world(AGGREGATE).await;
    let allowance = world.allowance(PAYER, dollars(90), 0).await;
    let hold = serving(&world, &allowance).await;
    assert!(hold.inclusion().is_none());
    hold.commit(dollars(7), None).await.unwrap();
    // What is settled by itself is waited for at the same till.
    let once = world.once(PAYER, dollars(90), 1).await;
    let hold = serving(&world, &once).await;
    assert!(hold.inclusion().is_some());
    hold.release().await.unwrap();
}

#[tokio::test]
async fn nobody_waits_at_a_till_that_does_not_know_when_its_charges_are_settled() {
    let world = World::new(Backend::devchain().await, Setup::default()).await;
    let allowance = world.allowance(PAYER, dollars(90), 0).await;
    let hold = serving(&world, &allowance).await;
    assert!(hold.inclusion().is_none());
    hold.release().await.unwrap();
}

#[tokio::test]
async fn while_settlement_is_halted_nobody_begins_to_wait_or_goes_on_with_it() {
    let world = world(Policy::AtOnce).await;
    let (id, wait) = owed(&world).await;
    let health = world.worker.health();
    health.tell(|report| {
        report.halt = Some(Halt {
            reason: "a stranger".to_owned(),
            at: Timestamp(5),
        });
    });
    let ended = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert_eq!(ended.expect("it ends"), None);
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    let other = world.once(PAYER, dollars(90), 2).await;
    let hold = serving(&world, &other).await;
    assert!(hold.inclusion().is_none());
    hold.release().await.unwrap();
    // The charge is as good as any.
    paid(world, id).await;
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_ends_the_wait_and_not_the_charge() {
    let world = world(Policy::AtOnce).await;
    let (id, wait) = owed(&world).await;
    world.store.interrupt(Some(Outage::Busy));
    let ended = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert_eq!(ended.expect("it ends"), None);
    world.store.interrupt(None);
    paid(world, id).await;
}

#[tokio::test]
async fn who_waits_and_leaves_changes_nothing() {
    let world = world(Policy::AtOnce).await;
    let (id, wait) = owed(&world).await;
    let left = tokio::time::timeout(Duration::from_millis(120), wait).await;
    assert!(left.is_err(), "no block was made");
    paid(world, id).await;
}

#[tokio::test]
async fn who_waits_for_what_the_payer_voided_is_told_that_it_is_lost() {
    let mut world = world(Policy::AtOnce).await;
    let (_, wait) = owed(&world).await;
    world.leave(PAYER, Amount::ZERO).await;
    // Before the first look: what is in a block may be told before it is known to have failed there.
    world.settle().await;
    let told = wait.await.unwrap();
    assert_eq!((told.state, told.transaction), (PaymentState::Lost, None));
}
