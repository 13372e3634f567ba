//! What became of an item, and what is in its way.

use std::collections::BTreeMap;

use alloy_sol_types::{SolCall, SolEvent};
use tollgate_bsc::{
    BlockTag, CallRequest, ChainError, ChainTransaction, Claim, ItemEvidence, LogFilter,
    PayerQuery, PayerState, Sight, TokenTransfer, TxReceipt, evidence,
};
use tollgate_contracts::abi::{ExactProxy, IEip3009, IErc20, ISignatureTransfer};
use tollgate_eip712::Wallet;
use tollgate_payment::{
    BatchItem, BatchRow, LossReason, SpenderKey, command::ItemFate, port::RailError,
};
use tollgate_x402::{Authorization, Exact, Permit2Exact};

use super::{OwnRail, unavailable};

/// How far back a transfer that somebody else executed is searched for: an hour of BSC's blocks.
const SEARCHED_BLOCKS: u64 = 8_000;

/// Blocks whose state every node keeps, a minute of BSC's. Of one before those, an archive tells, and others have no more
/// than an error, in words of their own.
const KEPT_BLOCKS: u64 = 128;

impl<W: Wallet> OwnRail<W> {
    /// What became of the items of a batch whose transaction is final.
    pub(super) async fn fates(
        &self,
        batch: &BatchRow,
        receipt: Option<&TxReceipt>,
        sight: &Sight,
    ) -> Result<Vec<ItemFate>, RailError> {
        if let Some(receipt) = receipt {
            let void = batch.is_void(receipt.hash);
            let whole = !receipt.success && self.config.settler.is_some();
            if let (true, [_]) = (void, batch.items.as_slice()) {
                // What no node takes when it is alone can never be settled.
                return Ok(vec![ItemFate::Again(LossReason::Refused)]);
            }
            if void || whole {
                // A `Settler` isolates its items: which of them made it revert as a whole shows when they are parted.
                return Ok(vec![
                    ItemFate::Parted(LossReason::Refused);
                    batch.items.len()
                ]);
            }
        }
        let claims: Vec<Option<Claim>> = batch.items.iter().map(|item| self.claim(item)).collect();
        let moving: Vec<Claim> = claims.iter().flatten().cloned().collect();
        let mut shown = evidence(&moving, receipt, &sight.heads).items.into_iter();
        // It is not the payers' doing that another transaction used the nonce.
        let blameless = receipt.is_none().then_some(ItemFate::Untried);
        let mut fates = Vec::with_capacity(batch.items.len());
        // Counters of payers who have nothing any more: what comes after the item that showed it fails like that one, and
        // needs no transaction of its own to be known.
        let mut empty: BTreeMap<SpenderKey, ItemFate> = BTreeMap::new();
        for (item, claim) in batch.items.iter().zip(&claims) {
            let shown = match claim {
                // A permit is good if the call was.
                None if receipt.is_some_and(|receipt| receipt.success) => ItemEvidence::Moved,
                None => ItemEvidence::NotMoved,
                Some(_) => shown.next().unwrap_or(ItemEvidence::NotMoved),
            };
            fates.push(match (shown, item) {
                (ItemEvidence::Moved, _) => ItemFate::Paid,
                (ItemEvidence::Contradicted, _) => {
                    return Err(RailError::Operator(
                        "the Settler says that money moved and the token does not: stop and look"
                            .to_owned(),
                    ));
                }
                (ItemEvidence::Skipped { actual }, BatchItem::Allowance { from, .. })
                    if actual > *from =>
                {
                    return Err(RailError::Ahead(format!(
                        "the Settler's counter of {} is at {actual} and the ledger's at {from}: another ledger draws it, or this one is an old copy; reconcile before sending",
                        item.owner().owner
                    )));
                }
                // An interval before it failed.
                (ItemEvidence::Skipped { .. }, BatchItem::Allowance { spender, .. }) => {
                    empty.get(spender).copied().unwrap_or(ItemFate::Untried)
                }
                (ItemEvidence::Skipped { .. }, _) => ItemFate::Untried,
                (ItemEvidence::Failed | ItemEvidence::NotMoved, _) => {
                    let found = match (self.diagnose(item).await?, receipt) {
                        (None, Some(receipt)) => self.stood(item, receipt, sight).await?,
                        (found, _) => found.or(blameless),
                    };
                    let fate = found.unwrap_or(ItemFate::Again(LossReason::Refused));
                    if let (ItemFate::Short { available, .. }, BatchItem::Allowance { spender, .. }) =
                        (fate, item)
                        && available.is_zero()
                    {
                        empty.insert(*spender, fate);
                    }
                    fate
                }
            });
        }
        Ok(fates)
    }

