//! Once, EIP-3009 and Permit2 payments, which land in the Settler, and the sweep.

use alloy_primitives::{Address, Bytes, U256};
use tollgate_contracts::abi::Settler::{Failed, Pulled, Swept};
use tollgate_contracts::abi::{IErc20, ISignatureTransfer, Settler, TestUsd1, UptoProxy};
use tollgate_contracts::addresses;
use tollgate_contracts::settler::Kind;

use crate::common::sign::{eip3009, exact_call, once, permit2_exact};
use crate::common::*;

fn ready(tokens: &[Address]) -> World {
    let mut world = World::new();
    for token in tokens {
        for n in 0..10 {
            world.approve(*token, payer(n).address(), addresses::PERMIT2, U256::MAX);
        }
    }
    world
}

#[test]
fn a_once_payment_lands_in_the_settler_with_what_was_used_of_what_was_signed() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    let done = world
        .settle(Batch::onces([once(&world, &key, USDT, u(100), u(30), 5)]))
        .expect_ok();
    assert_eq!(
        done.events::<Pulled>(world.settler),
        [Pulled {
            kind: Kind::Once as u8,
            token: USDT,
            owner: key.address(),
            nonce: u(5),
            amount: u(30)
        }]
    );
    assert_eq!(
        done.events::<IErc20::Transfer>(USDT),
        [IErc20::Transfer {
            from: key.address(),
            to: world.settler,
            value: u(30)
        }]
    );
    assert_eq!(
        done.events::<UptoProxy::Settled>(addresses::UPTO_PROXY)
            .len(),
        1
    );
    assert_eq!(world.balance(USDT, world.settler), u(30));
}

#[test]
fn a_once_payment_is_settled_once() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    let item = once(&world, &key, USDT, u(100), u(30), 5);
    world.settle(Batch::onces([item.clone()])).expect_ok();
    let again = world.settle(Batch::onces([item.clone()])).expect_ok();
    assert_eq!(
        again.events::<Failed>(world.settler),
        [Failed {
            kind: Kind::Once as u8,
            index: U256::ZERO,
            token: USDT,
            owner: key.address()
        }]
    );
    assert_eq!(world.balance(USDT, world.settler), u(30));
    let inner = Settler::runOnceCall { item };
    world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert::<ISignatureTransfer::InvalidNonce>();
}

#[test]
fn a_once_payment_above_what_was_signed_or_of_nothing_fails() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    for (amount, nonce) in [(u(101), 1), (U256::ZERO, 2)] {
        let done = world
            .settle(Batch::onces([once(
                &world,
                &key,
                USDT,
                u(100),
                amount,
                nonce,
            )]))
            .expect_ok();
        assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    }
    assert_eq!(world.balance(USDT, world.settler), U256::ZERO);
}

#[test]
fn a_once_payment_signed_for_another_facilitator_or_recipient_fails() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    let mut elsewhere = world.clone();
    elsewhere.settler = STRANGER;
    let done = world
        .settle(Batch::onces([once(
            &elsewhere,
            &key,
            USDT,
            u(100),
            u(30),
            5,
        )]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
}

#[test]
fn nobody_but_the_settler_can_settle_a_once_payment_signed_for_it() {
    let mut world = ready(&[USDT]);
    let call = crate::common::sign::upto_call(
        &world,
        &payer(0),
        USDT,
        (u(100), u(100)),
        (world.settler, world.settler),
        5,
    );
    for caller in [STRANGER, OPERATOR, ADMIN, payer(0).address()] {
        world
            .send(caller, addresses::UPTO_PROXY, &call)
            .expect_revert::<UptoProxy::UnauthorizedFacilitator>();
    }
}

#[test]
fn an_eip3009_payment_lands_in_the_settler_once() {
    let mut world = ready(&[]);
    let key = payer(0);
    let item = eip3009(&world, &key, USD1, u(30), 77);
    let done = world.settle(Batch::exacts([item.clone()])).expect_ok();
    assert_eq!(
        done.events::<Pulled>(world.settler),
        [Pulled {
            kind: Kind::Eip3009 as u8,
            token: USD1,
            owner: key.address(),
            nonce: u(77),
            amount: u(30)
        }]
    );
    assert_eq!(world.balance(USD1, world.settler), u(30));
    let again = world.settle(Batch::exacts([item.clone()])).expect_ok();
    assert_eq!(again.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, world.settler), u(30));
    let inner = Settler::runEip3009Call { item };
    world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert::<TestUsd1::AuthorizationUsedOrCanceled>();
}

#[test]
fn a_permit2_exact_payment_lands_in_the_settler_once() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    let item = permit2_exact(&world, &key, USDT, u(30), 9);
    let done = world
        .settle(Batch::permit2_exacts([item.clone()]))
        .expect_ok();
    assert_eq!(
        done.events::<Pulled>(world.settler),
        [Pulled {
            kind: Kind::Permit2Exact as u8,
            token: USDT,
            owner: key.address(),
            nonce: u(9),
            amount: u(30)
        }]
    );
    let again = world.settle(Batch::permit2_exacts([item])).expect_ok();
    assert_eq!(again.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(USDT, world.settler), u(30));
}

