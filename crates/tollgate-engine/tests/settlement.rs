//! Charges become transfers on a real chain, exactly.

mod common;

use common::*;
use tollgate_devchain::{DEV_ACCOUNTS, Orphans};
use tollgate_engine::Policy;
use tollgate_ledger::Store;
use tollgate_payment::{Pricing, port::Hold};
use tollgate_x402::{Amount, B256, ErrorCode, PaymentState, U256};

#[tokio::test]
async fn an_allowance_settles_exactly_what_was_used_to_the_treasury() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let before = world.balance(DEV_ACCOUNTS[PAYER].address).await;
    let id = world.pay(&offer, &signed, dollars(7)).await;
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.settle().await;
    let status = world.status(id).await;
    assert_eq!(status.state, PaymentState::Final);
    assert_eq!(status.charge, Some(dollars(7)));
    assert_eq!(
        status.interval.map(|interval| (interval.from, interval.to)),
        Some((Amount::ZERO, dollars(7)))
    );
    assert_eq!(world.received().await, dollars(7));
    let after = world.balance(DEV_ACCOUNTS[PAYER].address).await;
    assert_eq!(before.checked_sub(after), Some(dollars(7)));
}

#[tokio::test]
async fn one_transfer_pays_many_charges_of_an_allowance() {
    let mut world = World::new(Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(50),
            max_age: 600,
        },
        ..Setup::default()
    })
    .await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.pay(&offer, &signed, dollars(3)).await);
    }
    assert_eq!(world.tick().await.sent, 0, "nothing is ripe");
    world.chain.increase_time(601);
    world.chain.mine();
    world.settle().await;
    let mut transactions = Vec::new();
    for id in ids {
        let status = world.status(id).await;
        assert_eq!(status.state, PaymentState::Final);
        transactions.push(status.transaction);
    }
    transactions.dedup();
    assert_eq!(transactions.len(), 1);
    assert_eq!(world.received().await, dollars(15));
}

#[tokio::test]
async fn once_and_exact_payments_settle_through_the_settler() {
    let mut world = World::new(Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let permit2 = world.permit2_exact(PAYER, dollars(20), 77).await;
    let metered = world.metered(dollars(10));
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let ids = [
        world.pay(&metered, &once, dollars(4)).await,
        world.pay(&fixed, &exact, dollars(20)).await,
        world.pay(&fixed, &permit2, dollars(20)).await,
    ];
    world.settle().await;
    for id in ids {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(44));
}

#[tokio::test]
async fn a_plain_account_settles_every_kind_one_call_a_transaction() {
    let mut world = World::new(Setup {
        settler: false,
        ..Setup::default()
    })
    .await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    let once = world.once(PAYER, dollars(99), 5).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let permit2 = world.permit2_exact(PAYER, dollars(20), 77).await;
    let metered = world.metered(dollars(10));
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let ids = [
        world.pay(&metered, &allowance, dollars(3)).await,
        world.pay(&metered, &allowance, dollars(2)).await,
        world.pay(&metered, &once, dollars(4)).await,
        world.pay(&fixed, &exact, dollars(20)).await,
        world.pay(&fixed, &permit2, dollars(20)).await,
    ];
    world.settle().await;
    for id in ids {
        assert_eq!(world.state(id).await, PaymentState::Final);
    }
    assert_eq!(world.received().await, dollars(49));
}

#[tokio::test]
async fn a_cold_payer_costs_one_rpc_call_and_a_warm_one_none() {
    let world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    world.chain.reset_rpc_counts();
    let first = world.admit(&offer, &signed).await.unwrap();
    assert_eq!(world.chain.rpc_total(), 1);
    let second = world.admit(&offer, &signed).await.unwrap();
    assert_eq!(world.chain.rpc_total(), 1);
    first.release().await.unwrap();
    second.release().await.unwrap();
}

#[tokio::test]
async fn what_can_be_refused_without_the_chain_costs_no_rpc_call() {
    let world = World::new(Setup::default()).await;
    let offer = world.metered(dollars(10));
    world.chain.reset_rpc_counts();
    let good = world.allowance(PAYER, dollars(99), 0).await;
    let stranger = world.allowance(1, dollars(99), 0).await;
    let mut forged = good.clone();
    let tollgate_x402::Authorization::Allowance(permit) = &mut forged else {
        unreachable!()
    };
    permit.signature = *stranger.signature();
    let refused = world.admit(&offer, &forged).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidPermitSignature);
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let underpaid = world.transfer(PAYER, dollars(19), 1).await;
    assert_eq!(
        world.admit(&fixed, &underpaid).await.unwrap_err().code,
        ErrorCode::ValueMismatch
    );
    assert_eq!(world.chain.rpc_total(), 0);
}

#[tokio::test]
async fn one_once_payment_sent_64_times_at_once_is_served_once() {
    let mut world = World::new(Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    let signed = world.once(PAYER, dollars(99), 5).await;
    let offer = world.metered(dollars(10));
    let attempts = (0..64).map(|_| world.admit(&offer, &signed));
    let mut holds = Vec::new();
    for outcome in futures_util::future::join_all(attempts).await {
        match outcome {
            Ok(hold) => holds.push(hold),
            Err(error) => assert_eq!(error.code, ErrorCode::PaymentInFlight),
        }
    }
    assert_eq!(holds.len(), 1);
    holds.pop().unwrap().commit(dollars(6), None).await.unwrap();
    let again = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::DuplicateSettlement);
    let other = world
        .admit_for(&offer, &signed, B256::repeat_byte(1))
        .await
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::DuplicateSettlement);
    world.settle().await;
    assert_eq!(world.received().await, dollars(6));
}

