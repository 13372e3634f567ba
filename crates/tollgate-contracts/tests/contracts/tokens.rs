//! The test tokens behave like the ones that they stand for.

use alloy_primitives::{Address, B256, U256};
use tollgate_contracts::abi::{IErc20, TestUsd1, TestUsdt};
use tollgate_contracts::tokens::{self, TOKENS};
use tollgate_contracts::{bytecode, slots};

use crate::common::sign::{CancelAuthorization, eip3009, permit_for, sign, usd1_domain, vrs};
use crate::common::*;

fn permit_call(
    world: &World,
    owner: Address,
    permit: tollgate_contracts::abi::Settler::Permit,
) -> TestUsd1::permitCall {
    TestUsd1::permitCall {
        owner,
        spender: world.settler,
        value: permit.value,
        deadline: permit.deadline,
        v: permit.v,
        r: permit.r,
        s: permit.s,
    }
}

fn authorization(
    world: &World,
    to: Address,
    value: u64,
    nonce: u64,
) -> TestUsd1::transferWithAuthorizationCall {
    let item = eip3009(
        &World {
            settler: to,
            ..world.clone()
        },
        &payer(0),
        USD1,
        u(value),
        nonce,
    );
    TestUsd1::transferWithAuthorizationCall {
        from: item.owner,
        to,
        value: item.amount,
        validAfter: item.validAfter,
        validBefore: item.validBefore,
        nonce: item.nonce,
        v: item.v,
        r: item.r,
        s: item.s,
    }
}

/// The other signature that recovers to the same key.
fn malleated(v: u8, s: B256) -> (u8, B256) {
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    (27 + 28 - v, B256::from(order - U256::from_be_bytes(s.0)))
}

#[test]
fn the_allow_list_of_the_development_chain_is_true_of_the_test_tokens() {
    let mut world = World::new();
    for token in TOKENS.iter().filter(|token| token.chain == CHAIN) {
        let at = token.address;
        assert_eq!(world.view(at, &IErc20::symbolCall {}), token.symbol);
        assert_eq!(world.view(at, &IErc20::decimalsCall {}), token.decimals);
        let separator = world.simulate(STRANGER, at, &TestUsd1::DOMAIN_SEPARATORCall {});
        assert_eq!(separator.ok, token.domain.is_some());
        if let Some(domain) = &token.domain {
            assert_eq!(separator.output[..], domain.separator[..]);
            assert_eq!(world.view(at, &IErc20::nameCall {}), domain.name);
        }
        let probe = TestUsd1::authorizationStateCall {
            authorizer: Address::ZERO,
            nonce: B256::ZERO,
        };
        assert_eq!(world.simulate(STRANGER, at, &probe).ok, token.eip3009);
        assert_eq!(
            world.simulate(STRANGER, at, &TestUsd1::pausedCall {}).ok,
            token.freeze_pause
        );
        let nonces = TestUsd1::noncesCall {
            owner: Address::ZERO,
        };
        assert_eq!(world.simulate(STRANGER, at, &nonces).ok, token.permit);
    }
    assert_eq!(tokens::on_chain(CHAIN).count(), 2);
}

#[test]
fn usd1s_version_is_a_number_that_is_not_its_domains_version() {
    let mut world = World::on(56);
    assert_eq!(world.view(USD1, &TestUsd1::versionCall {}), u(2_u64));
    let pinned = tokens::token(56, USD1).unwrap().domain_separator().unwrap();
    assert_eq!(world.view(USD1, &TestUsd1::DOMAIN_SEPARATORCall {}), pinned);
}

#[test]
fn the_separator_follows_the_chain_id() {
    let mut world = World::new();
    let one = world.view(USD1, &TestUsd1::DOMAIN_SEPARATORCall {});
    world.chain = 1;
    assert_ne!(world.view(USD1, &TestUsd1::DOMAIN_SEPARATORCall {}), one);
}

