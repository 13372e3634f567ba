//! Own transactions: batches become calls of the `Settler`, or of a plain account, signed by our own key.

use std::sync::Arc;

use alloy_sol_types::SolEvent;
use tollgate_bsc::{
    BlockTag, Call, Chain, ChainError, Claim, ItemEvidence, LogFilter, NotSentReason, PayerQuery,
    PayerState, SettleItem, Sight, TxReceipt, evidence, exact_settle, permit, settle,
    transfer_from, transfer_with_authorization, upto_settle,
};
use tollgate_contracts::abi::IEip3009;
use tollgate_eip712::Wallet;
use tollgate_payment::{
    BatchItem, BatchRow, Instruction, LossReason, Submission,
    command::{Fate, ItemFate},
    port::{Rail, RailError, Trace},
};
use tollgate_x402::{Address, Authorization, Clock, Exact};

/// How far back a transfer that somebody else executed is searched for: an hour of BSC's blocks.
const SEARCHED_BLOCKS: u64 = 8_000;

/// Blocks below the finalized one in which a nonce must be used before it is said to be used by a stranger.
const CERTAIN_BLOCKS: u64 = 16;

/// What the settling account may pay, and where money ends.
#[derive(Clone, Copy, Debug)]
pub struct RailConfig {
    /// The contract, or `None` for the account's own calls.
    pub settler: Option<Address>,
    /// Where the money ends: the `Settler`'s treasury, or whom the account pays on to.
    pub treasury: Address,
    /// The least price, in wei a unit of gas: what nodes say is not believed below it.
    pub gas_floor: u128,
    /// The most, in wei a unit of gas.
    pub gas_cap: u128,
}

/// The rail of one account.
#[derive(Clone)]
pub struct OwnRail<W> {
    chain: Chain,
    wallet: W,
    clock: Arc<dyn Clock>,
    config: RailConfig,
}

impl<W: Wallet> std::fmt::Debug for OwnRail<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnRail")
            .field("account", &self.wallet.address())
            .field("config", &self.config)
            .finish()
    }
}

impl<W: Wallet> OwnRail<W> {
    /// A rail.
    pub const fn new(chain: Chain, wallet: W, clock: Arc<dyn Clock>, config: RailConfig) -> Self {
        Self {
            chain,
            wallet,
            clock,
            config,
        }
    }

    /// Whether a batch is settled and seen as this rail does it. A batch of another `Settler` would be sent to, and
    /// looked for at, the wrong contract.
    fn check(&self, batch: &BatchRow) -> Result<(), RailError> {
        let same = batch.signer.chain == self.chain.id() && batch.settler == self.config.settler;
        same.then_some(()).ok_or_else(wrong)
    }

    fn call(&self, batch: &BatchRow) -> Result<Call, RailError> {
        match (self.config.settler, batch.items.as_slice()) {
            (Some(settler), items) => {
                let items: Vec<SettleItem> = items
                    .iter()
                    .map(settle_item)
                    .collect::<Option<_>>()
                    .ok_or_else(wrong)?;
                settle(settler, &items).map_err(|error| RailError::Operator(error.to_string()))
            }
            (None, [item]) => Ok(match item {
                BatchItem::Permit { permit: signed, .. } => permit(signed),
                BatchItem::Allowance {
                    spender,
                    permit: None,
                    ..
                } => transfer_from(
                    spender.owner.token,
                    spender.owner.owner,
                    self.config.treasury,
                    item.amount(),
                ),
                BatchItem::Allowance { .. } => return Err(wrong()),
                BatchItem::Once { signed, amount, .. } => upto_settle(signed, *amount),
                BatchItem::Exact {
                    signed: Exact::Eip3009(signed),
                    ..
                } => transfer_with_authorization(signed),
                BatchItem::Exact {
                    signed: Exact::Permit2(signed),
                    ..
                } => exact_settle(signed),
            }),
            (None, _) => Err(wrong()),
        }
    }

