//! What a facilitator's transaction says that its payer signed.

use alloy_sol_types::SolCall;
use tollgate_bsc::ChainTransaction;
use tollgate_contracts::{
    abi::{ExactProxy, IEip3009, UptoProxy},
    addresses::{EXACT_PROXY, UPTO_PROXY},
};
use tollgate_x402::{
    Amount, Authorization, ChainId, Eip3009, Exact, Once, Permit2Exact, Signature65, Timestamp,
    U256,
};

/// What was signed, from the calldata of the call that settled it. It holds what the contract held it to: a call that
/// succeeded was signed so.
pub(super) fn signed(sent: &ChainTransaction, chain: ChainId) -> Option<Authorization> {
    let to = sent.to?;
    if to == UPTO_PROXY {
        let call = UptoProxy::settleCall::abi_decode_validate(&sent.input).ok()?;
        return Some(Authorization::Once(Once {
            chain,
            token: call.permit.permitted.token,
            owner: call.owner,
            amount: Amount::new(call.permit.permitted.amount),
            spender: to,
            nonce: call.permit.nonce,
            deadline: seconds(call.permit.deadline),
            to: call.witness.to,
            facilitator: call.witness.facilitator,
            valid_after: seconds(call.witness.validAfter),
            signature: Signature65::from_bytes_or_compact(&call.signature).ok()?,
        }));
    }
    if to == EXACT_PROXY {
        let call = ExactProxy::settleCall::abi_decode_validate(&sent.input).ok()?;
        return Some(Authorization::Exact(Exact::Permit2(Permit2Exact {
            chain,
            token: call.permit.permitted.token,
            owner: call.owner,
            amount: Amount::new(call.permit.permitted.amount),
            spender: to,
            nonce: call.permit.nonce,
            deadline: seconds(call.permit.deadline),
            to: call.witness.to,
            valid_after: seconds(call.witness.validAfter),
            signature: Signature65::from_bytes_or_compact(&call.signature).ok()?,
        })));
    }
    let call = IEip3009::transferWithAuthorizationCall::abi_decode_validate(&sent.input).ok()?;
    Some(Authorization::Exact(Exact::Eip3009(Eip3009 {
        chain,
        token: to,
        owner: call.from,
        to: call.to,
        value: Amount::new(call.value),
        valid_after: seconds(call.validAfter),
        valid_before: seconds(call.validBefore),
        nonce: call.nonce,
        signature: Signature65::new(call.r, call.s, call.v == 28).ok()?,
    })))
}

fn seconds(time: U256) -> Timestamp {
    Timestamp(time.saturating_to())
}
