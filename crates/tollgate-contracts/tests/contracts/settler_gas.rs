//! Gas: what is asked for, what an item may take, and what it does take.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use tollgate_contracts::abi::Settler::{Charged, Failed};
use tollgate_contracts::abi::{IErc20, Settler};
use tollgate_contracts::settler::{self, Items};
use tollgate_contracts::{addresses, bytecode};

use crate::common::artifact::creation;
use crate::common::sign::{eip3009, once, permit2_exact, permitted_interval};
use crate::common::*;

#[test]
fn with_too_little_gas_all_reverts_before_anything_is_moved() {
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, u(100));
    let call = Batch::allowances((0..10).map(|n| interval(USD1, owner, u(n), u(n + 1)))).call();
    let items = Items {
        allowances: 10,
        ..Items::default()
    };
    let enough = items.transaction_gas(&call.abi_encode());
    let before = world.clone();
    world
        .send_gas(OPERATOR, world.settler, &call, enough)
        .expect_ok();
    // The limit is tight: what is far above the need of these honest items is refused.
    let mut world = before;
    let refused: Settler::OutOfGasForItems = world
        .send_gas(OPERATOR, world.settler, &call, enough - 20_000)
        .expect_revert();
    assert_eq!(refused.needed, u(items.gas()));
    assert!(refused.left < refused.needed);
    assert_eq!(world.charged(USD1, owner), U256::ZERO);
}

#[test]
fn no_gas_limit_makes_an_honest_item_fail() {
    // Whoever sends the transaction must not be able to choose which items fail, by the gas they send.
    let owner = payer(0).address();
    let mut settled = 0;
    for gas in (60_000..700_000).step_by(7_919) {
        let mut world = World::new();
        world.approve(USD1, owner, world.settler, u(100));
        let call = Batch::allowances([
            interval(USD1, owner, U256::ZERO, u(1)),
            interval(USD1, owner, u(1), u(2)),
        ]);
        let done = world.send_gas(OPERATOR, world.settler, &call.call(), gas);
        if done.ok {
            settled += 1;
            assert_eq!(
                done.events::<Charged>(world.settler).len(),
                2,
                "with {gas} gas"
            );
            assert!(done.events::<Failed>(world.settler).is_empty());
        }
    }
    assert!(settled > 10);
}

#[test]
fn the_memory_of_a_batch_does_not_make_its_later_items_dearer() {
    let mut world = World::new();
    for n in 0..10 {
        world.approve(USDT, payer(n).address(), addresses::PERMIT2, U256::MAX);
    }
    let warm = Batch::onces((0..10).map(|n| once(&world, &payer(n), USDT, u(5), u(5), 1)));
    world.settle(warm).expect_ok();
    let mut cost = |count: u64| {
        let items: Vec<_> = (0..count)
            .map(|n| once(&world, &payer(n % 10), USDT, u(5), u(5), 2 + n))
            .collect();
        world
            .simulate(OPERATOR, world.settler, &Batch::onces(items).call())
            .expect_ok()
            .gas
    };
    let (ten, twenty, forty) = (cost(10), cost(20), cost(40));
    let (early, late) = ((twenty - ten) / 10, (forty - twenty) / 20);
    assert!(
        late <= early + 200,
        "an item costs {early} at first and {late} later"
    );
}

/// USD1 as it is on BSC, behind an EIP-1967 proxy.
fn proxied(world: &mut World) -> Address {
    let implementation = Address::repeat_byte(0x1a);
    world.place(implementation, &bytecode::TEST_USD1);
    let init = [
        creation("Erc1967Proxy"),
        implementation.into_word().to_vec(),
    ]
    .concat();
    let token = world.deploy(&init.into());
    world.store(
        token,
        U256::from(tollgate_contracts::slots::usd1::ADMIN_AND_PAUSED),
        TOKEN_ADMIN.into_word().into(),
    );
    for n in 0..10 {
        let to = payer(n).address();
        world
            .send(
                TOKEN_ADMIN,
                token,
                &tollgate_contracts::abi::TestUsd1::mintCall {
                    to,
                    value: u(FORTUNE),
                },
            )
            .expect_ok();
        world.approve(token, to, addresses::PERMIT2, U256::MAX);
    }
    token
}

/// The gas of one item's inner call, everything cold, without the 21,000 and the calldata of the transaction around it.
fn inner_gas<C: alloy_sol_types::SolCall>(world: &mut World, call: &C) -> u64 {
    let data = call.abi_encode();
    let calldata: u64 = data
        .iter()
        .map(|byte| if *byte == 0 { 4 } else { 16 })
        .sum();
    let outcome = world
        .simulate(world.settler, world.settler, call)
        .expect_ok();
    outcome.gas - 21_000 - calldata
}

