//! What proves that somebody else's transaction settled this payment, and no other.
//!
//! A transfer of the right amount is not enough: a payer may make two payments of one amount, and whoever settles the
//! one could show it for the other. A transfer by EIP-3009 names its nonce in an event of the token. Permit2 does not:
//! there the transaction itself must be the x402 proxy's `settle` of just this permit. Called by way of another
//! contract it is not recognised.

use std::collections::BTreeSet;

use alloy_sol_types::{SolCall, SolEvent};
use tollgate_bsc::{
    Chain, ChainError, ChainTransaction, Claim, ItemEvidence, LogFilter, TokenTransfer, evidence,
};
use tollgate_contracts::abi::{ExactProxy, IEip3009, IErc20, UptoProxy};
use tollgate_x402::{Address, Amount, Authorization, B256, Exact, U256};

/// A settlement that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// In a finalized block.
    Final { transaction: B256, block: u64 },
    /// In a block that is not final.
    Included { transaction: B256, block: u64 },
}

/// Blocks that are searched in one payment's life, at most: a day of BSC's.
const MOST_BLOCKS: u64 = 200_000;
/// Blocks that are searched beyond the payment's age, since clocks differ.
const SLACK: u64 = 256;
/// Transactions of one payer to one payee that are looked at in one search, at most: the next one goes on with those that
/// it left.
const MOST_LOOKED_AT: usize = 64;

/// What a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Searched {
    /// The settlement.
    Found(Seen),
    /// There is none in the blocks that were searched.
    Nothing,
    /// There is none among those that were looked at, and more to look at.
    InPart,
}

/// The first of these transactions that settled the payment.
pub(super) async fn among(
    chain: &Chain,
    signed: &Authorization,
    amount: Amount,
    hashes: &[B256],
) -> Result<Option<Seen>, ChainError> {
    let mut included = None;
    for hash in hashes {
        let claim = claim(signed, amount);
        let called = proxy(signed);
        if let Some(proxy) = called {
            let transaction = chain.transaction(*hash).await?;
            if !transaction.is_some_and(|it| settles(&it, proxy, signed, amount)) {
                continue;
            }
        }
        let sight = chain.sight(&[*hash]).await?;
        let Some(receipt) = sight.receipts.first().and_then(Option::as_ref) else {
            continue;
        };
        // The receipt is what several nodes agreed on: the call is of it.
        if called.is_some_and(|proxy| receipt.to != Some(proxy)) || receipt.hash != *hash {
            continue;
        }
        let shown = evidence(&[claim], Some(receipt), &sight.heads);
        if shown.items != [ItemEvidence::Moved] {
            continue;
        }
        let (transaction, block) = (*hash, receipt.block.number);
        if shown.all_final() {
            return Ok(Some(Seen::Final { transaction, block }));
        }
        if shown.finality.block().is_some() {
            included = Some(Seen::Included { transaction, block });
        }
    }
    Ok(included)
}

