//! The life of one payment, in a task of its own.
//!
//! A connection that breaks drops the futures that serve it, and there is no asynchronous drop. So whatever holds
//! money runs here, watches whether the caller is still there, and always comes to an end: a payment that was
//! admitted is committed or released exactly once, whatever happens to the caller, the inner service or the meter.

use core::{future::poll_fn, panic::AssertUnwindSafe, pin::pin};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::Either};
use http::{HeaderMap, Request, Response, header, response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::sync::oneshot;
use tollgate_payment::{
    Offer, RequestBinding,
    port::{Admission, Admitted, Hold, HoldError, Till},
};
use tollgate_x402::{Amount, ErrorCode, PaymentPayload};
use tower_service::Service;
use tracing::Instrument;

use crate::{
    Bounds, BoxError, Delivery, Meter, Outcome, PaywallBody, Problem, Tariff, answer,
    body::Sender,
    drain::Open,
    headers,
    layer::Shared,
    prefer,
    pump::{Durable, End, Pump},
    record::{Closer, Join, Record},
    refusal, replay,
    stop::{Stop, Stops},
    wait::{Waited, Waits},
};

/// The longest memo, in bytes.
const MEMO_BYTES: usize = 2048;

pub(crate) fn fits(memo: &str) -> bool {
    let fits = memo.len() <= MEMO_BYTES;
    if !fits {
        tracing::warn!(bytes = memo.len(), "a memo is over 2 KiB and was dropped");
    }
    fits
}

/// A priced request with a payment that could be read.
pub(crate) struct Sale<S, T, F: Tariff> {
    pub(crate) shared: Arc<Shared<T, F>>,
    pub(crate) offer: Offer,
    pub(crate) payment: PaymentPayload,
    pub(crate) binding: RequestBinding,
    pub(crate) meter: F::Meter,
    pub(crate) inner: S,
    pub(crate) request: Request<Full<Bytes>>,
    /// `None` while the server shuts down: then only what was paid for before is answered.
    pub(crate) open: Option<Open>,
}

type Answer<RB> = Response<PaywallBody<RB>>;

impl<S, T, F, RB> Sale<S, T, F>
where
    T: Till,
    F: Tariff,
    S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    /// Begins the sale. Who drops the receiver has hung up.
    pub(crate) fn start(self) -> oneshot::Receiver<Answer<RB>> {
        let (reply, answer) = oneshot::channel();
        tokio::spawn(self.run(Reply(Some(reply))).in_current_span());
        answer
    }

    async fn run(self, mut reply: Reply<RB>) {
        let Self {
            shared,
            offer,
            payment,
            binding,
            mut meter,
            inner,
            request,
            open,
        } = self;
        let bounds = &shared.bounds;
        let Some(open) = open else {
            return reply.send(match shared.till.recall(&offer, payment, binding).await {
                Some(again) => replay::response(*again, &mut meter),
                None => refusal::draining(bounds),
            });
        };
        let mut hold = match shared.till.admit(&offer, payment, binding).await {
            Ok(Admission::New(hold)) => hold,
            Ok(Admission::Replay(again)) => {
                tracing::debug!(payment = ?again.status.id, "answered again");
                return reply.send(replay::response(*again, &mut meter));
            }
            Err(error) => {
                tracing::debug!(code = %error.code, payer = ?error.payer, "payment refused");
                return reply.send(refusal::not_admitted(&offer, &error, bounds));
            }
        };
        let admitted = hold.terms().clone();
        let stops = Stops::new(open.cut(), bounds.serving);
        let asked = prefer::wait(request.headers());
        let mut serving = Serving {
            meter,
            used: Amount::ZERO,
            memo: None,
            record: None,
            reply,
            stops,
            waits: Waits::new(asked, bounds, &shared.waiting),
            bounds,
            admitted,
        };
        // A panic of the inner service or of the meter must not take the hold with it.
        let verdict = AssertUnwindSafe(serving.serve(&mut hold, inner, request))
            .catch_unwind()
            .await;
        let verdict = verdict.unwrap_or_else(|_| serving.panicked());
        serving.end(hold, open, verdict).await;
    }
}

/// The caller's side of a sale.
struct Reply<RB>(Option<oneshot::Sender<Answer<RB>>>);

