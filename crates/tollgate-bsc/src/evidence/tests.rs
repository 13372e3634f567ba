use alloy_primitives::address;
use proptest::prelude::*;
use tollgate_x402::Timestamp;

use super::*;
use crate::{BlockId, BlockRef};

const TOKEN: Address = address!("8d0D000Ee44948FC98c9B98A4FA4921476f08B0d");
const OTHER_TOKEN: Address = address!("55d398326f99059fF775485246999027B3197955");
const SETTLER: Address = address!("5e771e0000000000000000000000000000008402");
const TREASURY: Address = address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720");
const OWNER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const OTHER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");

fn block(number: u64) -> BlockRef {
    BlockRef {
        number,
        hash: B256::left_padding_from(&number.to_be_bytes()),
        timestamp: Timestamp(number),
    }
}

/// The transaction is in block 90 of a chain that is final up to 98.
fn heads() -> Heads {
    let mut heads = Heads::new(block(100), block(99), block(98));
    heads.canonical.push(block(90));
    heads
}

fn log(by: Address, event: impl SolEvent) -> Log {
    let data = event.encode_log_data();
    Log {
        address: by,
        topics: data.topics().to_vec(),
        data: data.data,
        index: 0,
        transaction: B256::repeat_byte(7),
        block: block(90).id(),
    }
}

fn transfer(token: Address, from: Address, to: Address, value: u64) -> Log {
    let value = U256::from(value);
    log(token, IErc20::Transfer { from, to, value })
}

fn charged(from: u64, to: u64) -> Log {
    log(
        SETTLER,
        Settler::Charged {
            token: TOKEN,
            owner: OWNER,
            from: U256::from(from),
            to: U256::from(to),
        },
    )
}

fn skipped(from: u64, to: u64, actual: u64) -> Log {
    log(
        SETTLER,
        Settler::Skipped {
            token: TOKEN,
            owner: OWNER,
            from: U256::from(from),
            to: U256::from(to),
            actual: U256::from(actual),
        },
    )
}

fn failed(kind: Kind, index: u64) -> Log {
    log(
        SETTLER,
        Settler::Failed {
            kind: kind as u8,
            index: U256::from(index),
            token: TOKEN,
            owner: OWNER,
        },
    )
}

fn pulled(kind: Kind, nonce: u64, value: u64) -> Log {
    log(
        SETTLER,
        Settler::Pulled {
            kind: kind as u8,
            token: TOKEN,
            owner: OWNER,
            nonce: U256::from(nonce),
            amount: U256::from(value),
        },
    )
}

fn receipt(logs: Vec<Log>) -> TxReceipt {
    TxReceipt {
        hash: B256::repeat_byte(7),
        block: block(90).id(),
        success: true,
        from: OTHER,
        to: Some(SETTLER),
        gas_used: 100_000,
        gas_price: 50_000_000,
        logs,
    }
}

fn moves(value: u64) -> Claim {
    Claim::Transfer {
        token: TOKEN,
        from: OWNER,
        to: TREASURY,
        value: Amount::from(value),
        authorization: None,
    }
}

fn interval(from: u64, to: u64) -> Claim {
    Claim::Interval {
        settler: SETTLER,
        treasury: TREASURY,
        token: TOKEN,
        owner: OWNER,
        from: Amount::from(from),
        to: Amount::from(to),
    }
}

fn pull(kind: Kind, nonce: u64, value: u64) -> Claim {
    Claim::Pulled {
        settler: SETTLER,
        kind,
        token: TOKEN,
        owner: OWNER,
        nonce: U256::from(nonce),
        value: Amount::from(value),
    }
}

fn shows(claims: &[Claim], logs: Vec<Log>) -> Vec<ItemEvidence> {
    evidence(claims, Some(&receipt(logs)), &heads()).items
}

use ItemEvidence::{Contradicted, Failed, Moved, NotMoved, Skipped};

