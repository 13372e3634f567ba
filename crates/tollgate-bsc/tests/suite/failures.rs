use std::time::Duration;

use alloy_primitives::U256;
use tollgate_bsc::{
    Chain, ChainConfig, ChainError, Doubt, NotSentReason, Submission, SyncSubmission,
    check_sync_send,
};
use tollgate_contracts::{addresses::PERMIT2, tokens::USD1};
use tollgate_devchain::{BlockTime, DevChain, Fault, RpcError};
use tollgate_x402::ChainId;

use crate::common::*;

fn some_call() -> tollgate_bsc::Call {
    approve(USD1, PERMIT2, U256::from(7))
}

fn doubt(submission: &Submission) -> Option<Doubt> {
    match submission {
        Submission::Unknown(unknown) => Some(unknown.doubt),
        _ => None,
    }
}

fn refusal(submission: &Submission) -> Option<NotSentReason> {
    match submission {
        Submission::NotSent(refused) => Some(refused.reason),
        _ => None,
    }
}

#[tokio::test]
async fn the_same_bytes_can_be_sent_again_and_a_used_nonce_decides_nothing() {
    let (dev, chain) = manual().await;
    let transaction = signed(&chain, 0, some_call()).await;
    assert_eq!(chain.submit(&transaction.raw).await, Submission::Accepted);
    assert_eq!(chain.submit(&transaction.raw).await, Submission::Accepted);
    dev.mine();
    let other = signed_with(0, approve(USD1, PERMIT2, U256::from(8)), 0, PRICE);
    let answer = chain.submit(&other.raw).await;
    assert_eq!(doubt(&answer), Some(Doubt::NonceUsed), "{answer}");
}

