//! What the tests share: a chain, a client of it, and payers who sign.

use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use alloy_signer::SignerSync as _;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use tollgate_bsc::{BlockTag, Call, Chain, ChainConfig, RawTransaction, Submission, TxReceipt};
use tollgate_contracts::{
    addresses::{EXACT_PROXY, PERMIT2, UPTO_PROXY},
    tokens::USD1,
};
use tollgate_devchain::{BlockTime, DEV_ACCOUNTS, DevChain, Development, Genesis};
use tollgate_x402::{
    Allowance, Amount, ChainId, Eip3009, Once, Permit2Exact, Signature65, Timestamp,
};

pub(crate) use tollgate_devchain::DEV_SETTLER as SETTLER;

/// Who operates the Settler.
pub(crate) const OPERATOR: usize = 7;
/// Who administers the tokens and the Settler.
pub(crate) const ADMIN: usize = 8;
/// The Settler's treasury.
pub(crate) const TREASURY: Address = DEV_ACCOUNTS[9].address;
pub(crate) const DEADLINE: Timestamp = Timestamp(4_000_000_000);
/// 0.05 gwei.
pub(crate) const PRICE: u128 = 50_000_000;

pub(crate) fn account(index: usize) -> Address {
    DEV_ACCOUNTS[index].address
}

pub(crate) fn amount(units: u64) -> Amount {
    Amount::from(units)
}

/// A chain whose blocks are made by hand, served over HTTP, and a client.
pub(crate) async fn manual() -> (DevChain, Chain) {
    started(BlockTime::Manual).await
}

pub(crate) async fn started(block_time: BlockTime) -> (DevChain, Chain) {
    let dev = serving(block_time, Genesis::development(&Development::default())).await;
    let chain = Chain::connect(config([&dev])).await.unwrap();
    (dev, chain)
}

pub(crate) async fn serving(block_time: BlockTime, genesis: Genesis) -> DevChain {
    let dev = DevChain::builder()
        .block_time(block_time)
        .genesis(genesis)
        .start()
        .unwrap();
    dev.serve(([127, 0, 0, 1], 0)).await.unwrap();
    dev
}

pub(crate) fn config<'a>(chains: impl IntoIterator<Item = &'a DevChain>) -> ChainConfig {
    let urls = chains.into_iter().map(|dev| dev.rpc_url().unwrap());
    ChainConfig {
        block_time: Duration::from_millis(20),
        ..ChainConfig::new(ChainId::DEV, urls)
    }
}

fn signature(index: usize, digest: B256) -> Signature65 {
    let signer = PrivateKeySigner::from_bytes(&DEV_ACCOUNTS[index].private_key).unwrap();
    let signature = signer.sign_hash_sync(&digest).unwrap();
    Signature65::from_bytes(&signature.as_bytes()).unwrap()
}

/// The transaction of a call, signed by a development account with its next nonce.
pub(crate) async fn signed(chain: &Chain, index: usize, call: Call) -> RawTransaction {
    let nonce = chain
        .transaction_count(account(index), BlockTag::Pending)
        .await
        .unwrap();
    signed_with(index, call, nonce, PRICE)
}

pub(crate) fn signed_with(index: usize, call: Call, nonce: u64, price: u128) -> RawTransaction {
    let request = call.into_transaction(ChainId::DEV, nonce, price);
    let signature = signature(index, request.signing_hash());
    request.into_raw(&signature)
}

/// Sends a call, makes the block, and gives the receipt.
pub(crate) async fn settled(dev: &DevChain, chain: &Chain, index: usize, call: Call) -> TxReceipt {
    let transaction = signed(chain, index, call).await;
    assert_eq!(chain.submit(&transaction.raw).await, Submission::Accepted);
    dev.mine();
    chain.receipt(transaction.hash).await.unwrap().unwrap()
}

sol! {
    struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    struct TransferWithAuthorization { address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce; }
}

mod exact {
    alloy_sol_types::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct Witness { address to; uint256 validAfter; }
        struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
    }
}

mod upto {
    alloy_sol_types::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct Witness { address to; address facilitator; uint256 validAfter; }
        struct PermitWitnessTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Witness witness; }
    }
}

