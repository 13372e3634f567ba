use alloy_primitives::{address, b256};
use tollgate_x402::{B256, ChainId, Signature65};

use super::*;

const TOKEN: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
const SETTLER: Address = address!("5e771e0000000000000000000000000000008402");
const OWNER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const OTHER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");

fn signature() -> Signature65 {
    Signature65::new(
        b256!("1111111111111111111111111111111111111111111111111111111111111111"),
        b256!("2222222222222222222222222222222222222222222222222222222222222222"),
        true,
    )
    .unwrap()
}

fn allowance() -> Allowance {
    Allowance {
        chain: ChainId::DEV,
        token: TOKEN,
        owner: OWNER,
        spender: SETTLER,
        value: Amount::from(100_u64),
        nonce: U256::from(3),
        deadline: Timestamp(1_800_000_000),
        signature: signature(),
    }
}

fn interval(from: u64, to: u64, permit: Option<Allowance>) -> SettleItem {
    SettleItem::Allowance {
        token: TOKEN,
        owner: OWNER,
        from: Amount::from(from),
        to: Amount::from(to),
        permit,
    }
}

fn once(amount: u64) -> Once {
    Once {
        chain: ChainId::DEV,
        token: TOKEN,
        owner: OWNER,
        amount: Amount::from(amount),
        spender: addresses::UPTO_PROXY,
        nonce: U256::from(4),
        deadline: Timestamp(1_800_000_000),
        to: SETTLER,
        facilitator: SETTLER,
        valid_after: Timestamp(0),
        signature: signature(),
    }
}

fn eip3009(to: Address) -> Eip3009 {
    Eip3009 {
        chain: ChainId::DEV,
        token: TOKEN,
        owner: OWNER,
        to,
        value: Amount::from(7_u64),
        valid_after: Timestamp(0),
        valid_before: Timestamp(1_800_000_000),
        nonce: B256::repeat_byte(5),
        signature: signature(),
    }
}

fn permit2(to: Address) -> Permit2Exact {
    Permit2Exact {
        chain: ChainId::DEV,
        token: TOKEN,
        owner: OWNER,
        amount: Amount::from(8_u64),
        spender: addresses::EXACT_PROXY,
        nonce: U256::from(6),
        deadline: Timestamp(1_800_000_000),
        to,
        valid_after: Timestamp(0),
        signature: signature(),
    }
}

fn all_kinds() -> Vec<SettleItem> {
    vec![
        interval(0, 5, Some(allowance())),
        interval(5, 9, None),
        SettleItem::Once {
            signed: once(10),
            amount: Amount::from(6_u64),
        },
        SettleItem::Exact(Exact::Eip3009(eip3009(SETTLER))),
        SettleItem::Exact(Exact::Permit2(permit2(SETTLER))),
    ]
}

#[test]
fn the_calldata_says_what_was_signed() {
    let call = settle(SETTLER, &all_kinds()).unwrap();
    assert_eq!(call.to, SETTLER);
    let decoded = Settler::settleCall::abi_decode_validate(&call.input).unwrap();
    let [first, second] = decoded.allowances.as_slice() else {
        panic!("two allowance items")
    };
    assert_eq!((first.from, first.to), (U256::ZERO, U256::from(5)));
    assert_eq!(first.permit.value, U256::from(100));
    assert_eq!(first.permit.deadline, U256::from(1_800_000_000));
    assert_eq!((first.permit.v, first.permit.r), (28, signature().r()));
    assert_eq!(second.permit.v, 0);
    let once = &decoded.onces[0];
    assert_eq!(
        (once.permitted, once.amount),
        (U256::from(10), U256::from(6))
    );
    assert_eq!(once.signature.len(), 65);
    assert_eq!(decoded.exacts[0].nonce, B256::repeat_byte(5));
    assert_eq!(decoded.exacts[0].v, 28);
    assert_eq!(decoded.permit2Exacts[0].nonce, U256::from(6));
}

