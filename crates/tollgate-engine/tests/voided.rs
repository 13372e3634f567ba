//! A payer voids its payment while it is served: the stream stops at its next checkpoint, and what was delivered is
//! charged.

#[expect(dead_code, reason = "this file uses a part")]
mod common;

use std::time::Duration;

use common::*;
use serde_json::json;
use tollgate_bsc::{Chain, ChainConfig};
use tollgate_contracts::addresses::PERMIT2;
use tollgate_devchain::{DEV_ACCOUNTS, Fault};
use tollgate_engine::Worker;
use tollgate_payment::{
    Pricing,
    command::Voided,
    port::{Hold, HoldError},
};
use tollgate_x402::{Amount, Authorization, B256, ChainId, Exact, PaymentState, U256};

/// Seconds between looks.
const RECHECK: u64 = 30;

async fn world() -> World {
    let mut world = World::new(Backend::devchain().await, Setup::default()).await;
    world.till = world.till.clone().with_recheck(RECHECK);
    world.approve_permit2(PAYER, U256::MAX).await;
    world
}

async fn serving(world: &World, signed: &Authorization, worst: Amount) -> TestHold {
    let offer = world.metered(worst);
    let mut hold = world.admit(&offer, signed).await.unwrap();
    hold.durable().await.unwrap();
    hold
}

