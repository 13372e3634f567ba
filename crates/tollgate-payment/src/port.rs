//! The ports: what the outside implements, and what the paywall sees.
//!
//! Every future is `Send` and named in the trait, so that nothing is boxed. Each port has one closed error,
//! whose class steers the machine; *unknown* is a value, never an error.

use core::future::Future;
use std::collections::BTreeMap;

use tollgate_x402::{
    Address, Amount, Authorization, ErrorCode, PaymentId, PaymentPayload, PaymentStatus,
};

use crate::{
    command::{Answer, Charge, Fate, Funds, ItemFate, Told, Voided},
    offer::{Ask, Offer, RequestBinding},
    policy::Retention,
    row::{BatchRow, Instruction, Submission},
};

/// Reads what the chain says of a payer.
pub trait Verifier: Send + Sync + 'static {
    /// The payer's funds for this authorization, at one block, in one round trip.
    fn funds(
        &self,
        authorization: &Authorization,
    ) -> impl Future<Output = Result<Funds, VerifyError>> + Send;
}

/// Why the payer's funds are not known, or not good.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The chain says that the authorization cannot be settled: the payer is to blame.
    #[error("{message}")]
    Refused {
        /// The code for the 402.
        code: ErrorCode,
        /// What is wrong and what to do.
        message: String,
    },
    /// The chain did not answer, or its answer is not to be trusted: serve nothing.
    #[error("the chain cannot be read: {0}")]
    Unavailable(String),
}

/// Makes transactions of batches. It holds the keys, or speaks to who does.
pub trait Rail: Send + Sync + 'static {
    /// The next transaction of a batch, signed: with `nonce` and the floor price, or priced above `above`
    /// to replace an earlier one of the same nonce. Nothing is sent.
    fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> impl Future<Output = Result<Instruction, RailError>> + Send;

    /// The next transaction of a batch whose nonce is the first that is not used, priced above `above`. Everything behind
    /// waits for it: it may cost what they are worth as well, by token in atomic units. Nothing is sent.
    fn replace(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
        behind: &BTreeMap<Address, Amount>,
    ) -> impl Future<Output = Result<Instruction, RailError>> + Send {
        let _ = behind;
        self.prepare(batch, nonce, Some(above))
    }

    /// Sends what was stored. Sending twice is harmless.
    fn submit(&self, stored: &Instruction) -> impl Future<Output = Submission> + Send;

    /// What became of a sealed batch.
    fn trace(&self, batch: &BatchRow) -> impl Future<Output = Result<Trace, RailError>> + Send;

    /// How many batches of the account may be undecided at once.
    fn room(&self) -> Room {
        Room::default()
    }

    /// Seconds between two attempts to send a batch that has been open for so many seconds, at least; the worker's own
    /// pause stands where it is longer.
    fn rest(&self, age: u64) -> u64 {
        let _ = age;
        0
    }

    /// The account's transaction count on the chain.
    fn nonce(&self) -> impl Future<Output = Result<u64, RailError>> + Send;

    /// Simulates a claimed batch before it is signed, as its account would send it, so that no gas is spent on what
    /// would fail. Nothing is concluded from a simulation that could not be run.
    fn rehearse(
        &self,
        batch: &BatchRow,
    ) -> impl Future<Output = Result<Rehearsal, RailError>> + Send {
        let _ = batch;
        async { Ok(Rehearsal::Good) }
    }

    /// A transaction that moves nothing, signed with the nonce of one of a batch that no node will ever take. Nothing is
    /// sent.
    fn void(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
    ) -> impl Future<Output = Result<Instruction, RailError>> + Send {
        let _ = (batch, nonce, above);
        async {
            Err(RailError::Operator(
                "this rail cannot use up a nonce".to_owned(),
            ))
        }
    }

    /// How the account and the chain are.
    fn pulse(&self) -> impl Future<Output = Result<Pulse, RailError>> + Send {
        async { Ok(Pulse::default()) }
    }
}

