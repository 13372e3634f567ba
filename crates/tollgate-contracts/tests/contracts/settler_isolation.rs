//! An item that fails, however it does, keeps no other from being settled.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall as _;
use tollgate_contracts::abi::Settler;
use tollgate_contracts::abi::Settler::{Charged, Failed, Pulled, Skipped};
use tollgate_contracts::addresses;
use tollgate_contracts::settler::Items;

use crate::common::artifact::{Caller, HostileOwner, HostileToken, runtime};
use crate::common::sign::{eip3009, once, permit2_exact, permitted_interval};
use crate::common::*;
use HostileToken::Mode;

const HOSTILE: Address = Address::repeat_byte(0x66);

/// A world with a hostile token that payer 0 has and allows, and an honest one that payer 1 does.
fn hostile(mode: Mode) -> World {
    let mut world = World::new();
    world.place_code(HOSTILE, runtime("HostileToken"));
    let victim = payer(0).address();
    world
        .send(
            STRANGER,
            HOSTILE,
            &HostileToken::mintCall {
                to: victim,
                value: u(1000),
            },
        )
        .expect_ok();
    for spender in [world.settler, addresses::PERMIT2] {
        world.approve(HOSTILE, victim, spender, u(1000));
        world.approve(USD1, payer(1).address(), spender, u(1000));
    }
    behave(&mut world, mode, Address::ZERO, Bytes::new());
    world
}

fn behave(world: &mut World, mode: Mode, target: Address, payload: Bytes) {
    world
        .send(
            STRANGER,
            HOSTILE,
            &HostileToken::setCall {
                mode,
                target,
                payload,
            },
        )
        .expect_ok();
}

/// A hostile item of each kind, each before an honest one.
fn all_kinds(world: &World) -> Batch {
    let (bad, good) = (payer(0), payer(1));
    Batch {
        allowances: vec![
            interval(HOSTILE, bad.address(), U256::ZERO, u(10)),
            interval(USD1, good.address(), U256::ZERO, u(1)),
        ],
        onces: vec![
            once(world, &bad, HOSTILE, u(10), u(10), 1),
            once(world, &good, USD1, u(2), u(2), 1),
        ],
        exacts: vec![
            eip3009(world, &bad, HOSTILE, u(10), 2),
            eip3009(world, &good, USD1, u(4), 2),
        ],
        permit2_exacts: vec![
            permit2_exact(world, &bad, HOSTILE, u(10), 3),
            permit2_exact(world, &good, USD1, u(8), 3),
        ],
    }
}

#[track_caller]
fn only_the_honest_are_settled(mut world: World) {
    let done = world.settle(all_kinds(&world)).expect_ok();
    let failed: Vec<u8> = done
        .events::<Failed>(world.settler)
        .into_iter()
        .map(|event| event.kind)
        .collect();
    assert_eq!(failed, [0, 1, 2, 3]);
    assert!(
        done.events::<Failed>(world.settler)
            .iter()
            .all(|event| event.token == HOSTILE)
    );
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
    assert_eq!(done.events::<Pulled>(world.settler).len(), 3);
    assert_eq!(world.balance(USD1, TREASURY), u(1));
    assert_eq!(world.balance(USD1, world.settler), u(14));
    assert_eq!(world.charged(HOSTILE, payer(0).address()), U256::ZERO);
}

#[test]
fn a_token_that_burns_all_gas_costs_its_item_alone() {
    only_the_honest_are_settled(hostile(Mode::BurnGas));
}

#[test]
fn a_token_that_returns_a_bomb_costs_its_item_alone() {
    let mut world = hostile(Mode::ReturnBomb);
    let done = world.settle(all_kinds(&world)).expect_ok();
    // 200,000 bytes of zeros: for the transfers by the Settler and Permit2 a refusal; for EIP-3009, whose function
    // answers nothing, no more than a transfer that did not happen.
    assert_eq!(done.events::<Failed>(world.settler).len(), 4);
    assert_eq!(world.balance(USD1, world.settler), u(14));
}

#[test]
fn a_token_that_reverts_with_a_bomb_costs_its_item_alone() {
    only_the_honest_are_settled(hostile(Mode::RevertBomb));
}

#[test]
fn a_token_whose_balance_is_a_bomb_costs_its_item_alone() {
    only_the_honest_are_settled(hostile(Mode::BalanceBomb));
}

#[test]
fn a_token_that_answers_false_has_moved_nothing() {
    only_the_honest_are_settled(hostile(Mode::ReturnFalse));
}

#[test]
fn a_token_that_answers_true_without_moving_anything_is_not_believed() {
    only_the_honest_are_settled(hostile(Mode::LieTrue));
}

