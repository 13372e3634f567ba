//! The run of this gateway: kept alive, and begun anew where it was taken for dead.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::{sync::watch, task::JoinHandle};
use tollgate_engine::recover;
use tollgate_ledger::{CurrentRun, Outage, RENEW_EVERY, RUN_LEASE, Run, Store, StoreError};

/// Identifiers and outcomes that are forgotten in one step, at most.
const PRUNED: usize = 1_000;

/// Begins the first run. The slot of a run that died is free after its lease, so it waits that long where none is.
///
/// # Errors
/// Why nothing may be sold.
pub(crate) async fn begin<S: Store>(store: &S, gateways: u32) -> anyhow::Result<Run> {
    let began = Instant::now();
    let patience = Duration::from_secs(RUN_LEASE.saturating_add(RENEW_EVERY));
    loop {
        match store.begin_run(gateways).await {
            Err(StoreError::Unavailable(Outage::NoSlot(_))) if began.elapsed() < patience => {
                tracing::warn!("every slot is taken; perhaps one is of a gateway that died");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            run => return run.context("the ledger cannot begin a run"),
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
    /// The last sign of life that the ledger took.
    alive: Instant,
}

impl<S: Store> Heartbeat<S> {
    pub(crate) fn new(store: S, current: CurrentRun, run: Run, gateways: u32) -> Self {
        Self {
            store,
            current,
            gateways,
            run,
            alive: Instant::now(),
        }
    }

    /// Beats until it is stopped; then the run ends.
    pub(crate) fn start(mut self, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let every = Duration::from_secs(RENEW_EVERY);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    _ = stop.wait_for(|stop| *stop) => break,
                }
                match tokio::time::timeout(every, self.beat()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.suspect(&error),
                    Err(_) => self.suspect(&"the ledger does not answer"),
                }
            }
            // Without it the slot is free after the lease.
            if let Err(error) = self.store.end_run(self.run.epoch).await {
                tracing::warn!(%error, "the run could not be ended");
            }
        })
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        if !self.store.renew(self.run.epoch).await? {
            self.current.set(None);
            tracing::error!(epoch = self.run.epoch, "{}", Outage::RunEnded);
            self.run = self.store.begin_run(self.gateways).await?;
            tracing::info!(epoch = self.run.epoch, slot = self.run.slot, "began anew");
        }
        self.alive = Instant::now();
        self.current.set(Some(self.run));
        let recovered = recover(&self.store, self.run.epoch).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "payments of a gateway that died are concluded");
        }
        self.store.prune(PRUNED).await?;
        Ok(())
    }

    /// A gateway that cannot give a sign of life for its lease is soon taken for dead: it admits nothing more.
    fn suspect(&self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "no sign of life could be given to the ledger");
        if self.alive.elapsed() >= Duration::from_secs(RUN_LEASE) {
            self.current.set(None);
        }
    }
}
