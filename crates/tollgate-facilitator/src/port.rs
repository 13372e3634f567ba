//! The port: what a facilitator does, wherever it is.

use core::future::Future;

use tollgate_x402::{
    ErrorCode, FacilitatorRequest, SettleResponse, SupportedResponse, VerifyResponse,
};

use crate::CallerName;

/// What is asked of a facilitator, and by whom.
#[derive(Clone, Debug)]
pub struct Call {
    /// The payment and the seller's offer.
    pub request: FacilitatorRequest,
    /// Who asks, where the service knows its callers.
    pub caller: Option<CallerName>,
    /// Whether a settlement may be begun by this. If not, what became of one that was begun before is told, and anything
    /// else is [`FacilitatorError::NotBegun`].
    pub may_begin: bool,
}

impl Call {
    /// A call of nobody in particular, which may begin a settlement.
    pub const fn new(request: FacilitatorRequest) -> Self {
        Self {
            request,
            caller: None,
            may_begin: true,
        }
    }
}

/// A facilitator (x402 v2 §7): it verifies payments and settles them, and holds no money.
///
/// A payment that is judged bad is an answer; an error means that nothing was judged.
pub trait Facilitator: Send + Sync + 'static {
    /// Whether the payment could be settled for the requirements now. Nothing is reserved.
    fn verify(
        &self,
        call: &Call,
    ) -> impl Future<Output = Result<VerifyResponse, FacilitatorError>> + Send;

    /// Settles the payment, or says what became of it before: the same payment for the same requirements is settled
    /// once, however often it is asked for.
    fn settle(&self, call: &Call)
    -> impl Future<Output = Result<Settled, FacilitatorError>> + Send;

    /// What it settles, and with which accounts.
    fn supported(&self)
    -> impl Future<Output = Result<SupportedResponse, FacilitatorError>> + Send;

    /// Whether it could work now.
    fn health(&self) -> impl Future<Output = Result<(), FacilitatorError>> + Send;

    /// The most gas that settling this can cost, in units of gas: what a caller's budget is asked for.
    fn gas(&self, call: &Call) -> u64;
}

/// What became of a settlement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The answer.
    pub response: SettleResponse,
    /// How far it is.
    pub stage: Stage,
    /// Whether this call began it: a repeated one costs no gas.
    pub fresh: bool,
}

/// How far a settlement is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The money has moved, or nothing was due. 200.
    Done,
    /// It is being settled, and its outcome is not known: ask again with the same. 202.
    Pending,
    /// It was not settled, and will not be. 200, as the reference implementation has it: the answer says so.
    Refused,
    /// The same payment was settled for something else. 409.
    Conflict,
}

impl Settled {
    /// A settlement that was refused before anything was sent.
    pub const fn refused(response: SettleResponse) -> Self {
        Self {
            response,
            stage: Stage::Refused,
            fresh: false,
        }
    }
}

/// Why a facilitator judged nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FacilitatorError {
    /// It does not take this request: a wrong key, a payee that is not allowed, a budget that is spent. Nothing was sent.
    #[error("the facilitator refuses the request ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says, shortened.
        message: String,
        /// Seconds after which it makes sense to ask again.
        retry_after: Option<u64>,
    },
    /// There is no settlement of this payment yet, and the call may not begin one. Nothing was sent.
    #[error("no settlement of this payment was begun")]
    NotBegun,
    /// It cannot work now: its ledger or its chain is not there. Nothing was sent.
    #[error("{message}")]
    Unavailable {
        /// The code.
        code: ErrorCode,
        /// What is missing.
        message: String,
        /// Seconds after which it makes sense to ask again.
        retry_after: u64,
    },
    /// Its settlement is held up: what it took now would only wait. Nothing was sent. Why may be told to anybody.
    #[error("nothing new is settled: {message}")]
    Paused {
        /// Why, without a host or a key.
        message: String,
        /// Seconds after which it makes sense to ask again.
        retry_after: u64,
    },
    /// No answer, or none that says anything. A settlement may have been sent all the same: only the chain knows.
    #[error("the facilitator's answer says nothing: {0}")]
    Unknown(String),
}