    /// What is needed to tell why an item did not move.
    fn asks(&self, item: &BatchItem) -> (Option<Authorization>, PayerQuery) {
        let (authorization, owner) = match item {
            BatchItem::Allowance { spender, .. } | BatchItem::Permit { spender, .. } => {
                (None, spender.owner)
            }
            BatchItem::Once {
                signed, payment, ..
            } => (Some(Authorization::Once(signed.clone())), payment.owner),
            BatchItem::Exact { signed, payment } => {
                (Some(Authorization::Exact(signed.clone())), payment.owner)
            }
        };
        let query = match &authorization {
            Some(authorization) => PayerQuery::of(authorization, None),
            None => PayerQuery {
                token: owner.token,
                owner: owner.owner,
                spender: self.config.settler.unwrap_or_else(|| self.wallet.address()),
                settler: self.config.settler,
                payee: self.config.treasury,
                permit2_nonce: None,
                eip3009_nonce: None,
            },
        };
        (authorization, query)
    }

    /// What was in the way of an item in its transaction's block, and is no longer: that the token was paused, or the
    /// treasury frozen, is nobody's doing, also where it has passed when it is looked for. Nothing where no node can tell
    /// any more.
    async fn stood(
        &self,
        item: &BatchItem,
        receipt: &TxReceipt,
        sight: &Sight,
    ) -> Result<Option<ItemFate>, RailError> {
        let (_, query) = self.asks(item);
        let own = receipt.block.number;
        // The transaction was somewhere between the ends of the block before it and of its own.
        for block in [own, own.saturating_sub(1)] {
            match self.chain.payer_in(&query, block).await {
                Ok(state) if state.paused == Some(true) || state.payee_frozen == Some(true) => {
                    return Ok(Some(ItemFate::Wait(LossReason::Frozen)));
                }
                Ok(_) => {}
                // Waiting for what nobody keeps would hold up every other payer's charges for good.
                Err(error) if sight.heads.latest.number.saturating_sub(block) > KEPT_BLOCKS => {
                    tracing::warn!(%error, block, "what was in the way of a settlement is not known any more");
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(None)
    }

    /// Why an item did not move, and whether it can; nothing if nothing is in the way.
    pub(super) async fn diagnose(&self, item: &BatchItem) -> Result<Option<ItemFate>, RailError> {
        let (authorization, query) = self.asks(item);
        let state = self.chain.payer(&query).await.map_err(unavailable)?;
        if let BatchItem::Permit { permit, .. } = item
            && state.permit_nonce.is_some_and(|nonce| nonce > permit.nonce)
        {
            // Somebody who saw it submitted it: what counts is that it stands.
            return Ok(Some(ItemFate::Paid));
        }
        if let BatchItem::Exact {
            signed: Exact::Eip3009(signed),
            ..
        } = item
            && state.authorization_used == Some(true)
        {
            match self.paid_by(signed, state.block).await {
                Ok(Some(paid)) => return Ok(Some(paid)),
                // Nothing is found by a node that is behind, or before the transfer is final.
                Ok(None) => return Ok(Some(ItemFate::Again(LossReason::Nonce))),
                // A node that does not search now may do so later: the payer may well have paid.
                Err(error) => {
                    tracing::warn!(%error, "who used a transfer's nonce cannot be searched for");
                    return Ok(Some(ItemFate::Again(LossReason::Nonce)));
                }
            }
        }
        if let BatchItem::Exact {
            signed: Exact::Permit2(signed),
            ..
        } = item
            && state.permit2_nonce_used == Some(true)
        {
            match self.permit2_paid_by(signed, state.block).await {
                Ok(Some(paid)) => return Ok(Some(paid)),
                Ok(None) => return Ok(Some(ItemFate::Again(LossReason::Nonce))),
                Err(error) => {
                    tracing::warn!(%error, "who used a Permit2 nonce cannot be searched for");
                    return Ok(Some(ItemFate::Again(LossReason::Nonce)));
                }
            }
        }
        let found = in_the_way(item, authorization.as_ref(), &state);
        if let Some(ItemFate::Lost(LossReason::Nonce)) = found
            && !self.is_void(&query).await
        {
            // A reorganization may take out what used it, and the charge can be paid again.
            return Ok(Some(ItemFate::Again(LossReason::Nonce)));
        }
        Ok(found)
    }

    /// Whether a Permit2 nonce is used on the finalized chain.
    async fn is_void(&self, query: &PayerQuery) -> bool {
        let Some(nonce) = query.permit2_nonce else {
            return false;
        };
        let call = ISignatureTransfer::nonceBitmapCall {
            owner: query.owner,
            word: nonce.wrapping_shr(8),
        };
        let request = CallRequest {
            to: Some(tollgate_contracts::addresses::PERMIT2),
            input: call.abi_encode().into(),
            ..CallRequest::default()
        };
        match self.chain.call_agreed(&request, BlockTag::Finalized).await {
            Ok(word) => ISignatureTransfer::nonceBitmapCall::abi_decode_returns(&word)
                .is_ok_and(|word| word.bit(usize::from(nonce.byte(0)))),
            Err(error) => {
                tracing::warn!(%error, "whether a Permit2 nonce is used for good is not known");
                false
            }
        }
    }

    /// The final transaction of somebody else that executed a transfer to us, where the node can search for it.
    async fn paid_by(
        &self,
        signed: &tollgate_x402::Eip3009,
        head: u64,
    ) -> Result<Option<ItemFate>, ChainError> {
        let filter = LogFilter {
            addresses: vec![signed.token],
            topics: vec![
                Some(IEip3009::AuthorizationUsed::SIGNATURE_HASH),
                Some(signed.owner.into_word()),
                Some(signed.nonce),
            ],
            blocks: head.saturating_sub(SEARCHED_BLOCKS)..=head,
        };
        let logs = self.chain.logs(&filter).await?;
        for log in logs {
            let sight = self.chain.sight(&[log.transaction]).await?;
            let receipt = sight.receipts.first().and_then(Option::as_ref);
            let claim = Claim::Transfer {
                token: signed.token,
                from: signed.owner,
                to: signed.to,
                value: signed.value,
                authorization: Some(signed.nonce),
            };
            if evidence(&[claim], receipt, &sight.heads).all_final() {
                return Ok(Some(ItemFate::PaidBy {
                    transaction: log.transaction,
                    block: log.block.number,
                }));
            }
        }
        Ok(None)
    }

    /// The final transaction of somebody else that executed a Permit2 payment to us: anybody may call the exact proxy.
    ///
    /// Permit2 does not say which nonce a transfer used, so the transaction itself must be the proxy's `settle` of just
    /// this permit. Called by way of another contract it is not recognised: what such a transaction holds proves nothing.
    async fn permit2_paid_by(
        &self,
        signed: &Permit2Exact,
        head: u64,
    ) -> Result<Option<ItemFate>, ChainError> {
        let filter = LogFilter {
            addresses: vec![signed.token],
            topics: vec![
                Some(IErc20::Transfer::SIGNATURE_HASH),
                Some(signed.owner.into_word()),
                Some(signed.to.into_word()),
            ],
            blocks: head.saturating_sub(SEARCHED_BLOCKS)..=head,
        };
        for log in self.chain.logs(&filter).await? {
            let claim = Claim::Transfer {
                token: signed.token,
                from: signed.owner,
                to: signed.to,
                value: signed.amount,
                authorization: None,
            };
            if TokenTransfer::of(&log).is_none_or(|moved| moved.amount != signed.amount) {
                continue;
            }
            let Some(transaction) = self.chain.transaction(log.transaction).await? else {
                continue;
            };
            if !settles(&transaction, signed) {
                continue;
            }
            let sight = self.chain.sight(&[log.transaction]).await?;
            let receipt = sight.receipts.first().and_then(Option::as_ref);
            let by_proxy = receipt.is_some_and(|receipt| receipt.to == Some(signed.spender));
            if by_proxy && evidence(&[claim], receipt, &sight.heads).all_final() {
                return Ok(Some(ItemFate::PaidBy {
                    transaction: log.transaction,
                    block: log.block.number,
                }));
            }
        }
        Ok(None)
    }
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

/// What is in the way of an item, by the payer's state.
fn in_the_way(
    item: &BatchItem,
    authorization: Option<&Authorization>,
    state: &PayerState,
) -> Option<ItemFate> {
    if state.paused == Some(true) || state.payee_frozen == Some(true) {
        return Some(ItemFate::Wait(LossReason::Frozen));
    }
    if state.owner_frozen == Some(true) {
        return Some(ItemFate::Again(LossReason::Frozen));
    }
    if state.permit2_nonce_used == Some(true) || state.authorization_used == Some(true) {
        return Some(ItemFate::Lost(LossReason::Nonce));
    }
    // A permit's deadline is the end of its submission only: where the chain has it, it says nothing.
    let deadline = match item {
        BatchItem::Permit { permit, .. }
        | BatchItem::Allowance {
            permit: Some(permit),
            ..
        } if state.permit_nonce == Some(permit.nonce) => Some(permit.deadline),
        BatchItem::Permit { .. } | BatchItem::Allowance { .. } => None,
        BatchItem::Once { .. } | BatchItem::Exact { .. } => {
            authorization.map(Authorization::deadline)
        }
    };
    // The chain's time: its blocks decide what is too late.
    if deadline.is_some_and(|deadline| deadline < state.timestamp) {
        return Some(ItemFate::Lost(LossReason::Deadline));
    }
    let allowance = match (item, authorization) {
        // A permit that can still go in sets it.
        (
            BatchItem::Allowance {
                permit: Some(permit),
                ..
            },
            _,
        ) if state.permit_nonce == Some(permit.nonce) => Some(permit.value),
        (BatchItem::Allowance { .. }, _) => Some(state.allowance),
        (_, Some(Authorization::Once(_) | Authorization::Exact(Exact::Permit2(_)))) => {
            Some(state.permit2_allowance)
        }
        _ => None,
    };
    let available = allowance.map_or(state.balance, |allowance| allowance.min(state.balance));
    if available >= item.amount() {
        return None;
    }
    let reason = if state.balance < item.amount() {
        LossReason::Balance
    } else {
        LossReason::Allowance
    };
    Some(ItemFate::Short { available, reason })
}