#[tokio::test]
async fn a_nodes_refusals_are_told_apart() {
    let (_dev, chain) = manual().await;
    let first = signed_with(0, some_call(), 0, PRICE);
    assert_eq!(chain.submit(&first.raw).await, Submission::Accepted);
    let bump = signed_with(
        0,
        approve(USD1, PERMIT2, U256::from(8)),
        0,
        PRICE * 105 / 100,
    );
    let answer = chain.submit(&bump.raw).await;
    assert_eq!(
        refusal(&answer),
        Some(NotSentReason::ReplacementUnderpriced),
        "{answer}"
    );
    let enough = signed_with(
        0,
        approve(USD1, PERMIT2, U256::from(8)),
        0,
        PRICE * 1125 / 1000,
    );
    assert_eq!(chain.submit(&enough.raw).await, Submission::Accepted);
    let cheap = signed_with(1, some_call(), 0, 1);
    let answer = chain.submit(&cheap.raw).await;
    assert_eq!(
        refusal(&answer),
        Some(NotSentReason::Underpriced),
        "{answer}"
    );
    let starved = tollgate_bsc::Call {
        gas_limit: 21_000,
        ..some_call()
    };
    let answer = chain.submit(&signed_with(1, starved, 0, PRICE).raw).await;
    assert_eq!(refusal(&answer), Some(NotSentReason::GasLimit), "{answer}");
    let answer = chain.submit(&[0x02, 0xc0]).await;
    assert_ne!(answer, Submission::Accepted, "{answer}");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_transaction_may_be_there() {
    let (dev, chain) = manual().await;
    let transaction = signed(&chain, 0, some_call()).await;
    dev.faults().lose_answers("eth_sendRawTransaction", 1);
    let answer = chain.submit(&transaction.raw).await;
    assert_eq!(doubt(&answer), Some(Doubt::NoAnswer), "{answer}");
    dev.mine();
    assert!(chain.receipt(transaction.hash).await.unwrap().is_some());
}

#[tokio::test]
async fn what_gateways_say_instead_of_an_answer_is_unknown() {
    let (dev, chain) = manual().await;
    let transaction = signed(&chain, 0, some_call()).await;
    let forged = serde_json::json!(alloy_primitives::B256::ZERO);
    for (fault, expected) in [
        (Fault::Status(429), Doubt::RateLimited),
        (Fault::Status(502), Doubt::NoAnswer),
        (Fault::Status(503), Doubt::NoAnswer),
        (Fault::Truncate, Doubt::BrokenAnswer),
        (Fault::Forge(forged), Doubt::BrokenAnswer),
        (
            Fault::Error(RpcError::new(-32005, "limit exceeded")),
            Doubt::RateLimited,
        ),
        (
            Fault::Error(RpcError::new(-32000, "never heard of")),
            Doubt::Unrecognized,
        ),
    ] {
        dev.faults()
            .next("eth_sendRawTransaction", 1, fault.clone());
        let answer = chain.submit(&transaction.raw).await;
        assert_eq!(doubt(&answer), Some(expected), "{fault:?}: {answer}");
    }
}

#[tokio::test]
async fn a_node_that_never_answers_is_unknown_after_the_timeout() {
    // Accepts connections, and says nothing.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dev, chain) = manual().await;
    let urls = [format!("http://{}", deaf.local_addr().unwrap())];
    let config = ChainConfig {
        timeout: Duration::from_millis(50),
        ..ChainConfig::new(ChainId::DEV, urls)
    };
    let error = Chain::connect(config.clone()).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    // Behind one that answers, it is merely not asked.
    let urls = vec![dev.rpc_url().unwrap(), config.urls[0].clone()];
    let both = Chain::connect(ChainConfig { urls, ..config })
        .await
        .unwrap();
    dev.faults()
        .next("eth_sendRawTransaction", 1, Fault::Status(503));
    let transaction = signed(&chain, 0, some_call()).await;
    let answer = both.submit(&transaction.raw).await;
    assert_eq!(doubt(&answer), Some(Doubt::NoAnswer), "{answer}");
}

#[tokio::test]
async fn the_next_endpoint_answers_where_the_first_does_not() {
    let (dev, _) = manual().await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let urls = [format!("http://{closed}"), dev.rpc_url().unwrap()];
    let chain = Chain::connect(ChainConfig::new(ChainId::DEV, urls))
        .await
        .unwrap();
    assert_eq!(chain.heads().await.unwrap().latest.number, dev.head());
    let transaction = signed(&chain, 0, some_call()).await;
    assert_eq!(chain.submit(&transaction.raw).await, Submission::Accepted);
}

#[tokio::test]
async fn a_synchronous_submission_brings_the_receipt() {
    let (_dev, chain) = started(BlockTime::Interval(Duration::from_millis(20))).await;
    let transaction = signed(&chain, 0, some_call()).await;
    let answer = chain.submit_sync(&transaction.raw).await;
    assert_eq!(answer.submission, Submission::Accepted);
    assert_eq!(answer.receipt.unwrap().hash, transaction.hash);
    assert_eq!(chain.rpc_counts().of("eth_sendRawTransaction"), 0);
}

async fn without_sync() -> (DevChain, Chain) {
    let (dev, chain) = manual().await;
    let lacks = RpcError::new(
        -32601,
        "the method eth_sendRawTransactionSync does not exist/is not available",
    );
    dev.faults()
        .always("eth_sendRawTransactionSync", Fault::Error(lacks));
    (dev, chain)
}

#[tokio::test]
async fn a_node_without_the_synchronous_method_is_asked_for_it_once() {
    let (dev, chain) = without_sync().await;
    for value in 1..=2 {
        let call = approve(USD1, PERMIT2, U256::from(value));
        let transaction = signed(&chain, 0, call).await;
        let answer = chain.submit_sync(&transaction.raw).await;
        assert_eq!(
            answer,
            SyncSubmission {
                submission: Submission::Accepted,
                receipt: None
            }
        );
        dev.mine();
    }
    let counts = chain.rpc_counts();
    assert_eq!(counts.of("eth_sendRawTransactionSync"), 1);
    assert_eq!(counts.of("eth_sendRawTransaction"), 2);
}

#[tokio::test]
async fn only_an_endpoint_that_answers_is_said_to_have_the_synchronous_method() {
    let (has, _) = manual().await;
    let (lacks, _) = without_sync().await;
    let (silent, _) = manual().await;
    silent
        .faults()
        .always("eth_sendRawTransactionSync", Fault::Status(503));
    let chain = Chain::connect(config([&silent, &lacks, &has]))
        .await
        .unwrap();
    let check = check_sync_send(&chain).await;
    assert!(check.detail.starts_with("1 of 3 "), "{}", check.detail);
}

#[tokio::test]
async fn a_synchronous_wait_that_ends_early_leaves_the_transaction_in_the_pool() {
    let (dev, chain) = manual().await;
    let waited = RpcError::new(
        4,
        "The transaction was added to the transaction pool but wasn't processed in 5s",
    );
    dev.faults()
        .next("eth_sendRawTransactionSync", 1, Fault::Error(waited));
    let transaction = signed(&chain, 0, some_call()).await;
    let answer = chain.submit_sync(&transaction.raw).await;
    assert_eq!(answer.submission, Submission::Accepted);
    assert_eq!(answer.receipt, None);
}

#[tokio::test]
async fn reads_that_fail_say_whose_fault_it_is() {
    let (dev, chain) = manual().await;
    for (fault, definite) in [
        (Fault::Status(503), false),
        (Fault::Truncate, false),
        (Fault::Error(RpcError::new(-32005, "limit exceeded")), false),
        (
            Fault::Error(RpcError::new(-32601, "eth_getLogs is disabled")),
            true,
        ),
        (Fault::Forge(serde_json::json!("nonsense")), false),
    ] {
        dev.faults().next("eth_getBalance", 1, fault.clone());
        let error = chain.balance(account(0)).await.unwrap_err();
        assert_eq!(error.is_definite(), definite, "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn another_chain_is_refused_at_once() {
    let (dev, _) = manual().await;
    let config = ChainConfig {
        chain_id: ChainId::BSC,
        ..config([&dev])
    };
    let error = Chain::connect(config).await.unwrap_err();
    assert!(
        matches!(error, ChainError::WrongChain { actual: 31337, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_was_out_at_the_start_is_believed_in_nothing_before_it_names_our_chain() {
    let (ours, _) = manual().await;
    let (late, _) = manual().await;
    late.faults().always("eth_chainId", Fault::Status(503));
    let mut both = config([&ours, &late]);
    both.agreement = 1;
    let chain = Chain::connect(both).await.unwrap();
    // Ours goes out, and the other comes back as the node of another chain.
    ours.faults().always("eth_getBalance", Fault::Status(503));
    late.faults().lift("eth_chainId");
    let another = Fault::Forge(serde_json::json!("0x38"));
    late.faults().next("eth_chainId", 1, another);
    chain.balance(account(0)).await.unwrap_err();
    assert!(chain.balance(account(0)).await.is_ok(), "now it is of ours");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let (dev, _) = manual().await;
    let good = config([&dev]);
    for bad in [
        ChainConfig {
            agreement: 0,
            ..good.clone()
        },
        ChainConfig {
            agreement: 2,
            ..good.clone()
        },
        ChainConfig {
            urls: vec![],
            ..good.clone()
        },
        ChainConfig {
            urls: vec!["no url".into()],
            ..good.clone()
        },
        ChainConfig {
            urls: vec!["ws://127.0.0.1:1".into()],
            ..good.clone()
        },
        ChainConfig {
            timeout: Duration::ZERO,
            ..good.clone()
        },
    ] {
        let error = Chain::connect(bad).await.unwrap_err();
        assert!(matches!(error, ChainError::Config(_)), "{error}");
    }
}

#[tokio::test]
async fn the_key_in_an_url_is_in_no_error_and_no_debug() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let url = format!("http://user:hunter2@{closed}/v1/hunter2?key=hunter2");
    let config = ChainConfig::new(ChainId::DEV, [url]);
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = Chain::connect(config).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }));
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_node_that_takes_no_batches_is_asked_one_by_one() {
    let (dev, chain) = manual().await;
    let refused = RpcError::new(-32600, "batches are not offered");
    dev.faults()
        .next("eth_getBlockByNumber", 3, Fault::Error(refused));
    let heads = chain.heads().await.unwrap();
    assert_eq!(heads.latest.number, dev.head());
    assert_eq!(chain.rpc_counts().of("eth_getBlockByNumber"), 6);
}

#[tokio::test]
async fn an_endpoint_that_did_not_answer_is_asked_last_for_a_while() {
    let (first, _) = manual().await;
    let (second, _) = manual().await;
    let chain = Chain::connect(config([&first, &second])).await.unwrap();
    first.reset_rpc_counts();
    first.faults().next("eth_getBalance", 1, Fault::Status(503));
    for _ in 0..3 {
        chain.balance(account(0)).await.unwrap();
    }
    assert_eq!(first.rpc_total(), 1);
}
