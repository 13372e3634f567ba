//! The ports to the chain, with what a seeded bug does there.

use std::sync::Arc;

use tollgate_engine::{ChainVerifier, OwnRail};
use tollgate_payment::{
    BatchRow, Instruction, Submission,
    command::Funds,
    port::{Pulse, Rail, RailError, Rehearsal, Trace, Verifier, VerifyError},
};
use tollgate_x402::Authorization;

use crate::{replica::SimWallet, world::World};

/// The rail.
pub(crate) struct SimRail {
    own: OwnRail<SimWallet>,
    world: Arc<World>,
    account: usize,
}

impl SimRail {
    pub(crate) fn new(own: OwnRail<SimWallet>, world: Arc<World>, account: usize) -> Self {
        Self {
            own,
            world,
            account,
        }
    }
}

impl Rail for SimRail {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        self.own.prepare(batch, nonce, above).await
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        let _ = (&self.world, self.account);
        self.own.submit(stored).await
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        self.own.trace(batch).await
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

/// The reader of payers' funds.
pub(crate) struct SimVerifier {
    own: ChainVerifier,
    world: Arc<World>,
}

impl SimVerifier {
    pub(crate) const fn new(own: ChainVerifier, world: Arc<World>) -> Self {
        Self { own, world }
    }
}

impl Verifier for SimVerifier {
    async fn funds(&self, authorization: &Authorization) -> Result<Funds, VerifyError> {
        let _ = &self.world;
        self.own.funds(authorization).await
    }
}
