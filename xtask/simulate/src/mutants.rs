//! Seeded bugs, at the ports: the product has none of this.
//!
//! Each is what somebody could have written. The checks must find every one of them; one that lives shows a hole in
//! the model.

mod rail;
mod steps;

pub(crate) use rail::{SimRail, SimVerifier};

use tollgate_x402::Amount;

use crate::{
    rng::Rng,
    setting::{Keeping, Kind, Setting},
};

macro_rules! mutants {
    ($($(#[doc = $says:literal])* $variant:ident $name:literal $kind:ident;)*) => {
        /// A seeded bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[doc = $says])* $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A short name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is wrong, in one sentence.
            #[must_use]
            pub const fn says(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($says),*).trim_ascii_start(),)*
                }
            }

            /// The kind of payment in whose histories it is looked for.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$variant => Kind::$kind,)*
                }
            }
        }
    };
}

mutants! {
    /// Used authorizations are remembered by the process, not by the ledger.
    DedupeInMemory "dedupe-in-memory" Once;
    /// A node's error, or its silence, means that nothing was sent: the charge is given up.
    ReleaseOnSendError "release-on-send-error" Once;
    /// A transaction is sent before it is stored.
    RecordAfterSend "record-after-send" Once;
    /// What is not included in time is sent again with a new nonce.
    FreshNonce "fresh-nonce" Allowance;
    /// A transaction that is in a block is called final.
    OneConfirmation "one-confirmation" Once;
    /// Nothing is made durable while a stream runs.
    NoCheckpoint "no-checkpoint" Once;
    /// A used nonce is taken for a payment.
    NonceMeansPaid "nonce-means-paid" Once;
    /// What a payer has reserved elsewhere is not held against its balance.
    NoExposureCap "no-exposure-cap" Once;
    /// A transaction without a receipt has failed.
    NoReceiptMeansFailed "no-receipt-means-failed" Once;
    /// A crash charges the whole reservation.
    MaxOnCrash "max-on-crash" Once;
    /// A balance is believed that was read before the last settlements.
    StaleBalance "stale-balance" Once;
    /// A failed settlement is given up at once.
    RevertMeansLost "revert-means-lost" Once;
    /// A failed settlement is given up at once, after it was sent again with a new nonce.
    RevertMeansLostFreshNonce "revert-means-lost+fresh-nonce" Once;
    /// An allowance is bound to the digest of its first request.
    DigestBoundToAllowance "digest-bound-to-allowance" Allowance;
    /// The balance is held against what one spender has reserved, not all of them.
    BalancePerSpender "balance-per-spender" Once;
    /// Credit grows by the number of payments, not by their worth.
    CreditByDust "credit-by-dust" Exact;
    /// Another ledger draws the same counter.
    SharedCounter "shared-counter" Allowance;
    /// A small charge is waived after its answer was delivered.
    WaivedAfterDelivery "waived-after-delivery" Allowance;
    /// A permit is submitted before older charges are drawn.
    EarlyPermit "early-permit" Allowance;
    /// A failed interval is never given again.
    IntervalHole "interval-hole" Allowance;
    /// The stored answer of a payment is given to any request that shows its authorization.
    AnswerToAnother "answer-to-another" Once;
    /// A settlement is booked twice.
    BookedTwice "booked-twice" Exact;
    /// A checkpoint may be above the reservation.
    CheckpointTooHigh "checkpoint-too-high" Once;
    /// The recovery concludes payments of gateways that live.
    RecoversTheLiving "recovers-the-living" Allowance;
    /// Answers are given before the ledger has reached the disk.
    AnswerBeforeDisk "answer-before-disk" Once;
    /// Who owes lost charges is served again.
    DebtForgotten "debt-forgotten" Allowance;
    /// A transaction that a reorganization took out is believed to be in.
    ReorgIgnored "reorg-ignored" Exact;
    /// A replacement makes the ledger forget the transaction before it.
    ForgetsReplaced "forgets-replaced" Once;
    /// Nobody's credit has a bound.
    UnlimitedCredit "unlimited-credit" Exact;
    /// What failed is tried again for ever, and never lost.
    NeverLost "never-lost" Once;
    /// A gateway that can give no sign of life goes on admitting.
    LeaseForgotten "lease-forgotten" Once;
    /// A reading is believed whole, though what was settled at or below its block became final only since.
    ForkBalance "fork-balance" Exact;
    /// A reading that is not below the newest settlement is believed to have it, and all before it.
    ForkReading "fork-reading" Once;
    /// A permit that a reorganization took out after its successor was signed is not submitted again.
    PermitLost "permit-lost" Allowance;
    /// A permit that was seen in a block is replaced by another of its nonce, while it can still go in.
    PermitReplaced "permit-replaced" Allowance;
    /// Where a permit was seen in a block is forgotten.
    SightingForgotten "sighting-forgotten" Allowance;
    /// A nonce that is used counts as a failed settlement before its use is final.
    EarlyNonce "early-nonce" Exact;
    /// A permit to which another succeeded spends what its successor is worth.
    PermitSucceeded "permit-succeeded" Allowance;
    /// A permit of less spends what a greater one of its nonce is worth.
    LesserPermit "lesser-permit" Allowance;
    /// What all payers owe together has no bound.
    ExposureForgotten "exposure-forgotten" Once;
    /// What was lost is lent again to the next payer.
    LostNotCounted "lost-not-counted" Once;
    /// Each gateway lends the whole of what all may lend together.
    SliceWhole "slice-whole" Once;
    /// A commit whose answer did not come is taken for one that did not happen.
    UnknownMeansNot "unknown-means-not" Once;
    /// A replacement gets a nonce of its own, and is stored with it.
    FreshNonceSealed "fresh-nonce-sealed" Once;
}

