//! Blocks, tags, history, reorgs, time.

use crate::common::*;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use serde_json::{Value, json};
use tollgate_devchain::{
    BlockTime, DevChain, FEE_RECIPIENT, Genesis, Orphans, ReorgError, StartError,
};

const PAYEE: Address = Address::repeat_byte(0x42);

async fn number(chain: &DevChain, tag: &str) -> Value {
    let block = get(chain, "eth_getBlockByNumber", json!([tag, false])).await;
    block["number"].clone()
}

#[tokio::test]
async fn a_transfer_moves_value_and_pays_the_fee() {
    let chain = instant();
    let before = chain.total_balance();
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    let receipt = receipt(&chain, hash).await;
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["gasUsed"], "0x5208");
    assert_eq!(receipt["effectiveGasPrice"], "0x2faf080");
    assert_eq!(receipt["type"], "0x2");
    let fee = U256::from(21_000 * FLOOR);
    assert_eq!(chain.balance(PAYEE), U256::from(1));
    assert_eq!(chain.balance(FEE_RECIPIENT), fee);
    assert_eq!(chain.balance(address(0)), fortune() - fee - U256::from(1));
    assert_eq!(chain.total_balance(), before);
    assert_eq!(chain.nonce(address(0)), 1);
}

#[tokio::test]
async fn two_chains_of_the_same_steps_have_the_same_hashes() {
    let mut heads = Vec::new();
    for _ in 0..2 {
        let chain = manual();
        send(&chain, 0, tx(&chain, 0)).await.unwrap();
        chain.mine_blocks(3);
        heads.push(get(&chain, "eth_getBlockByNumber", json!(["latest", true])).await);
    }
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test]
async fn safe_is_one_and_finalized_two_behind_the_head() {
    let chain = manual();
    assert_eq!(number(&chain, "finalized").await, "0x0");
    chain.mine_blocks(5);
    assert_eq!(number(&chain, "latest").await, "0x5");
    assert_eq!(number(&chain, "safe").await, "0x4");
    assert_eq!(number(&chain, "finalized").await, "0x3");
    assert_eq!(number(&chain, "earliest").await, "0x0");
    assert_eq!(number(&chain, "pending").await, "0x6");
    assert_eq!(
        chain.head(),
        5,
        "looking at the next block does not make it"
    );
    let finalized = get(&chain, "eth_getFinalizedHeader", json!([-2])).await;
    assert_eq!(finalized["number"], "0x3");
}

#[tokio::test]
async fn frozen_finality_stays_and_catches_up() {
    let chain = manual();
    chain.mine_blocks(5);
    chain.freeze_finality(true);
    chain.mine_blocks(10);
    assert_eq!(chain.finalized(), 3);
    assert_eq!(number(&chain, "safe").await, "0x4");
    chain.freeze_finality(false);
    assert_eq!(chain.finalized(), 13);
}

#[tokio::test]
async fn the_lag_of_finality_is_a_setting() {
    let chain = builder(BlockTime::Manual).finality_lag(6).start().unwrap();
    chain.mine_blocks(10);
    assert_eq!(chain.finalized(), 4);
    assert_eq!(number(&chain, "safe").await, "0x7");
}