#[test]
fn a_token_that_takes_a_fee_is_not_settled() {
    let mut world = hostile(Mode::Fee);
    let owner = payer(0).address();
    let done = world
        .settle(Batch::allowances([interval(
            HOSTILE,
            owner,
            U256::ZERO,
            u(100),
        )]))
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 1);
    assert_eq!(world.balance(HOSTILE, owner), u(1000));
    let inner = Settler::runAllowanceCall {
        item: interval(HOSTILE, owner, U256::ZERO, u(100)),
    };
    let why: Settler::MovedWrongAmount = world
        .simulate(world.settler, world.settler, &inner)
        .expect_revert();
    assert_eq!(
        (why.expected, why.before, why.afterwards),
        (u(100), U256::ZERO, u(99))
    );
}

#[test]
fn a_token_that_answers_nothing_is_settled_and_one_that_answers_two_is_not() {
    let owner = payer(0).address();
    for (mode, charged) in [
        (Mode::Honest, 1),
        (Mode::ReturnNothing, 1),
        (Mode::ReturnTwo, 0),
    ] {
        let mut world = hostile(mode);
        let done = world
            .settle(Batch::allowances([interval(
                HOSTILE,
                owner,
                U256::ZERO,
                u(100),
            )]))
            .expect_ok();
        assert_eq!(done.events::<Charged>(world.settler).len(), charged);
        assert_eq!(world.balance(HOSTILE, TREASURY), u(100 * charged));
    }
}

#[test]
fn a_token_that_enters_again_moves_nothing_more() {
    // As bad as can be: the token itself is an operator.
    let owner = payer(0).address();
    let victim = payer(1).address();
    let inside = |world: &World| -> Vec<Bytes> {
        let more = Batch::allowances([interval(USD1, victim, U256::ZERO, u(50))]).call();
        let same = Batch::allowances([interval(HOSTILE, owner, U256::ZERO, u(10))]).call();
        vec![
            more.abi_encode().into(),
            same.abi_encode().into(),
            Settler::sweepCall { token: USD1 }.abi_encode().into(),
            Settler::runAllowanceCall {
                item: interval(USD1, victim, U256::ZERO, u(50)),
            }
            .abi_encode()
            .into(),
            Settler::runOnceCall {
                item: once(world, &payer(1), USD1, u(5), u(5), 1),
            }
            .abi_encode()
            .into(),
        ]
    };
    for payload in inside(&World::new()) {
        let mut world = hostile(Mode::Honest);
        world
            .settle(Batch::exacts([eip3009(&world, &payer(2), USD1, u(7), 1)]))
            .expect_ok();
        world
            .send(
                ADMIN,
                world.settler,
                &Settler::setOperatorCall {
                    operator: HOSTILE,
                    allowed: true,
                },
            )
            .expect_ok();
        let target = world.settler;
        behave(&mut world, Mode::Reenter, target, payload);
        let done = world
            .settle(Batch::allowances([interval(
                HOSTILE,
                owner,
                U256::ZERO,
                u(10),
            )]))
            .expect_ok();
        assert!(!world.view(HOSTILE, &HostileToken::reentrySucceededCall {}));
        assert_eq!(
            done.events::<Charged>(world.settler).len(),
            1,
            "its own item is honest after all"
        );
        assert_eq!(world.balance(USD1, victim), u(FORTUNE));
        assert_eq!(
            world.balance(USD1, world.settler),
            u(7),
            "nothing was swept meanwhile"
        );
        assert_eq!(world.balance(HOSTILE, TREASURY), u(10));
    }
}

#[test]
fn entering_again_by_settle_or_sweep_is_told_so() {
    let mut world = hostile(Mode::Honest);
    let target = world.settler;
    let payload = Settler::sweepCall { token: USD1 }.abi_encode().into();
    behave(&mut world, Mode::Reenter, target, payload);
    let item = interval(HOSTILE, payer(0).address(), U256::ZERO, u(10));
    world.settle(Batch::allowances([item])).expect_ok();
    let answer = world.view(HOSTILE, &HostileToken::reentryAnswerCall {});
    assert_eq!(
        answer,
        <Settler::Reentered as alloy_sol_types::SolError>::SELECTOR
    );
}

#[test]
fn after_a_reentered_batch_the_next_one_is_open_again() {
    let mut world = hostile(Mode::BurnGas);
    world.settle(all_kinds(&world)).expect_ok();
    let owner = payer(1).address();
    let done = world
        .settle(Batch::allowances([interval(USD1, owner, u(1), u(2))]))
        .expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
}

