//! The genesis for development, with the contracts' own interfaces.

use alloy_network::TransactionBuilder as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use alloy_provider::Provider as _;
use alloy_sol_types::{SolCall as _, SolEvent as _};
use serde_json::json;
use tollgate_contracts::{
    abi::{IErc20, Settler, TestUsd1},
    addresses::{CREATE2_DEPLOYER, EXACT_PROXY, PERMIT2, UPTO_PROXY},
    bytecode, lens, settler, tokens,
};
use tollgate_devchain::{
    BlockTime, DEV_SETTLER, DevChain, Development, Genesis, StartError, dev_accounts,
};

use crate::common::*;

fn development() -> DevChain {
    DevChain::builder()
        .block_time(BlockTime::Instant)
        .genesis(Genesis::development(&Development::default()))
        .start()
        .unwrap()
}

async fn read<C: alloy_sol_types::SolCall>(chain: &DevChain, to: Address, call: C) -> C::Return {
    let call = json!([{ "to": to, "data": Bytes::from(call.abi_encode()) }]);
    let output: Bytes = serde_json::from_value(get(chain, "eth_call", call).await).unwrap();
    C::abi_decode_returns(&output).unwrap()
}

async fn code(chain: &DevChain, at: Address) -> Bytes {
    serde_json::from_value(get(chain, "eth_getCode", json!([at])).await).unwrap()
}

fn million() -> U256 {
    U256::from(10).pow(U256::from(24))
}

#[tokio::test]
async fn each_development_account_holds_bnb_and_a_million_of_each_token_and_approves_nothing() {
    let chain = development();
    for owner in dev_accounts() {
        assert_eq!(chain.balance(owner), fortune());
        for token in [tokens::USD1, tokens::USDT] {
            let balance = read(&chain, token, IErc20::balanceOfCall { owner }).await;
            assert_eq!(balance, million());
            for spender in [PERMIT2, DEV_SETTLER, EXACT_PROXY, UPTO_PROXY] {
                let allowance = IErc20::allowanceCall { owner, spender };
                assert_eq!(read(&chain, token, allowance).await, U256::ZERO);
            }
        }
    }
    for token in [tokens::USD1, tokens::USDT] {
        let supply = read(&chain, token, IErc20::totalSupplyCall {}).await;
        assert_eq!(supply, million() * U256::from(10));
    }
}

#[tokio::test]
async fn the_contracts_stand_where_clients_look_for_them() {
    let chain = development();
    for (at, contract) in [
        (tokens::USD1, &bytecode::TEST_USD1),
        (tokens::USDT, &bytecode::TEST_USDT),
        (PERMIT2, &bytecode::SIGNATURE_TRANSFER),
        (EXACT_PROXY, &bytecode::EXACT_PROXY),
        (UPTO_PROXY, &bytecode::UPTO_PROXY),
    ] {
        assert_eq!(code(&chain, at).await, contract.runtime_bytes());
    }
    let token = tokens::token(chain.chain_id(), tokens::USD1).unwrap();
    let separator = read(&chain, token.address, TestUsd1::DOMAIN_SEPARATORCall {}).await;
    assert_eq!(Some(separator), token.domain_separator());
}

