//! The lens tells every field as it is, and what is not there as not found.

use alloy_primitives::{Address, B256, U256, keccak256};
use tollgate_contracts::abi::{IErc20, TestUsd1};
use tollgate_contracts::lens::{self, Flag, Query, State, Word};
use tollgate_contracts::{addresses, slots};

use crate::common::artifact::{HostileToken, runtime};
use crate::common::sign::{eip3009, once, permitted_interval};
use crate::common::*;

fn ask(world: &mut World, query: &Query) -> State {
    let outcome = world.simulate_creation(lens::call_data(query)).expect_ok();
    assert!(outcome.gas < 3_500_000, "{}", outcome.gas);
    lens::decode(&outcome.output).unwrap()
}

fn look(world: &mut World, token: Address, owner: Address) -> State {
    let query = query(world, token, owner);
    ask(world, &query)
}

fn query(world: &World, token: Address, owner: Address) -> Query {
    Query {
        token,
        owner,
        spender: world.settler,
        settler: world.settler,
        payee: TREASURY,
        permit2Word: U256::ZERO,
        eip3009Nonce: B256::ZERO,
    }
}

fn word(value: U256) -> Word {
    Word { found: true, value }
}

fn flag(value: bool) -> Flag {
    Flag { found: true, value }
}

const NO_WORD: Word = Word {
    found: false,
    value: U256::ZERO,
};
const NO_FLAG: Flag = Flag {
    found: false,
    value: false,
};

#[test]
fn a_fresh_payer_of_usd1_is_told_field_by_field() {
    let mut world = World::new();
    let owner = payer(0).address();
    world
        .db
        .insert_account_info(owner, revm::state::AccountInfo::from_balance(u(1234)));
    let state = look(&mut world, USD1, owner);
    assert_eq!(
        state,
        State {
            blockNumber: u(1000),
            timestamp: u(NOW),
            chainId: u(CHAIN),
            balance: word(u(FORTUNE)),
            allowance: word(U256::ZERO),
            permit2Allowance: word(U256::ZERO),
            nonce: word(U256::ZERO),
            permit2Bitmap: word(U256::ZERO),
            authorizationUsed: flag(false),
            charged: word(U256::ZERO),
            paused: flag(false),
            ownerFrozen: flag(false),
            payeeFrozen: flag(false),
            ownerCodeSize: U256::ZERO,
            ownerCodeHash: keccak256([]),
            ownerDelegate: Address::ZERO,
            ownerNativeBalance: u(1234),
            tokenCodeSize: u(tollgate_contracts::bytecode::TEST_USD1.runtime().len()),
        }
    );
    assert_eq!(state.balance.get(), Some(u(FORTUNE)));
    assert_eq!(state.paused.get(), Some(false));
}

#[test]
fn a_payer_with_a_past_is_told_field_by_field() {
    let mut world = World::new();
    let key = payer(0);
    let owner = key.address();
    world.approve(USD1, owner, addresses::PERMIT2, u(777));
    world
        .settle(Batch {
            allowances: vec![permitted_interval(
                &world,
                &key,
                USD1,
                U256::ZERO,
                u(30),
                (u(100), 0),
            )],
            onces: vec![once(&world, &key, USD1, u(5), u(5), 256 + 3)],
            exacts: vec![eip3009(&world, &key, USD1, u(6), 99)],
            ..Batch::default()
        })
        .expect_ok();
    world
        .send(
            TOKEN_ADMIN,
            USD1,
            &TestUsd1::freezeCall { account: TREASURY },
        )
        .expect_ok();
    let mut query = query(&world, USD1, owner);
    query.permit2Word = U256::ONE;
    query.eip3009Nonce = B256::from(u(99));
    let state = ask(&mut world, &query);
    assert_eq!(state.balance, word(u(FORTUNE - 41)));
    assert_eq!(state.allowance, word(u(70)));
    assert_eq!(state.permit2Allowance, word(u(772)));
    assert_eq!(state.nonce, word(U256::ONE));
    assert_eq!(state.permit2Bitmap, word(u(8)));
    assert_eq!(state.authorizationUsed, flag(true));
    assert_eq!(state.charged, word(u(30)));
    assert_eq!(state.payeeFrozen, flag(true));
    assert_eq!(state.ownerFrozen, flag(false));

    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::freezeCall { account: owner })
        .expect_ok();
    world
        .send(TOKEN_ADMIN, USD1, &TestUsd1::pauseCall {})
        .expect_ok();
    let state = ask(&mut world, &query);
    assert_eq!((state.ownerFrozen, state.paused), (flag(true), flag(true)));
}

#[test]
fn what_a_plain_token_does_not_have_is_not_found() {
    let mut world = World::new();
    let state = look(&mut world, USDT, payer(0).address());
    assert_eq!(state.balance, word(u(FORTUNE)));
    assert_eq!(state.allowance, word(U256::ZERO));
    assert_eq!(state.nonce, NO_WORD);
    assert_eq!(state.nonce.get(), None);
    assert_eq!(state.authorizationUsed, NO_FLAG);
    assert_eq!(state.paused, NO_FLAG);
    assert_eq!(state.ownerFrozen, NO_FLAG);
    assert_eq!(state.payeeFrozen.get(), None);
}

