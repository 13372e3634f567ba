//! Charges become transfers on a real chain, exactly: the same promises on the embedded chain and on anvil, which has
//! the real Permit2.
//!
//! `cargo test` runs them on the embedded chain and lists those of anvil as ignored; `cargo xtask ci --only settlement`
//! prepares an anvil and runs them on it.

#[expect(dead_code, reason = "this suite uses a part")]
#[path = "../common/mod.rs"]
mod common;

/// Each promise on each chain.
macro_rules! on_both_chains {
    ($($promise:ident,)*) => {
        mod devchain {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::Backend::devchain().await).await;
            })*
        }

        mod anvil {
            $(#[tokio::test]
            #[ignore = "needs an anvil: cargo xtask ci --only settlement"]
            async fn $promise() {
                super::$promise(super::Backend::anvil().await).await;
            })*
        }
    };
}

mod permits;
mod trouble;

use common::*;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_engine::Policy;
use tollgate_payment::{Pricing, port::Hold};
use tollgate_x402::{Amount, B256, ErrorCode, PaymentState, U256};

on_both_chains! {
    an_allowance_settles_exactly_what_was_used_to_the_treasury,
    one_transfer_pays_many_charges_of_an_allowance,
    once_and_exact_payments_settle_through_the_settler,
    a_plain_account_settles_every_kind_one_call_a_transaction,
    a_cold_payer_costs_one_rpc_call_and_a_warm_one_none,
    what_can_be_refused_without_the_chain_costs_no_rpc_call,
    one_once_payment_sent_64_times_at_once_is_served_once,
    calls_at_once_on_one_allowance_never_overdraw_it,
    one_balance_behind_three_kinds_of_payment_serves_itself_once,
    a_transfer_is_settled_at_once_beside_an_allowance_that_waits,
}

async fn an_allowance_settles_exactly_what_was_used_to_the_treasury(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
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

async fn one_transfer_pays_many_charges_of_an_allowance(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            allowances: Policy::Aggregate {
                max_unsettled: dollars(50),
                max_age: 600,
            },
            ..Setup::default()
        },
    )
    .await;
    let signed = world.allowance(PAYER, dollars(99), 0).await;
    let offer = world.metered(dollars(10));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.pay(&offer, &signed, dollars(3)).await);
    }
    assert_eq!(world.tick().await.sent, 0, "nothing is ripe");
    world.pass(601).await;
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

async fn once_and_exact_payments_settle_through_the_settler(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
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

async fn a_plain_account_settles_every_kind_one_call_a_transaction(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            settler: false,
            ..Setup::default()
        },
    )
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

async fn a_cold_payer_costs_one_rpc_call_and_a_warm_one_none(chain: Backend) {
    let world = World::new(chain, Setup::default()).await;
    for payer in [0, 1, 2, 3] {
        world.approve_permit2(payer, U256::MAX).await;
    }
    let (metered, fixed) = (
        world.metered(dollars(10)),
        world.offer(Pricing::Fixed(dollars(10))),
    );
    let allowance = world.allowance(0, dollars(99), 0).await;
    for (offer, signed) in [
        (&metered, [allowance.clone(), allowance]),
        (
            &metered,
            [
                world.once(1, dollars(99), 1).await,
                world.once(1, dollars(99), 2).await,
            ],
        ),
        (
            &fixed,
            [
                world.transfer(2, dollars(10), 1).await,
                world.transfer(2, dollars(10), 2).await,
            ],
        ),
        (
            &fixed,
            [
                world.permit2_exact(3, dollars(10), 1).await,
                world.permit2_exact(3, dollars(10), 2).await,
            ],
        ),
    ] {
        let before = world.calls();
        let first = world.admit(offer, &signed[0]).await.unwrap();
        assert_eq!(world.calls(), before + 1, "{:?}", signed[0].kind());
        let second = world.admit(offer, &signed[1]).await.unwrap();
        assert_eq!(world.calls(), before + 1, "{:?}", signed[1].kind());
        first.release().await.unwrap();
        second.release().await.unwrap();
    }
}

async fn what_can_be_refused_without_the_chain_costs_no_rpc_call(chain: Backend) {
    let world = World::new(chain, Setup::default()).await;
    let offer = world.metered(dollars(10));
    let before = world.calls();
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
    assert_eq!(world.calls(), before);
}

async fn one_once_payment_sent_64_times_at_once_is_served_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
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
    let again = world.admission(&offer, &signed, B256::ZERO).await.unwrap();
    let again = again.replay().expect("it was served");
    assert_eq!(again.status.charge, Some(dollars(6)));
    let other = world
        .admit_for(&offer, &signed, B256::repeat_byte(1))
        .await
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::DuplicateSettlement);
    world.settle().await;
    assert_eq!(world.received().await, dollars(6));
}

async fn calls_at_once_on_one_allowance_never_overdraw_it(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
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

async fn one_balance_behind_three_kinds_of_payment_serves_itself_once(chain: Backend) {
    let mut world = World::new(chain, Setup::default()).await;
    world.approve_permit2(PAYER, U256::MAX).await;
    world.leave(PAYER, dollars(100)).await;
    let allowance = world.allowance(PAYER, dollars(100), 0).await;
    let once = world.once(PAYER, dollars(100), 5).await;
    let exact = world.transfer(PAYER, dollars(100), 9).await;
    let metered = world.metered(dollars(100));
    let fixed = world.offer(Pricing::Fixed(dollars(100)));
    let attempts = futures_util::join!(
        world.admit(&metered, &allowance),
        world.admit(&metered, &once),
        world.admit(&fixed, &exact),
    );
    let attempts = [
        (attempts.0, ErrorCode::InsufficientFunds),
        (attempts.1, ErrorCode::Permit2Balance),
        (attempts.2, ErrorCode::Eip3009Balance),
    ];
    let mut served = 0;
    for (attempt, short) in attempts {
        match attempt {
            Ok(hold) => {
                assert_eq!(hold.cap(), dollars(100));
                hold.commit(dollars(100), None).await.unwrap();
                served += 1;
            }
            Err(error) => assert_eq!(error.code, short),
        }
    }
    assert_eq!(served, 1);
    world.settle().await;
    assert_eq!(world.received().await, dollars(100));
}

async fn a_transfer_is_settled_at_once_beside_an_allowance_that_waits(chain: Backend) {
    let mut world = World::new(
        chain,
        Setup {
            settler: false,
            ..aggregate()
        },
    )
    .await;
    let allowance = world.allowance(PAYER, dollars(99), 0).await;
    world
        .pay(&world.metered(dollars(10)), &allowance, dollars(3))
        .await;
    world.pass(10).await;
    let exact = world.transfer(PAYER, dollars(20), 9).await;
    let fixed = world.offer(Pricing::Fixed(dollars(20)));
    let id = world.pay(&fixed, &exact, dollars(20)).await;
    assert_eq!(world.tick().await.sent, 1);
    for _ in 0..4 {
        world.pass(1).await;
        world.tick().await;
    }
    assert_eq!(world.state(id).await, PaymentState::Final);
}

fn aggregate() -> Setup {
    Setup {
        allowances: Policy::Aggregate {
            max_unsettled: dollars(500),
            max_age: 600,
        },
        ..Setup::default()
    }
}