    /// What the chain must show for an item, or nothing for a permit, which moves nothing.
    fn claim(&self, item: &BatchItem) -> Option<Claim> {
        if let Some(settler) = self.config.settler {
            return settle_item(item).map(|item| item.claim(settler, self.config.treasury));
        }
        let owner = item.owner();
        let transfer = |to| Claim::Transfer {
            token: owner.token,
            from: owner.owner,
            to,
            value: item.amount(),
            authorization: None,
        };
        match item {
            BatchItem::Permit { .. } => None,
            BatchItem::Allowance { .. } => Some(transfer(self.config.treasury)),
            BatchItem::Once { signed, .. } => Some(transfer(signed.to)),
            BatchItem::Exact {
                signed: Exact::Eip3009(signed),
                ..
            } => Some(transfer(signed.to)),
            BatchItem::Exact {
                signed: Exact::Permit2(signed),
                ..
            } => Some(transfer(signed.to)),
        }
    }

    /// What became of the items of a batch whose transaction is final.
    async fn fates(
        &self,
        batch: &BatchRow,
        receipt: Option<&TxReceipt>,
        sight: &Sight,
    ) -> Result<Vec<ItemFate>, RailError> {
        let claims: Vec<Option<Claim>> = batch.items.iter().map(|item| self.claim(item)).collect();
        let moving: Vec<Claim> = claims.iter().flatten().cloned().collect();
        let mut shown = evidence(&moving, receipt, &sight.heads).items.into_iter();
        // Neither is the payers' doing: that another transaction used the nonce; and that a `Settler` reverted as a whole,
        // which it does only if it was called wrongly, since it isolates its items.
        let blameless = match receipt {
            None => Some(ItemFate::Untried),
            Some(receipt) if !receipt.success && self.config.settler.is_some() => {
                Some(ItemFate::Wait(LossReason::Refused))
            }
            Some(_) => None,
        };
        let mut fates = Vec::with_capacity(batch.items.len());
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
                    return Err(RailError::Operator(format!(
                        "the Settler's counter of {} is at {actual} and the ledger's at {from}: another ledger draws it, or this one is an old copy; reconcile before sending",
                        item.owner().owner
                    )));
                }
                // An interval before it failed, and has its own fate.
                (ItemEvidence::Skipped { .. }, _) => ItemFate::Untried,
                (ItemEvidence::Failed | ItemEvidence::NotMoved, _) => {
                    let found = self.diagnose(item).await?.or(blameless);
                    found.unwrap_or(ItemFate::Again(LossReason::Refused))
                }
            });
        }
        Ok(fates)
    }

    /// Why an item did not move, and whether it can; nothing if nothing is in the way.
    async fn diagnose(&self, item: &BatchItem) -> Result<Option<ItemFate>, RailError> {
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
                Ok(None) => {}
                // A node that does not search now may do so later: the payer may well have paid.
                Err(error) => {
                    tracing::warn!(%error, "who used a transfer's nonce cannot be searched for");
                    return Ok(Some(ItemFate::Again(LossReason::Nonce)));
                }
            }
        }
        Ok(in_the_way(item, authorization.as_ref(), &state))
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
    if state.balance < item.amount() {
        return Some(ItemFate::Again(LossReason::Balance));
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
    if allowance.is_some_and(|allowance| allowance < item.amount()) {
        return Some(ItemFate::Again(LossReason::Allowance));
    }
    None
}

