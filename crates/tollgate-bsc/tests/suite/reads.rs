use std::time::Duration;

use alloy_primitives::{Bytes, U256};
use tollgate_bsc::{
    BlockTag, CallRequest, Chain, ChainError, Finality, LogFilter, OwnerCode, PayerQuery, permit,
    transfer_from,
};
use tollgate_contracts::{
    abi::{IErc20, TestUsd1},
    addresses::PERMIT2,
    tokens::{USD1, USDT},
};
use tollgate_devchain::{BlockTime, Development, Fault, Genesis, Orphans, RpcError};
use tollgate_x402::{Address, Amount, Authorization, B256, Exact};

use crate::common::*;

fn million() -> Amount {
    Amount::new(U256::from(1_000_000) * U256::from(10).pow(U256::from(18)))
}

#[tokio::test]
async fn a_cold_payer_is_one_call_in_one_round_trip() {
    let (dev, chain) = manual().await;
    let before = chain.rpc_counts();
    dev.reset_rpc_counts();
    let signed = Authorization::Allowance(allowance(0, SETTLER, 1_000, 0));
    let query = PayerQuery::of(&signed, Some(SETTLER)).with_payee(TREASURY);
    let state = chain.payer(&query).await.unwrap();
    let counts = chain.rpc_counts().since(&before);
    assert_eq!((counts.total(), counts.of("eth_call")), (1, 1));
    assert_eq!(counts.round_trips, 1);
    assert_eq!(dev.rpc_total(), 1);

    assert_eq!(state.block, dev.head());
    assert_eq!(state.balance, million());
    assert_eq!(state.allowance, Amount::ZERO);
    assert_eq!(state.permit2_allowance, Amount::ZERO);
    assert_eq!(state.permit_nonce, Some(U256::ZERO));
    assert_eq!(state.counter, Some(Amount::ZERO));
    assert_eq!(state.paused, Some(false));
    assert_eq!(
        (state.owner_frozen, state.payee_frozen),
        (Some(false), Some(false))
    );
    assert_eq!(state.owner_code, OwnerCode::None);
    // Not asked for.
    assert_eq!(
        (state.permit2_nonce_used, state.authorization_used),
        (None, None)
    );
    assert!(!state.native_balance.is_zero());
}

#[tokio::test]
async fn what_a_plain_token_lacks_is_none_and_what_was_asked_is_there() {
    let (_dev, chain) = manual().await;
    let signed = Authorization::Once(once(0, USDT, SETTLER, 1_000, 300));
    let state = chain.payer(&PayerQuery::of(&signed, None)).await.unwrap();
    assert_eq!(state.permit_nonce, None);
    assert_eq!(state.authorization_used, None);
    assert_eq!((state.paused, state.owner_frozen), (None, None));
    assert_eq!(state.permit2_nonce_used, Some(false));
    assert_eq!(state.counter, None);
}

#[tokio::test]
async fn nonces_allowances_and_the_admins_powers_show() {
    let (dev, chain) = manual().await;
    settled(&dev, &chain, 1, permit(&allowance(0, SETTLER, 1_000, 0))).await;
    settled(&dev, &chain, 0, approve(USD1, PERMIT2, U256::MAX)).await;
    let paid = eip3009(0, TREASURY, 5, 1);
    settled(
        &dev,
        &chain,
        1,
        tollgate_bsc::transfer_with_authorization(&paid),
    )
    .await;
    let burned = TestUsd1::freezeCall {
        account: account(0),
    };
    settled(&dev, &chain, ADMIN, call(USD1, &burned)).await;
    settled(&dev, &chain, ADMIN, call(USD1, &TestUsd1::pauseCall {})).await;

    let signed = Authorization::Exact(Exact::Eip3009(paid));
    let state = chain.payer(&PayerQuery::of(&signed, None)).await.unwrap();
    assert_eq!(state.authorization_used, Some(true));
    assert_eq!(state.permit_nonce, Some(U256::from(1)));
    assert_eq!(state.permit2_allowance, Amount::new(U256::MAX));
    assert_eq!((state.paused, state.owner_frozen), (Some(true), Some(true)));
    assert_eq!(state.payee_frozen, Some(false));
    // The query's spender is Permit2 here, the permit's is the Settler.
    let signed = Authorization::Allowance(allowance(0, SETTLER, 1_000, 1));
    let state = chain.payer(&PayerQuery::of(&signed, None)).await.unwrap();
    assert_eq!(state.allowance, amount(1_000));
}