#[test]
fn a_transfer_is_proven_by_the_tokens_own_log_of_exactly_it() {
    let right = transfer(TOKEN, OWNER, TREASURY, 5);
    let proven = evidence(&[moves(5)], Some(&receipt(vec![right])), &heads());
    assert_eq!(proven.items, [Moved]);
    assert_eq!(proven.finality, Finality::Final(block(90).id()));
    assert!(proven.all_final());
    for (what, wrong) in [
        ("value", transfer(TOKEN, OWNER, TREASURY, 4)),
        ("more", transfer(TOKEN, OWNER, TREASURY, 6)),
        ("token", transfer(OTHER_TOKEN, OWNER, TREASURY, 5)),
        ("recipient", transfer(TOKEN, OWNER, OTHER, 5)),
        ("payer", transfer(TOKEN, OTHER, TREASURY, 5)),
        ("direction", transfer(TOKEN, TREASURY, OWNER, 5)),
        ("contract", transfer(SETTLER, OWNER, TREASURY, 5)),
    ] {
        assert_eq!(shows(&[moves(5)], vec![wrong]), [NotMoved], "{what}");
    }
    assert_eq!(shows(&[moves(5)], vec![]), [NotMoved]);
}

#[test]
fn an_approval_of_the_same_amount_is_no_transfer() {
    let approval = log(
        TOKEN,
        IErc20::Approval {
            owner: OWNER,
            spender: TREASURY,
            value: U256::from(5),
        },
    );
    assert_eq!(shows(&[moves(5)], vec![approval]), [NotMoved]);
}

#[test]
fn a_log_with_missing_or_extra_fields_proves_nothing() {
    let mut short = transfer(TOKEN, OWNER, TREASURY, 5);
    short.topics.pop();
    let mut long = transfer(TOKEN, OWNER, TREASURY, 5);
    long.topics.push(B256::ZERO);
    let mut empty = transfer(TOKEN, OWNER, TREASURY, 5);
    empty.data = Default::default();
    for bad in [short, long, empty] {
        assert_eq!(shows(&[moves(5)], vec![bad]), [NotMoved]);
    }
}

#[test]
fn one_transfer_proves_one_claim() {
    let one = || transfer(TOKEN, OWNER, TREASURY, 5);
    assert_eq!(shows(&[moves(5), moves(5)], vec![one()]), [Moved, NotMoved]);
    assert_eq!(
        shows(&[moves(5), moves(5)], vec![one(), one()]),
        [Moved, Moved]
    );
    // Nor do an interval's transfer and another claim share one.
    assert_eq!(
        shows(&[interval(0, 5), moves(5)], vec![one(), charged(0, 5)]),
        [Moved, NotMoved]
    );
}

#[test]
fn an_interval_needs_the_settlers_word_and_the_tokens() {
    let moved = || transfer(TOKEN, OWNER, TREASURY, 5);
    assert_eq!(
        shows(&[interval(10, 15)], vec![moved(), charged(10, 15)]),
        [Moved]
    );
    assert_eq!(shows(&[interval(10, 15)], vec![moved()]), [NotMoved]);
    assert_eq!(
        shows(&[interval(10, 15)], vec![moved(), charged(11, 16)]),
        [NotMoved]
    );
    assert_eq!(
        shows(&[interval(10, 15)], vec![charged(10, 15)]),
        [Contradicted]
    );
    let elsewhere = transfer(TOKEN, OWNER, OTHER, 5);
    assert_eq!(
        shows(&[interval(10, 15)], vec![elsewhere, charged(10, 15)]),
        [Contradicted]
    );
    let mut forged = charged(10, 15);
    forged.address = OTHER;
    assert_eq!(
        shows(&[interval(10, 15)], vec![moved(), forged]),
        [NotMoved]
    );
}

#[test]
fn an_empty_or_backward_interval_never_moved() {
    for (from, to) in [(5, 5), (6, 5)] {
        let logs = vec![transfer(TOKEN, OWNER, TREASURY, 0), charged(from, to)];
        assert_eq!(shows(&[interval(from, to)], logs), [NotMoved]);
    }
}

