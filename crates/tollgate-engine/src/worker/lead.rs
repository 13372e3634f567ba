//! Whose turn it is: an account's nonces are given by one worker at a time, and by nobody once it was used elsewhere.

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    BatchRow, Halt, Refusal, SignerKey,
    command::{Lead, Stop},
    port::Rail,
};
use tollgate_x402::{Clock, Timestamp};

use super::{Worker, WorkerError};
use crate::elapsed::passed;

/// Seconds without a sign of life after which another account's batch is taken over.
const ABANDONED_AFTER: u64 = 60;

/// What this worker knows of the account that it leads.
#[derive(Clone, Debug)]
pub(super) struct Led {
    pub(super) term: u64,
    pub(super) next_nonce: u64,
    /// When the lease was last renewed, by this process's clock: the ledger decides by its own.
    renewed: Timestamp,
}

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// Acquires the account's lease, or renews it in time. Whether this worker leads.
    pub(super) async fn lead(&mut self) -> Result<bool, WorkerError> {
        let now = self.clock.now();
        let third = self.config.lease.div_ceil(3);
        if let Some(led) = &self.led
            && now >= led.renewed
            && now.since(led.renewed) < third
        {
            return Ok(true);
        }
        let before = self.led.take();
        let sole = before.is_none() && self.config.sole;
        let found = match self.store.transact(self.leading(None, sole)).await {
            // A new ledger begins where the chain is.
            Err(StoreError::Refused(Refusal::Missing(_))) => {
                let nonce = self.rail.nonce().await?;
                self.store.transact(self.leading(Some(nonce), sole)).await?
            }
            found => found?,
        };
        self.halt.clone_from(&found.halt);
        let Some(term) = found.term_of(self.holder) else {
            if before.is_some() {
                tracing::warn!(lease = ?found.lease, "another worker leads the account now");
            }
            return Ok(false);
        };
        self.led = Some(Led {
            term,
            next_nonce: found.next_nonce,
            renewed: now,
        });
        if before.is_none_or(|before| before.term != term) {
            self.check_nonce().await?;
        }
        Ok(true)
    }

    /// Gives the lease up, so that another need not wait for its end.
    pub(super) async fn hand_over(&mut self) {
        if self.led.take().is_none() {
            return;
        }
        let lead = Lead {
            seconds: 0,
            ..self.leading(None, false)
        };
        if let Err(error) = self.store.transact(lead).await {
            tracing::debug!(%error, "the account's lease ends by itself");
        }
    }

    const fn leading(&self, chain_nonce: Option<u64>, sole: bool) -> Lead {
        Lead {
            signer: self.config.signer,
            holder: self.holder,
            seconds: self.config.lease,
            sole,
            chain_nonce,
        }
    }

    /// Stops the account if the chain has counted more of its transactions than the ledger has signed: the key is used
    /// elsewhere, or the ledger is an old copy.
    pub(super) async fn check_nonce(&mut self) -> Result<(), WorkerError> {
        let chain = self.rail.nonce().await?;
        let Some(led) = &self.led else {
            return Ok(());
        };
        if chain <= led.next_nonce {
            return Ok(());
        }
        // What another worker signed since we looked is no stranger's.
        let now = self.store.transact(self.leading(None, false)).await?;
        let ledger = now.next_nonce;
        if chain <= ledger {
            self.led = None;
            return Err(StoreError::Refused(Refusal::Deposed).into());
        }
        self.stop(format!(
            "the chain has counted {chain} transactions of the account and the ledger has signed {ledger}: the key is used elsewhere, or the ledger is an old copy"
        ))
        .await
    }

    /// Stops the account until a person has looked. It is an error in any case.
    pub(super) async fn stop(&mut self, reason: String) -> Result<(), WorkerError> {
        let stop = Stop {
            signer: self.config.signer,
            reason,
        };
        let halt = self.store.transact(stop).await?;
        self.halted(self.config.signer, halt.clone());
        Err(WorkerError::Halted(halt))
    }

    /// Tells that an account is stopped.
    pub(super) fn halted(&mut self, signer: SignerKey, halt: Halt) {
        tracing::error!(operator = %signer.operator, reason = %halt.reason, "nothing is sent with the account until a person has looked");
        if signer == self.config.signer {
            self.halt = Some(halt);
        }
    }

    /// Whether nobody leads an account now.
    async fn is_vacant(&self, signer: SignerKey) -> Result<bool, StoreError> {
        let look = Lead {
            signer,
            seconds: 0,
            ..self.leading(None, false)
        };
        match self.store.transact(look).await {
            Ok(found) => Ok(found.vacant),
            Err(StoreError::Refused(Refusal::Missing(_))) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether a batch is this worker's to follow: sent by its account, or left behind by one that nobody leads any
    /// more. A plain account is the payee, whom nobody can take over.
    pub(super) async fn is_ours(&self, batch: &BatchRow) -> Result<bool, StoreError> {
        if batch.signer.chain != self.config.signer.chain || batch.settler != self.config.settler {
            return Ok(false);
        }
        if batch.signer == self.config.signer {
            return Ok(true);
        }
        let silent = passed(ABANDONED_AFTER, batch.updated, self.clock.now());
        Ok(self.config.settler.is_some() && silent && self.is_vacant(batch.signer).await?)
    }
}