#[tokio::test]
async fn a_reorg_takes_the_receipt_and_the_money_back() {
    let chain = manual();
    chain.mine_blocks(3);
    let hash = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.mine();
    let old = get(&chain, "eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(chain.balance(PAYEE), U256::from(1));

    chain.reorg(1, Orphans::Vanish).unwrap();

    assert_eq!(chain.head(), 4);
    assert!(receipt(&chain, hash).await.is_null());
    assert!(
        get(&chain, "eth_getTransactionByHash", json!([hash]))
            .await
            .is_null()
    );
    assert_eq!(chain.balance(PAYEE), U256::ZERO);
    assert_eq!(chain.balance(address(0)), fortune());
    assert_eq!(chain.nonce(address(0)), 0);
    assert!(
        get(&chain, "eth_getBlockByHash", json!([old["hash"]]))
            .await
            .is_null()
    );
    let new = get(&chain, "eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(new["parentHash"], old["parentHash"]);
    assert_ne!(new["hash"], old["hash"]);

    // The same bytes can be sent again.
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.mine();
    assert_eq!(receipt(&chain, hash).await["blockNumber"], "0x5");
}

#[tokio::test]
async fn an_empty_block_that_is_replaced_has_another_hash() {
    let chain = manual();
    chain.mine_blocks(3);
    let head = json!(["latest", false]);
    let old = get(&chain, "eth_getBlockByNumber", head.clone()).await;
    chain.reorg(1, Orphans::Vanish).unwrap();
    let new = get(&chain, "eth_getBlockByNumber", head).await;
    assert_ne!(new["hash"], old["hash"]);
}

#[tokio::test]
async fn a_reorg_can_return_transactions_to_the_pool() {
    let chain = manual();
    chain.mine_blocks(3);
    let first = send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.mine();
    let second = send(&chain, 0, tx(&chain, 1)).await.unwrap();
    chain.mine();
    chain.reorg(2, Orphans::ReturnToPool).unwrap();
    assert_eq!(chain.waiting(), 2);
    assert!(receipt(&chain, first).await.is_null());
    chain.mine();
    assert_eq!(receipt(&chain, first).await["blockNumber"], "0x6");
    assert_eq!(receipt(&chain, second).await["blockNumber"], "0x6");
}

#[tokio::test]
async fn a_finalized_block_is_never_reorganized_away() {
    let chain = manual();
    chain.mine_blocks(5);
    assert_eq!(
        chain.reorg(3, Orphans::Vanish),
        Err(ReorgError::Finalized {
            depth: 3,
            head: 5,
            finalized: 3
        })
    );
    chain.reorg(2, Orphans::Vanish).unwrap();
    chain.freeze_finality(true);
    chain.mine_blocks(8);
    chain.reorg(10, Orphans::Vanish).unwrap();
    assert_eq!(chain.finalized(), 3);
    let error = chain
        .request("anvil_reorg", json!([11, []]))
        .await
        .unwrap_err();
    assert!(error.message.contains("finalized block 3"), "{error}");
}

#[tokio::test]
async fn the_past_can_be_read_as_far_as_it_is_remembered() {
    let chain = builder(BlockTime::Manual).history(4).start().unwrap();
    for nonce in 0..8 {
        send(&chain, 0, tx(&chain, nonce)).await.unwrap();
        chain.mine();
    }
    for block in 4..=8u64 {
        let at = format!("{block:#x}");
        let balance = get(&chain, "eth_getBalance", json!([PAYEE, at])).await;
        assert_eq!(balance, json!(at), "one wei a block");
        let nonce = json!([address(0), at]);
        assert_eq!(
            get(&chain, "eth_getTransactionCount", nonce).await,
            json!(at)
        );
    }
    let error = chain
        .request("eth_getBalance", json!([PAYEE, "0x3"]))
        .await
        .unwrap_err();
    assert_eq!(error.message, "historical state 3 is not available");
    let error = chain
        .request("eth_getBalance", json!([PAYEE, "0x9"]))
        .await
        .unwrap_err();
    assert_eq!(error.message, "header not found");
}

#[tokio::test]
async fn edits_show_at_the_head_and_history_keeps_what_was_before() {
    let chain = manual();
    chain.mine();
    let slot = U256::from(7);
    chain.mine();
    chain.set_storage(PAYEE, slot, U256::from(9));
    chain.mine();
    let read = |tag: &'static str| json!([PAYEE, slot, tag]);
    let word = |n: u8| json!(B256::with_last_byte(n));
    assert_eq!(
        get(&chain, "eth_getStorageAt", read("latest")).await,
        word(9)
    );
    assert_eq!(get(&chain, "eth_getStorageAt", read("0x2")).await, word(9));
    assert_eq!(get(&chain, "eth_getStorageAt", read("0x1")).await, word(0));
    get(&chain, "anvil_setCode", json!([PAYEE, "0x6001"])).await;
    assert_eq!(
        get(&chain, "eth_getCode", json!([PAYEE, "latest"])).await,
        "0x6001"
    );
    get(&chain, "anvil_setBalance", json!([PAYEE, "0x10"])).await;
    assert_eq!(chain.balance(PAYEE), U256::from(16));
}

#[tokio::test]
async fn time_is_the_chains_own_and_moves_when_told() {
    let chain = builder(BlockTime::Manual)
        .start_time(1_000)
        .start()
        .unwrap();
    assert_eq!(chain.timestamp(), 1_000);
    chain.mine_blocks(3);
    assert_eq!(chain.timestamp(), 1_001, "0, 450, 900, 1350 ms");
    chain.increase_time(3_600);
    chain.mine();
    assert_eq!(chain.timestamp(), 4_601);
    chain.set_time(10_000);
    chain.mine();
    assert_eq!(chain.timestamp(), 10_000);
    get(&chain, "evm_increaseTime", json!([60])).await;
    get(&chain, "evm_mine", json!([])).await;
    assert_eq!(chain.timestamp(), 10_060);
    let error = chain
        .request("evm_setNextBlockTimestamp", json!([10_059]))
        .await
        .unwrap_err();
    assert_eq!(error.code, -32602);
    chain.set_time(5);
    chain.mine();
    assert_eq!(chain.timestamp(), 10_060, "time never goes back");
}

#[tokio::test]
async fn time_can_come_from_outside() {
    let now = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(500));
    let clock = now.clone();
    let chain = builder(BlockTime::Manual)
        .clock(move || clock.load(std::sync::atomic::Ordering::Relaxed))
        .start()
        .unwrap();
    assert_eq!(chain.timestamp(), 500);
    now.store(700, std::sync::atomic::Ordering::Relaxed);
    chain.mine();
    assert_eq!(chain.timestamp(), 700);
    chain.increase_time(10);
    chain.mine();
    assert_eq!(chain.timestamp(), 710);
}

#[tokio::test]
async fn a_snapshot_brings_everything_back() {
    let chain = manual();
    chain.mine();
    let id = get(&chain, "evm_snapshot", json!([])).await;
    send(&chain, 0, tx(&chain, 0)).await.unwrap();
    chain.mine();
    chain.set_balance(PAYEE, U256::from(5));
    assert_eq!(get(&chain, "evm_revert", json!([id])).await, true);
    assert_eq!(chain.head(), 1);
    assert_eq!(chain.nonce(address(0)), 0);
    assert_eq!(chain.balance(PAYEE), U256::ZERO);
    assert_eq!(get(&chain, "evm_revert", json!([id])).await, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_at_the_interval_empty_or_not() {
    let chain = builder(BlockTime::Interval(std::time::Duration::from_millis(5)))
        .start()
        .unwrap();
    let (raw, _) = signed(0, tx(&chain, 0));
    let receipt = get(&chain, "eth_sendRawTransactionSync", json!([raw])).await;
    assert_eq!(receipt["status"], "0x1");
    let included = chain.head();
    for nonce in 1..4 {
        let (raw, _) = signed(0, tx(&chain, nonce));
        get(&chain, "eth_sendRawTransactionSync", json!([raw])).await;
    }
    assert!(chain.head() >= included + 3);
    chain.shutdown();
}

#[test]
fn an_interval_without_a_runtime_is_an_error() {
    assert!(matches!(
        DevChain::builder().start(),
        Err(StartError::NoRuntime)
    ));
}

#[test]
fn a_real_chain_id_needs_leave_and_keys_of_its_own() {
    // BSC, and networks that nobody has listed here: only 31337 is nobody's.
    for id in [56, 1, 10, 137, 204, 42_161, 31_338] {
        let real = || {
            DevChain::builder()
                .chain_id(id)
                .block_time(BlockTime::Manual)
        };
        let refused = real().start();
        assert!(matches!(refused, Err(StartError::RealChainId(of)) if of == id));
        assert!(matches!(
            real().genesis(funded()).allow_real_chain_id().start(),
            Err(StartError::WellKnownAccount { chain_id, .. }) if chain_id == id
        ));
        let own = Genesis::empty().fund(PAYEE, U256::from(1));
        real().genesis(own).allow_real_chain_id().start().unwrap();
    }
}

#[tokio::test]
async fn the_genesis_runs_constructors_where_the_contract_will_be() {
    // sstore(0, address()); sstore(1, the last 32 bytes of the code);
    // return the first byte of the code.
    let mut code =
        alloy_primitives::hex!("306000556020602038036000396000516001556001600060003960016000f3")
            .to_vec();
    code.extend(B256::with_last_byte(0x77));
    let at = Address::repeat_byte(0x11);
    let chain = DevChain::builder()
        .block_time(BlockTime::Manual)
        .genesis(Genesis::empty().deploy(at, address(0), code))
        .start()
        .unwrap();
    let slot = |n: u8| json!([at, B256::with_last_byte(n), "latest"]);
    assert_eq!(
        get(&chain, "eth_getStorageAt", slot(0)).await,
        json!(at.into_word())
    );
    assert_eq!(
        get(&chain, "eth_getStorageAt", slot(1)).await,
        json!(B256::with_last_byte(0x77))
    );
    assert_eq!(get(&chain, "eth_getCode", json!([at])).await, "0x30");
    assert_eq!(
        get(&chain, "eth_getTransactionCount", json!([at])).await,
        "0x1"
    );
    assert_eq!(
        get(&chain, "eth_getTransactionCount", json!([address(0)])).await,
        "0x0"
    );
}

#[test]
fn a_genesis_step_that_fails_names_the_contract() {
    let at = Address::repeat_byte(0x11);
    let error = DevChain::builder()
        .block_time(BlockTime::Manual)
        .genesis(Genesis::empty().deploy(at, address(0), vec![0x60, 0, 0x60, 0, 0xfd]))
        .start()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the genesis step at {at} failed: execution reverted")
    );
}

#[tokio::test]
async fn blockhash_prevrandao_and_the_fork_are_there() {
    let chain = manual();
    chain.mine_blocks(3);
    // return blockhash(number - 1): at the head block 3 this is block 2's.
    let code = Bytes::from(alloy_primitives::hex!("60014303405f5260205ff3").to_vec());
    let to = Address::repeat_byte(0x33);
    chain.set_code(to, code);
    let block = get(&chain, "eth_getBlockByNumber", json!(["0x2", false])).await;
    let hash = get(&chain, "eth_call", json!([{ "to": to }, "latest"])).await;
    assert_eq!(hash, block["hash"]);
    // P256VERIFY answers nothing to rubbish, and CLZ (EIP-7939) is Osaka's.
    let clz = alloy_primitives::hex!("60011e5f5260205ff3").to_vec();
    chain.set_code(to, clz);
    let zeros = get(&chain, "eth_call", json!([{ "to": to }, "latest"])).await;
    assert_eq!(zeros, json!(B256::with_last_byte(255)));
}

#[tokio::test]
async fn a_created_contract_has_its_address_in_the_receipt() {
    let chain = instant();
    let mut create = tx(&chain, 0);
    create.to = TxKind::Create;
    create.value = U256::ZERO;
    create.gas_limit = 100_000;
    // Returns the code 0x00.
    create.input = alloy_primitives::hex!("60016000f3").into();
    let hash = send(&chain, 0, create).await.unwrap();
    let receipt = receipt(&chain, hash).await;
    assert_eq!(receipt["status"], "0x1");
    let contract = address(0).create(0);
    assert_eq!(receipt["contractAddress"], json!(contract));
    assert!(receipt["to"].is_null());
    assert_eq!(get(&chain, "eth_getCode", json!([contract])).await, "0x00");
}

#[tokio::test]
async fn a_failed_transaction_is_included_pays_and_leaves_no_logs() {
    let chain = instant();
    let to = Address::repeat_byte(0x33);
    // log0(0, 0); revert(0, 0)
    chain.set_code(to, alloy_primitives::hex!("5f5fa05f5ffd").to_vec());
    let mut call = tx(&chain, 0);
    call.to = TxKind::Call(to);
    call.gas_limit = 100_000;
    let hash = send(&chain, 0, call).await.unwrap();
    let receipt = receipt(&chain, hash).await;
    assert_eq!(receipt["status"], "0x0");
    assert_eq!(receipt["logs"], json!([]));
    assert_eq!(chain.balance(to), U256::ZERO);
    assert!(chain.balance(address(0)) < fortune());
}

#[tokio::test]
async fn a_block_holds_no_more_than_its_gas() {
    let chain = builder(BlockTime::Manual)
        .block_gas_limit(50_000)
        .start()
        .unwrap();
    for nonce in 0..3 {
        send(&chain, 0, tx(&chain, nonce)).await.unwrap();
    }
    chain.mine();
    assert_eq!(chain.nonce(address(0)), 2);
    chain.mine();
    assert_eq!(chain.nonce(address(0)), 3);
    let mut large = tx(&chain, 3);
    large.gas_limit = 50_001;
    let error = send(&chain, 0, large).await.unwrap_err();
    assert_eq!(error.message, "exceeds block gas limit");
}

#[test]
fn the_keys_belong_to_the_addresses() {
    for (index, account) in tollgate_devchain::DEV_ACCOUNTS.iter().enumerate() {
        assert_eq!(signer(index).address(), account.address);
        assert!(tollgate_devchain::is_dev_account(account.address));
    }
    assert!(!tollgate_devchain::is_dev_account(PAYEE));
}
