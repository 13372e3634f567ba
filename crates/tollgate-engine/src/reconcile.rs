//! A ledger that is behind the chain learns what it missed: after an old copy was restored, or commits were lost.
//!
//! What settles is searched on the finalized chain, proven by receipts, and booked: payments that the ledger has open
//! become final, and what it has never seen is booked as unknown to it. Nothing is sent, and nothing is charged anew.
//! Where it is not certain which charge a transfer paid, it counts for the payer.

mod apply;
mod calldata;
mod facts;

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use tollgate_bsc::{BlockTag, Chain, ChainError};
use tollgate_ledger::{RowKind, Store, StoreError};
use tollgate_payment::{
    BatchId, ExposureKey, Limit, OwnerKey, PaymentKeys, PaymentState, Row, SignerKey, SpenderKey,
    SpenderRow,
    command::{Lead, Resume},
};
use tollgate_x402::{Address, Amount, B256, PaymentId};

use self::{apply::Ledger, facts::gather};
use crate::{
    audit::{Scan, charged},
    market::{Market, Markets},
};

/// Seconds for which the account is taken, so that no worker signs meanwhile.
const TERM: u64 = 900;

/// What to reconcile.
#[derive(Clone, Copy, Debug)]
pub struct ReconcileConfig {
    /// The account that settles.
    pub signer: SignerKey,
    /// The first block to search: at or before the moment of the copy. Earlier is slower and never wrong.
    pub from_block: u64,
    /// 128 random bits: who holds the account meanwhile.
    pub holder: u128,
    /// Nobody else can have the ledger open: the account is taken from whoever held it last.
    pub sole: bool,
}

/// What was found, and booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// The blocks that were searched.
    pub blocks: RangeInclusive<u64>,
    /// Batches whose nonces the chain has decided: their payments are judged one by one.
    pub dissolved: Vec<BatchId>,
    /// Payments of the ledger that the chain shows paid.
    pub settled: Vec<Movement>,
    /// What the chain shows and the ledger had never seen.
    pub unknown: Vec<Movement>,
    /// Payments whose service was cut off in the copy, and whose charge is among what is unknown.
    pub released: Vec<PaymentId>,
    /// Transactions of the account that the ledger had never seen.
    pub transactions: Vec<B256>,
    /// The account's next nonce before, if the ledger knew it, and now.
    pub nonce: (Option<u64>, u64),
    /// Why the account was halted, if it was.
    pub halt: Option<String>,
    /// What a person should look at: transfers that could not be told apart for certain.
    pub doubts: Vec<String>,
}

/// A transfer that was booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// The payment under which it is booked.
    pub payment: PaymentId,
    /// Whose money.
    pub owner: OwnerKey,
    /// How much, in atomic units.
    pub amount: Amount,
    /// The transaction.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
}

impl Reconciled {
    /// Whether the ledger knew everything already.
    pub fn nothing(&self) -> bool {
        self.dissolved.is_empty()
            && self.settled.is_empty()
            && self.unknown.is_empty()
            && self.released.is_empty()
            && self.transactions.is_empty()
            && self.nonce.0 == Some(self.nonce.1)
            && self.halt.is_none()
    }
}

/// Why a ledger was not reconciled. What was booked before stays, and is right: do what is said, and ask again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain. Searching events needs a node that offers `eth_getLogs`.
    #[error(
        "the chain cannot be read: {0}; reconciling needs a node that offers eth_getLogs for these blocks"
    )]
    Chain(#[from] ChainError),
    /// A worker holds the account.
    #[error("a gateway settles with {account} now: stop it first")]
    Led {
        /// The account.
        account: Address,
    },
    /// Something was sent that is not final yet.
    #[error(
        "{account} has sent {latest} transactions, and {finalized} are final: wait until all are, then run it again"
    )]
    NotFinal {
        /// The account.
        account: Address,
        /// Transactions in the newest block, or in the node's pool.
        latest: u64,
        /// Transactions in the finalized block.
        finalized: u64,
    },
    /// The chain's counter is above what the events since the block explain.
    #[error(
        "the counter of {owner} stands at {chain} on the chain, and the ledger with the events since block {from_block} explains {ledger}: name an earlier block"
    )]
    Earlier {
        /// The payer.
        owner: Address,
        /// The chain's counter.
        chain: Amount,
        /// The ledger's.
        ledger: Amount,
        /// The block from which it was searched.
        from_block: u64,
    },
    /// An event that no receipt proves, or a receipt that is not final: nodes disagree.
    #[error("transaction {transaction} is not proven by its receipt: ask other nodes")]
    Unproven {
        /// The transaction.
        transaction: B256,
    },
    /// The `Settler` settled a token that the configuration does not name.
    #[error("the Settler moved the token {token}, which the configuration does not name: add it")]
    OtherToken {
        /// The token.
        token: Address,
    },
    /// A batch that is signed and not decided draws a counter that has moved on.
    #[error(
        "batch {batch:032x} is signed and its nonce is not used, but the counter that it draws has moved on: another account settles for this ledger; wait until the batch is decided, then run it again"
    )]
    Overtaken {
        /// The batch.
        batch: u128,
    },
}

