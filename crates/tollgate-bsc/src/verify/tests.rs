use alloy_primitives::address;
use alloy_sol_types::SolEvent;
use tollgate_contracts::abi::{IErc20, Settler};
use tollgate_x402::Timestamp;

use super::*;
use crate::{BlockRef, Heads, Log, TxReceipt};

const TOKEN: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
const SETTLER: Address = address!("5e771e0000000000000000000000000000008402");
const TREASURY: Address = address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720");
const OWNER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const TRANSACTION: B256 = B256::repeat_byte(7);

fn block(number: u64) -> BlockRef {
    BlockRef {
        number,
        hash: B256::left_padding_from(&number.to_be_bytes()),
        timestamp: Timestamp(number),
    }
}

fn heads(finalized: u64) -> Heads {
    let mut heads = Heads::new(block(100), block(99), block(finalized));
    heads.canonical.push(block(90));
    heads
}

fn log(address: Address, event: impl SolEvent) -> Log {
    let data = event.encode_log_data();
    Log {
        address,
        topics: data.topics().to_vec(),
        data: data.data,
        index: 0,
        transaction: TRANSACTION,
        block: block(90).id(),
    }
}

/// A transaction that charged `from..to` and moved `moved`.
fn transaction(from: u64, to: u64, moved: u64) -> TxReceipt {
    TxReceipt {
        hash: TRANSACTION,
        block: block(90).id(),
        success: true,
        from: TREASURY,
        to: Some(SETTLER),
        gas_used: 0,
        gas_price: 0,
        logs: vec![
            log(
                TOKEN,
                IErc20::Transfer {
                    from: OWNER,
                    to: TREASURY,
                    value: U256::from(moved),
                },
            ),
            log(
                SETTLER,
                Settler::Charged {
                    token: TOKEN,
                    owner: OWNER,
                    from: U256::from(from),
                    to: U256::from(to),
                },
            ),
        ],
    }
}

fn receipt(amount: u64, from: u64, to: u64) -> SettlementReceipt {
    SettlementReceipt {
        payment: PaymentId::from_random([1; 16]),
        chain: ChainId::DEV,
        token: TOKEN,
        owner: OWNER,
        amount: Amount::from(amount),
        transaction: TRANSACTION,
        movement: Movement::Interval {
            settler: SETTLER,
            treasury: TREASURY,
            from: Amount::from(from),
            to: Amount::from(to),
        },
    }
}

fn reason(verdict: Verdict) -> Option<Unproven> {
    match verdict {
        Verdict::NotMoved { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn a_charge_inside_of_a_charged_interval_was_moved() {
    let batch = transaction(10, 30, 20);
    for (from, to) in [(10, 30), (10, 15), (15, 20), (25, 30)] {
        let verdict = receipt(to - from, from, to).judge(Some(&batch), &heads(98));
        assert_eq!(verdict, Verdict::Final(block(90).id()), "{from}..{to}");
    }
    let verdict = receipt(5, 10, 15).judge(Some(&batch), &heads(80));
    assert_eq!(verdict, Verdict::Included(block(90).id()));
}

#[test]
fn a_charge_that_reaches_out_of_the_interval_was_not() {
    let batch = transaction(10, 30, 20);
    for (from, to) in [(9, 15), (25, 31), (0, 100), (30, 35)] {
        let verdict = receipt(to - from, from, to).judge(Some(&batch), &heads(98));
        assert_eq!(
            reason(verdict),
            Some(Unproven::NoSuchTransfer),
            "{from}..{to}"
        );
    }
}

#[test]
fn a_receipt_whose_interval_is_not_its_amount_is_refused() {
    let batch = transaction(10, 30, 20);
    for bad in [receipt(6, 10, 15), receipt(0, 10, 10), receipt(5, 15, 10)] {
        let verdict = bad.judge(Some(&batch), &heads(98));
        assert_eq!(reason(verdict), Some(Unproven::Inconsistent));
    }
}

#[test]
fn a_settler_that_says_more_than_the_token_moved_is_found_out() {
    let batch = transaction(10, 30, 19);
    let verdict = receipt(20, 10, 30).judge(Some(&batch), &heads(98));
    assert_eq!(reason(verdict), Some(Unproven::Contradicted));
    let verdict = receipt(5, 10, 15).judge(Some(&batch), &heads(98));
    assert_eq!(reason(verdict), Some(Unproven::Contradicted));
}

#[test]
fn another_payers_or_tokens_or_settlers_interval_is_not_this_ones() {
    let batch = transaction(10, 30, 20);
    let right = receipt(5, 10, 15);
    let Movement::Interval { from, to, .. } = right.movement else {
        unreachable!()
    };
    let interval = |settler, treasury| Movement::Interval {
        settler,
        treasury,
        from,
        to,
    };
    for wrong in [
        SettlementReceipt {
            owner: TREASURY,
            ..right.clone()
        },
        SettlementReceipt {
            token: SETTLER,
            ..right.clone()
        },
        SettlementReceipt {
            movement: interval(TREASURY, TREASURY),
            ..right.clone()
        },
    ] {
        let verdict = wrong.judge(Some(&batch), &heads(98));
        assert_eq!(reason(verdict), Some(Unproven::NoSuchTransfer));
    }
    let other_treasury = SettlementReceipt {
        movement: interval(SETTLER, SETTLER),
        ..right
    };
    let verdict = other_treasury.judge(Some(&batch), &heads(98));
    assert_eq!(reason(verdict), Some(Unproven::Contradicted));
}

#[test]
fn no_receipt_or_anothers_or_one_of_a_lost_block_is_not_included() {
    let right = receipt(20, 10, 30);
    assert_eq!(right.judge(None, &heads(98)), Verdict::NotIncluded);
    let mut other = transaction(10, 30, 20);
    other.hash = B256::ZERO;
    assert_eq!(right.judge(Some(&other), &heads(98)), Verdict::NotIncluded);
    let mut lost = transaction(10, 30, 20);
    lost.block.hash = B256::repeat_byte(0xee);
    assert_eq!(right.judge(Some(&lost), &heads(98)), Verdict::NotIncluded);
}

#[test]
fn a_reverted_transaction_moved_nothing() {
    let mut reverted = transaction(10, 30, 20);
    reverted.success = false;
    let verdict = receipt(20, 10, 30).judge(Some(&reverted), &heads(98));
    assert_eq!(reason(verdict), Some(Unproven::Reverted));
}

#[test]
fn a_receipt_survives_json() {
    let before = receipt(20, 10, 30);
    let text = serde_json::to_string(&before).unwrap();
    assert!(text.contains(r#""kind":"interval""#), "{text}");
    assert_eq!(
        serde_json::from_str::<SettlementReceipt>(&text).unwrap(),
        before
    );
}
