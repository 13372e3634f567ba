//! The proxies check what x402's check, in the same order, and say it by the same errors.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall as _;
use tollgate_contracts::abi::{ExactProxy, IErc20, ISignatureTransfer, TestUsd1, UptoProxy};
use tollgate_contracts::addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY};

use crate::common::artifact::{HostileToken, runtime};
use crate::common::sign::{exact_call, permit_for, upto_call};
use crate::common::*;

const TO: Address = Address::repeat_byte(0x70);
const FACILITATOR: Address = STRANGER;

fn ready() -> World {
    let mut world = World::new();
    world.approve(USDT, payer(0).address(), PERMIT2, u(1000));
    world
}

fn upto(world: &World, amount: u64) -> UptoProxy::settleCall {
    upto_call(
        world,
        &payer(0),
        USDT,
        (u(100), u(amount)),
        (TO, FACILITATOR),
        1,
    )
}

fn exact(world: &World) -> ExactProxy::settleCall {
    exact_call(world, &payer(0), USDT, u(100), TO, 1)
}

#[test]
fn upto_moves_what_the_facilitator_says_once() {
    let mut world = ready();
    let call = upto(&world, 40);
    let done = world.send(FACILITATOR, UPTO_PROXY, &call).expect_ok();
    assert_eq!(done.events::<UptoProxy::Settled>(UPTO_PROXY).len(), 1);
    assert_eq!(world.balance(USDT, TO), u(40));
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<ISignatureTransfer::InvalidNonce>();
    let mut rest = call;
    rest.amount = u(60);
    world
        .send(FACILITATOR, UPTO_PROXY, &rest)
        .expect_revert::<ISignatureTransfer::InvalidNonce>();
}