#[test]
fn a_permit_sets_the_allowance_once() {
    let mut world = World::new();
    let key = payer(0);
    let call = permit_call(
        &world,
        key.address(),
        permit_for(&world, &key, USD1, world.settler, u(50), 0),
    );
    let done = world.send(STRANGER, USD1, &call).expect_ok();
    assert_eq!(
        done.events::<IErc20::Approval>(USD1),
        [IErc20::Approval {
            owner: key.address(),
            spender: world.settler,
            value: u(50)
        }]
    );
    assert_eq!(
        world.view(
            USD1,
            &TestUsd1::noncesCall {
                owner: key.address()
            }
        ),
        U256::ONE
    );
    world
        .send(STRANGER, USD1, &call)
        .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
}

#[test]
fn a_permit_expires_after_its_deadline_and_not_at_it() {
    let mut world = World::new();
    let key = payer(0);
    let call = permit_call(
        &world,
        key.address(),
        permit_for(&world, &key, USD1, world.settler, u(50), 0),
    );
    world.now = LATER + 1;
    world
        .send(STRANGER, USD1, &call)
        .expect_revert::<TestUsd1::ERC2612ExpiredSignature>();
    world.now = LATER;
    world.send(STRANGER, USD1, &call).expect_ok();
}

#[test]
fn high_s_and_odd_v_are_refused_in_permits_and_authorizations() {
    let mut world = World::new();
    let key = payer(0);
    let good = permit_call(
        &world,
        key.address(),
        permit_for(&world, &key, USD1, world.settler, u(50), 0),
    );
    let mut high = good.clone();
    (high.v, high.s) = malleated(good.v, good.s);
    world
        .send(STRANGER, USD1, &high)
        .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
    let mut odd = good.clone();
    odd.v -= 27;
    world
        .send(STRANGER, USD1, &odd)
        .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
    world.send(STRANGER, USD1, &good).expect_ok();

    let good = authorization(&world, TREASURY, 5, 1);
    let mut high = good.clone();
    (high.v, high.s) = malleated(good.v, good.s);
    world
        .send(STRANGER, USD1, &high)
        .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
    let mut odd = good.clone();
    odd.v -= 27;
    world
        .send(STRANGER, USD1, &odd)
        .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
    world.send(STRANGER, USD1, &good).expect_ok();
}

#[test]
fn nobody_can_permit_for_the_zero_address() {
    let mut world = World::new();
    let mut permit = permit_for(&world, &payer(0), USD1, world.settler, u(50), 0);
    permit.v = 99;
    let call = permit_call(&world, Address::ZERO, permit);
    world
        .send(STRANGER, USD1, &call)
        .expect_revert::<TestUsd1::ERC2612InvalidSigner>();
}

#[test]
fn an_authorization_moves_what_was_signed_to_whom_it_was_signed_once() {
    let mut world = World::new();
    let good = authorization(&world, TREASURY, 5, 1);
    let mut stolen = good.clone();
    stolen.to = STRANGER;
    world
        .send(STRANGER, USD1, &stolen)
        .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
    let mut raised = good.clone();
    raised.value = u(6);
    world
        .send(STRANGER, USD1, &raised)
        .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
    let done = world.send(STRANGER, USD1, &good).expect_ok();
    assert_eq!(done.events::<TestUsd1::AuthorizationUsed>(USD1).len(), 1);
    assert_eq!(world.balance(USD1, TREASURY), u(5));
    world
        .send(STRANGER, USD1, &good)
        .expect_revert::<TestUsd1::AuthorizationUsedOrCanceled>();
}

#[test]
fn the_times_of_an_authorization_are_exclusive() {
    let mut world = World::new();
    let good = authorization(&world, TREASURY, 5, 1);
    world.now = LATER;
    world
        .send(STRANGER, USD1, &good)
        .expect_revert::<TestUsd1::AuthorizationExpired>();
    let mut early = good.clone();
    early.validAfter = u(NOW);
    world.now = NOW;
    world
        .send(STRANGER, USD1, &early)
        .expect_revert::<TestUsd1::AuthorizationNotYetValid>();
    world.now = LATER - 1;
    world.send(STRANGER, USD1, &good).expect_ok();
}