/// Goes on with a stream until it is told to stop, or a minute of the test's time is over.
async fn stopped(hold: &mut TestHold, used: Amount) -> Voided {
    let stop = async {
        loop {
            match hold.checkpoint(used).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(HoldError::Void(voided)) => return voided,
                Err(other) => panic!("{other}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stop)
        .await
        .expect("the stream is stopped")
}

#[tokio::test]
async fn what_a_refused_request_read_of_the_chain_stops_the_payers_streams_without_a_call_of_their_own()
 {
    let world = world().await;
    let signed = world.once(PAYER, dollars(90), 1).await;
    let mut hold = serving(&world, &signed, dollars(90)).await;
    hold.checkpoint(dollars(5)).await.unwrap();
    world.leave(PAYER, Amount::ZERO).await;
    world.pass(4).await;
    let other = world.once(PAYER, dollars(90), 2).await;
    let refused = world.admit(&world.metered(dollars(10)), &other).await;
    assert_eq!(refused.unwrap_err().code.status(), 402);
    let calls = world.calls();
    let told = hold.checkpoint(dollars(6)).await.unwrap_err();
    assert!(matches!(told, HoldError::Void(Voided::Short(_))), "{told}");
    assert_eq!(world.calls(), calls);
    let id = hold.id();
    let charge = hold.commit(dollars(6), None).await.unwrap();
    assert_eq!(charge.amount, dollars(6));
    assert_ne!(world.state(id).await, PaymentState::Released);
}

#[tokio::test]
async fn a_lone_stream_is_stopped_when_its_payment_is_voided() {
    for kind in ["balance", "allowance", "nonce"] {
        let world = world().await;
        let signed = world.once(PAYER, dollars(90), 1).await;
        let mut hold = serving(&world, &signed, dollars(90)).await;
        match kind {
            "balance" => world.leave(PAYER, Amount::ZERO).await,
            "allowance" => world.approve_permit2(PAYER, U256::ZERO).await,
            _ => {
                // Nonce 1 is bit 1 of the first word.
                let words = [U256::ZERO, U256::from(2)];
                let call = "invalidateUnorderedNonces(uint256,uint256)";
                world.contract_send(PAYER, PERMIT2, call, &words).await;
            }
        }
        let calls = world.calls();
        hold.checkpoint(dollars(5)).await.unwrap();
        assert_eq!(world.calls(), calls, "{kind}: a short stream asks nothing");
        world.pass(RECHECK + 1).await;
        let why = stopped(&mut hold, dollars(6)).await;
        assert_eq!(
            matches!(why, Voided::Refused(_)),
            kind == "nonce",
            "{kind}: {why}"
        );
        let charge = hold.commit(dollars(6), None).await.unwrap();
        assert_eq!(charge.amount, dollars(6), "{kind}");
    }
}

#[tokio::test]
async fn a_stream_on_an_allowance_is_stopped_when_the_allowance_is_revoked() {
    let mut world = world().await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    world
        .pay(&world.metered(dollars(9)), &signed, dollars(1))
        .await;
    world.settle().await;
    let mut hold = serving(&world, &signed, dollars(90)).await;
    let spender = U256::from_be_slice(world.pay_to.as_slice());
    world
        .token_send(PAYER, "approve(address,uint256)", &[spender, U256::ZERO])
        .await;
    world.pass(RECHECK + 1).await;
    stopped(&mut hold, dollars(6)).await;
    let charge = hold.commit(dollars(6), None).await.unwrap();
    assert_eq!(charge.amount, dollars(6));
}

#[tokio::test]
async fn a_long_stream_of_an_honest_payer_is_never_stopped_while_its_charges_settle() {
    let mut world = world().await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    // Nothing is to spare: what is due and what is held is all that the payer has.
    world.leave(PAYER, dollars(50)).await;
    world
        .pay(&world.metered(dollars(20)), &signed, dollars(20))
        .await;
    let mut hold = serving(&world, &signed, dollars(30)).await;
    for step in 1..=30 {
        world.tick().await;
        world.pass(if step % 3 == 0 { RECHECK } else { 1 }).await;
        hold.checkpoint(dollars(step)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let id = hold.id();
    hold.commit(dollars(30), None).await.unwrap();
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert!(world.balance(DEV_ACCOUNTS[PAYER].address).await.is_zero());
}

/// A world whose worker sends without a rehearsal, so that the chain refuses what cannot be paid; and loses a charge by so
/// many settlements that failed.
async fn unrehearsed(attempts: u32) -> World {
    with_unrehearsed(world().await, attempts)
}

fn with_unrehearsed(mut world: World, attempts: u32) -> World {
    let market = world.markets.iter().next().unwrap();
    let rail = rail(&world.reader, &world.clock, market, OPERATOR);
    let mut config = worker_config(&world.setup, market, OPERATOR);
    config.rehearse = false;
    config.attempts = attempts;
    let (store, clock) = (world.store.clone(), world.clock.clone());
    world.worker = Worker::new(store, rail, clock, config, world.work.clone());
    world
}

/// Lets the payer's first settlement fail for want of money, which it then has again.
async fn failed_once(world: &mut World) {
    let address = DEV_ACCOUNTS[PAYER].address;
    let all = world.balance(address).await;
    world.leave(PAYER, Amount::ZERO).await;
    world.tick().await;
    world.chain.mine().await;
    let back = [U256::from_be_slice(address.as_slice()), all.get()];
    world
        .token_send(6, "transfer(address,uint256)", &back)
        .await;
    world.chain.mine_blocks(3).await;
}

/// A payment of 20 dollars of each kind that anybody can bring to the chain.
async fn exact(world: &World, eip3009: bool) -> Authorization {
    if eip3009 {
        world.transfer(PAYER, dollars(20), 7).await
    } else {
        world.permit2_exact(PAYER, dollars(20), 7).await
    }
}

/// Somebody brings a payment to the chain, by this transaction.
async fn brought_by_a_stranger(world: &World, signed: &Authorization) -> B256 {
    let call = match signed {
        Authorization::Exact(Exact::Eip3009(signed)) => {
            tollgate_bsc::transfer_with_authorization(signed)
        }
        Authorization::Exact(Exact::Permit2(signed)) => tollgate_bsc::exact_settle(signed),
        other => panic!("{other:?}"),
    };
    let hash = world.send(3, call).await;
    world.chain.mine().await;
    hash
}

#[tokio::test]
async fn a_nonce_that_is_used_in_a_block_that_is_not_final_loses_nothing() {
    let mut world = unrehearsed(3).await;
    let signed = world.once(PAYER, dollars(90), 1).await;
    let offer = world.metered(dollars(9));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    failed_once(&mut world).await;
    let words = [U256::ZERO, U256::from(2)];
    let call = "invalidateUnorderedNonces(uint256,uint256)";
    world.contract_send(PAYER, PERMIT2, call, &words).await;
    assert_eq!(world.tick().await.concluded, 1);
    assert_ne!(world.state(id).await, PaymentState::Lost);
    world.chain.reorg(1).await;
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn who_has_paid_by_a_strangers_transaction_that_is_not_final_yet_loses_no_charge() {
    for eip3009 in [true, false] {
        let mut world = unrehearsed(1).await;
        let signed = exact(&world, eip3009).await;
        let fixed = world.offer(Pricing::Fixed(dollars(20)));
        let id = world.pay(&fixed, &signed, dollars(20)).await;
        // The only attempt fails, for another reason.
        failed_once(&mut world).await;
        brought_by_a_stranger(&world, &signed).await;
        assert_eq!(world.tick().await.concluded, 1);
        assert_ne!(world.state(id).await, PaymentState::Lost, "{eip3009}");
        world.settle().await;
        assert_eq!(world.state(id).await, PaymentState::Final, "{eip3009}");
        assert_eq!(world.received().await, dollars(20));
        world.balanced().await;
    }
}

#[tokio::test]
async fn endpoints_that_do_not_agree_on_who_has_paid_lose_no_charge() {
    for eip3009 in [true, false] {
        let mut world = world().await;
        // Two endpoints that must agree.
        let url = world.chain.rpc_url();
        let config = ChainConfig {
            agreement: 2,
            ..ChainConfig::new(ChainId::DEV, [url.clone(), url])
        };
        world.reader = Chain::connect(config).await.unwrap();
        let mut world = with_unrehearsed(world, 1);
        let signed = exact(&world, eip3009).await;
        let fixed = world.offer(Pricing::Fixed(dollars(20)));
        let id = world.pay(&fixed, &signed, dollars(20)).await;
        failed_once(&mut world).await;
        let hash = brought_by_a_stranger(&world, &signed).await;
        world.chain.mine_blocks(6).await;
        // Our own transaction is the same to both; of the stranger's one says that it is in another block.
        let mut other = world.chain.receipt(hash);
        other["blockHash"] = json!(B256::repeat_byte(7));
        let (faults, method) = (world.chain.faults(), "eth_getTransactionReceipt");
        faults.next(method, 2, Fault::Repeat);
        faults.next(method, 1, Fault::Forge(other));
        assert_eq!(world.tick().await.concluded, 1);
        assert_ne!(world.state(id).await, PaymentState::Lost, "{eip3009}");
        world.settle().await;
        assert_eq!(world.state(id).await, PaymentState::Final, "{eip3009}");
        assert_eq!(world.received().await, dollars(20));
        world.balanced().await;
    }
}

#[tokio::test]
async fn a_nonce_that_is_used_in_a_final_block_loses_its_charge_at_once() {
    let mut world = unrehearsed(3).await;
    let signed = world.once(PAYER, dollars(90), 1).await;
    let offer = world.metered(dollars(9));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    let words = [U256::ZERO, U256::from(2)];
    let call = "invalidateUnorderedNonces(uint256,uint256)";
    world.contract_send(PAYER, PERMIT2, call, &words).await;
    world.tick().await;
    world.chain.mine_blocks(6).await;
    assert_eq!(world.tick().await.concluded, 1);
    assert_eq!(world.state(id).await, PaymentState::Lost);
}

#[tokio::test]
async fn that_a_nonce_is_used_up_is_found_out_without_gas() {
    let mut world = world().await;
    let signed = world.once(PAYER, dollars(90), 1).await;
    let offer = world.metered(dollars(9));
    let id = world.pay(&offer, &signed, dollars(5)).await;
    let words = [U256::ZERO, U256::from(2)];
    let call = "invalidateUnorderedNonces(uint256,uint256)";
    world.chain.freeze_finality(true);
    world.contract_send(PAYER, PERMIT2, call, &words).await;
    // Not before it is final, however often it was looked at by then.
    for _ in 0..5 {
        world.tick().await;
        world.pass(60).await;
    }
    assert_ne!(world.state(id).await, PaymentState::Lost);
    world.chain.freeze_finality(false);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Lost);
    assert_eq!(world.sent().await, 0);
}