impl<W: Wallet + 'static> Rail for OwnRail<W> {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        self.check(batch)?;
        if batch.signer.operator != self.wallet.address() {
            return Err(RailError::Operator(
                "the batch is another account's".to_owned(),
            ));
        }
        let call = self.call(batch)?;
        let gas_price = match above {
            // Nodes take a replacement at +10 %; 12.5 % leaves room for rounding.
            Some(last) => last.saturating_add(last.div_ceil(8)),
            None => {
                let asked = self
                    .chain
                    .gas_price()
                    .await
                    .unwrap_or(self.config.gas_floor);
                // A node's oracle may be far above what is needed: the floor is enough while blocks have room.
                asked
                    .max(self.config.gas_floor)
                    .min(self.config.gas_floor.saturating_mul(2))
                    .min(self.config.gas_cap)
            }
        };
        if gas_price > self.config.gas_cap {
            return Err(RailError::Operator(format!(
                "a settlement needs {gas_price} wei a unit of gas, above the cap of {}",
                self.config.gas_cap
            )));
        }
        let transaction = call.into_transaction(self.chain.id(), nonce, gas_price);
        let signature = self
            .wallet
            .sign_hash(&transaction.signing_hash())
            .await
            .map_err(|error| RailError::Operator(error.to_string()))?;
        let raw = transaction.into_raw(&signature);
        Ok(Instruction {
            nonce,
            hash: raw.hash,
            raw: raw.raw,
            gas_price,
            stored: self.clock.now(),
            sent: None,
        })
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        match self.chain.submit(&stored.raw).await {
            tollgate_bsc::Submission::Accepted => Submission::Accepted,
            tollgate_bsc::Submission::NotSent(refusal) => {
                tracing::warn!(hash = %stored.hash, reason = ?refusal.reason, message = %refusal.message, "a node refused a settlement");
                match refusal.reason {
                    NotSentReason::Underpriced | NotSentReason::ReplacementUnderpriced => {
                        Submission::Underpriced
                    }
                    _ => Submission::NotSent,
                }
            }
            tollgate_bsc::Submission::Unknown(unknown) => {
                tracing::debug!(hash = %stored.hash, doubt = ?unknown.doubt, message = %unknown.message, "a settlement's outcome is unknown");
                Submission::Unknown
            }
        }
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        self.check(batch)?;
        let hashes: Vec<_> = batch
            .sent
            .iter()
            .map(|instruction| instruction.hash)
            .collect();
        let sight = self.chain.sight(&hashes).await.map_err(unavailable)?;
        let seen = sight.receipts.iter().flatten();
        // A node may still show one that a reorganization took out, beside the one that came in its place.
        let standing = seen.clone().find(|receipt| {
            sight.heads.finality(receipt.block) != tollgate_bsc::Finality::NotIncluded
        });
        if let Some(receipt) = standing.or(seen.into_iter().next()) {
            let (transaction, block) = (receipt.hash, receipt.block.number);
            if sight.heads.finality(receipt.block).is_final() {
                let items = self.fates(batch, Some(receipt), &sight).await?;
                return Ok(Trace::Final(Fate {
                    transaction: Some(transaction),
                    block,
                    items,
                }));
            }
            return Ok(if sight.heads.finality(receipt.block).block().is_some() {
                Trace::Included { transaction, block }
            } else {
                Trace::Pending
            });
        }
        let Some(nonce) = batch.nonce() else {
            return Ok(Trace::Pending);
        };
        let account = batch.signer.operator;
        // Long ago: a node that told nothing of our transactions may only have been behind.
        let settled = sight.heads.finalized.number.saturating_sub(CERTAIN_BLOCKS);
        let used = self
            .chain
            .transaction_count(account, BlockTag::Number(settled))
            .await
            .map_err(unavailable)?
            > nonce;
        if !used {
            return Ok(Trace::Pending);
        }
        // Used for good: by one of ours, which the node then shows, or by a stranger.
        let sight = self.chain.sight(&hashes).await.map_err(unavailable)?;
        if sight.receipts.iter().flatten().next().is_some() {
            return Ok(Trace::Pending);
        }
        tracing::error!(nonce, %account, "the settling account's nonce was used by another transaction");
        let items = self.fates(batch, None, &sight).await?;
        Ok(Trace::Final(Fate {
            transaction: None,
            block: sight.heads.finalized.number,
            items,
        }))
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        self.chain
            .transaction_count(self.wallet.address(), BlockTag::Latest)
            .await
            .map_err(unavailable)
    }
}

fn settle_item(item: &BatchItem) -> Option<SettleItem> {
    Some(match item {
        BatchItem::Permit { .. } => return None,
        BatchItem::Allowance {
            spender,
            from,
            to,
            permit,
            ..
        } => SettleItem::Allowance {
            token: spender.owner.token,
            owner: spender.owner.owner,
            from: *from,
            to: *to,
            permit: permit.clone(),
        },
        BatchItem::Once { signed, amount, .. } => SettleItem::Once {
            signed: signed.clone(),
            amount: *amount,
        },
        BatchItem::Exact { signed, .. } => SettleItem::Exact(signed.clone()),
    })
}

fn wrong() -> RailError {
    RailError::Operator("the batch was made for another way of settling".to_owned())
}

fn unavailable(error: ChainError) -> RailError {
    RailError::Unavailable(error.to_string())
}
