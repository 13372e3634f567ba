//! What the seller of a service implements: a price for a request, and a meter for its answer.

use bytes::Bytes;
use http::{Extensions, HeaderMap, request::Parts};
use tollgate_payment::{Ask, command::Charge, port::Admitted};
use tollgate_x402::Amount;

use crate::Problem;

/// Prices requests.
pub trait Tariff: Clone + Send + Sync + 'static {
    /// Measures the answer of one request.
    type Meter: Meter;

    /// Prices a request from its head and body, and makes the meter for its answer.
    ///
    /// It is called for every request, paid or not, so it does no I/O, and no work that grows faster than the body.
    /// For `GET` and `HEAD` of a paid route, which have no body, it gives the ask of an ordinary request, so that
    /// browsers and probes see the same 402.
    ///
    /// # Errors
    /// [`Unpriced`]: the request costs nothing, or it is not one that could be served.
    fn ask(&self, parts: &Parts, body: &Bytes) -> Result<(Ask, Self::Meter), Unpriced>;
}

/// Why a request has no price.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unpriced {
    /// It is free: it goes to the inner service, whether it carries a payment or not, and nothing is charged.
    Free,
    /// It cannot be served, paid or not: the caller is told why.
    Refused(Problem),
}

/// Measures the answer to one admitted request. It lives as long as the payment is open and no longer.
///
/// The order of calls: `memo` once before admission; then, if the payment is admitted, `attach` once,
/// `observe` any number of times, `memo` once more, and `closing`; or, if the same request was paid for before,
/// `replayed` once.
pub trait Meter: Send + 'static {
    /// Hands the inner service what it needs through the request's extensions, such as the parsed request, a usage
    /// cell that it shares with this meter, or the cap to which the work must be clamped. [`Admitted`] itself is
    /// always among the extensions.
    fn attach(&mut self, admitted: &Admitted, extensions: &mut Extensions) {
        let _ = (admitted, extensions);
    }

    /// What the answer up to and including this frame is worth, in atomic units. It is called before the frame is
    /// sent, and may fall, as when an estimate gives way to a reported count.
    ///
    /// The frame is empty where there is no frame but the question stands: at the end of a stream of which something
    /// was delivered, for a buffered answer without a body, or for a caller that hung up before the answer began. Then it is what the work done so far is worth: 0, if only what
    /// reaches the caller counts.
    ///
    /// An answer must not become worth more than [`Admitted::cap`]: a stream ends after the frame that does, and the
    /// charge is the cap.
    fn observe(&mut self, frame: &Bytes) -> Amount;

    /// What the ledger shall remember for the receipt, at most 2 KiB; longer ones are dropped. Asked for once before
    /// admission, for the case that the gateway dies while it serves, and once at the end.
    fn memo(&mut self) -> Option<String> {
        None
    }

    /// The last bytes of a stream, written after the charge is durable; for a buffered answer, the body that replaces
    /// the one that was observed.
    ///
    /// The ledger keeps it in the step that makes the charge, for a caller that loses it, and may try that step again:
    /// so it may be asked more than once, and answers each time as if it had not been asked before. It does no I/O.
    fn closing(&mut self, ending: &Ending) -> Option<Bytes> {
        let _ = ending;
        None
    }

    /// Puts the headers of an ordinary answer on one that was kept, of which the content type alone is kept.
    fn replayed(&mut self, headers: &mut HeaderMap) {
        let _ = headers;
    }
}

/// How an answer ended, once its charge is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Ending {
    /// What was charged.
    pub charge: Charge,
    /// The payment.
    pub admitted: Admitted,
    /// Why the answer ended.
    pub outcome: Outcome,
}

impl Ending {
    /// An ending, as the paywall makes it: for tests of meters.
    pub const fn new(charge: Charge, admitted: Admitted, outcome: Outcome) -> Self {
        Self {
            charge,
            admitted,
            outcome,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The inner service finished.
    Complete,
    /// The inner service's body failed.
    UpstreamError,
    /// We ended it: the cap was passed, the time was up, the ledger failed, or the server is shutting down.
    Cut,
}

/// How an answer is delivered. An inner service puts one into its response's extensions where the rule does not fit:
/// `text/event-stream` is streamed, everything else is buffered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Delivery {
    /// Each frame goes out as it is metered; the charge is committed at the end.
    Streamed,
    /// The answer is collected and charged before its first byte goes out.
    Buffered,
}
