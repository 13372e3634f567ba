//! Our SignatureTransfer does what Permit2 does, in the part that x402 uses.

use alloy_primitives::{Address, B256, Bytes, U256};
use tollgate_contracts::abi::ISignatureTransfer::{
    self, InvalidAmount, InvalidContractSignature, InvalidNonce, InvalidSignature,
    InvalidSignatureLength, InvalidSigner, SignatureExpired,
};
use tollgate_contracts::addresses::{self, PERMIT2};

use crate::common::artifact::{HostileOwner, HostileToken, runtime};
use crate::common::sign::permit2_call;
use crate::common::*;

const SPENDER: Address = STRANGER;
const TO: Address = Address::repeat_byte(0x70);

fn ready() -> World {
    let mut world = World::new();
    world.approve(USDT, payer(0).address(), PERMIT2, u(1000));
    world
}

fn call(
    world: &World,
    requested: u64,
    nonce: u64,
) -> ISignatureTransfer::permitWitnessTransferFromCall {
    permit2_call(
        world,
        &payer(0),
        USDT,
        (u(100), u(requested)),
        (SPENDER, TO),
        nonce,
    )
}

fn bitmap(world: &mut World, word: u64) -> U256 {
    world.view(
        PERMIT2,
        &ISignatureTransfer::nonceBitmapCall {
            owner: payer(0).address(),
            word: u(word),
        },
    )
}

#[test]
fn a_signed_transfer_moves_what_was_requested_once() {
    let mut world = ready();
    let call = call(&world, 60, 256 + 5);
    world.send(SPENDER, PERMIT2, &call).expect_ok();
    assert_eq!(world.balance(USDT, TO), u(60));
    assert_eq!(bitmap(&mut world, 1), u(1_u64 << 5));
    assert_eq!(bitmap(&mut world, 0), U256::ZERO);
    world
        .send(SPENDER, PERMIT2, &call)
        .expect_revert::<InvalidNonce>();
}

#[test]
fn nonces_have_no_order_and_reach_the_highest_number() {
    let mut world = ready();
    for nonce in [300, 0, 255, 299] {
        let call = call(&world, 1, nonce);
        world.send(SPENDER, PERMIT2, &call).expect_ok();
    }
    assert_eq!(bitmap(&mut world, 0), U256::ONE | U256::ONE << 255);
    assert_eq!(bitmap(&mut world, 1), U256::ONE << 44 | U256::ONE << 43);
}

#[test]
fn more_than_was_signed_is_refused_and_the_nonce_stays() {
    let mut world = ready();
    let refused: InvalidAmount = world
        .send(SPENDER, PERMIT2, &call(&world.clone(), 101, 1))
        .expect_revert();
    assert_eq!(refused.maxAmount, u(100));
    assert_eq!(bitmap(&mut world, 0), U256::ZERO);
}

#[test]
fn the_deadline_is_inclusive() {
    let mut world = ready();
    let call = call(&world, 1, 1);
    world.now = LATER + 1;
    let refused: SignatureExpired = world.send(SPENDER, PERMIT2, &call).expect_revert();
    assert_eq!(refused.signatureDeadline, u(LATER));
    world.now = LATER;
    world.send(SPENDER, PERMIT2, &call).expect_ok();
}

#[test]
fn the_checks_come_in_the_order_of_permit2() {
    let mut world = ready();
    let mut all_wrong = call(&world, 101, 1);
    all_wrong.signature = Bytes::new();
    world
        .send(
            payer(0).address(),
            PERMIT2,
            &ISignatureTransfer::invalidateUnorderedNoncesCall {
                wordPos: U256::ZERO,
                mask: U256::MAX,
            },
        )
        .expect_ok();
    world.now = LATER + 1;
    world
        .send(SPENDER, PERMIT2, &all_wrong)
        .expect_revert::<SignatureExpired>();
    world.now = NOW;
    world
        .send(SPENDER, PERMIT2, &all_wrong)
        .expect_revert::<InvalidAmount>();
    all_wrong.transferDetails.requestedAmount = u(100);
    world
        .send(SPENDER, PERMIT2, &all_wrong)
        .expect_revert::<InvalidNonce>();
    all_wrong.permit.nonce = u(300);
    world
        .send(SPENDER, PERMIT2, &all_wrong)
        .expect_revert::<InvalidSignatureLength>();
}