#[test]
fn a_skipped_interval_tells_where_the_counter_stood() {
    let actual = Amount::from(20_u64);
    assert_eq!(
        shows(&[interval(10, 15)], vec![skipped(10, 15, 20)]),
        [Skipped { actual }]
    );
    // The second try of what the first moved.
    let logs = vec![
        transfer(TOKEN, OWNER, TREASURY, 5),
        charged(10, 15),
        skipped(10, 15, 15),
    ];
    assert_eq!(
        shows(&[interval(10, 15), interval(10, 15)], logs),
        [
            Moved,
            Skipped {
                actual: Amount::from(15_u64)
            }
        ]
    );
}

#[test]
fn a_failed_item_is_told_from_one_that_moved() {
    let logs = vec![
        pulled(Kind::Once, 1, 5),
        transfer(TOKEN, OWNER, SETTLER, 5),
        failed(Kind::Once, 1),
    ];
    // In whichever order they are claimed.
    assert_eq!(
        shows(
            &[pull(Kind::Once, 2, 5), pull(Kind::Once, 1, 5)],
            logs.clone()
        ),
        [Failed, Moved]
    );
    // The failure of another kind is not this one's.
    assert_eq!(
        shows(
            &[pull(Kind::Eip3009, 2, 5), pull(Kind::Once, 1, 5)],
            logs.clone()
        ),
        [NotMoved, Moved]
    );
    assert_eq!(
        shows(&[interval(0, 5)], vec![failed(Kind::Allowance, 0)]),
        [Failed]
    );
}

#[test]
fn a_pulled_payment_is_told_by_kind_and_nonce() {
    let logs = || {
        vec![
            transfer(TOKEN, OWNER, SETTLER, 5),
            pulled(Kind::Permit2Exact, 9, 5),
        ]
    };
    assert_eq!(shows(&[pull(Kind::Permit2Exact, 9, 5)], logs()), [Moved]);
    for wrong in [
        pull(Kind::Eip3009, 9, 5),
        pull(Kind::Permit2Exact, 8, 5),
        pull(Kind::Permit2Exact, 9, 4),
    ] {
        assert_eq!(shows(&[wrong], logs()), [NotMoved]);
    }
    assert_eq!(
        shows(
            &[pull(Kind::Once, 9, 5)],
            vec![
                pulled(Kind::Once, 9, 5),
                transfer(TOKEN, OWNER, TREASURY, 5)
            ]
        ),
        [Contradicted]
    );
}

#[test]
fn a_used_nonce_is_not_a_payment() {
    let used = |nonce| {
        log(
            TOKEN,
            IEip3009::AuthorizationUsed {
                authorizer: OWNER,
                nonce,
            },
        )
    };
    let nonce = B256::repeat_byte(3);
    let claim = Claim::Transfer {
        token: TOKEN,
        from: OWNER,
        to: TREASURY,
        value: Amount::from(5_u64),
        authorization: Some(nonce),
    };
    let moved = || transfer(TOKEN, OWNER, TREASURY, 5);
    let claims = core::slice::from_ref(&claim);
    assert_eq!(shows(claims, vec![used(nonce)]), [NotMoved]);
    assert_eq!(shows(claims, vec![moved()]), [NotMoved]);
    assert_eq!(shows(claims, vec![used(B256::ZERO), moved()]), [NotMoved]);
    assert_eq!(shows(claims, vec![used(nonce), moved()]), [Moved]);
}

#[test]
fn a_reverted_transaction_moved_nothing_whatever_its_logs() {
    let mut reverted = receipt(vec![transfer(TOKEN, OWNER, TREASURY, 5)]);
    reverted.success = false;
    let shown = evidence(&[moves(5)], Some(&reverted), &heads());
    assert!(shown.reverted && shown.finality.is_final());
    assert_eq!(shown.items, [NotMoved]);
}