#[tokio::test]
async fn an_owner_with_code_is_told_by_the_kind_of_its_code() {
    let delegate = Address::repeat_byte(0xde);
    let delegation: Bytes = [&[0xef, 0x01, 0x00], delegate.as_slice()].concat().into();
    let wallet = Address::repeat_byte(0xc0);
    let genesis = Genesis::development(&Development::default())
        .code(account(0), delegation)
        .code(wallet, vec![0x60, 0x00]);
    let dev = serving(BlockTime::Manual, genesis).await;
    let chain = Chain::connect(config([&dev])).await.unwrap();
    let query = PayerQuery::of(&Authorization::Once(once(0, USD1, SETTLER, 1, 0)), None);
    let state = chain.payer(&query).await.unwrap();
    assert_eq!(state.owner_code, OwnerCode::Delegated(delegate));
    let query = PayerQuery {
        owner: wallet,
        ..query
    };
    let state = chain.payer(&query).await.unwrap();
    assert!(matches!(state.owner_code, OwnerCode::Contract { .. }));
}

#[tokio::test]
async fn where_there_is_no_token_there_is_no_state() {
    let (_dev, chain) = manual().await;
    for token in [Address::repeat_byte(0x77), PERMIT2] {
        let query = PayerQuery {
            token,
            ..PayerQuery::of(&Authorization::Once(once(0, USD1, SETTLER, 1, 0)), None)
        };
        assert_eq!(chain.payer(&query).await, Err(ChainError::NotAToken(token)));
    }
}

#[tokio::test]
async fn a_transaction_becomes_included_then_final_and_is_read_in_two_round_trips() {
    let (dev, chain) = manual().await;
    dev.mine_blocks(5);
    let receipt = settled(&dev, &chain, 0, approve(USD1, PERMIT2, U256::from(7))).await;
    assert!(receipt.success);
    assert_eq!((receipt.from, receipt.to), (account(0), Some(USD1)));
    assert_eq!(receipt.gas_price, PRICE);
    assert_eq!(receipt.logs.len(), 1);

    let before = chain.rpc_counts();
    let sight = chain.sight(&[receipt.hash]).await.unwrap();
    let counts = chain.rpc_counts().since(&before);
    assert_eq!(counts.round_trips, 2);
    assert_eq!(
        sight.heads.finality(receipt.block),
        Finality::Included(receipt.block)
    );
    dev.mine();
    let sight = chain.sight(&[receipt.hash]).await.unwrap();
    assert!(!sight.heads.finality(receipt.block).is_final());
    dev.mine_blocks(7);
    let sight = chain.sight(&[receipt.hash, B256::ZERO]).await.unwrap();
    assert_eq!(
        sight.heads.finality(receipt.block),
        Finality::Final(receipt.block)
    );
    assert_eq!(sight.receipts, [Some(receipt.clone()), None]);
    // Without the canonical block at its number nothing is called final.
    let heads = chain.heads().await.unwrap();
    assert_eq!(
        heads.finality(receipt.block),
        Finality::Included(receipt.block)
    );
    assert!(chain.transaction_known(receipt.hash).await.unwrap());
    assert!(!chain.transaction_known(B256::ZERO).await.unwrap());
}

#[tokio::test]
async fn a_receipt_of_a_block_that_was_reorganised_away_proves_nothing() {
    let (dev, chain) = manual().await;
    dev.mine_blocks(5);
    let old = settled(&dev, &chain, 0, approve(USD1, PERMIT2, U256::from(7))).await;
    dev.reorg(1, Orphans::Vanish).unwrap();
    assert_eq!(chain.receipt(old.hash).await.unwrap(), None);
    dev.mine_blocks(5);
    let heads = chain.heads_with(&[old.block.number]).await.unwrap();
    assert_eq!(heads.finality(old.block), Finality::NotIncluded);
}

#[tokio::test]
async fn waiting_polls_at_the_block_time_until_the_transaction_is_there_or_final() {
    let (_dev, chain) = started(BlockTime::Interval(Duration::from_millis(20))).await;
    let within = Duration::from_secs(20);
    let transaction = signed(&chain, 0, approve(USD1, PERMIT2, U256::from(7))).await;
    assert_eq!(
        chain.submit(&transaction.raw).await,
        tollgate_bsc::Submission::Accepted
    );
    let included = chain.included(transaction.hash, within).await.unwrap();
    let last = chain.finalized(transaction.hash, within).await.unwrap();
    assert_eq!(included, last);
    assert!(last.is_some());
    let none = chain.included(B256::ZERO, Duration::from_millis(50)).await;
    assert_eq!(none, Ok(None));
}

#[tokio::test]
async fn calls_are_simulated_and_their_reverts_told() {
    let (_dev, chain) = manual().await;
    let moves = transfer_from(USD1, account(0), account(1), amount(5));
    let error = chain
        .call(&moves.simulated_from(account(1)), BlockTag::Latest)
        .await
        .unwrap_err();
    let ChainError::Reverted { data, .. } = error else {
        panic!("{error}")
    };
    let reason =
        <TestUsd1::ERC20InsufficientAllowance as alloy_sol_types::SolError>::abi_decode(&data)
            .unwrap();
    assert_eq!(reason.needed, U256::from(5));
    let approval = approve(USD1, PERMIT2, U256::from(7)).simulated_from(account(0));
    let gas = chain.estimate(&approval).await.unwrap();
    assert!((40_000..60_000).contains(&gas), "{gas}");
    let supply = CallRequest {
        to: Some(USD1),
        input: alloy_sol_types::SolCall::abi_encode(&IErc20::totalSupplyCall {}).into(),
        ..CallRequest::default()
    };
    let returned = chain
        .call_agreed(&supply, BlockTag::Finalized)
        .await
        .unwrap();
    assert_eq!(returned.len(), 32);
}

