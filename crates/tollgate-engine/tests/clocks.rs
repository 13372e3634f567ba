//! A clock that is an hour ahead for a while, and is set right, holds nothing up.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use common::*;
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_engine::{Policy, Worker};
use tollgate_ledger::Store;
use tollgate_payment::port::Hold;
use tollgate_x402::{Amount, ChainId, PaymentState, U256};

const HOUR: u64 = 3_600;

impl World {
    fn jump(&self) {
        self.clock.set(self.now().plus(HOUR));
    }
}

#[tokio::test]
async fn what_became_due_while_the_clock_was_ahead_is_settled() {
    let setup = Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(1_000),
            max_age: 60,
        },
        ..Setup::default()
    };
    let mut world = World::new(Backend::devchain().await, setup).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let mut hold = world
        .admit(&world.metered(dollars(10)), &signed)
        .await
        .unwrap();
    hold.durable().await.unwrap();
    let id = hold.id();
    world.jump();
    hold.commit(dollars(1), None).await.unwrap();
    world.pass(61).await;
    assert_eq!(world.tick().await.sent, 1);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
}

#[tokio::test]
async fn a_settlement_that_failed_while_the_clock_was_ahead_is_tried_again() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.transfer(PAYER, dollars(20), 1).await;
    let offer = world.offer(tollgate_payment::Pricing::Fixed(dollars(20)));
    let id = world.pay(&offer, &signed, dollars(20)).await;
    let address = DEV_ACCOUNTS[PAYER].address;
    let all = world.balance(address).await;
    world.leave(PAYER, Amount::ZERO).await;
    world.jump();
    world.tick().await;
    let back = [U256::from_be_slice(address.as_slice()), all.get()];
    world
        .token_send(6, "transfer(address,uint256)", &back)
        .await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
}

#[tokio::test]
async fn a_transaction_that_was_lost_while_the_clock_was_ahead_is_replaced() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(1)).await;
    world.jump();
    world.tick().await;
    let sent = world
        .store
        .undecided()
        .await
        .unwrap()
        .remove(0)
        .sent
        .remove(0);
    world.chain.drop_transaction(sent.hash).await;
    world.pass(1).await;
    world.tick().await;
    assert_eq!(
        world.store.undecided().await.unwrap()[0].sent.len(),
        2,
        "a replacement"
    );
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
}

#[tokio::test]
async fn what_was_shown_to_a_private_endpoint_while_the_clock_was_ahead_is_shown_to_all() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let builder = Backend::devchain().await;
    let builder = ChainConfig::new(ChainId::DEV, [builder.rpc_url()]);
    let builder = Chain::connect(builder).await.unwrap();
    let market = world.markets.iter().next().unwrap();
    let rail = rail(&world.reader, &world.clock, market, OPERATOR).with_private(builder, 30);
    let mut config = worker_config(&world.setup, market, OPERATOR);
    config.replace_after = u64::MAX;
    let (store, clock) = (world.store.clone(), world.clock.clone());
    world.worker = Worker::new(store, rail, clock, config, world.work.clone());
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(1)).await;
    world.jump();
    world.tick().await;
    world.pass(1).await;
    assert_eq!(world.received().await, Amount::ZERO);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
}
