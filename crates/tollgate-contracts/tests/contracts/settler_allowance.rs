//! Allowances by intervals of a counter.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use tollgate_contracts::abi::Settler::{Charged, Failed, Skipped};
use tollgate_contracts::abi::{IErc20, IErc2612, Settler, TestUsd1};

use crate::common::sign::{permit_for, permitted_interval};
use crate::common::*;

#[test]
fn an_interval_moves_its_length_from_the_owner_to_the_treasury() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USDT, owner, world.settler, u(DIME));
    let done = world
        .settle(Batch::allowances([interval(USDT, owner, U256::ZERO, u(7))]))
        .expect_ok();
    assert_eq!(
        done.events::<Charged>(world.settler),
        [Charged {
            token: USDT,
            owner,
            from: U256::ZERO,
            to: u(7)
        }]
    );
    assert_eq!(
        done.events::<IErc20::Transfer>(USDT),
        [IErc20::Transfer {
            from: owner,
            to: TREASURY,
            value: u(7)
        }]
    );
    assert_eq!(world.balance(USDT, TREASURY), u(7));
    assert_eq!(world.balance(USDT, owner), u(FORTUNE - 7));
    assert_eq!(world.charged(USDT, owner), u(7));
}

#[test]
fn a_permit_and_its_first_interval_settle_together() {
    let mut world = World::new();
    let key = payer(0);
    let item = permitted_interval(&world, &key, USD1, U256::ZERO, u(5), (u(100), 0));
    let done = world.settle(Batch::allowances([item])).expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(5));
    let left = world.view(
        USD1,
        &IErc20::allowanceCall {
            owner: key.address(),
            spender: world.settler,
        },
    );
    assert_eq!(left, u(95));
}

#[test]
fn a_repeated_settlement_moves_nothing() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(1000));
    let batch = Batch::allowances([interval(USD1, owner, U256::ZERO, u(10))]);
    world.settle(batch.clone()).expect_ok();
    let again = world.settle(batch).expect_ok();
    assert_eq!(
        again.events::<Skipped>(world.settler),
        [Skipped {
            token: USD1,
            owner,
            from: U256::ZERO,
            to: u(10),
            actual: u(10)
        }]
    );
    assert!(again.events::<Charged>(world.settler).is_empty());
    assert!(again.events::<IErc20::Transfer>(USD1).is_empty());
    assert_eq!(world.balance(USD1, TREASURY), u(10));
}

#[test]
fn the_same_interval_twice_in_one_batch_moves_once() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(1000));
    let item = interval(USD1, owner, U256::ZERO, u(10));
    let done = world
        .settle(Batch::allowances([item.clone(), item]))
        .expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
    assert_eq!(done.events::<Skipped>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(10));
}

#[test]
fn an_interval_out_of_order_is_skipped_and_says_where_the_counter_stands() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(1000));
    let done = world
        .settle(Batch::allowances([
            interval(USD1, owner, u(10), u(20)),
            interval(USD1, owner, U256::ZERO, u(10)),
        ]))
        .expect_ok();
    assert_eq!(
        done.events::<Skipped>(world.settler),
        [Skipped {
            token: USD1,
            owner,
            from: u(10),
            to: u(20),
            actual: U256::ZERO
        }]
    );
    assert_eq!(world.charged(USD1, owner), u(10));
    // In order, and in one batch, both go.
    let owner = payer(1).address();
    world.approve(USD1, owner, world.settler, u(1000));
    let done = world
        .settle(Batch::allowances([
            interval(USD1, owner, U256::ZERO, u(10)),
            interval(USD1, owner, u(10), u(20)),
        ]))
        .expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 2);
    assert_eq!(world.charged(USD1, owner), u(20));
}

#[test]
fn an_interval_that_overlaps_what_was_charged_is_skipped_whole() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(1000));
    world
        .settle(Batch::allowances([interval(
            USD1,
            owner,
            U256::ZERO,
            u(10),
        )]))
        .expect_ok();
    let done = world
        .settle(Batch::allowances([interval(USD1, owner, u(5), u(15))]))
        .expect_ok();
    assert_eq!(done.events::<Skipped>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(10));
}

#[test]
fn counters_of_other_tokens_and_owners_are_their_own() {
    let mut world = World::new();
    let (one, two) = (payer(0).address(), payer(1).address());
    for owner in [one, two] {
        world.approve(USD1, owner, world.settler, u(1000));
        world.approve(USDT, owner, world.settler, u(1000));
    }
    let done = world
        .settle(Batch::allowances([
            interval(USD1, one, U256::ZERO, u(1)),
            interval(USDT, one, U256::ZERO, u(2)),
            interval(USD1, two, U256::ZERO, u(4)),
        ]))
        .expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 3);
    assert_eq!(world.charged(USD1, one), u(1));
    assert_eq!(world.charged(USDT, one), u(2));
    assert_eq!(world.charged(USD1, two), u(4));
    assert_eq!(world.charged(USDT, two), U256::ZERO);
}