#[test]
fn an_authorization_can_be_canceled_by_its_author() {
    let mut world = World::new();
    let key = payer(0);
    let good = authorization(&world, TREASURY, 5, 1);
    let nonce = good.nonce;
    let what = CancelAuthorization {
        authorizer: key.address(),
        nonce,
    };
    let forged = vrs(&sign(&payer(1), &usd1_domain(&world, USD1), &what));
    let own = vrs(&sign(&key, &usd1_domain(&world, USD1), &what));
    let cancel = |(v, r, s)| TestUsd1::cancelAuthorizationCall {
        authorizer: key.address(),
        nonce,
        v,
        r,
        s,
    };
    world
        .send(STRANGER, USD1, &cancel(forged))
        .expect_revert::<TestUsd1::InvalidAuthorizationSignature>();
    let done = world.send(STRANGER, USD1, &cancel(own)).expect_ok();
    assert_eq!(
        done.events::<TestUsd1::AuthorizationCanceled>(USD1).len(),
        1
    );
    world
        .send(STRANGER, USD1, &good)
        .expect_revert::<TestUsd1::AuthorizationUsedOrCanceled>();
}

#[test]
fn an_owner_with_code_still_signs_by_its_key() {
    // BSC's tokens recover by ecrecover alone, also where an EIP-7702 delegation stands.
    let mut world = World::new();
    let delegate = Address::repeat_byte(0xde);
    world.place_code(delegate, crate::common::artifact::runtime("FallbackToken"));
    world.delegate(payer(0).address(), delegate);
    world
        .send(
            STRANGER,
            USD1,
            &authorization(&world.clone(), TREASURY, 5, 1),
        )
        .expect_ok();
}

#[test]
fn pause_and_freeze_stop_transfers_and_let_permits_pass() {
    let mut world = World::new();
    let key = payer(0);
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::pauseCall {})
        .expect_ok();
    let transfer = IErc20::transferCall {
        to: TREASURY,
        value: u(1),
    };
    world
        .send(key.address(), USD1, &transfer)
        .expect_revert::<TestUsd1::EnforcedPause>();
    world
        .send(
            STRANGER,
            USD1,
            &authorization(&world.clone(), TREASURY, 5, 1),
        )
        .expect_revert::<TestUsd1::EnforcedPause>();
    let call = permit_call(
        &world,
        key.address(),
        permit_for(&world, &key, USD1, world.settler, u(50), 0),
    );
    world.send(STRANGER, USD1, &call).expect_ok();
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::unpauseCall {})
        .expect_ok();
    for account in [key.address(), TREASURY] {
        world
            .send(TOKEN_ADMIN, USD1, &TestUsd1::freezeCall { account })
            .expect_ok();
        let refused: TestUsd1::AccountFrozen =
            world.send(key.address(), USD1, &transfer).expect_revert();
        assert_eq!(refused.account, account);
        world
            .send(TOKEN_ADMIN, USD1, &TestUsd1::unfreezeCall { account })
            .expect_ok();
    }
    world.send(key.address(), USD1, &transfer).expect_ok();
}

#[test]
fn only_the_admin_mints_pauses_and_freezes() {
    let mut world = World::new();
    let account = payer(0).address();
    for caller in [STRANGER, account] {
        world
            .send(
                caller,
                USD1,
                &TestUsd1::mintCall {
                    to: account,
                    value: u(1),
                },
            )
            .expect_revert::<TestUsd1::NotAdmin>();
        world
            .send(caller, USD1, &TestUsd1::pauseCall {})
            .expect_revert::<TestUsd1::NotAdmin>();
        world
            .send(caller, USD1, &TestUsd1::unpauseCall {})
            .expect_revert::<TestUsd1::NotAdmin>();
        world
            .send(caller, USD1, &TestUsd1::freezeCall { account })
            .expect_revert::<TestUsd1::NotAdmin>();
        world
            .send(caller, USD1, &TestUsd1::unfreezeCall { account })
            .expect_revert::<TestUsd1::NotAdmin>();
        world
            .send(caller, USDT, &TestUsdt::mintCall { value: u(1) })
            .expect_reason("Ownable: caller is not the owner");
    }
    world
        .send(
            TOKEN_ADMIN,
            USD1,
            &TestUsd1::mintCall {
                to: account,
                value: u(9),
            },
        )
        .expect_ok();
    world
        .send(TOKEN_ADMIN, USDT, &TestUsdt::mintCall { value: u(9) })
        .expect_ok();
    for token in [USD1, USDT] {
        assert_eq!(
            world.view(token, &IErc20::totalSupplyCall {}),
            u(10 * FORTUNE + 9)
        );
    }
    assert_eq!(world.balance(USDT, TOKEN_ADMIN), u(9));
    assert_eq!(world.view(USDT, &TestUsdt::getOwnerCall {}), TOKEN_ADMIN);
    assert_eq!(world.view(USD1, &TestUsd1::adminCall {}), TOKEN_ADMIN);
}

