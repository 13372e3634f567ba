//! Own transactions: batches become calls of the `Settler`, or of a plain account, signed by our own key.

mod fate;
mod price;
mod rehearse;
mod used;

use std::{collections::BTreeMap, sync::Arc};

use tollgate_bsc::{
    BlockTag, Call, Chain, ChainError, Claim, NotSentReason, SettleItem, TransactionRequest1559,
    exact_settle, permit, settle, transfer_from, transfer_with_authorization, upto_settle,
};
use tollgate_eip712::Wallet;
use tollgate_payment::{
    BatchItem, BatchRow, Instruction, Submission,
    command::Fate,
    port::{Pulse, Rail, RailError, Rehearsal, Trace},
};
use tollgate_x402::{Address, Amount, Bytes, Clock, Exact, U256};

pub use self::price::{Worth, batch_gas};
use crate::elapsed::passed;

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
    /// What is at stake, by token.
    worth: BTreeMap<Address, Worth>,
    private: Option<Private>,
}

/// Endpoints that keep a transaction from everybody but those who make blocks.
#[derive(Clone, Debug)]
struct Private {
    chain: Chain,
    /// Seconds after which everybody may see it.
    seconds: u64,
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
            worth: BTreeMap::new(),
            private: None,
        }
    }

    /// The same, which pays for a transaction's gas no more than what it settles is worth (and the floor price).
    #[must_use]
    pub fn with_worth(mut self, token: Address, worth: Worth) -> Self {
        self.worth.insert(token, worth);
        self
    }

    /// The same, which shows a transaction to these endpoints alone for so many seconds after it was signed, and to all
    /// of them from then on: before anybody else's may be as good as any, and long before a deadline.
    #[must_use]
    pub fn with_private(mut self, chain: Chain, seconds: u64) -> Self {
        self.private = Some(Private { chain, seconds });
        self
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
}

impl<W: Wallet + 'static> OwnRail<W> {
    /// Signs a batch's transaction, at a price that what is at stake is worth.
    async fn instruct(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
        behind: &BTreeMap<Address, Amount>,
    ) -> Result<Instruction, RailError> {
        self.check(batch)?;
        if batch.signer.operator != self.wallet.address() {
            return Err(RailError::Operator(
                "the batch is another account's".to_owned(),
            ));
        }
        let call = self.call(batch)?;
        let most = self.most_price(batch, behind, call.gas_limit);
        let gas_price = self.price(above, most).await?;
        let transaction = call.into_transaction(self.chain.id(), nonce, gas_price);
        self.sign(transaction, false).await
    }
}

impl<W: Wallet + 'static> Rail for OwnRail<W> {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        self.instruct(batch, nonce, above, &BTreeMap::new()).await
    }

    async fn replace(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
        behind: &BTreeMap<Address, Amount>,
    ) -> Result<Instruction, RailError> {
        self.instruct(batch, nonce, Some(above), behind).await
    }

    async fn void(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
    ) -> Result<Instruction, RailError> {
        self.check(batch)?;
        let gas_price = self.price(Some(above), self.config.gas_cap).await?;
        let transaction = TransactionRequest1559 {
            chain: self.chain.id(),
            nonce,
            to: self.wallet.address(),
            gas_limit: 21_000,
            gas_price,
            input: Bytes::new(),
        };
        self.sign(transaction, true).await
    }

    async fn rehearse(&self, batch: &BatchRow) -> Result<Rehearsal, RailError> {
        self.check(batch)?;
        self.rehearsal(batch).await
    }

    async fn pulse(&self) -> Result<Pulse, RailError> {
        let account = self.wallet.address();
        let (balance, heads) = (self.chain.balance(account).await, self.chain.heads().await);
        let price = self.price(None, self.config.gas_cap).await?;
        let batch = U256::from(price).saturating_mul(U256::from(self.batch_gas()));
        let heads = heads.map_err(unavailable)?;
        Ok(Pulse {
            batches: balance
                .map_err(unavailable)?
                .checked_div(batch)
                .map(|batches| batches.saturating_to()),
            finality_age: Some(heads.latest.timestamp.since(heads.finalized.timestamp)),
        })
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        let sent = match &self.private {
            Some(private) if !passed(private.seconds, stored.stored, self.clock.now()) => {
                private.chain.submit(&stored.raw).await
            }
            _ => self.chain.submit(&stored.raw).await,
        };
        match sent {
            tollgate_bsc::Submission::Accepted => Submission::Accepted,
            tollgate_bsc::Submission::NotSent(refusal) => {
                tracing::warn!(hash = %stored.hash, reason = ?refusal.reason, message = %refusal.message, "a node refused a settlement");
                match refusal.reason {
                    NotSentReason::Underpriced | NotSentReason::ReplacementUnderpriced => {
                        Submission::Underpriced
                    }
                    NotSentReason::GasLimit | NotSentReason::Invalid => Submission::Invalid,
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
                Trace::Included {
                    transaction,
                    block,
                    good: receipt.success && !batch.is_void(transaction),
                }
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
        // Used for good: by one of ours, or by a stranger. That stops the account, so it is a node's to say only if it has
        // itself got so far: another may stand still, and tell nothing of what is long final.
        let stolen = self
            .chain
            .used_elsewhere(account, nonce, settled, &hashes)
            .await
            .map_err(unavailable)?;
        let sight = self.chain.sight(&hashes).await.map_err(unavailable)?;
        if !stolen || sight.receipts.iter().flatten().next().is_some() {
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

impl<W: Wallet> OwnRail<W> {
    async fn sign(
        &self,
        transaction: TransactionRequest1559,
        void: bool,
    ) -> Result<Instruction, RailError> {
        let (nonce, gas_price) = (transaction.nonce, transaction.gas_price);
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
            void,
        })
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
