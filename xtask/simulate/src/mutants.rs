//! Seeded bugs, at the ports: the product has none of this.

mod rail;

pub(crate) use rail::{SimRail, SimVerifier};

use tollgate_payment::{Command, Decision, Refusal, Rows};
use tollgate_x402::Timestamp;

use crate::{rng::Rng, setting::Setting};

/// A seeded bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// None.
    Nothing,
}

impl Mutant {
    pub(crate) fn bias(self, setting: &mut Setting, rng: &mut Rng) {
        let _ = (setting, rng);
    }

    pub(crate) fn decide<C: Command>(
        self,
        command: &C,
        rows: &Rows,
        now: Timestamp,
    ) -> Result<Decision<C::Outcome>, Refusal> {
        command.decide(rows, now)
    }
}