#[test]
fn a_permit_that_burns_all_gas_leaves_enough_for_the_transfer() {
    let mut world = hostile(Mode::Honest);
    let key = payer(0);
    world
        .send(
            STRANGER,
            HOSTILE,
            &HostileToken::setBurnOnPermitCall { burn: true },
        )
        .expect_ok();
    let item = permitted_interval(&world, &key, HOSTILE, U256::ZERO, u(10), (u(100), 0));
    let done = world.settle(Batch::allowances([item])).expect_ok();
    assert_eq!(done.events::<Charged>(world.settler).len(), 1);
}

#[test]
fn an_owner_with_code_that_burns_gas_or_bombs_costs_its_item_alone() {
    for mode in [
        HostileOwner::Mode::BurnGas,
        HostileOwner::Mode::RevertBomb,
        HostileOwner::Mode::No,
    ] {
        let mut world = hostile(Mode::Honest);
        let key = payer(0);
        world.approve(USD1, key.address(), addresses::PERMIT2, U256::MAX);
        let delegate = Address::repeat_byte(0xde);
        world.place_code(delegate, runtime("HostileOwner"));
        world.delegate(key.address(), delegate);
        world
            .send(STRANGER, key.address(), &HostileOwner::setCall { mode })
            .expect_ok();
        let batch = Batch {
            onces: vec![
                once(&world, &key, USD1, u(5), u(5), 1),
                once(&world, &payer(1), USD1, u(7), u(7), 1),
            ],
            permit2_exacts: vec![
                permit2_exact(&world, &key, USD1, u(5), 2),
                permit2_exact(&world, &payer(1), USD1, u(9), 2),
            ],
            ..Batch::default()
        };
        let done = world.settle(batch).expect_ok();
        assert_eq!(done.events::<Failed>(world.settler).len(), 2);
        assert_eq!(world.balance(USD1, world.settler), u(16));
    }
}

#[test]
fn an_owner_with_code_who_says_yes_is_settled() {
    let mut world = hostile(Mode::Honest);
    let key = payer(0);
    world.approve(USD1, key.address(), addresses::PERMIT2, U256::MAX);
    let delegate = Address::repeat_byte(0xde);
    world.place_code(delegate, runtime("HostileOwner"));
    world.delegate(key.address(), delegate);
    let done = world
        .settle(Batch::onces([once(&world, &key, USD1, u(5), u(5), 1)]))
        .expect_ok();
    assert_eq!(done.events::<Pulled>(world.settler).len(), 1);
}

#[test]
fn fifty_gas_burners_fit_one_transaction_and_leave_the_honest_one_settled() {
    let mut world = hostile(Mode::BurnGas);
    let mut items: Vec<_> = (0..49)
        .map(|n| once(&world, &payer(0), HOSTILE, u(10), u(10), n))
        .collect();
    items.push(once(&world, &payer(1), USD1, u(7), u(7), 1));
    let batch = Batch::onces(items);
    let gas = Items {
        onces: 50,
        ..Items::default()
    }
    .transaction_gas(&batch.clone().call().abi_encode());
    assert!(gas <= TX_GAS, "{gas}");
    let done = world
        .send_gas(OPERATOR, world.settler, &batch.call(), gas)
        .expect_ok();
    assert_eq!(done.events::<Failed>(world.settler).len(), 49);
    assert_eq!(world.balance(USD1, world.settler), u(7));
}

#[test]
fn a_contract_as_operator_settles_too() {
    let mut world = World::new();
    let caller = Address::repeat_byte(0xca);
    world.place_code(caller, runtime("Caller"));
    world
        .send(
            ADMIN,
            world.settler,
            &Settler::setOperatorCall {
                operator: caller,
                allowed: true,
            },
        )
        .expect_ok();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    let data = Batch::allowances([interval(USD1, owner, U256::ZERO, u(5))])
        .call()
        .abi_encode()
        .into();
    let target = world.settler;
    let done = world
        .send(STRANGER, caller, &Caller::passCall { target, data })
        .expect_ok();
    assert_eq!(done.events::<Charged>(target).len(), 1);
    assert!(done.events::<Skipped>(target).is_empty());
}

#[test]
fn one_transaction_can_settle_and_then_sweep() {
    let mut world = World::new();
    let caller = Address::repeat_byte(0xca);
    world.place_code(caller, runtime("Caller"));
    let allow = Settler::setOperatorCall {
        operator: caller,
        allowed: true,
    };
    world.send(ADMIN, world.settler, &allow).expect_ok();
    let settle = Batch::exacts([eip3009(&world, &payer(0), USD1, u(5), 1)]).call();
    let both = Caller::passTwiceCall {
        target: world.settler,
        one: settle.abi_encode().into(),
        two: Settler::sweepCall { token: USD1 }.abi_encode().into(),
    };
    world.send(STRANGER, caller, &both).expect_ok();
    assert_eq!(world.balance(USD1, TREASURY), u(5));
}
