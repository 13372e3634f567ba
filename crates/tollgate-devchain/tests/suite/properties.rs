//! What holds for every history, and for every request.

use alloy_primitives::{TxKind, U256};
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_devchain::{BlockTime, DevChain, FEE_RECIPIENT, Orphans};

use crate::common::*;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Pay { from: usize, to: usize, wei: u64 },
    Mine,
    Reorg { depth: u64, orphans: Orphans },
}

fn step() -> impl Strategy<Value = Step> {
    let orphans = prop_oneof![Just(Orphans::Vanish), Just(Orphans::ReturnToPool)];
    prop_oneof![
        6 => (0..PEOPLE, 0..PEOPLE, any::<u64>())
            .prop_map(|(from, to, wei)| Step::Pay { from, to, wei }),
        3 => Just(Step::Mine),
        1 => (1..4u64, orphans).prop_map(|(depth, orphans)| Step::Reorg { depth, orphans }),
    ]
}

const PEOPLE: usize = 4;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn balances_and_fees_are_conserved_and_the_past_is_as_it_was(
        steps in proptest::collection::vec(step(), 1..48)
    ) {
        block_on(live(steps));
    }

    #[test]
    fn no_request_makes_the_node_panic(
        calls in proptest::collection::vec((method(), proptest::collection::vec(value(), 0..4)), 1..24)
    ) {
        let chain = manual();
        chain.set_code(address(1), vec![0x5f, 0x35, 0x5f, 0x55, 0x5b, 0x5f, 0x56]);
        chain.mine_blocks(3);
        for (method, params) in calls {
            let answer = block_on(chain.handle(json!({ "id": 1, "method": method, "params": params })));
            prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
        }
        // It still works.
        chain.mine();
        block_on(get(&chain, "eth_getBlockByNumber", json!(["latest", true])));
    }
}

fn balances(chain: &DevChain) -> Vec<U256> {
    (0..PEOPLE)
        .map(|index| chain.balance(address(index)))
        .collect()
}

async fn live(steps: Vec<Step>) {
    let chain = builder(BlockTime::Manual).finality_lag(5).start().unwrap();
    let total = chain.total_balance();
    let mut past = vec![balances(&chain)];
    for step in steps {
        match step {
            Step::Pay { from, to, wei } => {
                let params = json!([address(from), "pending"]);
                let nonce = get(&chain, "eth_getTransactionCount", params).await;
                let nonce: U256 = serde_json::from_value(nonce).unwrap();
                let mut pay = tx(&chain, nonce.to());
                pay.to = TxKind::Call(address(to));
                pay.value = U256::from(wei);
                send(&chain, from, pay).await.unwrap();
            }
            Step::Mine => {
                chain.mine();
                past.push(balances(&chain));
            }
            Step::Reorg { depth, orphans } => {
                let kept = chain.head().checked_sub(depth);
                if let Some(kept) = kept.filter(|kept| *kept >= chain.finalized()) {
                    chain.reorg(depth, orphans).unwrap();
                    past.truncate(usize::try_from(kept).unwrap() + 1);
                    let fork = past.last().unwrap().clone();
                    past.resize(usize::try_from(chain.head()).unwrap() + 1, fork);
                }
            }
        }
        assert_eq!(chain.total_balance(), total);
        // Nonces say how much gas was paid for, and fees say the same.
        let sent: u64 = (0..PEOPLE).map(|index| chain.nonce(address(index))).sum();
        let fees = U256::from(u128::from(sent) * 21_000 * FLOOR);
        assert_eq!(chain.balance(FEE_RECIPIENT), fees);
    }
    for (block, balances) in past.into_iter().enumerate() {
        for (index, balance) in balances.into_iter().enumerate() {
            let params = json!([address(index), format!("{block:#x}")]);
            assert_eq!(get(&chain, "eth_getBalance", params).await, json!(balance));
        }
    }
}

/// Methods that answer without waiting.
fn method() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "eth_getBalance",
        "eth_getCode",
        "eth_getStorageAt",
        "eth_getTransactionCount",
        "eth_getBlockByNumber",
        "eth_getBlockByHash",
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "eth_getBlockReceipts",
        "eth_getLogs",
        "eth_feeHistory",
        "eth_call",
        "eth_estimateGas",
        "eth_sendRawTransaction",
        "dev_setBalance",
        "dev_setCode",
        "dev_setNonce",
        "dev_setStorageAt",
        "dev_increaseTime",
        "dev_setTime",
        "dev_reorg",
        "dev_snapshot",
        "dev_revert",
        "dev_dropTransaction",
        "dev_freezeFinality",
    ])
}

fn value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just(json!("latest")),
        Just(json!("pending")),
        Just(json!("finalized")),
        Just(json!(address(0))),
        Just(json!(address(1))),
        Just(json!("0x")),
        Just(json!("0x0")),
        Just(json!("0x3")),
        Just(json!("0xffffffffffffffff")),
        Just(json!(U256::MAX)),
        Just(json!("0x6080604052")),
        Just(json!(u64::MAX)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!([25.0, 1e300])),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    let name = proptest::sample::select(vec![
        "from",
        "to",
        "data",
        "input",
        "value",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "nonce",
        "accessList",
        "authorizationList",
        "type",
        "fromBlock",
        "toBlock",
        "address",
        "topics",
        "blockHash",
        "balance",
        "code",
        "state",
        "time",
        "number",
    ]);
    let object =
        proptest::collection::hash_map(name, word.clone(), 0..5).prop_map(|fields| json!(fields));
    prop_oneof![3 => word, 2 => object]
}