#[test]
fn a_usd1_like_token_behind_a_proxy_fits_each_cap_with_half_to_spare() {
    let mut world = World::new();
    let token = proxied(&mut world);
    let key = payer(0);
    let with_permit = permitted_interval(&world, &key, token, U256::ZERO, u(5), (u(100), 0));
    let gas = inner_gas(&mut world, &Settler::runAllowanceCall { item: with_permit });
    report("allowance with permit, cold, behind a proxy", gas);
    assert!(gas * 3 / 2 < settler::GAS_ALLOWANCE + settler::GAS_PERMIT);

    let allowed = payer(1).address();
    world.approve(token, allowed, world.settler, u(100));
    let item = interval(token, allowed, U256::ZERO, u(5));
    let gas = inner_gas(&mut world, &Settler::runAllowanceCall { item });
    report("allowance, cold, behind a proxy", gas);
    assert!(gas * 3 / 2 < settler::GAS_ALLOWANCE);

    let item = once(&world, &key, token, u(5), u(5), 1);
    let gas = inner_gas(&mut world, &Settler::runOnceCall { item });
    report("once, cold, behind a proxy", gas);
    assert!(gas * 3 / 2 < settler::GAS_ONCE);

    let item = eip3009(&world, &key, token, u(5), 1);
    // The test token behind the proxy signs by its own address, the proxy's.
    let gas = inner_gas(&mut world, &Settler::runEip3009Call { item });
    report("EIP-3009, cold, behind a proxy", gas);
    assert!(gas * 3 / 2 < settler::GAS_EIP3009);

    let item = permit2_exact(&world, &key, token, u(5), 1);
    let gas = inner_gas(&mut world, &Settler::runPermit2ExactCall { item });
    report("Permit2 exact, cold, behind a proxy", gas);
    assert!(gas * 3 / 2 < settler::GAS_PERMIT2_EXACT);
}

#[expect(
    clippy::print_stdout,
    reason = "shown with --nocapture: figures for people"
)]
fn report(what: &str, gas: u64) {
    println!("gas {gas:>9}  {what}");
}

#[test]
fn gas_of_settlements_by_kind_and_number() {
    for (name, token) in [("USD1", USD1), ("USDT", USDT)] {
        for count in [1_u64, 5, 10] {
            let mut world = World::new();
            for n in 0..10 {
                world.approve(token, payer(n).address(), world.settler, U256::MAX);
                world.approve(token, payer(n).address(), addresses::PERMIT2, U256::MAX);
            }
            // The treasury and the Settler have had some before.
            let to = world.settler;
            for to in [to, TREASURY] {
                world
                    .send(
                        payer(9).address(),
                        token,
                        &IErc20::transferCall { to, value: u(1) },
                    )
                    .expect_ok();
            }
            let first: Vec<_> = (0..count)
                .map(|n| interval(token, payer(n).address(), U256::ZERO, u(5)))
                .collect();
            let gas = world.settle(Batch::allowances(first)).expect_ok().gas;
            report(
                &format!("a payment, {count} first intervals, {name}"),
                gas / count,
            );
            let later: Vec<_> = (0..count)
                .map(|n| interval(token, payer(n).address(), u(5), u(9)))
                .collect();
            let gas = world.settle(Batch::allowances(later)).expect_ok().gas;
            report(
                &format!("a payment, {count} later intervals, {name}"),
                gas / count,
            );
            let onces: Vec<_> = (0..count)
                .map(|n| once(&world, &payer(n), token, u(5), u(5), 1))
                .collect();
            let gas = world.settle(Batch::onces(onces)).expect_ok().gas;
            report(
                &format!("a payment, {count} once, new word, {name}"),
                gas / count,
            );
            let onces: Vec<_> = (0..count)
                .map(|n| once(&world, &payer(n), token, u(5), u(5), 2))
                .collect();
            let gas = world.settle(Batch::onces(onces)).expect_ok().gas;
            report(
                &format!("a payment, {count} once, same word, {name}"),
                gas / count,
            );
            let exacts: Vec<_> = (0..count)
                .map(|n| permit2_exact(&world, &payer(n), token, u(5), 3))
                .collect();
            let gas = world.settle(Batch::permit2_exacts(exacts)).expect_ok().gas;
            report(
                &format!("a payment, {count} Permit2 exact, same word, {name}"),
                gas / count,
            );
            if token == USD1 {
                let exacts: Vec<_> = (0..count)
                    .map(|n| eip3009(&world, &payer(n), token, u(5), 1))
                    .collect();
                let gas = world.settle(Batch::exacts(exacts)).expect_ok().gas;
                report(&format!("a payment, {count} EIP-3009, {name}"), gas / count);
            }
        }
    }
    for count in [1_u64, 5, 10] {
        let mut world = World::new();
        let to = TREASURY;
        world
            .send(
                payer(9).address(),
                USD1,
                &IErc20::transferCall { to, value: u(1) },
            )
            .expect_ok();
        let items: Vec<_> = (0..count)
            .map(|n| permitted_interval(&world, &payer(n), USD1, U256::ZERO, u(5), (u(100), 0)))
            .collect();
        let gas = world.settle(Batch::allowances(items)).expect_ok().gas;
        report(
            &format!("a payment, {count} permits and first intervals, USD1"),
            gas / count,
        );
    }
    let mut world = World::new();
    let owner = payer(0).address();
    world.approve(USD1, owner, world.settler, U256::MAX);
    world
        .settle(Batch::allowances([interval(USD1, owner, U256::ZERO, u(1))]))
        .expect_ok();
    let items: Vec<_> = (1..51)
        .map(|n| interval(USD1, owner, u(n), u(n + 1)))
        .collect();
    let gas = world.settle(Batch::allowances(items)).expect_ok().gas;
    report("a payment, 50 intervals of one payer, USD1", gas / 50);
    let init = settler::init_code(LEDGER, TREASURY, ADMIN, &[OPERATOR]);
    let gas = world.try_deploy(&init).tx_gas_used();
    report("to deploy a Settler", gas);
}
