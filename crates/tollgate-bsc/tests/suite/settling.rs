use alloy_primitives::U256;
use tollgate_bsc::{
    BlockTag, Chain, Claim, Evidence, ItemEvidence, Movement, SettleItem, SettlementReceipt,
    TxReceipt, Unproven, Verdict, evidence, exact_settle, permit, settle, simulate, sweep,
    transfer_from, transfer_with_authorization, upto_settle, verify_settlement,
};
use tollgate_contracts::{
    addresses::PERMIT2,
    tokens::{USD1, USDT},
};
use tollgate_devchain::DevChain;
use tollgate_x402::{Address, Allowance, Amount, B256, ChainId, Exact, PaymentId};

use crate::common::*;

fn interval(owner: usize, from: u64, to: u64, permit: Option<Allowance>) -> SettleItem {
    SettleItem::Allowance {
        token: USD1,
        owner: account(owner),
        from: amount(from),
        to: amount(to),
        permit,
    }
}

fn claims(items: &[SettleItem]) -> Vec<Claim> {
    items
        .iter()
        .map(|item| item.claim(SETTLER, TREASURY))
        .collect()
}

async fn shown(chain: &Chain, claims: &[Claim], transaction: B256) -> Evidence {
    let sight = chain.sight(&[transaction]).await.unwrap();
    evidence(claims, sight.receipts[0].as_ref(), &sight.heads)
}

async fn settle_all(dev: &DevChain, chain: &Chain, items: &[SettleItem]) -> TxReceipt {
    settled(dev, chain, OPERATOR, settle(SETTLER, items).unwrap()).await
}

async fn balance(chain: &Chain, token: Address, owner: Address) -> U256 {
    let request = tollgate_bsc::CallRequest {
        to: Some(token),
        input: alloy_sol_types::SolCall::abi_encode(
            &tollgate_contracts::abi::IErc20::balanceOfCall { owner },
        )
        .into(),
        ..Default::default()
    };
    U256::from_be_slice(&chain.call(&request, BlockTag::Latest).await.unwrap())
}

fn receipt(
    transaction: &TxReceipt,
    owner: usize,
    units: u64,
    movement: Movement,
) -> SettlementReceipt {
    SettlementReceipt {
        payment: PaymentId::from_random([1; 16]),
        chain: ChainId::DEV,
        token: USD1,
        owner: account(owner),
        amount: amount(units),
        transaction: transaction.hash,
        movement,
    }
}

#[tokio::test]
async fn one_settlement_of_all_kinds_is_proven_item_by_item_to_the_last_unit() {
    let (dev, chain) = manual().await;
    settled(&dev, &chain, 1, approve(USD1, PERMIT2, U256::MAX)).await;
    settled(&dev, &chain, 2, approve(USDT, PERMIT2, U256::MAX)).await;
    let items = [
        interval(0, 0, 600, Some(allowance(0, SETTLER, 1_000, 0))),
        interval(0, 600, 1_000, None),
        SettleItem::Once {
            signed: once(1, USD1, SETTLER, 500, 9),
            amount: amount(123),
        },
        SettleItem::Exact(Exact::Eip3009(eip3009(3, SETTLER, 77, 1))),
        SettleItem::Exact(Exact::Permit2(permit2_exact(2, USDT, SETTLER, 88, 5))),
    ];
    let treasury = balance(&chain, USD1, TREASURY).await;
    let settlement = settle_all(&dev, &chain, &items).await;
    let claims = claims(&items);
    let included = shown(&chain, &claims, settlement.hash).await;
    assert_eq!(included.items, [ItemEvidence::Moved; 5]);
    assert!(!included.all_final());
    dev.mine_blocks(2);
    assert!(shown(&chain, &claims, settlement.hash).await.all_final());
    assert_eq!(
        balance(&chain, USD1, TREASURY).await - treasury,
        U256::from(1_000)
    );

    let settler = SETTLER;
    let part = Movement::Interval {
        settler,
        treasury: TREASURY,
        from: amount(650),
        to: amount(700),
    };
    let nonce = U256::from(9);
    for (owner, units, movement) in [
        (0, 50, part),
        (1, 123, Movement::Once { settler, nonce }),
        (
            3,
            77,
            Movement::Eip3009 {
                settler,
                nonce: B256::repeat_byte(1),
            },
        ),
    ] {
        let right = receipt(&settlement, owner, units, movement);
        let verdict = verify_settlement(&chain, &right).await.unwrap();
        assert_eq!(verdict, Verdict::Final(settlement.block), "{movement:?}");
        // A receipt for anything else does not hold.
        let other_payer = SettlementReceipt {
            owner: account(4),
            ..right.clone()
        };
        let other_chain = SettlementReceipt {
            chain: ChainId::BSC,
            ..right.clone()
        };
        let more = SettlementReceipt {
            amount: amount(units + 1),
            ..right
        };
        for wrong in [other_payer, other_chain, more] {
            let verdict = verify_settlement(&chain, &wrong).await.unwrap();
            assert!(matches!(verdict, Verdict::NotMoved { .. }), "{wrong:?}");
        }
    }

    // What landed in the Settler goes to the treasury, and to nobody else.
    settled(&dev, &chain, 5, sweep(SETTLER, USD1)).await;
    assert_eq!(
        balance(&chain, USD1, TREASURY).await - treasury,
        U256::from(1_000 + 123 + 77)
    );
}