#[tokio::test]
async fn calls_at_once_on_one_allowance_never_overdraw_it() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let attempts = (0..64).map(|_| world.admit(&offer, &signed));
    let outcomes = futures_util::future::join_all(attempts).await;
    let mut sum = Amount::ZERO;
    for outcome in outcomes {
        match outcome {
            Ok(hold) => {
                sum = sum.checked_add(hold.cap()).unwrap();
                let cap = hold.cap();
                hold.commit(cap, None).await.unwrap();
            }
            Err(error) => assert_eq!(error.code, ErrorCode::AllowanceExhausted),
        }
    }
    assert_eq!(sum, dollars(99), "all of it is served, and not a unit more");
    world.settle().await;
    assert_eq!(world.received().await, dollars(99));
}

#[tokio::test]
async fn one_balance_behind_three_kinds_of_payment_serves_itself_once() {
    let mut world = World::new(Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    world.leave(PAYER, dollars(100)).await;
    let allowance = world.allowance(PAYER, dollars(100), 0).await;
    let once = world.once(PAYER, dollars(100), 5).await;
    let exact = world.transfer(PAYER, dollars(100), 9).await;
    let metered = world.metered(dollars(100));
    let fixed = world.offer(Pricing::Fixed(dollars(100)));
    let attempts = [
        world.admit(&metered, &allowance).await,
        world.admit(&metered, &once).await,
        world.admit(&fixed, &exact).await,
    ];
    let mut served = Amount::ZERO;
    for hold in attempts.into_iter().flatten() {
        let cap = hold.cap();
        hold.commit(cap, None).await.unwrap();
        served = served.checked_add(cap).unwrap();
    }
    assert_eq!(served, dollars(100));
    world.settle().await;
    assert_eq!(world.received().await, dollars(100));
}

#[tokio::test]
async fn a_reorganized_settlement_is_sent_again_and_pays_once() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.tick().await;
    world.chain.mine();
    world.tick().await;
    assert_eq!(world.state(id).await, PaymentState::Included);
    world.chain.reorg(1, Orphans::Vanish).unwrap();
    world.tick().await;
    assert_eq!(world.state(id).await, PaymentState::Accepted);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_pays_once() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world
        .chain
        .faults()
        .lose_answers("eth_sendRawTransaction", 3);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn a_dropped_settlement_is_replaced_at_a_higher_price_under_its_nonce() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world
        .pay(&world.metered(dollars(10)), &signed, dollars(5))
        .await;
    world.chain.faults().delay_inclusion(1, 1_000);
    world.tick().await;
    world.chain.increase_time(20);
    world.chain.mine();
    world.tick().await;
    let undecided = world.store.undecided().await.unwrap();
    let sent = &undecided[0].sent;
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].nonce, sent[1].nonce);
    assert!(sent[1].gas_price * 8 >= sent[0].gas_price * 9);
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(5));
}

#[tokio::test]
async fn a_second_permit_sets_the_allowance_and_both_are_paid_in_full() {
    let mut world = World::new(Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(500),
            max_age: 600,
        },
        ..Setup::default()
    })
    .await;
    let offer = world.metered(dollars(50));
    let first = world.allowance(PAYER, dollars(60), 0).await;
    world.pay(&offer, &first, dollars(50)).await;
    let short = world.admit(&offer, &first).await.unwrap();
    assert_eq!(short.cap(), dollars(10), "clamped to what is left");
    short.release().await.unwrap();
    // The permit has to be on the chain before another can be signed.
    world.chain.increase_time(601);
    world.chain.mine();
    world.settle().await;
    let second = world.allowance(PAYER, dollars(60), 1).await;
    world.pay(&offer, &second, dollars(50)).await;
    world.chain.increase_time(601);
    world.chain.mine();
    world.settle().await;
    assert_eq!(world.received().await, dollars(100));
    let row = world.admit(&offer, &second).await.unwrap();
    assert_eq!(row.cap(), dollars(10));
    row.release().await.unwrap();
}

#[tokio::test]
async fn a_charge_that_the_payer_voids_is_lost_and_the_payer_blocked() {
    let mut world = World::new(Setup::default()).await;
    let offer = world.metered(dollars(10));
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let id = world.pay(&offer, &signed, dollars(5)).await;
    world.leave(PAYER, Amount::ZERO).await;
    for _ in 0..40 {
        world.tick().await;
        world.chain.increase_time(10);
        world.chain.mine();
    }
    assert_eq!(world.state(id).await, PaymentState::Lost);
    assert_eq!(world.received().await, Amount::ZERO);
    let refused = world.admit(&offer, &signed).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InsufficientFunds);
}

#[tokio::test]
async fn a_transfer_that_a_stranger_submitted_first_counts_as_paid() {
    let mut world = World::new(Setup::default()).await;
    let signed = world.transfer(PAYER, dollars(20), 9).await;
    let id = world
        .pay(
            &world.offer(Pricing::Fixed(dollars(20))),
            &signed,
            dollars(20),
        )
        .await;
    let tollgate_x402::Authorization::Exact(tollgate_x402::Exact::Eip3009(transfer)) = &signed
    else {
        unreachable!()
    };
    let call = tollgate_bsc::transfer_with_authorization(transfer);
    let transaction = call.into_transaction(tollgate_x402::ChainId::DEV, 0, 50_000_000);
    let signature = wallet(3)
        .sign_hash_sync(&transaction.signing_hash())
        .unwrap();
    world
        .reader
        .submit(&transaction.into_raw(&signature).raw)
        .await;
    world.chain.mine();
    world.settle().await;
    assert_eq!(world.state(id).await, PaymentState::Final);
    assert_eq!(world.received().await, dollars(20));
    let _ = world.till.markets();
}