/// How many batches of an account may be ahead of the chain at once. Those that are in a block and not final take no such
/// room; of both there are eight times as many at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Of all payers.
    pub batches: usize,
    /// With something of one payer in them.
    pub of_a_payer: usize,
    /// Seconds after which a batch takes no room of `batches` any more: what is not decided by then is in no other
    /// payer's way.
    pub seconds: u64,
}

impl Default for Room {
    /// What goes by an account's nonces: 16, since a node takes only so many transactions ahead of the chain, whosever they
    /// are and however long it takes.
    fn default() -> Self {
        Self {
            batches: 16,
            of_a_payer: usize::MAX,
            seconds: u64::MAX,
        }
    }
}

/// What a simulation says of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rehearsal {
    /// Nothing is in the way, as far as can be told.
    Good,
    /// Some items would fail: what is to become of each, in the batch's order. Those that would not are
    /// [`Untried`](crate::command::ItemFate::Untried).
    Items(Vec<ItemFate>),
}

/// How the account and the chain are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pulse {
    /// So many full batches the account's money pays for, at the price of now; `None`: not known.
    pub batches: Option<u64>,
    /// The age of the finalized block, in seconds of the chain's time; `None`: not known.
    pub finality_age: Option<u64>,
}

/// What the chain says of a sealed batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trace {
    /// Not in a block. The node may have it, or may have dropped it.
    Pending,
    /// In a block that is not final.
    Included {
        /// Which of the stored transactions.
        transaction: tollgate_x402::B256,
        /// The block.
        block: u64,
        /// Whether it did there what it was sent for: it did not revert as a whole.
        good: bool,
    },
    /// Decided.
    Final(Fate),
}

/// Why a transaction was not prepared or traced. Nothing was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RailError {
    /// The chain did not answer: try later.
    #[error("the chain cannot be reached: {0}")]
    Unavailable(String),
    /// The operator must act: no gas money, a paused token, a wrong key, the price cap.
    #[error("{0}")]
    Operator(String),
    /// The chain shows what the ledger does not know: another ledger draws the same counter, or this one is an old copy.
    /// Nothing may be sent before it is reconciled.
    #[error("{0}")]
    Ahead(String),
}

/// The seller's till, as a paywall sees it.
pub trait Till: Clone + Send + Sync + 'static {
    /// What an admitted request holds.
    type Hold: Hold;

    /// The offer for a request. It cannot do I/O: the unpaid path is as cheap as this.
    fn offer(&self, ask: Ask) -> Offer;

    /// Verifies a payment against our own offer, claims it, and reserves the worst case; or finds that the same
    /// request was paid for before, by the same once or exact authorization or under the same `payment-identifier`,
    /// and what it was answered.
    fn admit(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Result<Admission<Self::Hold>, AdmitError>> + Send;

    /// What the same request was answered, if it was paid for before and has ended: for a seller that admits nothing
    /// more. Nothing is written.
    fn recall(
        &self,
        offer: &Offer,
        payment: PaymentPayload,
        request: RequestBinding,
    ) -> impl Future<Output = Option<Box<Replay>>> + Send {
        let _ = (offer, payment, request);
        async { None }
    }
}

/// What a good payment comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission<H> {
    /// The request is to be served.
    New(H),
    /// It was served before: nothing is reserved, and nothing more is charged.
    Replay(Box<Replay>),
}

impl<H> Admission<H> {
    /// The hold of a request that is to be served.
    pub fn hold(self) -> Option<H> {
        match self {
            Self::New(hold) => Some(hold),
            Self::Replay(_) => None,
        }
    }

    /// What a request was answered before.
    pub fn replay(self) -> Option<Replay> {
        match self {
            Self::New(_) => None,
            Self::Replay(replay) => Some(*replay),
        }
    }
}

/// A request that was served before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// How its payment stands now.
    pub status: PaymentStatus,
    /// Which version of x402 the client speaks (1 or 2).
    pub version: u8,
    /// What it was answered.
    pub answer: Kept,
}

/// What is kept of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It, or that it was longer than what is kept.
    Answer(Told),
    /// It never was whole: the gateway stopped while it served, or the caller left before the answer. What was made
    /// until then is charged.
    BrokenOff,
    /// It was kept, and its time is over.
    Expired,
}