#[test]
fn transfers_and_allowances_count_to_the_unit() {
    let mut world = World::new();
    let (owner, spender) = (payer(0).address(), STRANGER);
    for token in [USD1, USDT] {
        world.approve(token, owner, spender, u(10));
        let take = |value: u64| IErc20::transferFromCall {
            from: owner,
            to: TREASURY,
            value: u(value),
        };
        let taken = world.send(spender, token, &take(4)).expect_ok();
        assert_eq!(taken.output, alloy_sol_types::SolValue::abi_encode(&true));
        assert!(!world.send(spender, token, &take(7)).ok);
        world.send(spender, token, &take(6)).expect_ok();
        assert_eq!(world.balance(token, TREASURY), u(10));
        // to oneself: nothing is lost, nothing made
        world
            .send(
                owner,
                token,
                &IErc20::transferCall {
                    to: owner,
                    value: u(5),
                },
            )
            .expect_ok();
        assert_eq!(world.balance(token, owner), u(FORTUNE - 10));
        assert!(
            !world
                .send(
                    owner,
                    token,
                    &IErc20::transferCall {
                        to: owner,
                        value: u(FORTUNE)
                    }
                )
                .ok
        );
        assert!(
            !world
                .send(
                    owner,
                    token,
                    &IErc20::transferCall {
                        to: Address::ZERO,
                        value: u(1)
                    }
                )
                .ok
        );
    }
    world
        .send(
            owner,
            USDT,
            &IErc20::transferCall {
                to: TREASURY,
                value: U256::MAX,
            },
        )
        .expect_reason("BEP20: transfer amount exceeds balance");
    world
        .send(
            spender,
            USDT,
            &IErc20::transferFromCall {
                from: owner,
                to: TREASURY,
                value: u(1),
            },
        )
        .expect_reason("BEP20: transfer amount exceeds allowance");
}

#[test]
fn an_unlimited_allowance_stays_so_in_usd1_and_counts_down_in_usdt() {
    let mut world = World::new();
    let owner = payer(0).address();
    for (token, left) in [(USD1, U256::MAX), (USDT, U256::MAX - u(4))] {
        world.approve(token, owner, STRANGER, U256::MAX);
        let take = IErc20::transferFromCall {
            from: owner,
            to: TREASURY,
            value: u(4),
        };
        world.send(STRANGER, token, &take).expect_ok();
        assert_eq!(
            world.view(
                token,
                &IErc20::allowanceCall {
                    owner,
                    spender: STRANGER
                }
            ),
            left
        );
    }
}

#[test]
fn the_tokens_can_be_deployed_by_their_constructors_as_well() {
    let mut world = World::new();
    let admin: &[u8] = &ADMIN.into_word().0;
    let usd1 = world.deploy(&bytecode::TEST_USD1.init_code(admin));
    assert_eq!(world.view(usd1, &TestUsd1::adminCall {}), ADMIN);
    assert_eq!(world.code(usd1), bytecode::TEST_USD1.runtime_bytes());
    let usdt = world.deploy(&bytecode::TEST_USDT.init_code(admin));
    assert_eq!(world.view(usdt, &TestUsdt::getOwnerCall {}), ADMIN);
    assert_eq!(world.code(usdt), bytecode::TEST_USDT.runtime_bytes());
}

#[test]
fn the_paused_flag_can_be_set_in_a_genesis() {
    let mut world = World::new();
    let word: U256 = TOKEN_ADMIN.into_word().into();
    world.store(
        USD1,
        U256::from(slots::usd1::ADMIN_AND_PAUSED),
        word | U256::ONE << 160,
    );
    assert!(world.view(USD1, &TestUsd1::pausedCall {}));
    assert_eq!(world.view(USD1, &TestUsd1::adminCall {}), TOKEN_ADMIN);
}
