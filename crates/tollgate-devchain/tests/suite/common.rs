//! What the tests share: a chain with funded accounts, and signed transfers.

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_network::{EthereumWallet, TxSignerSync as _};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_provider::{Provider, ProviderBuilder};
use alloy_signer_local::PrivateKeySigner;
use serde_json::{Value, json};
use tollgate_devchain::{BlockTime, Builder, DEV_ACCOUNTS, DevChain, Genesis, RpcError};

/// 0.05 gwei.
pub(crate) const FLOOR: u128 = 50_000_000;

/// 10,000 BNB.
pub(crate) fn fortune() -> U256 {
    U256::from(10_000) * U256::from(10).pow(U256::from(18))
}

pub(crate) fn funded() -> Genesis {
    DEV_ACCOUNTS.iter().fold(Genesis::empty(), |genesis, dev| {
        genesis.fund(dev.address, fortune())
    })
}

pub(crate) fn manual() -> DevChain {
    builder(BlockTime::Manual).start().unwrap()
}

pub(crate) fn instant() -> DevChain {
    builder(BlockTime::Instant).start().unwrap()
}

pub(crate) fn builder(block_time: BlockTime) -> Builder {
    DevChain::builder().block_time(block_time).genesis(funded())
}

pub(crate) fn signer(index: usize) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[index].private_key).unwrap()
}

pub(crate) fn address(index: usize) -> Address {
    DEV_ACCOUNTS[index].address
}

/// A transaction of a development account, to be adjusted and signed.
pub(crate) fn tx(chain: &DevChain, nonce: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id: chain.chain_id(),
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: FLOOR,
        max_priority_fee_per_gas: FLOOR,
        to: TxKind::Call(Address::repeat_byte(0x42)),
        value: U256::from(1),
        ..TxEip1559::default()
    }
}

pub(crate) fn signed(index: usize, mut tx: TxEip1559) -> (Bytes, B256) {
    let signature = signer(index).sign_transaction_sync(&mut tx).unwrap();
    let envelope = TxEnvelope::from(tx.into_signed(signature));
    (envelope.encoded_2718().into(), *envelope.tx_hash())
}

/// Sends what the account signs.
pub(crate) async fn send(chain: &DevChain, index: usize, tx: TxEip1559) -> Result<B256, RpcError> {
    let (raw, hash) = signed(index, tx);
    let answer = chain
        .request("eth_sendRawTransaction", json!([raw]))
        .await?;
    assert_eq!(answer, json!(hash));
    Ok(hash)
}

pub(crate) async fn get(chain: &DevChain, method: &str, params: Value) -> Value {
    chain.request(method, params).await.unwrap()
}

pub(crate) async fn receipt(chain: &DevChain, hash: B256) -> Value {
    get(chain, "eth_getTransactionReceipt", json!([hash])).await
}

/// A client over HTTP that signs for a development account.
pub(crate) async fn client(chain: &DevChain, index: usize) -> impl Provider + Clone + use<> {
    let url = match chain.rpc_url() {
        Some(url) => url,
        None => {
            chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
            chain.rpc_url().unwrap()
        }
    };
    ProviderBuilder::new()
        .wallet(EthereumWallet::from(signer(index)))
        .connect_http(url.parse().unwrap())
}