#[test]
fn every_kind_gets_its_gas() {
    let gas = |items: &[SettleItem]| settle(SETTLER, items).unwrap().gas_limit;
    let one = |item: SettleItem| gas(&[item]);
    let plain = one(interval(0, 5, None));
    assert!((175_000..195_000).contains(&plain), "{plain}");
    let [permit, _, once, eip3009, permit2] = all_kinds().try_into().unwrap();
    assert!(one(permit) > plain + GAS_PERMIT);
    assert!(one(once) > 21_000 + GAS_ONCE);
    assert!(one(eip3009) > 21_000 + GAS_EIP3009);
    assert!(one(permit2) > 21_000 + GAS_PERMIT2_EXACT);
    let fifty = vec![
        SettleItem::Once {
            signed: self::once(10),
            amount: Amount::from(6_u64),
        };
        50
    ];
    // EIP-7825.
    assert!(gas(&fifty) < 1 << 24);
}

#[test]
fn what_cannot_be_settled_is_refused_before_it_costs_gas() {
    let refused = |item: SettleItem| settle(SETTLER, &[interval(0, 1, None), item]).unwrap_err();
    let item = 1;
    assert_eq!(settle(SETTLER, &[]), Err(CallError::Empty));
    assert_eq!(
        settle(SETTLER, &vec![interval(0, 1, None); 51]),
        Err(CallError::TooManyItems { count: 51 })
    );
    assert_eq!(
        refused(interval(5, 5, None)),
        CallError::EmptyInterval { item }
    );
    assert_eq!(
        refused(interval(5, 4, None)),
        CallError::EmptyInterval { item }
    );
    for wrong in [
        Allowance {
            spender: OTHER,
            ..allowance()
        },
        Allowance {
            owner: OTHER,
            ..allowance()
        },
        Allowance {
            token: OTHER,
            ..allowance()
        },
    ] {
        assert_eq!(
            refused(interval(0, 5, Some(wrong))),
            CallError::Permit { item }
        );
    }
    for amount in [0, 11] {
        let signed = once(10);
        let amount = Amount::from(amount as u64);
        assert_eq!(
            refused(SettleItem::Once { signed, amount }),
            CallError::Amount { item }
        );
    }
    for signed in [
        Once {
            to: OTHER,
            ..once(10)
        },
        Once {
            facilitator: OTHER,
            ..once(10)
        },
        Once {
            spender: OTHER,
            ..once(10)
        },
    ] {
        let amount = Amount::from(6_u64);
        assert_eq!(
            refused(SettleItem::Once { signed, amount }),
            CallError::NotForSettler { item }
        );
    }
    for exact in [
        Exact::Eip3009(eip3009(OTHER)),
        Exact::Permit2(permit2(OTHER)),
        Exact::Permit2(Permit2Exact {
            spender: OTHER,
            ..permit2(SETTLER)
        }),
    ] {
        assert_eq!(
            refused(SettleItem::Exact(exact)),
            CallError::NotForSettler { item }
        );
    }
}

#[test]
fn an_item_is_simulated_as_the_settler_calls_it() {
    let request = simulate(SETTLER, &interval(0, 5, None));
    assert_eq!((request.from, request.to), (Some(SETTLER), Some(SETTLER)));
    assert!(Settler::runAllowanceCall::abi_decode(&request.input).is_ok());
}

#[test]
fn a_plain_accounts_calls_go_to_the_contract_that_takes_them() {
    let amount = Amount::from(6_u64);
    assert_eq!(permit(&allowance()).to, TOKEN);
    assert_eq!(transfer_from(TOKEN, OWNER, OTHER, amount).to, TOKEN);
    assert_eq!(upto_settle(&once(10), amount).to, addresses::UPTO_PROXY);
    assert_eq!(exact_settle(&permit2(OTHER)).to, addresses::EXACT_PROXY);
    let call = transfer_with_authorization(&eip3009(OTHER));
    assert_eq!(call.to, TOKEN);
    let decoded =
        IEip3009::transferWithAuthorizationCall::abi_decode_validate(&call.input).unwrap();
    assert_eq!((decoded.to, decoded.value), (OTHER, U256::from(7)));
    assert!(call.gas_limit > 200_000 + 21_000);
}