/// Books what the chain shows since a block and the ledger does not know; then lets the account settle again.
///
/// It can be stopped at any point and run again: everything is booked once.
///
/// # Errors
/// [`ReconcileError`].
pub async fn reconcile<S: Store>(
    store: &S,
    chain: &Chain,
    markets: &Markets,
    config: &ReconcileConfig,
) -> Result<Reconciled, ReconcileError> {
    let signer = config.signer;
    let finalized = chain.heads().await?.finalized.number;
    let count = chain
        .transaction_count(signer.operator, BlockTag::Number(finalized))
        .await?;
    for tag in [BlockTag::Latest, BlockTag::Pending] {
        let latest = chain.transaction_count(signer.operator, tag).await?;
        if latest > count {
            return Err(ReconcileError::NotFinal {
                account: signer.operator,
                latest,
                finalized: count,
            });
        }
    }
    let before = store
        .read(
            [tollgate_payment::RowKey::Signer(signer)]
                .into_iter()
                .collect(),
        )
        .await?
        .signer(&signer)
        .cloned();
    let lead = |seconds| Lead {
        signer,
        holder: config.holder,
        seconds,
        sole: config.sole,
        chain_nonce: Some(count),
    };
    let led = store.transact(lead(TERM)).await?;
    if led.term_of(config.holder).is_none() {
        return Err(ReconcileError::Led {
            account: signer.operator,
        });
    }
    let blocks = config.from_block..=finalized;
    let facts = gather(chain, markets, signer.operator, blocks.clone()).await?;

    let mut ledger = Ledger::open(store, markets, finalized).await?;
    let mut dissolved = Vec::new();
    for batch in store.undecided().await? {
        if batch.signer.chain != chain.id() {
            continue;
        }
        // What is signed and may still go in is the worker's to send.
        let decided = match batch.nonce() {
            None => true,
            Some(nonce) => {
                let sender = batch.signer.operator;
                nonce
                    < chain
                        .transaction_count(sender, BlockTag::Number(finalized))
                        .await?
            }
        };
        if decided {
            ledger.dissolve(&batch, &facts).await?;
            dissolved.push(batch.id);
        }
    }
    ledger.load_due().await?;
    for fact in &facts.moved {
        ledger.book(fact).await?;
    }
    stand(store, chain, markets, finalized, config.from_block).await?;
    let transactions = ledger
        .transactions(
            &facts,
            signer,
            before.as_ref().map(|row| row.next_nonce),
            count,
        )
        .await?;
    let next = store
        .transact(Resume {
            signer,
            chain_nonce: count,
        })
        .await?;
    store.transact(lead(0)).await?;
    Ok(Reconciled {
        blocks,
        dissolved,
        settled: ledger.settled,
        unknown: ledger.unknown,
        released: ledger.released,
        transactions,
        nonce: (before.as_ref().map(|row| row.next_nonce), next),
        halt: before.and_then(|row| row.halt).map(|halt| halt.reason),
        doubts: ledger.doubts,
    })
}

/// Whether every counter stands where the chain's does now.
async fn stand<S: Store>(
    store: &S,
    chain: &Chain,
    markets: &Markets,
    finalized: u64,
    from_block: u64,
) -> Result<(), ReconcileError> {
    let mut rows = Scan::new(store, RowKind::Spender);
    while let Some(page) = rows.next().await? {
        for row in &page {
            let Row::Spender(SpenderRow {
                key,
                limit: Limit::Counter(counter),
                ..
            }) = row
            else {
                continue;
            };
            let Some(settler) = markets
                .of(key.owner.chain, key.owner.token)
                .and_then(Market::settler)
                .filter(|settler| *settler == key.spender)
            else {
                continue;
            };
            let (token, owner) = (key.owner.token, key.owner.owner);
            let on_chain = charged(chain, settler, token, owner, finalized).await?;
            if on_chain > counter.settled {
                return Err(ReconcileError::Earlier {
                    owner,
                    chain: on_chain,
                    ledger: counter.settled,
                    from_block,
                });
            }
        }
    }
    Ok(())
}

/// The rows of a payment that the ledger has never seen.
fn unknown_keys(
    id: PaymentId,
    owner: OwnerKey,
    spender: Option<Address>,
    authorization: tollgate_payment::AuthorizationKey,
) -> PaymentKeys {
    PaymentKeys {
        id,
        owner,
        spender,
        authorization,
        exposure: ExposureKey {
            chain: owner.chain,
            token: owner.token,
            slice: 0,
        },
    }
}

/// Payments by the counter that they draw.
type ByCounter = BTreeMap<SpenderKey, Vec<PaymentKeys>>;

/// The payments that were being served when the copy was made, by counter.
async fn serving<S: Store>(store: &S) -> Result<(ByCounter, Vec<B256>), StoreError> {
    let (mut serving, mut finals) = (ByCounter::new(), Vec::new());
    let mut rows = Scan::new(store, RowKind::Payment);
    while let Some(page) = rows.next().await? {
        for row in &page {
            let Row::Payment(payment) = row else { continue };
            match payment.state {
                PaymentState::Serving { .. } => {
                    if let Some(spender) = payment.keys.spender_key() {
                        serving.entry(spender).or_default().push(payment.keys);
                    }
                }
                PaymentState::Final { transaction, .. } => finals.push(transaction),
                _ => {}
            }
        }
    }
    Ok((serving, finals))
}
