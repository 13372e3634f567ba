//! Payers who sign nothing: authorizations as they come out of verification.

use tollgate_payment::{
    AuthorizationKey, Credit, ExposureKey, OwnerKey, PaymentKeys,
    command::{Funds, Reserve, SpenderFunds},
};
use tollgate_x402::{
    Address, Allowance, Amount, Authorization, B256, ChainId, Eip3009, Exact, Once, PaymentId,
    Permit2Exact, Signature65, Timestamp, U256,
};

/// The token of the kit.
pub const TOKEN: Address = Address::repeat_byte(0x70);
/// Who is paid.
pub const SELLER: Address = Address::repeat_byte(0x5e);
/// The contract that many sellers share.
pub const PERMIT2: Address = Address::repeat_byte(0x22);
/// Who settles.
pub const OPERATOR: Address = Address::repeat_byte(0x09);

/// What a payer signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An allowance.
    Allowance,
    /// A once authorization.
    Once,
    /// An exact one, by Permit2.
    Permit2,
    /// An exact one, by the token itself.
    Eip3009,
}

/// A payer.
pub fn payer(number: u8) -> Address {
    Address::repeat_byte(0xa0 | number)
}

/// A payment's id.
pub fn payment_id(number: u64) -> PaymentId {
    PaymentId::from_random(u128::from(number).to_be_bytes())
}

/// Bounds that do not stand in a test's way.
pub fn credit() -> Credit {
    let much = Amount::from(1_000_000_000u64);
    Credit {
        floor: much,
        factor: 1,
        ceiling: much,
        in_flight: 1000,
        in_flight_proven: 1000,
        proven: much,
        exposure: much,
        view_age: 3,
    }
}

/// A reservation of `worst` (at least as much, too) on an authorization of `value` with this nonce, by a
/// payer whose balance is `balance` at block 1.
pub fn reserve(
    id: u64,
    (payer, kind, nonce): (Address, Kind, u64),
    value: u64,
    worst: u64,
    balance: u64,
    now: Timestamp,
) -> Reserve {
    let (chain, token) = (ChainId::DEV, TOKEN);
    let signature = Signature65::new(B256::repeat_byte(1), B256::repeat_byte(2), false)
        .expect("a well-formed signature");
    let (amount, deadline, number) = (Amount::from(value), now.plus(3600), U256::from(nonce));
    let authorization = match kind {
        Kind::Allowance => Authorization::Allowance(Allowance {
            chain,
            token,
            owner: payer,
            spender: SELLER,
            value: amount,
            nonce: number,
            deadline,
            signature,
        }),
        Kind::Once => Authorization::Once(Once {
            chain,
            token,
            owner: payer,
            amount,
            spender: PERMIT2,
            nonce: number,
            deadline,
            to: SELLER,
            facilitator: OPERATOR,
            valid_after: Timestamp(0),
            signature,
        }),
        Kind::Permit2 => Authorization::Exact(Exact::Permit2(Permit2Exact {
            chain,
            token,
            owner: payer,
            amount,
            spender: PERMIT2,
            nonce: number,
            deadline,
            to: SELLER,
            valid_after: Timestamp(0),
            signature,
        })),
        Kind::Eip3009 => Authorization::Exact(Exact::Eip3009(Eip3009 {
            chain,
            token,
            owner: payer,
            to: SELLER,
            value: amount,
            valid_after: Timestamp(0),
            valid_before: deadline,
            nonce: B256::from(number),
            signature,
        })),
    };
    let mut digest = [0u8; 32];
    digest[..20].copy_from_slice(payer.as_slice());
    digest[20..28].copy_from_slice(&nonce.to_be_bytes());
    digest[28] = kind as u8;
    let digest = B256::from(digest);
    let owner = OwnerKey {
        chain,
        token,
        owner: payer,
    };
    let (spender, seen) = match kind {
        Kind::Allowance => (
            Some(SELLER),
            SpenderFunds::Counter {
                nonce: number,
                allowance: Amount::ZERO,
                counter: None,
            },
        ),
        Kind::Once | Kind::Permit2 => (
            Some(PERMIT2),
            SpenderFunds::Seen {
                allowance: Amount::MAX,
            },
        ),
        Kind::Eip3009 => (None, SpenderFunds::None),
    };
    Reserve {
        keys: PaymentKeys {
            id: payment_id(id),
            owner,
            spender,
            authorization: AuthorizationKey::of(&authorization, digest, PERMIT2),
            exposure: ExposureKey {
                chain,
                token,
                slice: 0,
            },
        },
        authorization,
        digest,
        request: B256::ZERO,
        worst: Amount::from(worst),
        least: Amount::from(worst),
        identifier: None,
        memo: format!("request {id} \"quoted\" \u{1f4b8}"),
        epoch: 1,
        credit: credit(),
        funds: Some(Funds {
            block: 1,
            at: now,
            balance: Amount::from(balance),
            spender: seen,
        }),
    }
}
