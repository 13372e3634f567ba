//! Why a store did not do what it was asked.

use tollgate_payment::Refusal;

/// Why a store did not do what it was asked. In every case nothing of the command was written,
/// except where [`Durable`](crate::Durable) says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The command refused: see whom the refusal blames.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot do it now: the operator's. Serve nothing, answer 503, try again.
    #[error("the ledger is not available: {0}")]
    Unavailable(#[from] Outage),
    /// What is stored, or what a command decided, contradicts itself: a person must look.
    #[error("the ledger contradicts itself: {0}; stop serving and look at it")]
    Corrupt(String),
}

impl StoreError {
    /// The refusal, if it is one.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unavailable(_) | Self::Corrupt(_) => None,
        }
    }
}

/// Why a store is not available.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Outage {
    /// There is no space left: free some, the store goes on by itself.
    #[error("the disk is full ({0}); free some space, it goes on by itself")]
    Full(String),
    /// The store was closed.
    #[error("it is closed")]
    Closed,
    /// More commands wait than it can take.
    #[error("too many commands are waiting")]
    Busy,
    /// The run of this gateway was declared dead, since it gave no sign of life for longer than its lease: its payments
    /// are concluded by others. Begin a new run.
    #[error(
        "this gateway gave no sign of life for too long and was taken for dead; it begins anew"
    )]
    RunEnded,
    /// Every slot is taken by a living run.
    #[error(
        "all {0} slots are taken by living gateways: set `gateways` higher on every one of them, or stop one; \
         the slot of one that died is free after 15 seconds"
    )]
    NoSlot(u32),
    /// Other living gateways divide the global bound by another number.
    #[error(
        "living gateways divide the bound on unsettled payments by {living} and this one by {asked}: \
         set the same `gateways` on every one of them"
    )]
    Slots {
        /// What they divide by.
        living: u32,
        /// What this one would divide by.
        asked: u32,
    },
    /// Whether the step happened could not be found out: look before it is repeated.
    #[error(
        "the connection was lost while the step was committed, and whether it was is not known"
    )]
    Unknown,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(String),
}