#[test]
fn a_signature_binds_spender_amount_token_nonce_deadline_witness_and_its_type() {
    let mut world = ready();
    let good = call(&world, 1, 1);
    let alterations: [fn(&mut ISignatureTransfer::permitWitnessTransferFromCall); 6] = [
        |call| call.permit.permitted.amount = u(101),
        |call| call.permit.permitted.token = USD1,
        |call| call.permit.nonce = u(2),
        |call| call.permit.deadline = u(LATER + 1),
        |call| call.witness = B256::ZERO,
        |call| call.witnessTypeString.push(' '),
    ];
    for alter in alterations {
        let mut altered = good.clone();
        alter(&mut altered);
        world
            .send(SPENDER, PERMIT2, &altered)
            .expect_revert::<InvalidSigner>();
    }
    world
        .send(OPERATOR, PERMIT2, &good)
        .expect_revert::<InvalidSigner>();
    let mut other_owner = good.clone();
    other_owner.owner = payer(1).address();
    world
        .send(SPENDER, PERMIT2, &other_owner)
        .expect_revert::<InvalidSigner>();
    // The recipient is not signed, but for the witness, which only the spender checks.
    let mut elsewhere = good;
    elsewhere.transferDetails.to = TREASURY;
    world.send(SPENDER, PERMIT2, &elsewhere).expect_ok();
}

#[test]
fn a_signature_of_another_chain_is_refused() {
    let mut world = ready();
    let call = call(
        &World {
            chain: 56,
            ..world.clone()
        },
        1,
        1,
    );
    world
        .send(SPENDER, PERMIT2, &call)
        .expect_revert::<InvalidSigner>();
}

/// 64 bytes: the parity of y in the highest bit of s (EIP-2098).
fn compact(signature: &[u8]) -> Bytes {
    let mut compact = signature[..64].to_vec();
    compact[32] |= (signature[64] - 27) << 7;
    compact.into()
}

#[test]
fn signatures_of_64_and_65_bytes_count_and_no_others() {
    let mut world = ready();
    for nonce in 0..8 {
        let mut call = call(&world, 1, nonce);
        call.signature = compact(&call.signature);
        world.send(SPENDER, PERMIT2, &call).expect_ok();
    }
    for length in [0, 1, 63, 66, 130] {
        let mut call = call(&world, 1, 100);
        call.signature = vec![1; length].into();
        world
            .send(SPENDER, PERMIT2, &call)
            .expect_revert::<InvalidSignatureLength>();
    }
}

#[test]
fn a_signature_that_recovers_to_nobody_is_invalid() {
    let mut world = ready();
    for v in [0, 1, 29, 255] {
        let mut call = call(&world, 1, 1);
        let mut signature = call.signature.to_vec();
        signature[64] = v;
        call.signature = signature.into();
        world
            .send(SPENDER, PERMIT2, &call)
            .expect_revert::<InvalidSignature>();
    }
}

#[test]
fn an_owner_with_code_is_asked_and_its_key_does_not_count() {
    let mut world = ready();
    let delegate = Address::repeat_byte(0xde);
    world.place_code(delegate, runtime("HostileOwner"));
    let owner = payer(0).address();
    world.delegate(owner, delegate);
    let mut yes = call(&world, 1, 1);
    yes.signature = Bytes::new();
    world.send(SPENDER, PERMIT2, &yes).expect_ok();
    world
        .send(
            STRANGER,
            owner,
            &HostileOwner::setCall {
                mode: HostileOwner::Mode::No,
            },
        )
        .expect_ok();
    let signed = call(&world, 1, 2);
    world
        .send(SPENDER, PERMIT2, &signed)
        .expect_revert::<InvalidContractSignature>();
    // A delegate that knows nothing of ERC-1271: as on BSC, a revert without data.
    world.place_code(delegate, runtime("FallbackToken"));
    let refused = world.send(SPENDER, PERMIT2, &signed);
    assert!(!refused.ok && refused.output.is_empty());
    world.delegate(owner, Address::ZERO);
    world.send(SPENDER, PERMIT2, &signed).expect_ok();
}

