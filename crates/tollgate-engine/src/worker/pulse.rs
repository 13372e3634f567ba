//! How the account and the chain are, for readiness and the till.

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::port::Rail;
use tollgate_x402::Clock;

use super::{Progress, Worker, WorkerError};
use crate::health::{GasMoney, Waits};

/// Seconds between looks.
const EVERY: u64 = 10;

impl<S: Store, R: Rail, C: Clock> Worker<S, R, C> {
    /// Feels the pulse of the account and the chain, now and then.
    pub(super) async fn feel(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if let Some(felt) = self.felt
            && now >= felt
            && now.since(felt) < EVERY
        {
            return Ok(());
        }
        let pulse = match self.rail.pulse().await {
            Ok(pulse) => pulse,
            Err(error) => {
                tracing::debug!(%error, "the account's money is not known");
                return Ok(());
            }
        };
        let queues = self.store.queues().await?;
        let items = queues.iter().fold(0_u64, |items, queue| {
            items.saturating_add(if queue.allowance { 1 } else { queue.payments })
        });
        let room = u64::try_from(self.config.queues).unwrap_or(1).max(1);
        let needed = items.div_ceil(room);
        self.felt = Some(now);
        self.health.tell(|report| {
            report.gas = pulse.batches.map(|batches| GasMoney { batches, needed });
            report.finality_age = pulse.finality_age;
        });
        Ok(())
    }

    /// Tells what a look came to.
    pub(super) fn tell(&self, done: &Result<Progress, WorkerError>) {
        let now = self.clock.now();
        self.health.tell(|report| {
            report.at = now;
            report.standby = done.as_ref().is_ok_and(|progress| progress.standby);
            report.halt = match done {
                Err(WorkerError::Halted(halt)) => Some(halt.clone()),
                _ => self.halt.clone(),
            };
            report.waits = done.as_ref().err().map(|error| {
                let since = report.waits.take().map_or(now, |waits| waits.since);
                let error = error.to_string();
                Waits { since, error }
            });
        });
    }
}
