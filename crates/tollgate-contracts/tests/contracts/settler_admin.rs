//! Who may do what, and that nobody may do more.

use alloy_primitives::{Address, B256, U256};
use tollgate_contracts::abi::Settler;
use tollgate_contracts::abi::Settler::{
    AdminChanged, AdminOffered, NotAdmin, NotOperator, NotSelf, OperatorSet,
};
use tollgate_contracts::settler;

use crate::common::sign::{eip3009, once, permit2_exact};
use crate::common::*;

#[test]
fn only_an_operator_settles() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    let call = Batch::allowances([interval(USD1, owner, U256::ZERO, u(5))]).call();
    for caller in [STRANGER, ADMIN, TREASURY, owner, world.settler] {
        let refused: NotOperator = world.send(caller, world.settler, &call).expect_revert();
        assert_eq!(refused.caller, caller);
    }
    world.send(OPERATOR, world.settler, &call).expect_ok();
}

#[test]
fn the_admin_adds_and_removes_operators() {
    let mut world = World::new();
    let call = Batch::default().call();
    let add = Settler::setOperatorCall {
        operator: STRANGER,
        allowed: true,
    };
    let done = world.send(ADMIN, world.settler, &add).expect_ok();
    assert_eq!(
        done.events::<OperatorSet>(world.settler),
        [OperatorSet {
            operator: STRANGER,
            allowed: true
        }]
    );
    world.send(STRANGER, world.settler, &call).expect_ok();
    world
        .send(
            ADMIN,
            world.settler,
            &Settler::setOperatorCall {
                operator: STRANGER,
                allowed: false,
            },
        )
        .expect_ok();
    world
        .send(STRANGER, world.settler, &call)
        .expect_revert::<NotOperator>();
    assert!(world.view(world.settler, &Settler::isOperatorCall { who: OPERATOR }));
}

#[test]
fn nobody_but_the_admin_does_what_the_admin_does() {
    let mut world = World::new();
    for caller in [STRANGER, OPERATOR, TREASURY, world.settler] {
        world
            .send(
                caller,
                world.settler,
                &Settler::setOperatorCall {
                    operator: caller,
                    allowed: true,
                },
            )
            .expect_revert::<NotAdmin>();
        world
            .send(
                caller,
                world.settler,
                &Settler::offerAdminCall { to: caller },
            )
            .expect_revert::<NotAdmin>();
        world
            .send(caller, world.settler, &Settler::acceptAdminCall {})
            .expect_revert::<NotAdmin>();
    }
    // Nobody is the zero address; were it so, the offer that is not there would be theirs.
    world
        .send(ADMIN, world.settler, &Settler::acceptAdminCall {})
        .expect_revert::<NotAdmin>();
}

#[test]
fn adminship_goes_over_when_the_successor_accepts_and_not_before() {
    let mut world = World::new();
    let done = world
        .send(
            ADMIN,
            world.settler,
            &Settler::offerAdminCall { to: STRANGER },
        )
        .expect_ok();
    assert_eq!(
        done.events::<AdminOffered>(world.settler),
        [AdminOffered { to: STRANGER }]
    );
    assert_eq!(world.view(world.settler, &Settler::adminCall {}), ADMIN);
    assert_eq!(
        world.view(world.settler, &Settler::offeredAdminCall {}),
        STRANGER
    );
    world
        .send(
            STRANGER,
            world.settler,
            &Settler::setOperatorCall {
                operator: STRANGER,
                allowed: true,
            },
        )
        .expect_revert::<NotAdmin>();
    let done = world
        .send(STRANGER, world.settler, &Settler::acceptAdminCall {})
        .expect_ok();
    assert_eq!(
        done.events::<AdminChanged>(world.settler),
        [AdminChanged {
            from: ADMIN,
            to: STRANGER
        }]
    );
    assert_eq!(world.view(world.settler, &Settler::adminCall {}), STRANGER);
    assert_eq!(
        world.view(world.settler, &Settler::offeredAdminCall {}),
        Address::ZERO
    );
    world
        .send(ADMIN, world.settler, &Settler::offerAdminCall { to: ADMIN })
        .expect_revert::<NotAdmin>();
    world
        .send(STRANGER, world.settler, &Settler::acceptAdminCall {})
        .expect_revert::<NotAdmin>();
}

#[test]
fn an_offer_can_be_taken_back() {
    let mut world = World::new();
    world
        .send(
            ADMIN,
            world.settler,
            &Settler::offerAdminCall { to: STRANGER },
        )
        .expect_ok();
    world
        .send(
            ADMIN,
            world.settler,
            &Settler::offerAdminCall { to: Address::ZERO },
        )
        .expect_ok();
    world
        .send(STRANGER, world.settler, &Settler::acceptAdminCall {})
        .expect_revert::<NotAdmin>();
}

