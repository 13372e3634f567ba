//! Running one transaction in revm under the rules of BSC's Osaka.

use alloy_consensus::{Header, Transaction as _, TxEnvelope, transaction::Recovered};
use alloy_primitives::U256;
use revm::{
    Context, DatabaseRef, ExecuteEvm as _, MainBuilder as _, MainContext as _,
    context::{
        BlockEnv, TxEnv,
        result::{EVMError, ExecutionResult},
    },
    context_interface::either::Either,
    database_interface::WrapDatabaseRef,
    primitives::hardfork::SpecId,
    state::EvmState,
};

/// The fork whose rules hold: Osaka, which BSC calls Mendel.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;

/// What is checked before execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A signed transaction going into a block.
    Block,
    /// `eth_call` and `eth_estimateGas`: any sender, any nonce, more gas.
    Call,
}

/// The block a transaction runs in.
pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: 0,
        difficulty: header.difficulty,
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    }
}

/// Runs a transaction. Nothing is written: the caller applies the changes.
pub(crate) fn run<DB: DatabaseRef>(
    db: DB,
    chain_id: u64,
    block: BlockEnv,
    tx: TxEnv,
    mode: Mode,
) -> Result<(ExecutionResult, EvmState), EVMError<DB::Error>> {
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(db))
        .with_block(block)
        .modify_cfg_chained(|cfg| {
            cfg.set_spec_and_mainnet_gas_params(SPEC);
            cfg.chain_id = chain_id;
            if mode == Mode::Call {
                cfg.disable_nonce_check = true;
                cfg.disable_eip3607 = true;
                cfg.tx_chain_id_check = false;
                cfg.tx_gas_limit_cap = Some(u64::MAX);
            }
        })
        .build_mainnet();
    evm.transact(tx).map(|done| (done.result, done.state))
}

/// A signed transaction as revm takes it.
pub(crate) fn tx_env(tx: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type().into(),
        caller: tx.signer(),
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        authorization_list: tx
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
        ..TxEnv::default()
    }
}
