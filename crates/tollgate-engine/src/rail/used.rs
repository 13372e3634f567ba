//! What a nonce that is used says of a charge: that somebody has paid it, that it can never be paid, or nothing yet.

use alloy_sol_types::{SolCall, SolEvent};
use tollgate_bsc::{
    ChainError, ChainTransaction, Claim, Log, LogFilter, PayerQuery, TokenTransfer, evidence,
};
use tollgate_contracts::abi::{ExactProxy, IEip3009, IErc20};
use tollgate_eip712::Wallet;
use tollgate_payment::{LossReason, command::ItemFate};
use tollgate_x402::{Address, Eip3009, Exact, Permit2Exact};

use super::OwnRail;

/// How far back a transfer that somebody else executed is searched for: an hour of BSC's blocks.
const SEARCHED_BLOCKS: u64 = 8_000;

impl<W: Wallet> OwnRail<W> {
    /// What becomes of a payment that anybody could execute, and whose nonce somebody has used.
    pub(super) async fn used(&self, signed: &Exact, query: &PayerQuery) -> ItemFate {
        // Until the use is final nobody can tell whether it paid. That is no attempt which failed: where it was the last
        // one, the charge would be lost, and then paid.
        let Some(finalized) = self.used_up(query).await else {
            return ItemFate::Untried;
        };
        let found = match signed {
            Exact::Eip3009(signed) => self.paid_by(signed, finalized).await,
            Exact::Permit2(signed) => self.permit2_paid_by(signed, finalized).await,
        };
        match found {
            Ok(Search::Paid(paid)) => paid,
            // A node that does not show now what is final may do so later: the payer may well have paid.
            Ok(Search::Unclear) => ItemFate::Untried,
            Ok(Search::Nobody) => ItemFate::Again(LossReason::Nonce),
            Err(error) => {
                tracing::warn!(%error, "who used a payment's nonce cannot be searched for");
                if error.is_definite() {
                    ItemFate::Again(LossReason::Nonce)
                } else {
                    ItemFate::Untried
                }
            }
        }
    }

    /// The finalized block, if what was signed is used up there. Before that a reorganization may take out what used it,
    /// and the charge can be paid again; and so it may be where nobody can tell.
    pub(super) async fn used_up(&self, query: &PayerQuery) -> Option<u64> {
        let looked = async {
            let finalized = self.chain.heads().await?.finalized.number;
            let state = self.chain.payer_in(query, finalized).await?;
            Ok::<_, ChainError>(state.nonce_used().then_some(finalized))
        };
        looked.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "whether a nonce is used for good is not known");
            None
        })
    }

    /// The final transaction of somebody else that executed a transfer to us, where a node can search for it.
    async fn paid_by(&self, signed: &Eip3009, finalized: u64) -> Result<Search, ChainError> {
        let filter = LogFilter {
            addresses: vec![signed.token],
            topics: vec![
                Some(IEip3009::AuthorizationUsed::SIGNATURE_HASH),
                Some(signed.owner.into_word()),
                Some(signed.nonce),
            ],
            blocks: finalized.saturating_sub(SEARCHED_BLOCKS)..=finalized,
        };
        let claim = Claim::Transfer {
            token: signed.token,
            from: signed.owner,
            to: signed.to,
            value: signed.value,
            authorization: Some(signed.nonce),
        };
        let mut found = Search::Nobody;
        for log in self.chain.logs(&filter).await? {
            match self.executed(&claim, &log, None).await? {
                Search::Nobody => {}
                Search::Unclear => found = Search::Unclear,
                paid @ Search::Paid(_) => return Ok(paid),
            }
        }
        Ok(found)
    }

    /// The final transaction of somebody else that executed a Permit2 payment to us: anybody may call the exact proxy.
    ///
    /// Permit2 does not say which nonce a transfer used, so the transaction itself must be the proxy's `settle` of just
    /// this permit. Called by way of another contract it is not recognised: what such a transaction holds proves nothing.
    async fn permit2_paid_by(
        &self,
        signed: &Permit2Exact,
        finalized: u64,
    ) -> Result<Search, ChainError> {
        let filter = LogFilter {
            addresses: vec![signed.token],
            topics: vec![
                Some(IErc20::Transfer::SIGNATURE_HASH),
                Some(signed.owner.into_word()),
                Some(signed.to.into_word()),
            ],
            blocks: finalized.saturating_sub(SEARCHED_BLOCKS)..=finalized,
        };
        let claim = Claim::Transfer {
            token: signed.token,
            from: signed.owner,
            to: signed.to,
            value: signed.amount,
            authorization: None,
        };
        let mut found = Search::Nobody;
        for log in self.chain.logs(&filter).await? {
            if TokenTransfer::of(&log).is_none_or(|moved| moved.amount != signed.amount) {
                continue;
            }
            let Some(transaction) = self.chain.transaction(log.transaction).await? else {
                found = Search::Unclear;
                continue;
            };
            if !settles(&transaction, signed) {
                continue;
            }
            match self.executed(&claim, &log, Some(signed.spender)).await? {
                Search::Nobody => {}
                Search::Unclear => found = Search::Unclear,
                paid @ Search::Paid(_) => return Ok(paid),
            }
        }
        Ok(found)
    }

    /// Whether the transaction of a log moved what is claimed, for good; `by`: only if it called this contract.
    async fn executed(
        &self,
        claim: &Claim,
        log: &Log,
        by: Option<Address>,
    ) -> Result<Search, ChainError> {
        let sight = self.chain.sight(&[log.transaction]).await?;
        let receipt = sight.receipts.first().and_then(Option::as_ref);
        let shown = evidence(core::slice::from_ref(claim), receipt, &sight.heads);
        let called = by.is_none_or(|by| receipt.is_some_and(|receipt| receipt.to == Some(by)));
        Ok(if !shown.finality.is_final() {
            Search::Unclear
        } else if called && shown.all_final() {
            Search::Paid(ItemFate::PaidBy {
                transaction: log.transaction,
                block: log.block.number,
            })
        } else {
            Search::Nobody
        })
    }
}

/// Who used a nonce that is used for good.
enum Search {
    /// Who paid us by it.
    Paid(ItemFate),
    /// Nobody who paid us.
    Nobody,
    /// What may be it cannot be seen yet.
    Unclear,
}

/// Whether a transaction is the proxy's settlement of this very permit.
fn settles(transaction: &ChainTransaction, signed: &Permit2Exact) -> bool {
    if transaction.to != Some(signed.spender) {
        return false;
    }
    let input = &transaction.input;
    let (permit, owner, to) = if let Ok(call) = ExactProxy::settleCall::abi_decode(input) {
        (call.permit, call.owner, call.witness.to)
    } else if let Ok(call) = ExactProxy::settleWithPermitCall::abi_decode(input) {
        (call.permit, call.owner, call.witness.to)
    } else {
        return false;
    };
    permit.permitted.token == signed.token
        && permit.permitted.amount == signed.amount.get()
        && permit.nonce == signed.nonce
        && owner == signed.owner
        && to == signed.to
}
