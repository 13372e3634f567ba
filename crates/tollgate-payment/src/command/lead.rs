//! Who may sign with an account, and whether anybody may.
//!
//! An account's nonces are given by one worker at a time. It holds a lease of the account for a *term*, by the store's
//! clock, and renews it while it works. A term is never given twice: what a worker that was paused signs with an old
//! one is refused, however late it wakes up.

use tollgate_x402::Timestamp;

use crate::{
    key::{RowKey, SignerKey},
    refusal::Refusal,
    row::{Halt, Lease, Row, SignerRow},
    store::{Command, Decision, RowSet, Rows},
};

/// Acquires an account's lease, renews it, or learns who has it.
///
/// The holder renews it for `seconds` from now, under the same term as long as nobody else has led since. Anybody may
/// take it once it has ended: under the next term. For 0 seconds the holder gives it up, and others only look.
#[derive(Clone, Debug)]
pub struct Lead {
    /// The account.
    pub signer: SignerKey,
    /// The worker: 128 random bits, drawn at its start.
    pub holder: u128,
    /// For how long, from now by the store's clock; 60 if it is more.
    pub seconds: u64,
    /// Nobody else can be at work: take it from whoever has it. For a worker that begins on a ledger which one process
    /// owns; the one before it is dead.
    pub sole: bool,
    /// The chain's transaction count of the account: where a new ledger begins. `None` if the chain cannot be asked,
    /// which is good enough for an account that the ledger knows.
    pub chain_nonce: Option<u64>,
}

/// Seconds of the longest lease.
const LONGEST: u64 = 60;

/// Who leads an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// The lease as it stands now; `None`: nobody has ever had one.
    pub lease: Option<Lease>,
    /// Whether anybody may take it now.
    pub vacant: bool,
    /// The nonce of the account's next transaction.
    pub next_nonce: u64,
    /// Why nothing new is to be signed with it.
    pub halt: Option<Halt>,
}

impl Leadership {
    /// The term in which this worker may sign; `None`: another leads, or nobody.
    pub fn term_of(&self, holder: u128) -> Option<u64> {
        self.lease
            .as_ref()
            .filter(|lease| lease.holder == holder && !self.vacant)
            .map(|lease| lease.term)
    }
}

impl Command for Lead {
    type Outcome = Leadership;

    fn rows(&self) -> RowSet {
        [RowKey::Signer(self.signer)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Leadership>, Refusal> {
        let known = rows.signer(&self.signer);
        let mut row = match (known, self.chain_nonce) {
            (Some(row), _) => row.clone(),
            (None, Some(next_nonce)) => SignerRow {
                key: self.signer,
                next_nonce,
                lease: None,
                halt: None,
            },
            (None, None) => return Err(Refusal::Missing("signer")),
        };
        let until = now.plus(self.seconds.min(LONGEST));
        // One that runs longer than any was given by a clock that was ahead, and may be of a worker that is long dead. To
        // take it early is safe: what its holder signs by its term is refused.
        let runs = |lease: &Lease| lease.until > now && lease.until <= now.plus(LONGEST);
        let lease = match row.lease.take() {
            Some(lease) if lease.holder == self.holder => Some(Lease { until, ..lease }),
            Some(lease) if runs(&lease) && !self.sole || self.seconds == 0 => Some(lease),
            None if self.seconds == 0 => None,
            ended => Some(Lease {
                term: ended
                    .map_or(0, |lease| lease.term)
                    .checked_add(1)
                    .ok_or(Refusal::Books("the account's terms are used up"))?,
                holder: self.holder,
                until,
            }),
        };
        row.lease = lease.clone();
        let outcome = Leadership {
            vacant: !lease.as_ref().is_some_and(runs),
            lease,
            next_nonce: row.next_nonce,
            halt: row.halt.clone(),
        };
        let changed = known != Some(&row);
        Ok(Decision {
            writes: changed.then_some(Row::Signer(row)).into_iter().collect(),
            entries: Vec::new(),
            outcome,
        })
    }
}

/// Stops an account: nothing new is signed with it, by anybody and after any restart, until [`Resume`]. What was signed
/// before is followed to its end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The account.
    pub signer: SignerKey,
    /// What was seen, for people.
    pub reason: String,
}

impl Command for Stop {
    /// Why it stands still: the first reason that was given stays.
    type Outcome = Halt;

    fn rows(&self) -> RowSet {
        [RowKey::Signer(self.signer)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, now: Timestamp) -> Result<Decision<Halt>, Refusal> {
        let mut row = rows
            .signer(&self.signer)
            .cloned()
            .ok_or(Refusal::Missing("signer"))?;
        let known = row.clone();
        let halt = row.stop(self.reason.clone(), now);
        let changed = row != known;
        Ok(Decision {
            writes: changed.then_some(Row::Signer(row)).into_iter().collect(),
            entries: Vec::new(),
            outcome: halt,
        })
    }
}

impl SignerRow {
    /// Stops the account. Why it stands still: the first reason that was given stays.
    pub(super) fn stop(&mut self, reason: String, at: Timestamp) -> Halt {
        self.halt.get_or_insert(Halt { reason, at }).clone()
    }
}

/// Lets a stopped account go on, after a person has looked (`ledger reconcile`): its next nonce is the chain's, if the
/// ledger's is behind.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The account.
    pub signer: SignerKey,
    /// The chain's transaction count of the account.
    pub chain_nonce: u64,
}

impl Command for Resume {
    /// The nonce of the next transaction.
    type Outcome = u64;

    fn rows(&self) -> RowSet {
        [RowKey::Signer(self.signer)].into_iter().collect()
    }

    fn decide(&self, rows: &Rows, _now: Timestamp) -> Result<Decision<u64>, Refusal> {
        let mut row = rows
            .signer(&self.signer)
            .cloned()
            .ok_or(Refusal::Missing("signer"))?;
        row.halt = None;
        row.next_nonce = row.next_nonce.max(self.chain_nonce);
        let outcome = row.next_nonce;
        Ok(Decision {
            writes: vec![Row::Signer(row)],
            entries: Vec::new(),
            outcome,
        })
    }
}