#[tokio::test]
async fn logs_are_found_over_several_ranges() {
    let (dev, chain) = manual().await;
    for value in 1..=3 {
        settled(&dev, &chain, 0, approve(USD1, PERMIT2, U256::from(value))).await;
        dev.mine_blocks(3);
    }
    let config = tollgate_bsc::ChainConfig {
        max_log_range: 4,
        ..config([&dev])
    };
    let chain = Chain::connect(config).await.unwrap();
    let filter = LogFilter {
        addresses: vec![USD1],
        topics: vec![Some(
            <IErc20::Approval as alloy_sol_types::SolEvent>::SIGNATURE_HASH,
        )],
        blocks: 0..=dev.head(),
    };
    let logs = chain.logs(&filter).await.unwrap();
    assert_eq!(logs.len(), 3);
    assert!(logs.windows(2).all(|pair| pair[0].block < pair[1].block));
    assert!(chain.rpc_counts().of("eth_getLogs") > 1);
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_not_believed_that_there_are_no_events() {
    let (behind, _) = manual().await;
    let (dev, alone) = manual().await;
    settled(&dev, &alone, 0, approve(USD1, PERMIT2, U256::from(1))).await;
    let chain = Chain::connect(config([&behind, &dev])).await.unwrap();
    let until = |block| LogFilter {
        addresses: vec![USD1],
        topics: vec![Some(
            <IErc20::Approval as alloy_sol_types::SolEvent>::SIGNATURE_HASH,
        )],
        blocks: 0..=block,
    };
    assert!(behind.head() < dev.head());
    let logs = chain.logs(&until(dev.head())).await.unwrap();
    assert_eq!(logs.len(), 1);
    let error = chain.logs(&until(dev.head() + 1)).await.unwrap_err();
    assert!(matches!(error, ChainError::Behind { .. }), "{error}");
    assert!(!error.is_definite());
}

#[tokio::test]
async fn an_endpoint_that_offers_no_search_does_not_speak_for_one_that_may_answer_later() {
    let (refusing, _) = manual().await;
    let (other, _) = manual().await;
    let disabled = Fault::Error(RpcError::new(-32601, "eth_getLogs is disabled"));
    refusing.faults().always("eth_getLogs", disabled.clone());
    let filter = LogFilter {
        addresses: vec![USD1],
        topics: vec![],
        blocks: 0..=0,
    };
    for endpoints in [[&refusing, &other], [&other, &refusing]] {
        let chain = Chain::connect(config(endpoints)).await.unwrap();
        other.faults().next("eth_getLogs", 1, Fault::Status(503));
        let error = chain.logs(&filter).await.unwrap_err();
        assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
        assert!(!error.is_definite());
        other.faults().next("eth_getLogs", 1, disabled.clone());
        let error = chain.logs(&filter).await.unwrap_err();
        assert!(matches!(error, ChainError::Node { .. }), "{error}");
        assert!(chain.logs(&filter).await.is_ok());
    }
}

#[tokio::test]
async fn accounts_and_prices_are_read() {
    let (_dev, chain) = manual().await;
    assert_eq!(
        chain
            .transaction_count(account(0), BlockTag::Latest)
            .await
            .unwrap(),
        0
    );
    assert!(!chain.balance(account(0)).await.unwrap().is_zero());
    assert!(chain.gas_price().await.unwrap() >= PRICE);
    assert!(!chain.code(USD1).await.unwrap().is_empty());
    assert!(chain.code(account(0)).await.unwrap().is_empty());
}

#[test]
fn what_is_asked_can_be_asked_from_any_task() {
    fn is_send<T: Send>(_: impl FnOnce(&'static Chain) -> T) {}
    is_send(|chain| async move {
        let query = PayerQuery::of(&Authorization::Once(once(0, USD1, SETTLER, 1, 0)), None);
        let _ = chain.payer(&query).await;
        let _ = chain.sight(&[B256::ZERO]).await;
        let _ = chain.submit(&[]).await;
        let _ = chain.submit_sync(&[]).await;
        let _ = chain.finalized(B256::ZERO, Duration::ZERO).await;
        let _ = chain
            .call_agreed(&CallRequest::default(), BlockTag::Latest)
            .await;
        let _ = tollgate_bsc::doctor(chain, &tollgate_bsc::Doctor::default()).await;
    });
}