#[test]
fn upto_checks_in_the_order_of_x402() {
    let mut world = ready();
    let mut call = upto(&world, 101);
    call.owner = Address::ZERO;
    call.witness.to = Address::ZERO;
    call.witness.validAfter = u(NOW + 1);
    call.permit.deadline = u(NOW - 1);
    world
        .send(OPERATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::AmountExceedsPermitted>();
    call.amount = U256::ZERO;
    world
        .send(OPERATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::UnauthorizedFacilitator>();
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::InvalidAmount>();
    call.amount = u(100);
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::InvalidOwner>();
    call.owner = payer(0).address();
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::InvalidDestination>();
    call.witness.to = TO;
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::PaymentTooEarly>();
    call.witness.validAfter = u(NOW);
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<ISignatureTransfer::SignatureExpired>();
    call.permit.deadline = u(LATER);
    // what was signed had another validAfter
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_revert::<ISignatureTransfer::InvalidSigner>();
    call.witness.validAfter = U256::ZERO;
    world.send(FACILITATOR, UPTO_PROXY, &call).expect_ok();
}

#[test]
fn the_witness_binds_recipient_and_facilitator() {
    let mut world = ready();
    let good = upto(&world, 40);
    let mut elsewhere = good.clone();
    elsewhere.witness.to = OPERATOR;
    world
        .send(FACILITATOR, UPTO_PROXY, &elsewhere)
        .expect_revert::<ISignatureTransfer::InvalidSigner>();
    let mut usurped = good;
    usurped.witness.facilitator = OPERATOR;
    world
        .send(OPERATOR, UPTO_PROXY, &usurped)
        .expect_revert::<ISignatureTransfer::InvalidSigner>();
    let mut elsewhere = exact(&world);
    elsewhere.witness.to = OPERATOR;
    world
        .send(OPERATOR, EXACT_PROXY, &elsewhere)
        .expect_revert::<ISignatureTransfer::InvalidSigner>();
}

#[test]
fn exact_moves_all_that_was_signed_whoever_calls() {
    let mut world = ready();
    let call = exact(&world);
    let done = world.send(OPERATOR, EXACT_PROXY, &call).expect_ok();
    assert_eq!(done.events::<ExactProxy::Settled>(EXACT_PROXY).len(), 1);
    assert_eq!(world.balance(USDT, TO), u(100));
    world
        .send(OPERATOR, EXACT_PROXY, &call)
        .expect_revert::<ISignatureTransfer::InvalidNonce>();
}

#[test]
fn exact_checks_in_the_order_of_x402() {
    let mut world = ready();
    let mut call = exact(&world);
    call.permit.permitted.amount = U256::ZERO;
    call.owner = Address::ZERO;
    call.witness.to = Address::ZERO;
    call.witness.validAfter = u(NOW + 1);
    world
        .send(OPERATOR, EXACT_PROXY, &call)
        .expect_revert::<ExactProxy::InvalidAmount>();
    call.permit.permitted.amount = u(100);
    world
        .send(OPERATOR, EXACT_PROXY, &call)
        .expect_revert::<ExactProxy::InvalidOwner>();
    call.owner = payer(0).address();
    world
        .send(OPERATOR, EXACT_PROXY, &call)
        .expect_revert::<ExactProxy::InvalidDestination>();
    call.witness.to = TO;
    world
        .send(OPERATOR, EXACT_PROXY, &call)
        .expect_revert::<ExactProxy::PaymentTooEarly>();
    call.witness.validAfter = U256::ZERO;
    world.send(OPERATOR, EXACT_PROXY, &call).expect_ok();
}

#[test]
fn a_signature_for_one_proxy_is_none_for_the_other() {
    let mut world = ready();
    let upto = upto(&world, 100);
    let mut crossed = exact(&world);
    crossed.signature = upto.signature;
    world
        .send(OPERATOR, EXACT_PROXY, &crossed)
        .expect_revert::<ISignatureTransfer::InvalidSigner>();
}

/// The payer of USD1 who has never approved Permit2, and signs a permit for it instead.
fn sponsored(world: &World, value: u64) -> UptoProxy::EIP2612Permit {
    let permit = permit_for(world, &payer(0), USD1, PERMIT2, u(value), 0);
    UptoProxy::EIP2612Permit {
        value: permit.value,
        deadline: permit.deadline,
        r: permit.r,
        s: permit.s,
        v: permit.v,
    }
}

fn upto_with_permit(
    world: &World,
    permit: UptoProxy::EIP2612Permit,
) -> UptoProxy::settleWithPermitCall {
    let call = upto_call(
        world,
        &payer(0),
        USD1,
        (u(100), u(40)),
        (TO, FACILITATOR),
        1,
    );
    UptoProxy::settleWithPermitCall {
        permit2612: permit,
        permit: call.permit,
        amount: call.amount,
        owner: call.owner,
        witness: call.witness,
        signature: call.signature,
    }
}

#[test]
fn a_permit_for_permit2_stands_in_for_the_approval() {
    let mut world = World::new();
    let call = upto_with_permit(&world, sponsored(&world, 100));
    let done = world.send(FACILITATOR, UPTO_PROXY, &call).expect_ok();
    assert_eq!(
        done.events::<UptoProxy::SettledWithPermit>(UPTO_PROXY)
            .len(),
        1
    );
    assert_eq!(world.balance(USD1, TO), u(40));

    let mut world = World::new();
    let permit = sponsored(&world, 100);
    let exact = exact_call(&world, &payer(0), USD1, u(100), TO, 1);
    let call = ExactProxy::settleWithPermitCall {
        permit2612: ExactProxy::EIP2612Permit {
            value: permit.value,
            deadline: permit.deadline,
            r: permit.r,
            s: permit.s,
            v: permit.v,
        },
        permit: exact.permit,
        owner: exact.owner,
        witness: exact.witness,
        signature: exact.signature,
    };
    let done = world.send(OPERATOR, EXACT_PROXY, &call).expect_ok();
    assert_eq!(
        done.events::<ExactProxy::SettledWithPermit>(EXACT_PROXY)
            .len(),
        1
    );
    assert_eq!(world.balance(USD1, TO), u(100));
}

#[test]
fn the_permit_must_be_for_the_permitted_amount() {
    let mut world = World::new();
    for value in [99, 101] {
        let call = upto_with_permit(&world, sponsored(&world, value));
        world
            .send(FACILITATOR, UPTO_PROXY, &call)
            .expect_revert::<UptoProxy::Permit2612AmountMismatch>();
    }
    // the amount and the caller are looked at before
    let mut call = upto_with_permit(&world, sponsored(&world, 99));
    world
        .send(OPERATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::UnauthorizedFacilitator>();
    call.amount = u(101);
    world
        .send(OPERATOR, UPTO_PROXY, &call)
        .expect_revert::<UptoProxy::AmountExceedsPermitted>();
}

#[test]
fn a_permit_that_fails_is_told_and_the_allowance_decides() {
    let mut world = World::new();
    let owner = payer(0).address();
    let mut bad = sponsored(&world, 100);
    bad.v ^= 1;
    let call = upto_with_permit(&world, bad);
    world
        .send(FACILITATOR, UPTO_PROXY, &call)
        .expect_reason("TRANSFER_FROM_FAILED");
    world.approve(USD1, owner, PERMIT2, u(100));
    let done = world.send(FACILITATOR, UPTO_PROXY, &call).expect_ok();
    let told = done.events::<UptoProxy::EIP2612PermitFailedWithData>(UPTO_PROXY);
    assert_eq!((told[0].token, told[0].owner), (USD1, owner));
    assert!(
        told[0]
            .data
            .starts_with(&<TestUsd1::ERC2612InvalidSigner as alloy_sol_types::SolError>::SELECTOR)
    );
    assert_eq!(world.balance(USD1, TO), u(40));
}

#[test]
fn the_views_tell_permit2_and_the_types_of_the_witness() {
    let mut world = World::new();
    let exact_type = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)";
    let upto_type = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)";
    assert_eq!(
        world.view(EXACT_PROXY, &ExactProxy::PERMIT2Call {}),
        PERMIT2
    );
    assert_eq!(world.view(UPTO_PROXY, &UptoProxy::PERMIT2Call {}), PERMIT2);
    assert_eq!(
        world.view(EXACT_PROXY, &ExactProxy::WITNESS_TYPE_STRINGCall {}),
        exact_type
    );
    assert_eq!(
        world.view(UPTO_PROXY, &UptoProxy::WITNESS_TYPE_STRINGCall {}),
        upto_type
    );
    let published: B256 = "0xd97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37"
        .parse()
        .unwrap();
    assert_eq!(
        world.view(EXACT_PROXY, &ExactProxy::WITNESS_TYPEHASHCall {}),
        published
    );
    assert_eq!(
        published,
        keccak256("Witness(address to,uint256 validAfter)")
    );
    let published: B256 = "0xd4171c445a74218b01d4fd8af34ff1106580ea1e36ff837e64484bfaa2253b75"
        .parse()
        .unwrap();
    assert_eq!(
        world.view(UPTO_PROXY, &UptoProxy::WITNESS_TYPEHASHCall {}),
        published
    );
}

#[test]
fn a_proxy_is_not_entered_again() {
    let mut world = World::new();
    let token = Address::repeat_byte(0x66);
    world.place_code(token, runtime("HostileToken"));
    let owner = payer(0).address();
    world
        .send(
            STRANGER,
            token,
            &HostileToken::mintCall {
                to: owner,
                value: u(1000),
            },
        )
        .expect_ok();
    world.approve(token, owner, PERMIT2, u(1000));
    world.approve(USDT, owner, PERMIT2, u(1000));
    // Though the token is the facilitator of the inner call.
    let inner = upto_call(&world, &payer(0), USDT, (u(5), u(5)), (token, token), 7);
    let payload: Bytes = inner.abi_encode().into();
    let set = HostileToken::setCall {
        mode: HostileToken::Mode::Reenter,
        target: UPTO_PROXY,
        payload,
    };
    world.send(STRANGER, token, &set).expect_ok();
    let outer = upto_call(&world, &payer(0), token, (u(5), u(5)), (TO, FACILITATOR), 1);
    world.send(FACILITATOR, UPTO_PROXY, &outer).expect_ok();
    assert_eq!(
        world.view(token, &HostileToken::reentryAnswerCall {}),
        <UptoProxy::ReentrancyGuardReentrantCall as alloy_sol_types::SolError>::SELECTOR
    );
    assert_eq!(
        world.view(USDT, &IErc20::balanceOfCall { owner: token }),
        U256::ZERO
    );
}
