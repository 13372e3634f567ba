//! Simulating a batch before it is signed: what would fail is left out before gas is spent on it.
//!
//! A simulation is a hint. What a payer makes of it (a wallet can tell it from a transaction) costs gas, not money; and
//! by a simulation alone nothing is lost.

use tollgate_bsc::{BlockTag, CallRequest, ChainError, SettleItem, settle, simulate};
use tollgate_eip712::Wallet;
use tollgate_payment::{
    BatchItem, BatchRow, LossReason,
    command::ItemFate,
    port::{RailError, Rehearsal},
};
use tollgate_x402::Address;

use super::{OwnRail, settle_item, wrong};

impl<W: Wallet> OwnRail<W> {
    pub(super) async fn rehearsal(&self, batch: &BatchRow) -> Result<Rehearsal, RailError> {
        let call = self.call(batch)?;
        let whole = CallRequest {
            // Without a price wallets can tell a simulation.
            gas_price: Some(self.config.gas_floor),
            ..call.simulated_from(self.wallet.address())
        };
        let reverts = self.reverts(&whole).await;
        let Some(settler) = self.config.settler else {
            return Ok(match batch.items.as_slice() {
                [item] if reverts => Rehearsal::Items(vec![self.foreseen(item).await?]),
                _ => Rehearsal::Good,
            });
        };
        let items: Vec<SettleItem> = batch
            .items
            .iter()
            .map(settle_item)
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        if reverts {
            return self.part(settler, &items).await.map(Rehearsal::Items);
        }
        let requests: Vec<CallRequest> = items.iter().map(|item| simulate(settler, item)).collect();
        let Ok(failing) = self.chain.reverts(&requests, BlockTag::Latest).await else {
            // Not every node simulates as another contract.
            return Ok(Rehearsal::Good);
        };
        if !failing.contains(&true) {
            return Ok(Rehearsal::Good);
        }
        let mut fates = Vec::with_capacity(items.len());
        for (item, fails) in batch.items.iter().zip(failing) {
            fates.push(if fails {
                self.foreseen(item).await?
            } else {
                ItemFate::Untried
            });
        }
        Ok(Rehearsal::Items(fates))
    }

    /// What is to become of an item that would fail.
    async fn foreseen(&self, item: &BatchItem) -> Result<ItemFate, RailError> {
        Ok(match self.diagnose(item).await? {
            // Somebody submitted it who saw it: to send it as well would only cost gas. Where a reorganization takes it
            // out again, the draw that stands on it fails, and it is looked for anew.
            Some(ItemFate::Paid) if matches!(item, BatchItem::Permit { .. }) => ItemFate::Paid,
            // Evidence of the finalized chain, and what is nobody's doing. Where a nonce is used up, a transaction would only
            // cost gas.
            Some(
                fate @ (ItemFate::PaidBy { .. }
                | ItemFate::Wait(_)
                | ItemFate::Again(LossReason::Nonce)
                | ItemFate::Lost(LossReason::Nonce)),
            ) => fate,
            // The chain's time does not go back so far.
            Some(fate @ ItemFate::Lost(LossReason::Deadline)) => fate,
            // A nonce is used, and it is not known yet what that means.
            Some(ItemFate::Untried) => ItemFate::Deferred(LossReason::Nonce),
            Some(
                ItemFate::Again(reason)
                | ItemFate::Short { reason, .. }
                | ItemFate::Lost(reason)
                | ItemFate::Deferred(reason)
                | ItemFate::Parted(reason),
            ) => ItemFate::Deferred(reason),
            Some(ItemFate::Paid) | None => ItemFate::Deferred(LossReason::Refused),
        })
    }

    /// Which items make a whole transaction revert: halves are simulated until they are alone. Where every item does, it
    /// is no item's doing, and all wait.
    async fn part(
        &self,
        settler: Address,
        items: &[SettleItem],
    ) -> Result<Vec<ItemFate>, RailError> {
        let refused = |items: &[SettleItem]| vec![ItemFate::Wait(LossReason::Refused); items.len()];
        let ends = [items.first(), items.last()];
        let mut alone = false;
        for item in ends.into_iter().flatten() {
            alone |= !self.refuses(settler, core::slice::from_ref(item)).await?;
        }
        if !alone {
            return Ok(refused(items));
        }
        let mut fates = vec![ItemFate::Untried; items.len()];
        let mut parts: Vec<(usize, usize)> = vec![(0, items.len())];
        while let Some((start, length)) = parts.pop() {
            let end = start.saturating_add(length);
            let Some(part) = items.get(start..end).filter(|part| !part.is_empty()) else {
                continue;
            };
            if !self.refuses(settler, part).await? {
                continue;
            }
            if length == 1 {
                if let Some(fate) = fates.get_mut(start) {
                    *fate = ItemFate::Deferred(LossReason::Refused);
                }
                continue;
            }
            let half = length.div_ceil(2);
            parts.push((start, half));
            parts.push((start.saturating_add(half), length.saturating_sub(half)));
        }
        Ok(fates)
    }

    async fn refuses(&self, settler: Address, items: &[SettleItem]) -> Result<bool, RailError> {
        let call =
            settle(settler, items).map_err(|error| RailError::Operator(error.to_string()))?;
        Ok(self
            .reverts(&call.simulated_from(self.wallet.address()))
            .await)
    }

    /// Whether a call surely reverts: by as many nodes as must agree, since all of a batch waits for it. What a node does
    /// not say is no revert.
    async fn reverts(&self, request: &CallRequest) -> bool {
        matches!(
            self.chain.call_agreed(request, BlockTag::Latest).await,
            Err(ChainError::Reverted { .. })
        )
    }
}
