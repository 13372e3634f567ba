//! `eth_call` and `eth_estimateGas`.

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use revm::{
    DatabaseRef as _,
    bytecode::Bytecode,
    context::{
        BlockEnv, TxEnv,
        result::{EVMError, ExecutionResult, InvalidTransaction},
    },
    context_interface::either::Either,
    database::CacheDB,
    primitives::eip3860,
};
use serde_json::Value;

use super::{RpcError, params::Params, read::Seen, read::to_json};
use crate::{
    chain::Chain,
    evm::{self, Mode},
    node::Node,
    pool::TX_GAS_CAP,
    revert,
    state::View,
};

/// The most gas a call may use (BSC's `RPCGasCap`).
const CALL_GAS_CAP: u64 = 50_000_000;

/// What a plain transfer takes.
const TRANSFER_GAS: u64 = 21_000;

/// What a CALL with value gives along.
const CALL_STIPEND: u64 = 2_300;

/// A request made ready to run, any number of times.
struct Prepared<'a> {
    db: CacheDB<View<'a>>,
    chain: &'a Chain,
    block: BlockEnv,
    tx: TxEnv,
}

pub(super) fn call(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let chain = node.read();
    let prepared = Prepared::new(&chain, node, params)?;
    match prepared.run(prepared.tx.gas_limit)? {
        ExecutionResult::Success { output, .. } => to_json(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(reverted(&output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::node(revert::halt(&reason))),
    }
}

/// The least gas limit with which the transaction succeeds, to 1.5 % above,
/// by the same search as geth's.
pub(super) fn estimate(node: &Node, params: &Params) -> Result<Value, RpcError> {
    let chain = node.read();
    let prepared = Prepared::new(&chain, node, params)?;
    let asked: TransactionRequest = params.required(0)?;
    let mut high = asked
        .gas
        .filter(|gas| *gas >= TRANSFER_GAS)
        .unwrap_or(prepared.block.gas_limit)
        .min(TX_GAS_CAP);
    if let Some(affordable) = prepared.affordable()? {
        high = high.min(affordable);
    }
    if prepared.is_transfer() && prepared.succeeds(TRANSFER_GAS)? {
        return to_json(U256::from(TRANSFER_GAS));
    }
    let (used, refunded) = match prepared.run(high)? {
        ExecutionResult::Success { gas, .. } => (gas.tx_gas_used(), gas.inner_refunded()),
        ExecutionResult::Revert { output, .. } => return Err(reverted(&output)),
        ExecutionResult::Halt { reason, .. } => {
            let reason = revert::halt(&reason);
            return Err(RpcError::node(if reason == "out of gas" {
                format!("gas required exceeds allowance ({high})")
            } else {
                reason
            }));
        }
    };
    let mut low = used.saturating_sub(1);
    // Most transactions need no more than they used, the refund, and what a
    // call must leave behind (EIP-150).
    let likely = used
        .saturating_add(refunded)
        .saturating_add(CALL_STIPEND)
        .saturating_mul(64)
        / 63;
    if likely < high {
        if prepared.succeeds(likely)? {
            high = likely;
        } else {
            low = likely;
        }
    }
    while low + 1 < high && (high - low) * 1000 >= high * 15 {
        // Most need little more than the lower bound: never leap far above it.
        let middle = ((high + low) / 2).min(low.saturating_mul(2));
        if prepared.succeeds(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    to_json(U256::from(high))
}

impl<'a> Prepared<'a> {
    fn new(chain: &'a Chain, node: &Node, params: &Params) -> Result<Self, RpcError> {
        let request: TransactionRequest = params.required(0)?;
        let id = params.optional(1)?;
        let state: Option<StateOverride> = params.optional(2)?;
        let block: Option<BlockOverrides> = params.optional(3)?;
        let (view, at) = Seen::new(chain, node).state(id)?;
        let mut env = match id {
            Some(id) if id.is_pending() => evm::block_env(&chain.next_header()),
            _ => evm::block_env(&Header {
                gas_limit: chain.settings.block_gas_limit,
                ..at.header.clone()
            }),
        };
        if let Some(overrides) = block {
            override_block(&mut env, &overrides);
        }
        let mut db = CacheDB::new(view);
        for (address, account) in state.into_iter().flatten() {
            let mut info = db.db.account(address).cloned().unwrap_or_default();
            info.balance = account.balance.unwrap_or(info.balance);
            info.nonce = account.nonce.unwrap_or(info.nonce);
            if let Some(code) = account.code {
                let code = Bytecode::new_raw_checked(code)
                    .map_err(|error| RpcError::params(format!("invalid code: {error:?}")))?;
                info.set_code(code);
            }
            db.insert_account_info(address, info);
            let word = |(slot, value): (alloy_primitives::B256, alloy_primitives::B256)| {
                (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0))
            };
            if let Some(state) = account.state {
                let storage = state.into_iter().map(word).collect();
                let _ = db.replace_account_storage(address, storage);
            }
            for (slot, value) in account.state_diff.into_iter().flatten().map(word) {
                let _ = db.insert_account_storage(address, slot, value);
            }
        }
        let tx = tx_env(chain, &db, request)?;
        Ok(Self {
            db,
            chain,
            block: env,
            tx,
        })
    }

    fn run(&self, gas: u64) -> Result<ExecutionResult, RpcError> {
        let tx = TxEnv {
            gas_limit: gas,
            ..self.tx.clone()
        };
        let chain_id = self.chain.settings.chain_id;
        let caller = tx.caller;
        evm::run(&self.db, chain_id, self.block.clone(), tx, Mode::Call)
            .map(|(result, _)| result)
            .map_err(|error| refused(caller, error))
    }

    /// Whether this gas suffices. Too little to begin with is a no; another
    /// refusal is an error.
    fn succeeds(&self, gas: u64) -> Result<bool, RpcError> {
        let tx = TxEnv {
            gas_limit: gas,
            ..self.tx.clone()
        };
        let chain_id = self.chain.settings.chain_id;
        let caller = tx.caller;
        match evm::run(&self.db, chain_id, self.block.clone(), tx, Mode::Call) {
            Ok((result, _)) => Ok(result.is_success()),
            Err(EVMError::Transaction(
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            )) => Ok(false),
            Err(error) => Err(refused(caller, error)),
        }
    }

    /// The gas that the sender can pay at the price asked for, if one was.
    fn affordable(&self) -> Result<Option<u64>, RpcError> {
        if self.tx.gas_price == 0 {
            return Ok(None);
        }
        let balance = account(&self.db, self.tx.caller).0;
        let left = balance
            .checked_sub(self.tx.value)
            .ok_or_else(|| RpcError::node("insufficient funds for transfer"))?;
        let gas = left / U256::from(self.tx.gas_price);
        Ok(u64::try_from(gas).ok())
    }

    fn is_transfer(&self) -> bool {
        let TxKind::Call(to) = self.tx.kind else {
            return false;
        };
        let code = self.db.basic_ref(to).ok().flatten();
        self.tx.data.is_empty()
            && self.tx.authorization_list.is_empty()
            && self.tx.access_list.0.is_empty()
            && code.is_none_or(|info| info.is_empty_code_hash())
    }
}

/// Balance and nonce.
fn account(db: &CacheDB<View<'_>>, address: Address) -> (U256, u64) {
    match db.basic_ref(address) {
        Ok(Some(info)) => (info.balance, info.nonce),
        _ => (U256::ZERO, 0),
    }
}

fn tx_env(
    chain: &Chain,
    db: &CacheDB<View<'_>>,
    request: TransactionRequest,
) -> Result<TxEnv, RpcError> {
    if request.gas_price.is_some()
        && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(RpcError::node(
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
        ));
    }
    let have = request.chain_id.unwrap_or(chain.settings.chain_id);
    if have != chain.settings.chain_id {
        let want = chain.settings.chain_id;
        return Err(RpcError::node(format!(
            "chainId does not match node's (have={have}, want={want})"
        )));
    }
    if !request.input.unique_input().is_ok_and(|_| true) {
        return Err(RpcError::node(
            "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data",
        ));
    }
    let data = request.input.input().cloned().unwrap_or_default();
    let kind = request.to.unwrap_or(TxKind::Create);
    if kind.is_create() && data.len() > eip3860::MAX_INITCODE_SIZE {
        return Err(RpcError::node("max initcode size exceeded"));
    }
    let caller = request.from.unwrap_or_default();
    let nonce = request.nonce.unwrap_or_else(|| account(db, caller).1);
    let authorizations = request.authorization_list.unwrap_or_default();
    let tip = request.max_priority_fee_per_gas;
    let fee = request.gas_price.or(request.max_fee_per_gas).or(tip);
    // The type that the fields call for.
    let tx_type = if !authorizations.is_empty() {
        4
    } else if request.max_fee_per_gas.is_some() || tip.is_some() {
        2
    } else {
        u8::from(request.access_list.is_some())
    };
    Ok(TxEnv {
        tx_type,
        caller,
        gas_limit: request.gas.unwrap_or(CALL_GAS_CAP).min(CALL_GAS_CAP),
        gas_price: fee.unwrap_or_default(),
        gas_priority_fee: (tx_type >= 2).then(|| tip.unwrap_or_default()),
        kind,
        value: request.value.unwrap_or_default(),
        data,
        nonce,
        chain_id: Some(have),
        access_list: request.access_list.unwrap_or_default(),
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        ..TxEnv::default()
    })
}

fn override_block(env: &mut BlockEnv, overrides: &BlockOverrides) {
    env.number = overrides.number.unwrap_or(env.number);
    env.timestamp = overrides.time.map_or(env.timestamp, U256::from);
    env.gas_limit = overrides.gas_limit.unwrap_or(env.gas_limit);
    env.beneficiary = overrides.coinbase.unwrap_or(env.beneficiary);
    env.prevrandao = overrides.random.or(env.prevrandao);
}

/// Code 3 with the data, as geth.
fn reverted(data: &Bytes) -> RpcError {
    RpcError::new(3, revert::message(data)).with_data(data.to_string())
}

/// The transaction could not begin to run.
fn refused<E: std::fmt::Debug>(caller: Address, error: EVMError<E>) -> RpcError {
    RpcError::node(match error {
        EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => format!(
            "insufficient funds for gas * price + value: address {caller} have {balance} want {fee}"
        ),
        EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas,
            gas_limit,
        }) => format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}"),
        EVMError::Transaction(InvalidTransaction::GasFloorMoreThanGasLimit {
            gas_floor,
            gas_limit,
        }) => {
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
        }
        EVMError::Transaction(InvalidTransaction::PriorityFeeGreaterThanMaxFee) => {
            "max priority fee per gas higher than max fee per gas".to_owned()
        }
        EVMError::Transaction(other) => other.to_string(),
        other => format!("{other:?}"),
    })
}