impl<RB> Reply<RB> {
    /// Resolves when the caller has hung up.
    async fn gone(&mut self) {
        match &mut self.0 {
            Some(reply) => reply.closed().await,
            None => core::future::pending().await,
        }
    }

    fn is_gone(&self) -> bool {
        self.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn send(&mut self, response: Answer<RB>) {
        if let Some(reply) = self.0.take() {
            // A caller that hung up meanwhile drops the body, which the pump sees.
            drop(reply.send(response));
        }
    }
}

/// An admitted payment that is being served.
struct Serving<'a, M, RB> {
    meter: M,
    /// What the answer so far is worth.
    used: Amount,
    memo: Option<String>,
    /// What went out of a stream.
    record: Option<Record>,
    reply: Reply<RB>,
    stops: Stops,
    waits: Waits<'a>,
    bounds: &'a Bounds,
    admitted: Admitted,
}

/// What is to become of the payment and of the caller.
enum Verdict<RB> {
    /// Nothing was delivered: release, and say so.
    Refuse(Answer<RB>),
    /// The caller hung up before anything was delivered: charge what the meter found, if anything.
    Abandoned,
    /// A buffered answer: charge it, then deliver it.
    Whole(response::Parts, Bytes),
    /// A stream that has ended: charge it, then close it.
    Streamed(Sender, End, Option<HeaderMap>),
    /// A stream whose pump panicked: charge what was delivered.
    Broken,
}