#[test]
fn after_a_failed_item_the_next_of_the_same_owner_is_skipped_and_others_go_on() {
    let mut world = World::new();
    let (poor, rich) = (payer(0).address(), payer(1).address());
    world.approve(USD1, poor, world.settler, u(5));
    world.approve(USD1, rich, world.settler, u(1000));
    let done = world
        .settle(Batch::allowances([
            interval(USD1, poor, U256::ZERO, u(6)),
            interval(USD1, poor, u(6), u(7)),
            interval(USD1, rich, U256::ZERO, u(9)),
        ]))
        .expect_ok();
    assert_eq!(
        done.events::<Failed>(world.settler),
        [Failed {
            kind: 0,
            index: U256::ZERO,
            token: USD1,
            owner: poor
        }]
    );
    assert_eq!(
        done.events::<Skipped>(world.settler),
        [Skipped {
            token: USD1,
            owner: poor,
            from: u(6),
            to: u(7),
            actual: U256::ZERO
        }]
    );
    assert_eq!(
        world.charged(USD1, poor),
        U256::ZERO,
        "the failed item left its counter alone"
    );
    assert_eq!(world.balance(USD1, TREASURY), u(9));
}

#[test]
fn an_empty_or_backward_interval_fails() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(1000));
    world
        .settle(Batch::allowances([interval(
            USD1,
            owner,
            U256::ZERO,
            u(10),
        )]))
        .expect_ok();
    for to in [u(10), u(9), U256::ZERO] {
        let done = world
            .settle(Batch::allowances([interval(USD1, owner, u(10), to)]))
            .expect_ok();
        assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    }
    assert_eq!(world.charged(USD1, owner), u(10));
    let inner = Settler::runAllowanceCall {
        item: interval(USD1, owner, u(10), u(9)),
    };
    world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert::<Settler::EmptyInterval>();
}

#[test]
fn a_permit_that_somebody_submitted_first_does_no_harm() {
    let mut world = World::new();
    let key = payer(0);
    let item = permitted_interval(&world, &key, USD1, U256::ZERO, u(5), (u(100), 0));
    let p = item.permit.clone();
    let front = IErc2612::permitCall {
        owner: key.address(),
        spender: world.settler,
        value: p.value,
        deadline: p.deadline,
        v: p.v,
        r: p.r,
        s: p.s,
    };
    world.send(STRANGER, USD1, &front).expect_ok();
    world
        .send(STRANGER, USD1, &front)
        .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
    let done = world.settle(Batch::allowances([item])).expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(5));
}

#[test]
fn a_bad_permit_moves_nothing_where_no_allowance_stands() {
    let mut world = World::new();
    let (key, other) = (payer(0), payer(1));
    // signed by another; for another spender; with another nonce
    let permits = [
        permit_for(&world, &other, USD1, world.settler, u(100), 0),
        permit_for(&world, &key, USD1, STRANGER, u(100), 0),
        permit_for(&world, &key, USD1, world.settler, u(100), 1),
    ];
    for permit in permits {
        let item = Settler::AllowanceItem {
            permit,
            ..interval(USD1, key.address(), U256::ZERO, u(5))
        };
        let done = world.settle(Batch::allowances([item])).expect_ok();
        assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    }
    assert_eq!(world.balance(USD1, TREASURY), U256::ZERO);
}

#[test]
fn a_later_permit_sets_the_allowance_and_does_not_add_to_it() {
    let mut world = World::new();
    let key = payer(0);
    let first = permitted_interval(&world, &key, USD1, U256::ZERO, u(40), (u(100), 0));
    let second = permitted_interval(&world, &key, USD1, u(40), u(60), (u(50), 1));
    world.settle(Batch::allowances([first, second])).expect_ok();
    let left = world.view(
        USD1,
        &IErc20::allowanceCall {
            owner: key.address(),
            spender: world.settler,
        },
    );
    assert_eq!(left, u(30));
}

