//! Where a process can die: the seams of the product that its ports show.

use std::any::Any;

use serde::{Deserialize, Serialize};
use tollgate_payment::{
    Command,
    command::{
        Checkpoint, Claim, Commit, Conclude, Included, Lead, Release, Reserve, Seal, Submitted,
    },
};

/// A moment of a process's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Site {
    /// Before the store is asked.
    Before(Step),
    /// The store has decided; the disk may not have it.
    Executed(Step),
    /// The disk has it, and nobody was told.
    Durable(Step),
    /// The bytes are signed and stored, and not sent.
    Unsent,
    /// The bytes are sent; the node's answer is lost.
    Sent,
    /// Before the chain is asked what became of a batch.
    Untraced,
    /// The caller has the first token of a stream.
    FirstToken,
}

/// A step of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A payment is admitted (D1).
    Reserve,
    /// What was delivered is noted (D2).
    Checkpoint,
    /// The charge is made (D3).
    Commit,
    /// A payment ends without a charge.
    Release,
    /// Charges become a batch.
    Claim,
    /// The first transaction of a batch is stored (D4).
    Seal,
    /// A replacement is stored (D5).
    Replace,
    /// A node's answer is noted.
    Submitted,
    /// A block was seen.
    Included,
    /// The finalized chain's word is written (D6).
    Conclude,
    /// The lease of the account.
    Lead,
    /// What is not named here.
    Other,
}

impl Step {
    /// The step that a command is. A replacement is a [`Seal`] too, so it is the caller's to tell.
    pub(crate) fn of<C: Command>(command: &C, replaces: impl Fn(&Seal) -> bool) -> Self {
        let command: &dyn Any = command;
        let kinds = [
            (command.is::<Reserve>(), Self::Reserve),
            (command.is::<Checkpoint>(), Self::Checkpoint),
            (command.is::<Commit>(), Self::Commit),
            (command.is::<Release>(), Self::Release),
            (command.is::<Claim>(), Self::Claim),
            (command.is::<Submitted>(), Self::Submitted),
            (command.is::<Included>(), Self::Included),
            (command.is::<Conclude>(), Self::Conclude),
            (command.is::<Lead>(), Self::Lead),
        ];
        match command.downcast_ref::<Seal>() {
            Some(seal) if replaces(seal) => Self::Replace,
            Some(_) => Self::Seal,
            None => kinds
                .into_iter()
                .find_map(|(is, step)| is.then_some(step))
                .unwrap_or(Self::Other),
        }
    }
}

/// A point at which the process dies.
pub(crate) struct Point {
    /// The number in `docs/crashes.md`.
    pub(crate) number: u8,
    /// What had just happened.
    pub(crate) name: &'static str,
    /// The moments that it can be: a seed takes one.
    pub(crate) sites: &'static [Site],
    /// The process dies at one of the first so many.
    pub(crate) most: u32,
}

impl Point {
    /// As in `8 sent, answer lost`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.number, self.name)
    }
}

const fn point(number: u8, name: &'static str, sites: &'static [Site], most: u32) -> Point {
    Point {
        number,
        name,
        sites,
        most,
    }
}

/// Every crash point.
pub(crate) const POINTS: &[Point] = &[
    point(
        1,
        "reserved, nothing delivered",
        &[
            Site::Durable(Step::Reserve),
            Site::Executed(Step::Reserve),
            Site::Before(Step::Reserve),
        ],
        20,
    ),
    point(2, "first token", &[Site::FirstToken], 15),
    point(
        3,
        "checkpoint k",
        &[
            Site::Durable(Step::Checkpoint),
            Site::Executed(Step::Checkpoint),
            Site::Before(Step::Checkpoint),
        ],
        25,
    ),
    point(
        4,
        "last token, no commit",
        &[Site::Before(Step::Commit), Site::Executed(Step::Commit)],
        20,
    ),
    point(5, "committed", &[Site::Durable(Step::Commit)], 20),
    point(6, "nonce chosen, signed", &[Site::Before(Step::Seal)], 3),
    point(
        7,
        "sealed, not sent",
        &[
            Site::Unsent,
            Site::Durable(Step::Seal),
            Site::Executed(Step::Seal),
        ],
        3,
    ),
    point(8, "sent, answer lost", &[Site::Sent], 3),
    point(
        9,
        "replacement sealed, not sent",
        &[Site::Durable(Step::Replace), Site::Executed(Step::Replace)],
        1,
    ),
    point(
        10,
        "mined, not seen",
        &[Site::Durable(Step::Submitted), Site::Before(Step::Included)],
        1,
    ),
    point(
        11,
        "mined, then reorganized",
        &[Site::Durable(Step::Included)],
        1,
    ),
    point(
        12,
        "final, not concluded",
        &[
            Site::Before(Step::Conclude),
            Site::Executed(Step::Conclude),
            Site::Durable(Step::Conclude),
        ],
        3,
    ),
    point(
        13,
        "lease lost while sending",
        &[
            Site::Unsent,
            Site::Before(Step::Seal),
            Site::Sent,
            Site::Before(Step::Conclude),
        ],
        2,
    ),
    point(
        14,
        "old backup restored",
        &[
            Site::Durable(Step::Commit),
            Site::Durable(Step::Seal),
            Site::Before(Step::Conclude),
        ],
        3,
    ),
    point(
        15,
        "key used elsewhere",
        &[Site::Unsent, Site::Before(Step::Seal)],
        2,
    ),
    point(16, "disk full, then space", &[], 0),
];
