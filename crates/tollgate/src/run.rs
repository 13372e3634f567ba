//! The run of this gateway: kept alive, and begun anew where it was taken for dead.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::{sync::watch, task::JoinHandle};
use tollgate_engine::recover;
use tollgate_ledger::{CurrentRun, Outage, RENEW_EVERY, RUN_LEASE, Run, Store, StoreError};

/// Identifiers and outcomes that are forgotten in one step, at most.
const PRUNED: usize = 1_000;

/// Between signs of life.
const EVERY: Duration = Duration::from_secs(RENEW_EVERY);

/// Until the next, where one could not be given.
const AGAIN: Duration = Duration::from_secs(1);

/// Begins the first run. The slot of a run that died is free after its lease, so it waits that long where none is.
///
/// # Errors
/// Why nothing may be sold.
pub(crate) async fn begin<S: Store>(store: &S, gateways: u32) -> anyhow::Result<(Run, CurrentRun)> {
    let began = Instant::now();
    let patience = Duration::from_secs(RUN_LEASE.saturating_add(RENEW_EVERY));
    let current = CurrentRun::new();
    loop {
        let asked = current.now();
        match store.begin_run(gateways).await {
            Err(StoreError::Unavailable(Outage::NoSlot(_))) if began.elapsed() < patience => {
                tracing::warn!("every slot is taken; perhaps one is of a gateway that died");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            run => {
                let run = run.context("the ledger cannot begin a run")?;
                current.renew(run, asked);
                return Ok((run, current));
            }
        }
    }
}

/// Keeps a run alive, and does what must be done now and then: payments of gateways that died are concluded, and
/// what has expired is forgotten.
pub(crate) struct Heartbeat<S> {
    store: S,
    current: CurrentRun,
    gateways: u32,
    run: Run,
}

impl<S: Store> Heartbeat<S> {
    pub(crate) fn new(store: S, current: CurrentRun, run: Run, gateways: u32) -> Self {
        Self {
            store,
            current,
            gateways,
            run,
        }
    }

    /// Beats until it is stopped; then the run ends.
    pub(crate) fn start(mut self, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        tokio::spawn(async move {
            // The start may have taken long.
            let mut wait = Duration::ZERO;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
                let trouble = match tokio::time::timeout(EVERY, self.beat()).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("the ledger does not answer".to_owned()),
                };
                wait = if let Some(error) = trouble {
                    // The run ends by itself where its lease does: it admits nothing more.
                    tracing::warn!(%error, "no sign of life could be given to the ledger");
                    AGAIN
                } else {
                    EVERY
                };
            }
            self.current.end();
            // Without it the slot is free after the lease.
            if let Err(error) = self.store.end_run(self.run.epoch).await {
                tracing::warn!(%error, "the run could not be ended");
            }
        })
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        let mut asked = self.current.now();
        if !self.store.renew(self.run.epoch).await? {
            self.current.end();
            tracing::error!(epoch = self.run.epoch, "{}", Outage::RunEnded);
            asked = self.current.now();
            self.run = self.store.begin_run(self.gateways).await?;
            tracing::info!(epoch = self.run.epoch, slot = self.run.slot, "began anew");
        }
        self.current.renew(self.run, asked);
        let recovered = recover(&self.store, self.run.epoch).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "payments of a gateway that died are concluded");
        }
        self.store.prune(PRUNED).await?;
        Ok(())
    }
}