impl<M: Meter, RB> Serving<'_, M, RB>
where
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    async fn serve<H, S>(
        &mut self,
        hold: &mut H,
        inner: S,
        mut request: Request<Full<Bytes>>,
    ) -> Verdict<RB>
    where
        H: Hold,
        S: Service<Request<Full<Bytes>>, Response = Response<RB>>,
        S::Error: Into<BoxError>,
    {
        if self.reply.is_gone() {
            // The inner service was not called: there is nothing to ask the meter for.
            return Verdict::Abandoned;
        }
        request.extensions_mut().insert(self.admitted.clone());
        self.meter.attach(&self.admitted, request.extensions_mut());
        let response = match self.call(hold, inner, request).await {
            Ok(response) => response,
            Err(verdict) => return verdict,
        };
        let (mut parts, body) = response.into_parts();
        headers::paid(&mut parts.headers, self.admitted.id);
        if parts.status.is_client_error() || parts.status.is_server_error() {
            return Verdict::Refuse(answer::failed(parts, body));
        }
        match answer::delivery(&parts) {
            Delivery::Streamed => self.stream(hold, parts, body).await,
            Delivery::Buffered => self.collect(parts, body).await,
        }
    }

    /// Calls the inner service while the hold becomes durable; both must be done before anything goes out.
    async fn call<H, S>(
        &mut self,
        hold: &mut H,
        mut inner: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<RB>, Verdict<RB>>
    where
        H: Hold,
        S: Service<Request<Full<Bytes>>, Response = Response<RB>>,
        S::Error: Into<BoxError>,
    {
        let call = async {
            let called = async {
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                inner.call(request).await
            };
            tokio::select! {
                biased;
                response = AssertUnwindSafe(called).catch_unwind() => match response {
                    Ok(response) => response.map_err(|error| Stopped::Failed(error.into())),
                    // Caught here already, so that the hold's step beside it is not torn.
                    Err(_) => Err(Stopped::Panicked),
                },
                () = self.reply.gone() => Err(Stopped::Gone),
                stop = self.stops.wait() => Err(Stopped::By(stop)),
            }
        };
        // The hold's step is never dropped half-way; the call is, if the hold fails.
        let answer = match futures_util::future::select(pin!(hold.durable()), pin!(call)).await {
            Either::Left((Ok(()), call)) => call.await,
            Either::Left((Err(error), _)) => Err(Stopped::Ledger(error)),
            Either::Right((answer, durable)) => match durable.await {
                Ok(()) => answer,
                Err(error) => Err(Stopped::Ledger(error)),
            },
        };
        answer.map_err(|stopped| self.stopped(stopped))
    }

    /// A whole answer, collected before it is charged.
    async fn collect(&mut self, parts: response::Parts, body: RB) -> Verdict<RB> {
        let collected = {
            let mut body = pin!(Limited::new(body, self.bounds.response_bytes));
            let collect = async {
                let mut whole = BytesMut::new();
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        whole.extend_from_slice(&data);
                    }
                }
                Ok(whole.freeze())
            };
            tokio::select! {
                biased;
                whole = collect => whole.map_err(Stopped::Failed),
                () = self.reply.gone() => Err(Stopped::Gone),
                stop = self.stops.wait() => Err(Stopped::By(stop)),
            }
        };
        match collected {
            Ok(whole) => {
                self.used = self.meter.observe(&whole);
                self.remember();
                Verdict::Whole(parts, whole)
            }
            Err(stopped) => self.stopped(stopped),
        }
    }

    /// A stream, charged when it has ended.
    async fn stream<H: Hold>(
        &mut self,
        hold: &mut H,
        mut parts: response::Parts,
        body: RB,
    ) -> Verdict<RB> {
        // The closing bytes come on top of what the inner service counted.
        parts.headers.remove(header::CONTENT_LENGTH);
        self.record = hold
            .retention()
            .map(|retention| Record::new(retention, &parts));
        let (sender, receiver) = Sender::channel(self.bounds.frames);
        self.reply.send(Response::from_parts(parts, receiver));
        let pump = Pump {
            hold,
            meter: &mut self.meter,
            used: &mut self.used,
            stops: &mut self.stops,
            bounds: self.bounds,
            sender: &sender,
            durable: Durable::nothing(),
            record: &mut self.record,
        };
        let (end, trailers) = pump.run(body).await;
        self.remember();
        Verdict::Streamed(sender, end, trailers)
    }

    fn remember(&mut self) {
        self.memo = self.meter.memo().filter(|memo| fits(memo));
    }

    /// What becomes of an answer that ended before its first byte.
    fn stopped(&mut self, stopped: Stopped) -> Verdict<RB> {
        let problem = match stopped {
            Stopped::Gone => {
                self.used = self.meter.observe(&Bytes::new());
                self.remember();
                return Verdict::Abandoned;
            }
            Stopped::Ledger(error) => {
                tracing::error!(payment = ?self.admitted.id, %error, "the hold did not become durable");
                return Verdict::Refuse(refusal::ledger(self.bounds));
            }
            Stopped::By(Stop::Draining) => return Verdict::Refuse(refusal::draining(self.bounds)),
            Stopped::By(Stop::TimeUp) => Problem::new(
                ErrorCode::UpstreamTimeout,
                "the answer did not begin in time",
            ),
            Stopped::Panicked => return self.panicked(),
            Stopped::Failed(error) => {
                let message = if error.is::<LengthLimitError>() {
                    "the answer is longer than this server passes on"
                } else {
                    "the service behind this server failed"
                };
                tracing::warn!(payment = ?self.admitted.id, %error, "the inner service failed");
                Problem::new(ErrorCode::UpstreamFailed, message)
            }
        };
        Verdict::Refuse(problem.to_response())
    }

    fn panicked(&mut self) -> Verdict<RB> {
        tracing::error!(payment = ?self.admitted.id, "the inner service or its meter panicked");
        if self.reply.0.is_none() {
            return Verdict::Broken;
        }
        let problem = Problem::new(
            ErrorCode::InternalError,
            "the service behind this server failed",
        );
        Verdict::Refuse(problem.to_response())
    }

    /// Ends the payment, and tells the caller.
    async fn end<H: Hold>(mut self, mut hold: H, open: Open, verdict: Verdict<RB>) {
        let id = self.admitted.id;
        let release = match &verdict {
            Verdict::Refuse(_) => true,
            Verdict::Abandoned => self.used.is_zero(),
            Verdict::Whole(..) | Verdict::Streamed(..) | Verdict::Broken => false,
        };
        if release {
            match hold.release().await {
                Ok(()) => tracing::debug!(payment = ?id, "released"),
                // It stays reserved until the ledger's recovery finds it.
                Err(error) => tracing::error!(payment = ?id, %error, "not released"),
            }
            if let Verdict::Refuse(mut response) = verdict {
                headers::named(response.headers_mut(), id);
                self.reply.send(response);
            }
            return;
        }
        let closer = Closer::new(self.meter, self.admitted.clone(), outcome(&verdict));
        let kept = match &verdict {
            Verdict::Whole(parts, whole) => hold.retention().map(|retention| {
                let mut record = Record::new(retention, parts);
                record.push(whole);
                closer.answer(record, Join::Instead)
            }),
            // A meter that panicked writes no end.
            Verdict::Streamed(_, End::Panicked, _) => None,
            Verdict::Streamed(..) => self
                .record
                .take()
                .map(|record| closer.answer(record, Join::After)),
            Verdict::Refuse(_) | Verdict::Abandoned | Verdict::Broken => None,
        };
        if let Some(answer) = kept {
            hold.keep(answer);
        }
        let wait = match &verdict {
            Verdict::Whole(..) => self.waits.wait(&hold, &open),
            _ => None,
        };
        let again = hold.retention().is_some();
        let memo = self.memo.take();
        let charge = match &verdict {
            Verdict::Whole(..) => hold.commit_undelivered(self.used, memo).await,
            _ => hold.commit(self.used, memo).await,
        };
        // The payment has ended; what follows is delivery.
        drop(open);
        match &charge {
            Ok(charge) => tracing::debug!(payment = ?id, amount = %charge.amount, "charged"),
            // What the last checkpoint knows is charged by the ledger's recovery.
            Err(error) => tracing::error!(payment = ?id, used = %self.used, %error, "not charged"),
        }
        match (verdict, charge) {
            (Verdict::Whole(mut parts, whole), Ok(charge)) => {
                // It may change, and the body knows its own.
                parts.headers.remove(header::CONTENT_LENGTH);
                let body = closer.close(&charge).unwrap_or(whole);
                // What costs nothing is settled by nobody.
                let waited = match wait.filter(|_| !charge.amount.is_zero()) {
                    Some(wait) => Box::pin(wait.end(self.reply.gone())).await,
                    None => Waited::default(),
                };
                let settlement = match &waited.status {
                    Some(status) => answer::standing(status),
                    None => answer::settlement(&self.admitted, &charge),
                };
                headers::settled(&mut parts.headers, self.admitted.version, &settlement);
                if let Some(seconds) = waited.applied {
                    headers::waited(&mut parts.headers, seconds);
                }
                self.reply
                    .send(Response::from_parts(parts, PaywallBody::from(body)));
            }
            (Verdict::Whole(..), Err(error)) => {
                let mut response = refusal::withheld(&error, again, self.bounds);
                headers::named(response.headers_mut(), id);
                self.reply.send(response);
            }
            (Verdict::Streamed(sender, end, trailers), Ok(charge)) => {
                // Nobody reads it. The stream breaks off, so that one who comes back to it does not take it for whole.
                if !matches!(end, End::Gone | End::Stalled | End::Panicked) {
                    close(sender, closer.close(&charge), trailers, self.bounds).await;
                }
            }
            (Verdict::Streamed(..), Err(_))
            | (Verdict::Refuse(_) | Verdict::Abandoned | Verdict::Broken, _) => {}
        }
    }
}