fn domain(name: &'static str, version: Option<&'static str>, at: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some(name.into()),
        version.map(Into::into),
        Some(U256::from(ChainId::DEV.0)),
        Some(at),
        None,
    )
}

fn sign(index: usize, message: &impl SolStruct, domain: &Eip712Domain) -> Signature65 {
    signature(index, message.eip712_signing_hash(domain))
}

fn usd1() -> Eip712Domain {
    domain("World Liberty Financial USD", Some("1"), USD1)
}

fn permit2() -> Eip712Domain {
    domain("Permit2", None, PERMIT2)
}

pub(crate) fn allowance(index: usize, spender: Address, value: u64, nonce: u64) -> Allowance {
    let message = Permit {
        owner: account(index),
        spender,
        value: U256::from(value),
        nonce: U256::from(nonce),
        deadline: U256::from(DEADLINE.0),
    };
    Allowance {
        chain: ChainId::DEV,
        token: USD1,
        owner: account(index),
        spender,
        value: amount(value),
        nonce: U256::from(nonce),
        deadline: DEADLINE,
        signature: sign(index, &message, &usd1()),
    }
}

pub(crate) fn eip3009(index: usize, to: Address, value: u64, nonce: u8) -> Eip3009 {
    let message = TransferWithAuthorization {
        from: account(index),
        to,
        value: U256::from(value),
        validAfter: U256::ZERO,
        validBefore: U256::from(DEADLINE.0),
        nonce: B256::repeat_byte(nonce),
    };
    Eip3009 {
        chain: ChainId::DEV,
        token: USD1,
        owner: account(index),
        to,
        value: amount(value),
        valid_after: Timestamp(0),
        valid_before: DEADLINE,
        nonce: B256::repeat_byte(nonce),
        signature: sign(index, &message, &usd1()),
    }
}

pub(crate) fn once(index: usize, token: Address, to: Address, value: u64, nonce: u64) -> Once {
    let message = upto::PermitWitnessTransferFrom {
        permitted: upto::TokenPermissions {
            token,
            amount: U256::from(value),
        },
        spender: UPTO_PROXY,
        nonce: U256::from(nonce),
        deadline: U256::from(DEADLINE.0),
        witness: upto::Witness {
            to,
            facilitator: to,
            validAfter: U256::ZERO,
        },
    };
    Once {
        chain: ChainId::DEV,
        token,
        owner: account(index),
        amount: amount(value),
        spender: UPTO_PROXY,
        nonce: U256::from(nonce),
        deadline: DEADLINE,
        to,
        facilitator: to,
        valid_after: Timestamp(0),
        signature: sign(index, &message, &permit2()),
    }
}

pub(crate) fn permit2_exact(
    index: usize,
    token: Address,
    to: Address,
    value: u64,
    nonce: u64,
) -> Permit2Exact {
    let message = exact::PermitWitnessTransferFrom {
        permitted: exact::TokenPermissions {
            token,
            amount: U256::from(value),
        },
        spender: EXACT_PROXY,
        nonce: U256::from(nonce),
        deadline: U256::from(DEADLINE.0),
        witness: exact::Witness {
            to,
            validAfter: U256::ZERO,
        },
    };
    Permit2Exact {
        chain: ChainId::DEV,
        token,
        owner: account(index),
        amount: amount(value),
        spender: EXACT_PROXY,
        nonce: U256::from(nonce),
        deadline: DEADLINE,
        to,
        valid_after: Timestamp(0),
        signature: sign(index, &message, &permit2()),
    }
}

/// A call of a contract with plenty of gas.
pub(crate) fn call(to: Address, call: &impl alloy_sol_types::SolCall) -> Call {
    Call {
        to,
        input: call.abi_encode().into(),
        gas_limit: 200_000,
    }
}

/// An ERC-20 approval, of Permit2 for example.
pub(crate) fn approve(token: Address, spender: Address, value: U256) -> Call {
    call(
        token,
        &tollgate_contracts::abi::IErc20::approveCall { spender, value },
    )
}