/// A request's reserved money. It is owned by a task of its own and ended exactly once.
pub trait Hold: Send + 'static {
    /// The payment's id.
    fn id(&self) -> PaymentId;

    /// What was reserved: the charge cannot be above it, in atomic units.
    fn cap(&self) -> Amount;

    /// What the caller is told of the payment.
    fn terms(&self) -> &Admitted;

    /// Resolves when the reservation has reached the disk: nothing is delivered before.
    fn durable(&mut self) -> impl Future<Output = Result<(), HoldError>> + Send;

    /// Makes what was delivered durable. With [`HoldError::Void`] it is durable as well, and nothing more is to be
    /// delivered.
    fn checkpoint(&mut self, used: Amount) -> impl Future<Output = Result<(), HoldError>> + Send;

    /// How much of the answer is to be given to [`keep`](Self::keep), and for how long it is kept; `None` where nobody
    /// can ask for it again: an allowance's request without an identifier.
    fn retention(&self) -> Option<Retention> {
        None
    }

    /// What the caller is told in the end: it is kept in the step of the commit. Without a commit it is forgotten.
    fn keep(&mut self, answer: Answer) {
        let _ = answer;
    }

    /// Resolves when the charge that is committed next is in a block, or was ended otherwise, and tells how it stands then;
    /// with `None` where that cannot be told any more. For a caller that asked to wait for it, and asked before the commit,
    /// which ends the hold. `None`: nobody waits for it, as it is settled with others, some time, or not now.
    ///
    /// It holds nothing of the payment: it may be dropped at any point, and changes nothing.
    fn inclusion(&self) -> Option<impl Future<Output = Option<PaymentStatus>> + Send + use<Self>> {
        None::<core::future::Pending<Option<PaymentStatus>>>
    }

    /// Makes what was used the charge; nothing used releases the payment.
    fn commit(
        self,
        used: Amount,
        memo: Option<String>,
    ) -> impl Future<Output = Result<Charge, HoldError>> + Send;

    /// The same for an answer that nobody has a byte of: it is delivered if the charge is written. Where it is not, nothing
    /// is charged later ([`HoldError::Unavailable`]), unless the same request can ask for its answer again or nobody knows
    /// what was written ([`HoldError::Undecided`]).
    fn commit_undelivered(
        self,
        used: Amount,
        memo: Option<String>,
    ) -> impl Future<Output = Result<Charge, HoldError>> + Send
    where
        Self: Sized,
    {
        self.commit(used, memo)
    }

    /// Ends the payment without a charge, before anything was delivered.
    fn release(self) -> impl Future<Output = Result<(), HoldError>> + Send;
}

/// What is known of an admitted payment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// The payment's id.
    pub id: PaymentId,
    /// The payer.
    pub payer: tollgate_x402::Address,
    /// The chain.
    pub chain: tollgate_x402::ChainId,
    /// The token.
    pub token: tollgate_x402::Address,
    /// What was reserved, in atomic units.
    pub cap: Amount,
    /// What the authorization leaves, in atomic units.
    pub left: Amount,
    /// Which version of x402 the client spoke (1 or 2).
    pub version: u8,
}

/// Why a payment was not admitted. Nothing was reserved and nothing is charged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct AdmitError {
    /// The stable code, which has the HTTP status.
    pub code: ErrorCode,
    /// What is wrong and what to do.
    pub message: String,
    /// Seconds for Retry-After, where waiting helps.
    pub retry_after: Option<u64>,
    /// The payer, where a signature proved it.
    pub payer: Option<tollgate_x402::Address>,
}

/// Why a hold's step was not taken, or is the last.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HoldError {
    /// The store did not take it: deliver nothing more.
    #[error("the ledger cannot be written: {0}")]
    Unavailable(String),
    /// The charge of an answer that was not delivered is not written, and may be later.
    #[error("it is not known whether the charge is written: {0}")]
    Undecided(String),
    /// The payment was ended elsewhere.
    #[error("the payment was ended elsewhere")]
    Ended,
    /// The payer voided the payment meanwhile: deliver nothing more, and commit what was delivered.
    #[error("{0}")]
    Void(Voided),
}