#[test]
fn the_inner_calls_are_for_the_contract_alone() {
    let mut world = World::new();
    let key = payer(0);
    world.approve(USD1, key.address(), world.settler, u(100));
    let allowance = Settler::runAllowanceCall {
        item: interval(USD1, key.address(), U256::ZERO, u(5)),
    };
    let once = Settler::runOnceCall {
        item: once(&world, &key, USD1, u(5), u(5), 1),
    };
    let exact = Settler::runEip3009Call {
        item: eip3009(&world, &key, USD1, u(5), 1),
    };
    let permit2 = Settler::runPermit2ExactCall {
        item: permit2_exact(&world, &key, USD1, u(5), 1),
    };
    for caller in [STRANGER, OPERATOR, ADMIN, TREASURY, key.address()] {
        world
            .send(caller, world.settler, &allowance)
            .expect_revert::<NotSelf>();
        world
            .send(caller, world.settler, &once)
            .expect_revert::<NotSelf>();
        world
            .send(caller, world.settler, &exact)
            .expect_revert::<NotSelf>();
        world
            .send(caller, world.settler, &permit2)
            .expect_revert::<NotSelf>();
    }
}

#[test]
fn the_settler_as_a_token_does_nothing() {
    // An operator's key could name any address as a token; that of the Settler would make it call itself.
    let mut world = World::new();
    let settler = world.settler;
    let mut exact = eip3009(&world, &payer(0), USD1, u(5), 1);
    exact.token = settler;
    let batch = Batch {
        allowances: vec![interval(settler, payer(0).address(), U256::ZERO, u(5))],
        exacts: vec![exact],
        ..Batch::default()
    };
    let done = world.settle(batch).expect_ok();
    assert_eq!(done.events::<Settler::Failed>(settler).len(), 2);
    assert_eq!(done.logs.len(), 2);
}

#[test]
fn fifty_items_are_settled_and_fifty_one_refused() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    let items = |count: u64| (0..count).map(|n| interval(USD1, owner, u(n), u(n + 1)));
    let refused: Settler::TooManyItems = world.settle(Batch::allowances(items(51))).expect_revert();
    assert_eq!(refused.count, u(51));
    // whatever lists they are in
    let mixed = Batch {
        exacts: vec![eip3009(&world, &payer(1), USD1, u(1), 1)],
        ..Batch::allowances(items(50))
    };
    world.settle(mixed).expect_revert::<Settler::TooManyItems>();
    let done = world.settle(Batch::allowances(items(50))).expect_ok();
    assert_eq!(done.events::<Settler::Charged>(world.settler).len(), 50);
    assert_eq!(world.charged(USD1, owner), u(50));
}

#[test]
fn a_settler_without_treasury_admin_or_with_nobody_as_operator_is_not_made() {
    let mut world = World::new();
    for (treasury, admin, operators) in [
        (Address::ZERO, ADMIN, vec![]),
        (TREASURY, Address::ZERO, vec![]),
        (TREASURY, ADMIN, vec![OPERATOR, Address::ZERO]),
    ] {
        let made = world.try_deploy(&settler::init_code(LEDGER, treasury, admin, &operators));
        assert!(!made.is_success());
    }
}

#[test]
fn a_settler_knows_its_ledger_treasury_admin_and_operators() {
    let mut world = World::new();
    let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(2));
    let at = world.deploy(&settler::init_code(
        B256::repeat_byte(9),
        TREASURY,
        ADMIN,
        &[one, two],
    ));
    assert_eq!(
        world.view(at, &Settler::ledgerIdCall {}),
        B256::repeat_byte(9)
    );
    assert_eq!(world.view(at, &Settler::treasuryCall {}), TREASURY);
    assert_eq!(world.view(at, &Settler::adminCall {}), ADMIN);
    for who in [one, two] {
        assert!(world.view(at, &Settler::isOperatorCall { who }));
    }
    assert!(!world.view(at, &Settler::isOperatorCall { who: ADMIN }));
}

#[test]
fn the_settler_takes_no_bnb() {
    // It could not give it back.
    let mut world = World::new();
    let nothing = Settler::sweepCall {
        token: Address::ZERO,
    };
    world
        .send(STRANGER, world.settler, &nothing)
        .expect_revert::<Settler::NoCode>();
    let abi = crate::common::artifact::artifact("Settler");
    for entry in abi["abi"].as_array().unwrap() {
        assert_ne!(entry["stateMutability"], "payable");
        assert_ne!(entry["type"], "receive");
        assert_ne!(entry["type"], "fallback");
    }
}
