//! The ports to the chain, with what a seeded bug does there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tollgate_engine::{ChainVerifier, OwnRail};
use tollgate_payment::{
    BatchItem, BatchRow, BatchState, Instruction, LossReason, Submission,
    command::{Fate, Funds, ItemFate},
    port::{Pulse, Rail, RailError, Rehearsal, Trace, Verifier, VerifyError},
};
use tollgate_x402::{Address, Amount, Authorization, B256};

use super::Mutant;
use crate::{replica::SimWallet, world::World};

/// The rail.
pub(crate) struct SimRail {
    own: OwnRail<SimWallet>,
    world: Arc<World>,
    /// Nonces whose transaction was not surely sent, as a bug believes.
    doubted: Mutex<BTreeSet<u64>>,
}

impl SimRail {
    pub(crate) fn new(own: OwnRail<SimWallet>, world: Arc<World>) -> Self {
        Self {
            own,
            world,
            doubted: Mutex::default(),
        }
    }

    fn mutant(&self) -> Option<Mutant> {
        self.world.with(|core| core.setting.mutant)
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(batch: &BatchRow, fate: ItemFate, transaction: Option<B256>, block: u64) -> Trace {
    Trace::Final(Fate {
        transaction,
        block,
        items: vec![fate; batch.items.len()],
    })
}

impl Rail for SimRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        let mutant = self.mutant();
        if above.is_some()
            && matches!(
                mutant,
                Some(Mutant::FreshNonce | Mutant::RevertMeansLostFreshNonce)
            )
        {
            let fresh = self
                .own
                .prepare(batch, nonce.saturating_add(1), None)
                .await?;
            self.own.submit(&fresh).await;
        }
        let nonce = match above {
            Some(_) if mutant == Some(Mutant::FreshNonceSealed) => self
                .world
                .with(|core| core.books.signers.get(&batch.signer).copied())
                .unwrap_or(nonce),
            _ => nonce,
        };
        let prepared = self.own.prepare(batch, nonce, above).await?;
        if mutant == Some(Mutant::RecordAfterSend) {
            self.own.submit(&prepared).await;
        }
        Ok(prepared)
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        let answer = self.own.submit(stored).await;
        if self.mutant() == Some(Mutant::ReleaseOnSendError) && answer != Submission::Accepted {
            self.doubts().insert(stored.nonce);
        }
        answer
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        let mutant = self.mutant();
        if let Some(nonce) = batch.nonce()
            && self.doubts().remove(&nonce)
        {
            return Ok(all(batch, ItemFate::Lost(LossReason::Refused), None, 0));
        }
        let trace = self.own.trace(batch).await?;
        Ok(match (mutant, trace) {
            (
                Some(Mutant::OneConfirmation),
                Trace::Included {
                    transaction, block, ..
                },
            ) => all(batch, ItemFate::Paid, Some(transaction), block),
            (Some(Mutant::NoReceiptMeansFailed), Trace::Pending) if batch.nonce().is_some() => {
                all(batch, ItemFate::Untried, None, 0)
            }
            (Some(Mutant::ReorgIgnored), Trace::Pending) => match batch.state {
                BatchState::Included { transaction, block } => Trace::Included {
                    transaction,
                    block,
                    good: true,
                },
                _ => Trace::Pending,
            },
            (Some(mutant), Trace::Final(mut fate)) => {
                let included = fate.transaction.is_some();
                for (item, found) in batch.items.iter().zip(&mut fate.items) {
                    let exact = matches!(item, BatchItem::Exact { .. });
                    *found = match (mutant, *found) {
                        (Mutant::EarlyNonce, ItemFate::Untried) if included && exact => {
                            ItemFate::Again(LossReason::Nonce)
                        }
                        (_, found) => misread(mutant, found, included),
                    };
                }
                Trace::Final(fate)
            }
            (_, trace) => trace,
        })
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        self.own.nonce().await
    }

    async fn rehearse(&self, batch: &BatchRow) -> Result<Rehearsal, RailError> {
        self.own.rehearse(batch).await
    }

    async fn void(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
    ) -> Result<Instruction, RailError> {
        self.own.void(batch, nonce, above).await
    }

    async fn pulse(&self) -> Result<Pulse, RailError> {
        self.own.pulse().await
    }
}

fn misread(mutant: Mutant, item: ItemFate, included: bool) -> ItemFate {
    match (mutant, item) {
        (
            Mutant::NonceMeansPaid,
            ItemFate::Lost(LossReason::Nonce) | ItemFate::Again(LossReason::Nonce),
        ) if included => ItemFate::Paid,
        (
            Mutant::RevertMeansLost | Mutant::RevertMeansLostFreshNonce,
            ItemFate::Again(reason) | ItemFate::Wait(reason) | ItemFate::Parted(reason),
        ) => ItemFate::Lost(reason),
        _ => item,
    }
}

/// The reader of payers' funds.
pub(crate) struct SimVerifier {
    own: ChainVerifier,
    world: Arc<World>,
    /// What was read first of each payer, and when.
    old: Mutex<BTreeMap<Address, (u64, Amount)>>,
}

impl SimVerifier {
    pub(crate) fn new(own: ChainVerifier, world: Arc<World>) -> Self {
        let old = Mutex::default();
        Self { own, world, old }
    }
}

impl Verifier for SimVerifier {
    async fn funds(&self, authorization: &Authorization) -> Result<Funds, VerifyError> {
        let mut funds = self.own.funds(authorization).await?;
        if self.world.with(|core| core.setting.mutant) == Some(Mutant::StaleBalance) {
            let mut old = self.old.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.world.seconds();
            let known = old
                .entry(authorization.owner())
                .or_insert((now, funds.balance));
            if now > known.0 + 8 {
                *known = (now, funds.balance);
            }
            funds.balance = known.1;
        }
        Ok(funds)
    }
}