#[test]
fn without_a_settler_there_is_no_counter_and_without_permit2_no_bitmap() {
    let mut world = World::new();
    let mut query = query(&world, USD1, payer(0).address());
    query.settler = Address::ZERO;
    world.place_code(addresses::PERMIT2, Default::default());
    let state = ask(&mut world, &query);
    assert_eq!(state.charged, NO_WORD);
    assert_eq!(state.permit2Bitmap, NO_WORD);
    query.settler = STRANGER;
    assert_eq!(ask(&mut world, &query).charged, NO_WORD);
}

#[test]
fn a_token_that_is_none_is_found_to_be_none() {
    let mut world = World::new();
    let state = look(&mut world, Address::repeat_byte(0x77), payer(0).address());
    assert_eq!(state.tokenCodeSize, U256::ZERO);
    assert_eq!(
        (state.balance, state.allowance, state.nonce),
        (NO_WORD, NO_WORD, NO_WORD)
    );
    assert_eq!(state.charged, word(U256::ZERO));
}

#[test]
fn a_fallback_that_answers_every_selector_is_not_taken_for_an_answer() {
    let mut world = World::new();
    let token = Address::repeat_byte(0x66);
    world.place_code(token, runtime("FallbackToken"));
    let state = look(&mut world, token, payer(0).address());
    assert_eq!(
        (state.balance, state.nonce, state.paused),
        (NO_WORD, NO_WORD, NO_FLAG)
    );
    world.place_code(token, runtime("FiveToken"));
    let state = look(&mut world, token, payer(0).address());
    assert_eq!(state.balance, word(u(5)));
    assert_eq!(
        (state.paused, state.ownerFrozen, state.authorizationUsed),
        (NO_FLAG, NO_FLAG, NO_FLAG)
    );
}

#[test]
fn a_token_that_bombs_or_burns_gas_makes_its_own_fields_wrong_and_no_more() {
    let mut world = World::new();
    let token = Address::repeat_byte(0x66);
    world.place_code(token, runtime("HostileToken"));
    let bomb = HostileToken::setCall {
        mode: HostileToken::Mode::BalanceBomb,
        target: Address::ZERO,
        payload: Default::default(),
    };
    world.send(STRANGER, token, &bomb).expect_ok();
    let owner = payer(0).address();
    let state = look(&mut world, token, owner);
    assert_eq!(
        state.balance, NO_WORD,
        "a megabyte of zeros takes more gas than it gets"
    );
    assert_eq!(state.allowance, word(U256::ZERO));
    assert_eq!(state.charged, word(U256::ZERO));
}

#[test]
fn a_delegation_by_eip7702_is_seen_and_to_whom() {
    let mut world = World::new();
    let owner = payer(0).address();
    let delegate = Address::repeat_byte(0xde);
    world.place_code(delegate, runtime("HostileOwner"));
    world.delegate(owner, delegate);
    let state = look(&mut world, USD1, owner);
    assert_eq!(state.ownerDelegate, delegate);
    assert_eq!(state.ownerCodeSize, u(23));
    let designator = [&[0xef, 0x01, 0x00], delegate.as_slice()].concat();
    assert_eq!(state.ownerCodeHash, keccak256(designator));
    world.delegate(owner, Address::ZERO);
    let state = look(&mut world, USD1, owner);
    assert_eq!(
        (state.ownerDelegate, state.ownerCodeSize),
        (Address::ZERO, U256::ZERO)
    );
}

#[test]
fn an_owner_that_is_a_contract_is_no_delegation() {
    let mut world = World::new();
    let owner = Address::repeat_byte(0x0c);
    world.place_code(owner, runtime("HostileOwner"));
    let state = look(&mut world, USD1, owner);
    assert_eq!(state.ownerDelegate, Address::ZERO);
    assert_eq!(state.ownerCodeSize, u(runtime("HostileOwner").len()));
    // 23 bytes of code that are none
    world.place_code(owner, vec![0x5b; 23].into());
    let state = look(&mut world, USD1, owner);
    assert_eq!(
        (state.ownerDelegate, state.ownerCodeSize),
        (Address::ZERO, u(23))
    );
}

#[test]
fn an_account_that_never_was_has_the_hash_zero() {
    let mut world = World::new();
    let state = look(&mut world, USD1, Address::repeat_byte(0x42));
    assert_eq!(state.ownerCodeHash, B256::ZERO);
}

#[test]
fn what_is_no_state_is_refused() {
    let mut world = World::new();
    let data = lens::call_data(&query(&world, USD1, payer(0).address()));
    let output = world.simulate_creation(data).expect_ok().output;
    assert!(lens::decode(&[]).is_err());
    assert!(lens::decode(&output[..output.len() - 1]).is_err());
    let mut odd = output.to_vec();
    // the found flag of the balance: neither 0 nor 1
    odd[3 * 32 + 31] = 2;
    assert!(lens::decode(&odd).is_err());
}

#[test]
fn the_lens_leaves_no_trace() {
    let mut world = World::new();
    let owner = payer(0).address();
    let before = world.view(USD1, &IErc20::balanceOfCall { owner });
    look(&mut world, USD1, owner);
    assert_eq!(world.balance(USD1, owner), before);
    assert_eq!(
        slots::mapped(0, owner),
        slots::nested(U256::ZERO, owner.into_word())
    );
}
