//! The steps of a payment's life.
//!
//! ```text
//! Reserve ─▶ Serving ─Checkpoint*─▶ Commit ─▶ Due ─Claim─▶ Claimed ─Seal, Submitted, Included─▶ Conclude ─▶ Final
//!               └────────Release────▶ Released   ▲                                                 │ ├─▶ Lost
//!                                                └─────────────────────────────────────────────────┘ (failed: again)
//! ```
//! From `Sealed` no step leads back: once signed, only the finalized chain decides.

mod budget;
mod checkpoint;
mod claim;
mod commit;
mod conclude;
mod inform;
mod lead;
mod naming;
mod notice;
mod payer;
mod permits;
mod permitted;
mod reconcile;
mod reserve;
mod seal;

pub use checkpoint::{Checkpoint, Standing, Voided};
pub use claim::Claim;
pub use commit::{Answer, Charge, Commit, Release, Told};
pub use conclude::{Conclude, Concluded, Fate, ItemFate};
pub use inform::{Inform, Informed};
pub use lead::{Lead, Leadership, Resume, Stop};
pub use naming::Naming;
pub use notice::Notice;
pub use payer::{Block, Forgive, Forgiven, PayOff, Unblock, id_of_transfer};
pub use permitted::Permitted;
pub use reconcile::{Found, Settled, UNKNOWN, Unknown};
pub use reserve::{Funds, Reservation, Reserve, SpenderFunds};
pub use seal::{Adopt, Included, Seal, Submitted};

use tollgate_x402::Amount;

use crate::refusal::Refusal;

/// A sum of the books: an overflow means that they are corrupt.
pub(crate) fn sum(a: Amount, b: Amount) -> Result<Amount, Refusal> {
    a.checked_add(b)
        .ok_or(Refusal::Books("a sum is above 2^256 - 1"))
}

/// A difference of the books: a negative one means that they are corrupt.
pub(crate) fn difference(a: Amount, b: Amount, what: &'static str) -> Result<Amount, Refusal> {
    a.checked_sub(b).ok_or(Refusal::Books(what))
}