#[tokio::test]
async fn the_settler_knows_its_ledger_treasury_admin_and_operators() {
    let who = Development {
        ledger_id: B256::repeat_byte(0x1d),
        operators: vec![address(4), address(5)],
        ..Development::default()
    };
    let chain = DevChain::builder()
        .block_time(BlockTime::Instant)
        .genesis(Genesis::development(&who))
        .start()
        .unwrap();
    let at = who.settler;
    assert_eq!(
        code(&chain, at).await,
        settler::runtime(who.ledger_id, who.treasury)
    );
    assert_eq!(
        read(&chain, at, Settler::ledgerIdCall {}).await,
        who.ledger_id
    );
    assert_eq!(
        read(&chain, at, Settler::treasuryCall {}).await,
        who.treasury
    );
    assert_eq!(read(&chain, at, Settler::adminCall {}).await, who.admin);
    for (who, is) in [(address(4), true), (address(5), true), (address(7), false)] {
        let call = Settler::isOperatorCall { who };
        assert_eq!(read(&chain, at, call).await, is);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_moves_and_its_transfer_is_found_in_the_logs() {
    let chain = development();
    let client = client(&chain, 0).await;
    let to = Address::repeat_byte(0x42);
    let call = IErc20::transferCall {
        to,
        value: U256::from(5),
    };
    let request =
        <alloy_network::Ethereum as alloy_network::Network>::TransactionRequest::default()
            .with_to(tokens::USDT)
            .with_input(call.abi_encode());
    let receipt = client
        .send_transaction(request)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(receipt.status());
    let filter = alloy_rpc_types_eth::Filter::new()
        .address(tokens::USDT)
        .event_signature(IErc20::Transfer::SIGNATURE_HASH)
        .topic2(to.into_word())
        .from_block(0);
    let logs = client.get_logs(&filter).await.unwrap();
    assert_eq!(logs.len(), 1);
    let transfer = IErc20::Transfer::decode_log(&logs[0].inner).unwrap();
    assert_eq!((transfer.from, transfer.to), (address(0), to));
    assert_eq!(transfer.value, U256::from(5));
    let balance = |token| chain.token_balance(token, to);
    assert_eq!(balance(tokens::USDT), Ok(U256::from(5)));
    assert_eq!(balance(tokens::USD1), Ok(U256::ZERO));
    assert!(balance(to).unwrap_err().message.contains("is no token"));
}

#[tokio::test]
async fn a_payers_state_is_read_in_one_call_without_a_contract() {
    let chain = development();
    let query = lens::Query {
        token: tokens::USD1,
        owner: address(0),
        spender: DEV_SETTLER,
        settler: DEV_SETTLER,
        payee: address(9),
        permit2Word: U256::ZERO,
        eip3009Nonce: B256::ZERO,
    };
    let call = json!([{ "data": lens::call_data(&query) }, "latest"]);
    let output: Bytes = serde_json::from_value(get(&chain, "eth_call", call).await).unwrap();
    let state = lens::decode(&output).unwrap();
    assert_eq!(state.chainId, U256::from(31_337));
    assert_eq!(state.balance.get(), Some(million()));
    assert_eq!(state.allowance.get(), Some(U256::ZERO));
    assert_eq!(state.nonce.get(), Some(U256::ZERO));
    assert_eq!(state.charged.get(), Some(U256::ZERO));
    assert_eq!(state.paused.get(), Some(false));
    assert_eq!(state.timestamp, U256::from(chain.timestamp()));
    assert_eq!(chain.rpc_total(), 1);
}

#[tokio::test]
async fn the_create2_deployer_puts_code_where_salt_and_code_say() {
    let chain = development();
    // Returns the code 0x00.
    let init = hex!("60016000f3");
    let salt = B256::repeat_byte(7);
    let mut create = tx(&chain, 0);
    create.to = TxKind::Call(CREATE2_DEPLOYER);
    create.value = U256::ZERO;
    create.gas_limit = 200_000;
    create.input = [&salt[..], &init].concat().into();
    let call = json!([{ "to": CREATE2_DEPLOYER, "data": create.input.clone() }]);
    let expected = CREATE2_DEPLOYER.create2(salt, keccak256(init));
    assert_eq!(get(&chain, "eth_call", call).await, json!(expected));
    send(&chain, 0, create.clone()).await.unwrap();
    assert_eq!(code(&chain, expected).await, Bytes::from(vec![0]));
    // A second time there is a contract already.
    create.nonce = 1;
    let hash = send(&chain, 0, create).await.unwrap();
    assert_eq!(receipt(&chain, hash).await["status"], "0x0");
}

#[tokio::test]
async fn admins_and_operators_that_everybody_is_are_refused_on_a_real_chain_id() {
    let fresh = Address::repeat_byte(0x77);
    let own = Development {
        accounts: vec![fresh],
        treasury: fresh,
        admin: fresh,
        token_admin: fresh,
        operators: vec![fresh],
        ..Development::default()
    };
    let start = |who: &Development| {
        DevChain::builder()
            .chain_id(56)
            .allow_real_chain_id()
            .block_time(BlockTime::Manual)
            .genesis(Genesis::development(who))
            .start()
    };
    start(&own).unwrap();
    let operated = Development {
        operators: vec![address(7)],
        ..own.clone()
    };
    let paid = Development {
        treasury: address(9),
        ..own
    };
    for who in [operated, paid] {
        assert!(matches!(
            start(&who),
            Err(StartError::WellKnownAccount { chain_id: 56, .. })
        ));
    }
}