/// How an answer ended, as its last bytes tell it. A caller that went away may come back for what it did not get.
const fn outcome<RB>(verdict: &Verdict<RB>) -> Outcome {
    match verdict {
        Verdict::Whole(..) | Verdict::Streamed(_, End::Complete, _) => Outcome::Complete,
        Verdict::Streamed(_, End::UpstreamError, _) => Outcome::UpstreamError,
        Verdict::Streamed(..) | Verdict::Refuse(_) | Verdict::Abandoned | Verdict::Broken => {
            Outcome::Cut
        }
    }
}

/// Ends a stream with its last bytes.
async fn close(
    sender: Sender,
    closing: Option<Bytes>,
    trailers: Option<HeaderMap>,
    bounds: &Bounds,
) {
    let closing = closing.filter(|bytes| !bytes.is_empty()).map(Frame::data);
    for frame in closing.into_iter().chain(trailers.map(Frame::trailers)) {
        let room = tokio::time::timeout(bounds.write_timeout, sender.room()).await;
        if !matches!(room, Ok(Ok(()))) || sender.send(frame).is_err() {
            return;
        }
    }
    sender.finish();
}

/// Why an answer ended before its first byte.
enum Stopped {
    Failed(BoxError),
    Panicked,
    Gone,
    By(Stop),
    Ledger(HoldError),
}
