//! What became of an item, and what is in its way.

use std::collections::BTreeMap;

use tollgate_bsc::{Claim, ItemEvidence, PayerQuery, PayerState, Sight, TxReceipt, evidence};
use tollgate_eip712::Wallet;
use tollgate_payment::{
    BatchItem, BatchRow, LossReason, SpenderKey, command::ItemFate, port::RailError,
};
use tollgate_x402::{Authorization, Exact};

use super::{OwnRail, unavailable};

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
        if let (BatchItem::Exact { .. }, Some(signed)) = (item, &authorization)
            && state.nonce_used()
        {
            return Ok(Some(self.used(signed, &query).await));
        }
        let found = in_the_way(item, authorization.as_ref(), &state);
        if let Some(ItemFate::Lost(LossReason::Nonce)) = found
            && self.used_up(&query).await.is_none()
        {
            return Ok(Some(ItemFate::Untried));
        }
        Ok(found)
    }
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
    if state.nonce_used() {
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
