//! How settlement is: what the worker tells readiness and the till.

use std::sync::{Arc, PoisonError, RwLock};

use tollgate_payment::Halt;
use tollgate_x402::Timestamp;

/// Batches of gas that are kept beside those that open charges need.
const RESERVE: u64 = 1;

/// Batches of gas below which readiness tells, before the till does.
const LOW: u64 = 10;

/// Seconds of the chain's time for which the finalized block may stand still. BSC finalizes in one to two seconds, and
/// in two minutes where its votes are missing (BEP-126).
const STALLED: u64 = 180;

/// Seconds for which looks may fail before readiness tells.
const PATIENCE: u64 = 60;

/// What a settlement worker last saw. A handle: clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Report>>);

/// What a settlement worker last saw.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// When it looked; 0: never.
    pub at: Timestamp,
    /// Another worker leads the account.
    pub standby: bool,
    /// Why nothing new is sent with the account.
    pub halt: Option<Halt>,
    /// The account's money.
    pub gas: Option<GasMoney>,
    /// The age of the finalized block, in seconds of the chain's time.
    pub finality_age: Option<u64>,
    /// What stood in the way of the last look; it tries again by itself.
    pub waits: Option<Waits>,
}

/// What stands in the way of settlement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waits {
    /// Since when each look failed.
    pub since: Timestamp,
    /// Why the last one did.
    pub error: String,
}

/// What the settling account can still pay for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GasMoney {
    /// So many full batches, at the price of now.
    pub batches: u64,
    /// So many are needed for everything that is committed and not settled.
    pub needed: u64,
}

impl Health {
    /// What was last seen.
    pub fn report(&self) -> Report {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes what was last seen: for who settles.
    pub fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether something new may be lent: not if the account could not pay for the settlement of what is lent already.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self) -> Result<(), String> {
        let report = self.report();
        match report.gas {
            Some(gas) if gas.batches < gas.needed.saturating_add(RESERVE) => Err(format!(
                "the settling account pays for {} more batches and {} are needed: send it BNB",
                gas.batches, gas.needed
            )),
            _ => Ok(()),
        }
    }

    /// Whether what is claimed now would be settled soon: for a facilitator, which does nothing else with a claim.
    ///
    /// # Errors
    /// Why not, in words for anybody: no host is named.
    pub fn settles(&self) -> Result<(), String> {
        let report = self.report();
        if report.halt.is_some() {
            return Err("the settling account is stopped until its operator has looked".to_owned());
        }
        self.admits()?;
        if let Some(seconds) = report.failing() {
            return Err(format!("nothing could be settled for {seconds} s"));
        }
        report.finalizes()
    }

    /// Whether settlement is well, for readiness.
    ///
    /// # Errors
    /// What an operator has to know. Serving goes on within the bounds of credit, unless [`admits`](Self::admits) says
    /// no.
    pub fn ready(&self) -> Result<(), String> {
        let report = self.report();
        if let Some(halt) = report.halt {
            return Err(format!("the settling account is stopped: {}", halt.reason));
        }
        self.admits()?;
        if let Some(gas) = report.gas.filter(|gas| gas.batches < LOW) {
            return Err(format!(
                "the settling account pays for {} more batches: send it BNB",
                gas.batches
            ));
        }
        if let (Some(seconds), Some(waits)) = (report.failing(), &report.waits) {
            let error = &waits.error;
            return Err(format!("nothing could be settled for {seconds} s: {error}"));
        }
        report
            .finalizes()
            .map_err(|error| format!("{error}: charges wait, and credit is used up meanwhile"))
    }
}

impl Report {
    /// Seconds for which every look has failed, if that is too long.
    fn failing(&self) -> Option<u64> {
        let waits = self.waits.as_ref()?;
        Some(self.at.since(waits.since)).filter(|seconds| *seconds >= PATIENCE)
    }

    fn finalizes(&self) -> Result<(), String> {
        match self.finality_age {
            Some(age) if age > STALLED => {
                Err(format!("the chain has finalized nothing for {age} s"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(report: Report) -> Health {
        let health = Health::default();
        health.tell(|told| *told = report);
        health
    }

    fn gas(batches: u64, needed: u64) -> Health {
        with(Report {
            gas: Some(GasMoney { batches, needed }),
            ..Report::default()
        })
    }

    #[test]
    fn lending_stops_while_there_still_is_money_for_what_is_lent() {
        assert_eq!(Health::default().admits(), Ok(()), "nothing is known yet");
        assert!(gas(4, 3).admits().is_ok());
        assert!(gas(3, 3).admits().unwrap_err().contains("send it BNB"));
        assert!(gas(0, 0).admits().is_err());
    }

    #[test]
    fn readiness_tells_of_a_halt_of_little_money_of_looks_that_fail_and_of_a_chain_that_finalizes_nothing()
     {
        assert!(gas(LOW, 1).ready().is_ok());
        assert!(gas(LOW - 1, 1).ready().unwrap_err().contains("9 more"));
        let stalled = |age| {
            with(Report {
                finality_age: Some(age),
                ..Report::default()
            })
        };
        assert!(stalled(STALLED).ready().is_ok());
        assert!(stalled(STALLED + 1).ready().unwrap_err().contains("181 s"));
        assert!(stalled(STALLED + 1).admits().is_ok(), "serving goes on");
        assert!(stalled(STALLED).settles().is_ok());
        assert!(stalled(STALLED + 1).settles().unwrap_err().contains("181"));
        let waiting = |at| {
            with(Report {
                at: Timestamp(at),
                waits: Some(Waits {
                    since: Timestamp(100),
                    error: "stop and look".to_owned(),
                }),
                ..Report::default()
            })
        };
        assert!(waiting(159).ready().is_ok());
        assert!(waiting(160).ready().unwrap_err().contains("stop and look"));
        assert!(waiting(159).settles().is_ok());
        let told = waiting(160).settles().unwrap_err();
        assert!(
            told.contains("60 s") && !told.contains("stop and look"),
            "{told}"
        );
        let halted = with(Report {
            halt: Some(Halt {
                reason: "a stranger".to_owned(),
                at: Timestamp(5),
            }),
            ..Report::default()
        });
        assert!(halted.ready().unwrap_err().contains("a stranger"));
        let told = halted.settles().unwrap_err();
        assert!(
            told.contains("stopped") && !told.contains("a stranger"),
            "{told}"
        );
        assert!(gas(1, 1).settles().unwrap_err().contains("BNB"));
        assert!(
            gas(2, 1).settles().is_ok(),
            "little is enough to settle one more"
        );
    }
}