#[test]
fn an_owner_voids_nonces_by_words() {
    let mut world = ready();
    let owner = payer(0).address();
    let void = ISignatureTransfer::invalidateUnorderedNoncesCall {
        wordPos: U256::ZERO,
        mask: u(0b110),
    };
    let done = world.send(owner, PERMIT2, &void).expect_ok();
    assert_eq!(
        done.events::<ISignatureTransfer::UnorderedNonceInvalidation>(PERMIT2),
        [ISignatureTransfer::UnorderedNonceInvalidation {
            owner,
            word: U256::ZERO,
            mask: u(0b110)
        }]
    );
    for (nonce, good) in [(0, true), (1, false), (2, false), (3, true)] {
        let call = call(&world, 1, nonce);
        let sent = world.send(SPENDER, PERMIT2, &call);
        assert_eq!(sent.ok, good, "nonce {nonce}");
    }
    // another's nonces are another's
    world
        .send(
            STRANGER,
            PERMIT2,
            &ISignatureTransfer::invalidateUnorderedNoncesCall {
                wordPos: U256::ONE,
                mask: U256::MAX,
            },
        )
        .expect_ok();
    assert_eq!(bitmap(&mut world, 1), U256::ZERO);
}

#[test]
fn a_transfer_that_fails_says_so_as_permit2_does_and_leaves_the_nonce() {
    let mut world = ready();
    world.approve(USDT, payer(0).address(), PERMIT2, u(0_u64));
    world
        .send(SPENDER, PERMIT2, &call(&world.clone(), 1, 1))
        .expect_reason("TRANSFER_FROM_FAILED");
    assert_eq!(bitmap(&mut world, 0), U256::ZERO);

    let token = Address::repeat_byte(0x66);
    let signed = permit2_call(&world, &payer(0), token, (u(5), u(5)), (SPENDER, TO), 1);
    world.place_code(token, runtime("HostileToken"));
    world
        .send(
            STRANGER,
            token,
            &HostileToken::mintCall {
                to: payer(0).address(),
                value: u(100),
            },
        )
        .expect_ok();
    world.approve(token, payer(0).address(), PERMIT2, u(100));
    for (mode, good) in [
        (HostileToken::Mode::ReturnFalse, false),
        (HostileToken::Mode::ReturnTwo, false),
        (HostileToken::Mode::ReturnNothing, true),
    ] {
        let set = HostileToken::setCall {
            mode,
            target: Address::ZERO,
            payload: Bytes::new(),
        };
        world.send(STRANGER, token, &set).expect_ok();
        let sent = world.send(SPENDER, PERMIT2, &signed);
        assert_eq!(sent.ok, good);
        if !good {
            sent.expect_reason("TRANSFER_FROM_FAILED");
        }
    }
}

#[test]
fn a_token_without_code_passes_as_it_does_in_permit2() {
    // Why the Settler, and whoever else takes payments, looks at balances or logs.
    let mut world = ready();
    let nothing = Address::repeat_byte(0x77);
    let signed = permit2_call(&world, &payer(0), nothing, (u(5), u(5)), (SPENDER, TO), 1);
    let done = world.send(SPENDER, PERMIT2, &signed).expect_ok();
    assert!(done.logs.is_empty());
    let item = crate::common::sign::once(&world, &payer(0), nothing, u(5), u(5), 2);
    let done = world.settle(Batch::onces([item])).expect_ok();
    let failed = done.events::<tollgate_contracts::abi::Settler::Failed>(world.settler);
    assert_eq!(failed.len(), 1);
}

#[test]
fn the_domain_separator_is_permit2s_on_every_chain() {
    let mut bsc = World::on(56);
    assert_eq!(
        bsc.view(PERMIT2, &ISignatureTransfer::DOMAIN_SEPARATORCall {}),
        addresses::PERMIT2_SEPARATOR_56
    );
    let mut chapel = World::on(97);
    assert_eq!(
        chapel.view(PERMIT2, &ISignatureTransfer::DOMAIN_SEPARATORCall {}),
        addresses::PERMIT2_SEPARATOR_97
    );
}