#[test]
fn nobody_is_charged_beyond_the_allowance_or_the_balance() {
    let mut world = World::new();
    let (short, broke) = (payer(0).address(), payer(1).address());
    world.approve(USD1, short, world.settler, u(10));
    world.approve(USD1, broke, world.settler, U256::MAX);
    let done = world
        .settle(Batch::allowances([
            interval(USD1, short, U256::ZERO, u(11)),
            interval(USD1, broke, U256::ZERO, u(FORTUNE + 1)),
        ]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 2);
    assert_eq!(world.balance(USD1, TREASURY), U256::ZERO);
    // and exactly up to them
    let done = world
        .settle(Batch::allowances([
            interval(USD1, short, U256::ZERO, u(10)),
            interval(USD1, broke, U256::ZERO, u(FORTUNE)),
        ]))
        .expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 2);
}

#[test]
fn a_paused_token_fails_its_items_and_no_others() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    world.approve(USDT, owner, world.settler, u(100));
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::pauseCall {})
        .expect_ok();
    let items = [
        interval(USD1, owner, U256::ZERO, u(5)),
        interval(USDT, owner, U256::ZERO, u(6)),
    ];
    let done = world.settle(Batch::allowances(items.clone())).expect_ok();
    assert_eq!(
        done.events::<Failed>(world.settler),
        [Failed {
            kind: 0,
            index: U256::ZERO,
            token: USD1,
            owner
        }]
    );
    assert_eq!(world.balance(USDT, TREASURY), u(6));
    let inner = Settler::runAllowanceCall {
        item: items[0].clone(),
    };
    world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert::<TestUsd1::EnforcedPause>();
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::unpauseCall {})
        .expect_ok();
    world.settle(Batch::allowances(items)).expect_ok();
    assert_eq!(world.balance(USD1, TREASURY), u(5));
}

#[test]
fn a_frozen_payer_fails_alone_and_the_simulated_inner_call_says_why() {
    let mut world = World::new();
    let (frozen, free) = (payer(0).address(), payer(1).address());
    for owner in [frozen, free] {
        world.approve(USD1, owner, world.settler, u(100));
    }
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::freezeCall { account: frozen })
        .expect_ok();
    let done = world
        .settle(Batch::allowances([
            interval(USD1, frozen, U256::ZERO, u(5)),
            interval(USD1, free, U256::ZERO, u(6)),
        ]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(6));
    let inner = Settler::runAllowanceCall {
        item: interval(USD1, frozen, U256::ZERO, u(5)),
    };
    let why: TestUsd1::AccountFrozen = world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert();
    assert_eq!(why.account, frozen);
}

#[test]
fn a_frozen_treasury_fails_every_item_and_loses_nothing() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    world
        .send(
            TOKEN_ADMIN,
            USD1,
            &TestUsd1::freezeCall { account: TREASURY },
        )
        .expect_ok();
    let done = world
        .settle(Batch::allowances([interval(USD1, owner, U256::ZERO, u(5))]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(USD1, owner), u(FORTUNE));
    assert_eq!(world.charged(USD1, owner), U256::ZERO);
}

#[test]
fn an_address_without_code_is_no_token() {
    let mut world = World::new();
    let nothing = Address::repeat_byte(0x77);
    let item = interval(nothing, payer(0).address(), U256::ZERO, u(5));
    let done = world.settle(Batch::allowances([item.clone()])).expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    let inner = Settler::runAllowanceCall { item };
    world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert::<Settler::NoCode>();
}

#[test]
fn the_treasury_cannot_be_charged_into_itself() {
    let mut world = World::new();
    world.endow(TREASURY);
    world.approve(USD1, TREASURY, world.settler, u(100));
    let done = world
        .settle(Batch::allowances([interval(
            USD1,
            TREASURY,
            U256::ZERO,
            u(5),
        )]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.charged(USD1, TREASURY), U256::ZERO);
}

#[test]
fn the_counter_goes_up_to_the_highest_number_and_does_not_wrap() {
    let mut world = World::new();
    let owner = payer(0).address();
    let slot = tollgate_contracts::slots::mapped_twice(
        tollgate_contracts::slots::settler::CHARGED,
        USD1,
        owner,
    );
    let settler = world.settler;
    world.store(settler, slot, U256::MAX - u(5));
    world.approve(USD1, owner, settler, u(100));
    let done = world
        .settle(Batch::allowances([interval(
            USD1,
            owner,
            U256::MAX - u(5),
            u(4),
        )]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    world
        .settle(Batch::allowances([interval(
            USD1,
            owner,
            U256::MAX - u(5),
            U256::MAX,
        )]))
        .expect_ok();
    assert_eq!(world.charged(USD1, owner), U256::MAX);
    assert_eq!(world.balance(USD1, TREASURY), u(5));
    assert_eq!(Settler::chargedCall::SIGNATURE, "charged(address,address)");
}