#[test]
fn final_is_only_what_the_canonical_chain_has_at_or_below_the_finalized_block() {
    let sure = |at: u64| {
        let mut heads = heads();
        heads.canonical.push(block(at));
        heads.finality(block(at).id())
    };
    assert_eq!(sure(97), Finality::Final(block(97).id()));
    assert_eq!(sure(98), Finality::Final(block(98).id()));
    assert_eq!(sure(99), Finality::Included(block(99).id()));
    assert_eq!(sure(100), Finality::Included(block(100).id()));
    // A number below the finalized one does not say which block it is.
    assert_eq!(
        heads().finality(block(95).id()),
        Finality::Included(block(95).id())
    );
    // Another block of the same number: reorganised away.
    for number in [90, 98, 99, 100] {
        let other = BlockId {
            number,
            hash: B256::repeat_byte(0xee),
        };
        assert_eq!(heads().finality(other), Finality::NotIncluded);
    }
}

#[test]
fn what_is_in_no_block_or_another_block_moved_nothing() {
    let shown = evidence(&[moves(5)], None, &heads());
    assert_eq!(shown.finality, Finality::NotIncluded);
    assert_eq!(shown.items, [NotMoved]);
    let mut gone = receipt(vec![transfer(TOKEN, OWNER, TREASURY, 5)]);
    gone.block.hash = B256::repeat_byte(0xee);
    let shown = evidence(&[moves(5)], Some(&gone), &heads());
    assert_eq!(shown.finality, Finality::NotIncluded);
    assert_eq!(shown.items, [NotMoved]);
}

proptest! {
    #[test]
    fn what_is_proven_is_never_more_than_what_moved(
        logs in proptest::collection::vec((0_u8..3, 0_u64..4, 1_u64..4), 0..12),
        claims in proptest::collection::vec((0_u8..3, 0_u64..4, 1_u64..4), 0..12),
    ) {
        let logs: Vec<Log> = logs.into_iter().map(|(what, from, value)| match what {
            0 => transfer(TOKEN, OWNER, TREASURY, value),
            1 => charged(from, from + value),
            _ => transfer(OTHER_TOKEN, OWNER, TREASURY, value),
        }).collect();
        let claims: Vec<Claim> = claims.into_iter().map(|(what, from, value)| match what {
            0 | 2 => moves(value),
            _ => interval(from, from + value),
        }).collect();
        let items = shows(&claims, logs.clone());
        let proven: U256 = claims.iter().zip(&items).filter(|(_, item)| **item == Moved)
            .map(|(claim, _)| match claim {
                Claim::Transfer { value, .. } => value.get(),
                Claim::Interval { from, to, .. } => to.get() - from.get(),
                Claim::Pulled { .. } => U256::ZERO,
            })
            .sum();
        let moved: U256 = logs.iter().filter(|log| log.address == TOKEN)
            .filter_map(Log::decode::<IErc20::Transfer>)
            .map(|event| event.value)
            .sum();
        prop_assert!(proven <= moved);
        // Each interval is proven at most as often as the Settler said so.
        for claim in &claims {
            if let Claim::Interval { from, to, .. } = claim {
                let said = logs.iter().filter_map(Log::decode::<Settler::Charged>)
                    .filter(|event| event.from == from.get() && event.to == to.get()).count();
                let believed = claims.iter().zip(&items)
                    .filter(|(other, item)| *other == claim && **item == Moved).count();
                prop_assert!(believed <= said);
            }
        }
    }

    #[test]
    fn all_that_moved_is_proven_in_any_order(
        values in proptest::collection::vec(1_u64..5, 1..10),
        seed in any::<u64>(),
    ) {
        let mut from = 0;
        let (mut logs, mut claims) = (Vec::new(), Vec::new());
        for value in values {
            logs.push(transfer(TOKEN, OWNER, TREASURY, value));
            logs.push(charged(from, from + value));
            claims.push(interval(from, from + value));
            from += value;
        }
        let turn = usize::try_from(seed % 10).unwrap() % claims.len();
        claims.rotate_left(turn);
        prop_assert!(shows(&claims, logs).iter().all(|item| *item == Moved));
    }
}
