//! What the worker tells of its account and of the chain, to readiness and to the till.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::*;
use tollgate_bsc::Call;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_engine::{Cashier, CashierConfig, ChainVerifier, Worker, WorkerError};
use tollgate_ledger::{CurrentRun, RUN_LEASE, Run};
use tollgate_payment::{Retention, port::Hold};
use tollgate_x402::{Bytes, ErrorCode, PaymentId, PaymentState, U256};

async fn states(world: &World, ids: &[PaymentId]) -> Vec<PaymentState> {
    let mut states = Vec::new();
    for id in ids {
        states.push(world.state(*id).await);
    }
    states
}

#[tokio::test]
async fn an_account_that_runs_out_of_gas_money_stops_lending_before_it_cannot_settle() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let till = world.till.clone().with_health(world.worker.health());
    world.till = till;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let first = world.pay(&offer, &signed, dollars(5)).await;
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    // A batch takes 2^24 gas at 0.05 gwei.
    let batch = U256::from(50_000_000_u64) * U256::from(1_u64 << 24);
    world.chain.set_bnb(operator, batch * U256::from(5)).await;
    world.tick().await;
    assert!(world.worker.health().ready().unwrap_err().contains("BNB"));
    let second = world.pay(&offer, &signed, dollars(5)).await;
    world.settle().await;
    let third = world.pay(&offer, &signed, dollars(5)).await;
    world.chain.set_bnb(operator, batch).await;
    world.pass(11).await;
    world.tick().await;
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ChainUnavailable);
    assert!(refused.message.contains("BNB"), "{}", refused.message);
    // What is lent already is settled with what is left.
    for _ in 0..10 {
        world.tick().await;
        world.pass(3).await;
    }
    assert_eq!(
        states(&world, &[first, second, third]).await,
        [PaymentState::Final; 3]
    );
    world.chain.set_bnb(operator, batch * U256::from(50)).await;
    world.pass(11).await;
    world.tick().await;
    assert_eq!(world.worker.health().ready(), Ok(()));
    world.admit(&offer, &signed).await.unwrap();
}

#[tokio::test]
async fn a_chain_that_finalizes_nothing_is_told_and_serving_goes_on() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.till = world.till.clone().with_health(world.worker.health());
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.chain.freeze_finality(true);
    for _ in 0..30 {
        world.tick().await;
        world.pass(10).await;
    }
    let told = world.worker.health().ready().unwrap_err();
    assert!(told.contains("finalized nothing"), "{told}");
    assert_eq!(world.state(id).await, PaymentState::Included);
    let second = world.pay(&offer, &signed, dollars(5)).await;
    world.chain.freeze_finality(false);
    world.pass(1).await;
    world.settle().await;
    world.pass(11).await;
    world.tick().await;
    assert_eq!(world.worker.health().ready(), Ok(()));
    assert_eq!(
        states(&world, &[id, second]).await,
        [PaymentState::Final; 2]
    );
    assert_eq!(world.received().await, dollars(10));
}

#[tokio::test]
async fn while_nothing_becomes_final_no_more_is_lent_than_the_payers_credit() {
    let mut setup = Setup::default();
    setup.credit.floor = dollars(12);
    setup.credit.ceiling = dollars(12);
    let mut world = World::new(Backend::devchain().await, setup).await;
    world.till = world.till.clone().with_health(world.worker.health());
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(5));
    world.chain.freeze_finality(true);
    let mut served = Vec::new();
    let refused = loop {
        match world.admit(&offer, &signed).await {
            Ok(mut hold) => {
                hold.durable().await.unwrap();
                served.push(hold.id());
                let used = hold.cap();
                hold.commit(used, None).await.unwrap();
            }
            Err(refused) => break refused,
        }
        assert!(served.len() < 10, "nothing bounds what is lent");
        for _ in 0..3 {
            world.tick().await;
            world.pass(5).await;
        }
    };
    assert_eq!(refused.code, ErrorCode::CreditExhausted);
    assert!(refused.retry_after.is_some());
    assert_eq!(world.received().await, dollars(12), "in blocks, not final");
    assert!(
        states(&world, &served)
            .await
            .iter()
            .all(|state| *state == PaymentState::Included)
    );
    world.chain.freeze_finality(false);
    world.pass(1).await;
    world.settle().await;
    world.admit(&offer, &signed).await.unwrap();
}

#[tokio::test]
async fn a_stopped_account_is_told_by_readiness() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let nothing = Call {
        to: DEV_ACCOUNTS[1].address,
        input: Bytes::new(),
        gas_limit: 21_000,
    };
    world.tick().await;
    world.send(OPERATOR, nothing).await;
    world.chain.mine().await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    let stopped = world.worker.tick().await.unwrap_err();
    assert!(matches!(stopped, WorkerError::Halted(_)));
    let told = world.worker.health().ready().unwrap_err();
    assert!(told.contains("stopped"), "{told}");
}

#[tokio::test]
async fn a_gateway_whose_lease_has_passed_without_a_sign_of_life_admits_nothing() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    let seconds = Arc::new(AtomicU64::new(100));
    let clock = Arc::clone(&seconds);
    let current = CurrentRun::with_time(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let run = Run {
        epoch: world.epoch,
        slot: 0,
    };
    let (markets, clock) = (world.markets.clone(), world.clock.clone());
    let config = CashierConfig {
        markets: markets.clone(),
        run: current.clone(),
        margin: 60,
        retention: Retention::default(),
    };
    let verifier = ChainVerifier::new(world.reader.clone(), markets, clock.clone(), 30);
    let work = Arc::clone(&world.work);
    world.till = Cashier::new(world.store.clone(), verifier, clock, config, work);
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let admit = async || {
        let admitted = world.admit(&offer, &signed).await;
        admitted.map(drop).map_err(|error| error.code)
    };
    assert_eq!(admit().await, Err(ErrorCode::LedgerUnavailable));
    current.renew(run, current.now());
    assert_eq!(admit().await, Ok(()));
    seconds.fetch_add(RUN_LEASE, Ordering::SeqCst);
    assert_eq!(admit().await, Err(ErrorCode::LedgerUnavailable));
    current.renew(run, current.now());
    assert_eq!(admit().await, Ok(()));
}

#[tokio::test]
async fn a_gateway_that_waits_for_its_turn_to_settle_stops_lending_with_the_one_that_settles() {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.tick().await;
    let market = world.markets.iter().next().unwrap();
    let mut config = worker_config(&world.setup, market, OPERATOR);
    config.sole = false;
    let rail = rail(&world.reader, &world.clock, market, OPERATOR);
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let mut standby = Worker::new(store, rail, clock, config, world.work.clone());
    assert!(standby.tick().await.unwrap().standby);
    world.till = world.till.clone().with_health(standby.health());
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    world.admit(&offer, &signed).await.unwrap();
    let operator = DEV_ACCOUNTS[OPERATOR].address;
    world.chain.set_bnb(operator, U256::ZERO).await;
    world.pass(11).await;
    drop(world.worker.tick().await);
    assert!(standby.tick().await.unwrap().standby);
    assert!(standby.health().ready().unwrap_err().contains("BNB"));
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ChainUnavailable);
}