/// Which histories are lived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Those of the product.
    None,
    /// Those in which a bug would show soon, without it.
    Tempted(Mutant),
    /// The same, with it.
    On(Mutant),
}

impl Mutant {
    /// Makes histories in which the bug shows sooner.
    pub(crate) fn bias(self, setting: &mut Setting, rng: &mut Rng) {
        match self {
            Self::NoExposureCap | Self::StaleBalance | Self::BalancePerSpender => {
                setting.poor = true;
                setting.hostile = 0;
                setting.pace = rng.range(20, 120);
            }
            Self::AnswerBeforeDisk => {
                setting.keeping = Keeping::Owned;
                setting.replicas = 1;
                setting.accounts = false;
                setting.crashes = 400;
            }
            Self::DedupeInMemory => setting.crashes = setting.crashes.max(100),
            Self::MaxOnCrash | Self::NoCheckpoint => setting.crashes = 300,
            Self::RecoversTheLiving => {
                setting.keeping = Keeping::Shared;
                setting.replicas = 2;
                setting.crashes = setting.crashes.max(100);
            }
            Self::UnknownMeansNot => {
                setting.keeping = Keeping::Shared;
                setting.replicas = 2;
                setting.crashes = 0;
                setting.unheard = 20;
            }
            Self::LeaseForgotten => {
                setting.keeping = Keeping::Shared;
                setting.replicas = 2;
                setting.storms = 400;
                setting.pace = 260;
            }
            Self::SharedCounter | Self::IntervalHole => setting.settler = true,
            Self::EarlyPermit => {
                setting.settler = true;
                setting.hostile = 0;
            }
            Self::ForkReading => {
                setting.poor = true;
                setting.hostile = 0;
                setting.nodes = 3;
                setting.agreement = 1;
                setting.liar = None;
                setting.reorgs = 600;
                setting.storms = 300;
                setting.crashes = 0;
                setting.luck = rng.range(600, 1_000);
                setting.lag = 2;
                setting.payers = (2, 3);
                setting.pace = rng.range(20, 600);
            }
            Self::ForkBalance => {
                setting.poor = true;
                setting.hostile = 0;
                setting.reorgs = 300;
                setting.luck = rng.range(300, 700);
                setting.lag = 2;
                setting.pace = rng.range(20, 120);
            }
            Self::PermitLost => {
                setting.settler = true;
                setting.hostile = 0;
                setting.reorgs = 300;
                setting.eager = 1_000;
                setting.luck = rng.range(300, 700);
            }
            Self::PermitReplaced => {
                setting.settler = false;
                setting.hostile = 0;
                setting.reorgs = 500;
                setting.luck = rng.range(150, 500);
                setting.lag = 4;
                setting.pace = rng.range(20, 80);
                setting.payers = (2, 2);
                setting.worth = (150, 250);
                setting.max_age = 0;
            }
            Self::SightingForgotten | Self::EarlyNonce => {
                setting.long(rng);
                setting.settler = true;
                setting.hostile = 0;
                setting.crashes = 0;
                setting.reorgs = 800;
                setting.strangers = 1_000;
                setting.lag = 5;
                setting.payers = (2, 2);
                setting.max_age = 1;
                if self == Self::SightingForgotten {
                    setting.luck = rng.range(400, 700);
                    setting.storms = 500;
                    setting.stops = 10;
                    setting.worth = (150, 250);
                    setting.credit.view_age = 1;
                } else {
                    setting.luck = rng.range(250, 550);
                    setting.stops = 12;
                }
            }
            Self::PermitSucceeded | Self::LesserPermit => {
                setting.payers = (2, 3);
                setting.worth = (150, 250);
            }
            Self::OneConfirmation | Self::ReorgIgnored => setting.reorgs = 120,
            Self::ExposureForgotten | Self::LostNotCounted | Self::SliceWhole => {
                setting.payers = (10, 14);
                setting.credit.exposure = Amount::from(600u64);
                setting.pace = rng.range(40, 120);
                if self == Self::LostNotCounted {
                    setting.hostile = 900;
                }
                if self == Self::SliceWhole {
                    setting.keeping = Keeping::Shared;
                    setting.replicas = 3;
                }
            }
            Self::FreshNonce | Self::FreshNonceSealed | Self::ForgetsReplaced => {
                setting.storms = 400;
                setting.luck = 400;
            }
            Self::NonceMeansPaid | Self::DebtForgotten | Self::NeverLost => setting.hostile = 800,
            _ => {}
        }
        if self == Self::SharedCounter || self == Self::IntervalHole {
            setting.hostile = setting.hostile.max(400);
        }
    }
}