/// Searches the chain's events for the settlement, back to when the payment was due. `others` are transactions that are
/// known to have settled something else.
pub(super) async fn search(
    chain: &Chain,
    signed: &Authorization,
    amount: Amount,
    head: u64,
    seconds: u64,
    others: &mut BTreeSet<B256>,
) -> Result<Searched, ChainError> {
    let millis = u64::try_from(chain.block_time().as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let age = seconds
        .saturating_mul(1_000)
        .checked_div(millis)
        .unwrap_or_default();
    let blocks = age.saturating_add(SLACK).min(MOST_BLOCKS);
    let topics = match signed {
        Authorization::Exact(Exact::Eip3009(signed)) => vec![
            Some(IEip3009::AuthorizationUsed::SIGNATURE_HASH),
            Some(signed.owner.into_word()),
            Some(signed.nonce),
        ],
        _ => vec![
            Some(IErc20::Transfer::SIGNATURE_HASH),
            Some(signed.owner().into_word()),
            Some(signed.payee().into_word()),
        ],
    };
    let filter = LogFilter {
        addresses: vec![signed.token()],
        topics,
        blocks: head.saturating_sub(blocks)..=head,
    };
    let called = proxy(signed);
    let (mut looked_at, mut unknown) = (0_usize, false);
    for log in chain.logs(&filter).await?.iter().rev() {
        // Of another amount, or of another permit.
        let other =
            called.is_some() && TokenTransfer::of(log).is_none_or(|moved| moved.amount != amount);
        if other || others.contains(&log.transaction) {
            continue;
        }
        if looked_at == MOST_LOOKED_AT {
            return Ok(Searched::InPart);
        }
        looked_at = looked_at.saturating_add(1);
        if let Some(proxy) = called {
            match chain.transaction(log.transaction).await? {
                Some(it) if settles(&it, proxy, signed, amount) => {}
                Some(_) => {
                    others.insert(log.transaction);
                    continue;
                }
                // Of a node that is behind, or keeps no old ones: it may be the one.
                None => {
                    unknown = true;
                    continue;
                }
            }
        }
        if let Some(seen) = among(chain, signed, amount, &[log.transaction]).await? {
            return Ok(Searched::Found(seen));
        }
        // The proxy was called for this very permit, and the nodes do not show what came of it yet.
        unknown |= called.is_some();
    }
    Ok(if unknown {
        Searched::InPart
    } else {
        Searched::Nothing
    })
}

/// The contract that a settling transaction must call itself.
const fn proxy(signed: &Authorization) -> Option<Address> {
    match signed {
        Authorization::Once(signed) => Some(signed.spender),
        Authorization::Exact(Exact::Permit2(signed)) => Some(signed.spender),
        Authorization::Exact(Exact::Eip3009(_)) | Authorization::Allowance(_) => None,
    }
}

fn claim(signed: &Authorization, amount: Amount) -> Claim {
    Claim::Transfer {
        token: signed.token(),
        from: signed.owner(),
        to: signed.payee(),
        value: amount,
        authorization: match signed {
            Authorization::Exact(Exact::Eip3009(signed)) => Some(signed.nonce),
            _ => None,
        },
    }
}

/// Whether a transaction is the proxy's settlement of this very permit, for this amount.
fn settles(
    transaction: &ChainTransaction,
    proxy: Address,
    signed: &Authorization,
    amount: Amount,
) -> bool {
    if transaction.to != Some(proxy) {
        return false;
    }
    let input = &transaction.input;
    match signed {
        Authorization::Once(signed) => {
            let (permit, moved, owner, to) =
                if let Ok(call) = UptoProxy::settleCall::abi_decode(input) {
                    (call.permit, call.amount, call.owner, call.witness.to)
                } else if let Ok(call) = UptoProxy::settleWithPermitCall::abi_decode(input) {
                    (call.permit, call.amount, call.owner, call.witness.to)
                } else {
                    return false;
                };
            let named = (permit.permitted.token, permit.nonce, owner, to, moved);
            named
                == (
                    signed.token,
                    signed.nonce,
                    signed.owner,
                    signed.to,
                    amount.get(),
                )
        }
        Authorization::Exact(Exact::Permit2(signed)) => {
            let (permit, owner, to) = if let Ok(call) = ExactProxy::settleCall::abi_decode(input) {
                (call.permit, call.owner, call.witness.to)
            } else if let Ok(call) = ExactProxy::settleWithPermitCall::abi_decode(input) {
                (call.permit, call.owner, call.witness.to)
            } else {
                return false;
            };
            let named: (Address, U256, Address, Address) =
                (permit.permitted.token, permit.nonce, owner, to);
            named == (signed.token, signed.nonce, signed.owner, signed.to)
        }
        Authorization::Exact(Exact::Eip3009(_)) | Authorization::Allowance(_) => false,
    }
}