#[test]
fn an_exact_payment_that_somebody_settled_first_is_in_the_settler_all_the_same() {
    let mut world = ready(&[USDT]);
    let key = payer(0);
    let front = exact_call(&world, &key, USDT, u(30), world.settler, 9);
    world
        .send(STRANGER, addresses::EXACT_PROXY, &front)
        .expect_ok();
    assert_eq!(world.balance(USDT, world.settler), u(30));
    let done = world
        .settle(Batch::permit2_exacts([permit2_exact(
            &world,
            &key,
            USDT,
            u(30),
            9,
        )]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(USDT, world.settler), u(30));
}

#[test]
fn expired_not_yet_valid_and_altered_payments_fail_each_for_itself() {
    let mut world = ready(&[USD1, USDT]);
    let key = payer(0);
    let mut late = once(&world, &key, USDT, u(100), u(30), 1);
    late.deadline = u(NOW - 1);
    let mut early = eip3009(&world, &key, USD1, u(30), 2);
    early.validAfter = u(NOW + 100);
    let mut raised = permit2_exact(&world, &key, USDT, u(30), 3);
    raised.amount = u(31);
    let good = eip3009(&world, &key, USD1, u(11), 4);
    let done = world
        .settle(Batch {
            onces: vec![late],
            exacts: vec![early, good],
            permit2_exacts: vec![raised],
            ..Batch::default()
        })
        .expect_ok();
    let failed: Vec<(u8, U256)> = done
        .events::<Failed>(world.settler)
        .into_iter()
        .map(|event| (event.kind, event.index))
        .collect();
    assert_eq!(
        failed,
        [
            (Kind::Once as u8, U256::ZERO),
            (Kind::Eip3009 as u8, U256::ZERO),
            (Kind::Permit2Exact as u8, U256::ZERO)
        ]
    );
    assert_eq!(world.balance(USD1, world.settler), u(11));
}

#[test]
fn the_index_of_a_failed_item_counts_within_its_own_list() {
    let mut world = ready(&[USDT]);
    let (good, bad) = (payer(0), payer(1));
    let mut broken = once(&world, &bad, USDT, u(100), u(30), 1);
    broken.signature = Bytes::from(vec![1; 65]);
    let mut forged = eip3009(&world, &bad, USD1, u(30), 2);
    forged.v = 29;
    let done = world
        .settle(Batch {
            onces: vec![once(&world, &good, USDT, u(100), u(30), 1), broken],
            exacts: vec![
                eip3009(&world, &good, USD1, u(1), 2),
                eip3009(&world, &good, USD1, u(1), 3),
                forged,
            ],
            ..Batch::default()
        })
        .expect_ok();
    let failed: Vec<(u8, U256)> = done
        .events::<Failed>(world.settler)
        .into_iter()
        .map(|event| (event.kind, event.index))
        .collect();
    assert_eq!(
        failed,
        [(Kind::Once as u8, u(1)), (Kind::Eip3009 as u8, u(2))]
    );
    assert_eq!(done.events::<Pulled>(world.settler).len(), 3);
}

#[test]
fn all_kinds_settle_in_one_batch() {
    let mut world = ready(&[USD1, USDT]);
    world.approve(USD1, payer(3).address(), world.settler, u(1000));
    let batch = Batch {
        allowances: vec![interval(USD1, payer(3).address(), U256::ZERO, u(1))],
        onces: vec![once(&world, &payer(0), USDT, u(100), u(2), 1)],
        exacts: vec![eip3009(&world, &payer(1), USD1, u(4), 2)],
        permit2_exacts: vec![permit2_exact(&world, &payer(2), USDT, u(8), 3)],
    };
    let done = world.settle(batch).expect_ok();
    assert!(done.events::<Failed>(world.settler).is_empty());
    assert_eq!(world.balance(USD1, TREASURY), u(1));
    assert_eq!(world.balance(USD1, world.settler), u(4));
    assert_eq!(world.balance(USDT, world.settler), u(10));
}

#[test]
fn anybody_can_sweep_and_it_all_goes_to_the_treasury() {
    let mut world = ready(&[]);
    world
        .settle(Batch::exacts([eip3009(&world, &payer(0), USD1, u(30), 1)]))
        .expect_ok();
    let done = world
        .send(STRANGER, world.settler, &Settler::sweepCall { token: USD1 })
        .expect_ok();
    assert_eq!(
        done.events::<Swept>(world.settler),
        [Swept {
            token: USD1,
            amount: u(30)
        }]
    );
    assert_eq!(world.balance(USD1, TREASURY), u(30));
    assert_eq!(world.balance(USD1, world.settler), U256::ZERO);
    assert_eq!(world.balance(USD1, STRANGER), U256::ZERO);
    let again = world
        .send(STRANGER, world.settler, &Settler::sweepCall { token: USD1 })
        .expect_ok();
    assert!(again.logs.is_empty(), "nothing there, nothing said");
}

#[test]
fn what_was_sent_to_the_settler_by_mistake_reaches_the_treasury_too() {
    let mut world = ready(&[]);
    let to = world.settler;
    world
        .send(
            payer(0).address(),
            USDT,
            &IErc20::transferCall { to, value: u(9) },
        )
        .expect_ok();
    world
        .send(STRANGER, world.settler, &Settler::sweepCall { token: USDT })
        .expect_ok();
    assert_eq!(world.balance(USDT, TREASURY), u(9));
}

#[test]
fn a_sweep_of_a_paused_token_fails_and_can_be_done_later() {
    let mut world = ready(&[]);
    world
        .settle(Batch::exacts([eip3009(&world, &payer(0), USD1, u(30), 1)]))
        .expect_ok();
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::pauseCall {})
        .expect_ok();
    let sweep = Settler::sweepCall { token: USD1 };
    world
        .send(STRANGER, world.settler, &sweep)
        .expect_revert::<TestUsd1::EnforcedPause>();
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::unpauseCall {})
        .expect_ok();
    world.send(STRANGER, world.settler, &sweep).expect_ok();
    assert_eq!(world.balance(USD1, TREASURY), u(30));
}