#[tokio::test]
async fn a_repeated_interval_is_skipped_and_a_failing_item_moves_nothing() {
    let (dev, chain) = manual().await;
    let first = [interval(0, 0, 600, Some(allowance(0, SETTLER, 1_000, 0)))];
    settle_all(&dev, &chain, &first).await;
    let items = [
        // Once more.
        interval(0, 0, 600, None),
        // More than the allowance leaves.
        interval(0, 600, 1_001, None),
        // Nobody signed for this much.
        SettleItem::Exact(Exact::Eip3009(tollgate_x402::Eip3009 {
            value: amount(78),
            ..eip3009(3, SETTLER, 77, 1)
        })),
        SettleItem::Exact(Exact::Eip3009(eip3009(3, SETTLER, 77, 2))),
    ];
    let settlement = settle_all(&dev, &chain, &items).await;
    assert!(settlement.success);
    let claims = claims(&items);
    let evidence = shown(&chain, &claims, settlement.hash).await;
    assert_eq!(
        evidence.items,
        [
            ItemEvidence::Skipped {
                actual: amount(600)
            },
            ItemEvidence::Failed,
            ItemEvidence::Failed,
            ItemEvidence::Moved,
        ]
    );
    // What a failed item's simulation says.
    let reason = chain
        .call(&simulate(SETTLER, &items[1]), BlockTag::Latest)
        .await;
    assert!(matches!(
        reason,
        Err(tollgate_bsc::ChainError::Reverted { .. })
    ));
    let movement = Movement::Interval {
        settler: SETTLER,
        treasury: TREASURY,
        from: amount(600),
        to: amount(700),
    };
    let never = receipt(&settlement, 0, 100, movement);
    let verdict = verify_settlement(&chain, &never).await.unwrap();
    assert!(matches!(
        verdict,
        Verdict::NotMoved {
            reason: Unproven::Failed,
            ..
        }
    ));
}

#[tokio::test]
async fn a_settlement_by_who_may_not_settle_moves_nothing() {
    let (dev, chain) = manual().await;
    let items = [interval(0, 0, 600, Some(allowance(0, SETTLER, 1_000, 0)))];
    let settlement = settled(&dev, &chain, 5, settle(SETTLER, &items).unwrap()).await;
    let evidence = shown(&chain, &claims(&items), settlement.hash).await;
    assert!(evidence.reverted);
    assert_eq!(evidence.items, [ItemEvidence::NotMoved]);
}

#[tokio::test]
async fn a_plain_account_settles_every_kind_by_itself() {
    let (dev, chain) = manual().await;
    let (seller, payee) = (OPERATOR, account(OPERATOR));
    settled(&dev, &chain, 1, approve(USD1, PERMIT2, U256::MAX)).await;
    settled(&dev, &chain, seller, permit(&allowance(0, payee, 1_000, 0))).await;
    let signed = eip3009(3, payee, 77, 1);
    let authorization = Some(signed.nonce);
    for (owner, units, authorization, call) in [
        (
            0,
            600,
            None,
            transfer_from(USD1, account(0), payee, amount(600)),
        ),
        (
            1,
            123,
            None,
            upto_settle(&once(1, USD1, payee, 500, 9), amount(123)),
        ),
        (
            1,
            88,
            None,
            exact_settle(&permit2_exact(1, USD1, payee, 88, 5)),
        ),
        (3, 77, authorization, transfer_with_authorization(&signed)),
    ] {
        let settlement = settled(&dev, &chain, seller, call).await;
        assert!(settlement.success);
        let claim = Claim::Transfer {
            token: USD1,
            from: account(owner),
            to: payee,
            value: amount(units),
            authorization,
        };
        let evidence = shown(&chain, &[claim], settlement.hash).await;
        assert_eq!(evidence.items, [ItemEvidence::Moved]);
        let right = receipt(&settlement, owner, units, Movement::Transfer { to: payee });
        let verdict = verify_settlement(&chain, &right).await.unwrap();
        assert_eq!(verdict, Verdict::Included(settlement.block));
        let elsewhere = receipt(
            &settlement,
            owner,
            units,
            Movement::Transfer { to: TREASURY },
        );
        let verdict = verify_settlement(&chain, &elsewhere).await.unwrap();
        assert!(matches!(verdict, Verdict::NotMoved { .. }));
    }
}

#[tokio::test]
async fn a_transfer_that_somebody_else_sent_first_is_found_by_its_nonce() {
    let (dev, chain) = manual().await;
    let signed = eip3009(3, TREASURY, 77, 1);
    let stranger = settled(&dev, &chain, 5, transfer_with_authorization(&signed)).await;
    let ours = settled(&dev, &chain, OPERATOR, transfer_with_authorization(&signed)).await;
    assert!(!ours.success);
    let claim = [Claim::Transfer {
        token: USD1,
        from: account(3),
        to: TREASURY,
        value: Amount::from(77_u64),
        authorization: Some(signed.nonce),
    }];
    let ours = shown(&chain, &claim, ours.hash).await;
    assert_eq!(
        (ours.reverted, ours.items[0]),
        (true, ItemEvidence::NotMoved)
    );
    let theirs = shown(&chain, &claim, stranger.hash).await;
    assert_eq!(theirs.items, [ItemEvidence::Moved]);
}
