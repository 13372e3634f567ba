//! The tower layer.

use core::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, request};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tollgate_eip712::Wallet;
use tollgate_x402::{ErrorCode, Limits, PaymentHeader, PaymentRequired, ReadError, header as x402};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Again, BoxError, ChainFacts, NoFacts, Origin, PaidBody, PayError, Payer, Receipt, Rejection,
    ReplayBody,
    payer::{AtOnce, Ready},
    target::Target,
    watch::Watch,
};

/// Makes any HTTP client service pay.
pub struct PayLayer<W, N = NoFacts> {
    payer: Payer<W, N>,
}

/// An HTTP client service that pays: what [`PayLayer`] makes.
///
/// A request goes out as it is, unless there is a permit for it from before, or an earlier try of the very same request
/// had no answer. A 402 is answered with one payment, once; whatever comes then is the answer, or an error if it is a
/// 402 again. Requests that carry a payment header already pass through untouched.
///
/// The service beneath must not follow redirects: it would carry the payment along. It must use absolute URIs.
pub struct Pay<S, W, N = NoFacts> {
    inner: S,
    payer: Payer<W, N>,
}

/// The future of a call.
pub type PayFuture<RB> =
    Pin<Box<dyn Future<Output = Result<Response<PaidBody<RB>>, PayError>> + Send>>;

impl<W, N> PayLayer<W, N> {
    /// A layer whose services all pay as this payer.
    pub const fn new(payer: Payer<W, N>) -> Self {
        Self { payer }
    }
}

impl<S, W, N> Layer<S> for PayLayer<W, N> {
    type Service = Pay<S, W, N>;

    fn layer(&self, inner: S) -> Self::Service {
        Pay::new(inner, self.payer.clone())
    }
}

impl<S, W, N> Pay<S, W, N> {
    /// A service that pays as this payer.
    pub const fn new(inner: S, payer: Payer<W, N>) -> Self {
        Self { inner, payer }
    }

    /// Who pays.
    pub const fn payer(&self) -> &Payer<W, N> {
        &self.payer
    }

    /// The service beneath, which does not pay.
    pub const fn transport(&self) -> &S {
        &self.inner
    }
}

impl<S, W, N, B, RB> Service<Request<B>> for Pay<S, W, N>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: ReplayBody + Send + 'static,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
    W: Wallet + 'static,
    N: ChainFacts + 'static,
{
    type Response = Response<PaidBody<RB>>;
    type Error = PayError;
    type Future = PayFuture<RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PayError>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| PayError::Transport(error.into()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone is not ready; the one that was polled ready is used.
        let fresh = self.inner.clone();
        let inner = core::mem::replace(&mut self.inner, fresh);
        let payer = self.payer.clone();
        let (parts, body) = request.into_parts();
        Box::pin(Call { inner, payer }.run(parts, body))
    }
}

struct Call<S, W, N> {
    inner: S,
    payer: Payer<W, N>,
}

impl<S, W, N> Call<S, W, N>
where
    W: Wallet,
    N: ChainFacts,
{
    async fn run<B, RB>(
        mut self,
        parts: request::Parts,
        body: B,
    ) -> Result<Response<PaidBody<RB>>, PayError>
    where
        S: Service<Request<B>, Response = Response<RB>>,
        S::Error: Into<BoxError>,
        B: ReplayBody,
        RB: Body<Data = Bytes>,
        RB::Error: Into<BoxError>,
    {
        let carries = parts
            .headers
            .keys()
            .any(|name| PaymentHeader::from_name(name.as_str()).is_some());
        let target = Target::of(&parts.method, &parts.uri, &body.content());
        let Some(target) = target.filter(|_| !carries) else {
            let response = self.inner.call(Request::from_parts(parts, body)).await;
            return response
                .map(|response| response.map(PaidBody::unpaid))
                .map_err(|error| PayError::Transport(error.into()));
        };
        let limits = self.payer.policy().limits;
        let offer = match self.payer.at_once(&target) {
            None => {
                let request = Request::from_parts(parts.clone(), body.clone());
                let response = self.inner.call(request).await;
                let response = response.map_err(|error| PayError::Transport(error.into()))?;
                if response.status() != StatusCode::PAYMENT_REQUIRED {
                    return Ok(response.map(PaidBody::unpaid));
                }
                Demand::read(response, &limits).await?.offer?
            }
            Some(AtOnce::Resumed(ready)) => {
                return match self.send(&parts, body, &target, ready).await? {
                    Sent::Answer(answer) => Ok(answer),
                    Sent::Demand(demand, ready) => Err(self.rejected(&demand, ready)),
                };
            }
            Some(AtOnce::Reused(ready)) => {
                match self.send(&parts, body.clone(), &target, ready).await? {
                    Sent::Answer(answer) => return Ok(answer),
                    Sent::Demand(demand, ready) => {
                        if !demand.wants_another() {
                            return Err(self.rejected(&demand, ready));
                        }
                        self.refused(&demand, ready);
                        demand.offer?
                    }
                }
            }
        };
        let ready = self.payer.authorize(&target, Arc::new(offer)).await?;
        poll_fn(|cx| self.inner.poll_ready(cx))
            .await
            .map_err(|error| PayError::Transport(error.into()))?;
        match self.send(&parts, body, &target, ready).await? {
            Sent::Answer(answer) => Ok(answer),
            Sent::Demand(demand, ready) => Err(self.rejected(&demand, ready)),
        }
    }

    /// Sends a request with a payment.
    async fn send<B, RB>(
        &mut self,
        parts: &request::Parts,
        body: B,
        target: &Target,
        ready: Ready,
    ) -> Result<Sent<RB>, PayError>
    where
        S: Service<Request<B>, Response = Response<RB>>,
        S::Error: Into<BoxError>,
        B: ReplayBody,
        RB: Body<Data = Bytes>,
        RB::Error: Into<BoxError>,
    {
        let response = match self.deliver(parts, body, &ready).await {
            Ok(response) => response,
            Err(error) => {
                // It may have been served, and be charged. The attempt's end is unknown as it is dropped here.
                if let Some(allowance) = &ready.allowance {
                    let permits = &self.payer.state.permits;
                    permits.spent(allowance, ready.paid.expected);
                }
                return Err(PayError::AnswerLost {
                    source: error,
                    kind: ready.paid.kind,
                    until: ready.paid.deadline,
                    again: match ready.in_flight {
                        Some(_) => Again::SamePayment,
                        None => Again::NewPayment,
                    },
                });
            }
        };
        let status = response.status();
        if status == StatusCode::PAYMENT_REQUIRED {
            let limits = self.payer.policy().limits;
            // Without its body it is a 402 all the same.
            let demand = match Demand::read(response, &limits).await {
                Ok(demand) => demand,
                Err(error) => Demand::unread(error),
            };
            return Ok(Sent::Demand(demand, ready));
        }
        if status.is_redirection()
            && let Some(to) = elsewhere(response.headers(), &target.origin)
        {
            return Err(PayError::Redirected { to });
        }
        let Ready {
            paid,
            allowance,
            in_flight,
            ..
        } = ready;
        // Too early, too many, or a failure: the same authorization is good for another try.
        let open = status.is_server_error()
            || status.is_redirection()
            || matches!(
                status,
                StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
            );
        let in_flight = in_flight.filter(|_| !open).and_then(|in_flight| {
            if status == StatusCode::CONFLICT {
                // Used up, says the seller: it is not sent again, and stands until its deadline all the same.
                in_flight.burned();
                return None;
            }
            Some(in_flight)
        });
        let (parts, body) = response.into_parts();
        let state = self.payer.state.clone();
        let watch = Watch::new(state, paid, allowance, in_flight, status, &parts.headers);
        let (paid, handle) = (watch.paid().clone(), watch.handle());
        let mut response = Response::from_parts(parts, PaidBody::watched(body, watch));
        response.extensions_mut().insert(paid);
        response.extensions_mut().insert(handle);
        Ok(Sent::Answer(response))
    }

    /// Sends a request with a payment until it is answered, where that cannot be a second charge: one whose answer does
    /// not come again and again, one that is still being served as long as there is patience.
    async fn deliver<B, RB>(
        &mut self,
        parts: &request::Parts,
        body: B,
        ready: &Ready,
    ) -> Result<Response<RB>, BoxError>
    where
        S: Service<Request<B>, Response = Response<RB>>,
        S::Error: Into<BoxError>,
        B: ReplayBody,
    {
        let policy = self.payer.policy();
        let (mut retries, mut patience) = match ready.in_flight {
            Some(_) => (policy.retries, policy.patience),
            None => (0, 0),
        };
        loop {
            let mut request = Request::from_parts(parts.clone(), body.clone());
            let (name, value) = ready.header.clone();
            request.headers_mut().insert(name, value);
            let sent = self.inner.call(request).await.map_err(Into::into);
            let wait = match sent {
                Ok(early) if early.status() == StatusCode::TOO_EARLY && patience > 0 => {
                    retry_after(early.headers()).min(patience)
                }
                Ok(response) => return Ok(response),
                Err(error) if retries == 0 => return Err(error),
                Err(_) => {
                    retries = retries.saturating_sub(1);
                    0
                }
            };
            if wait > 0 {
                patience = patience.saturating_sub(wait);
                tokio::time::sleep(Duration::from_secs(wait)).await;
            }
            poll_fn(|cx| self.inner.poll_ready(cx))
                .await
                .map_err(Into::into)?;
        }
    }

    /// Keeps the books of a payment that was answered with 402. Whether a permit was forgotten.
    fn refused(&self, demand: &Demand, ready: Ready) -> bool {
        if let Some(in_flight) = ready.in_flight
            && !demand.pending
        {
            in_flight.refused();
        }
        let stays = demand.code == Some(ErrorCode::PriceChanged);
        match ready.allowance.filter(|_| !stays) {
            Some(allowance) => {
                self.payer.state.permits.forget(&allowance);
                true
            }
            None => false,
        }
    }

    fn rejected(&self, demand: &Demand, ready: Ready) -> PayError {
        let kind = ready.paid.kind;
        let permit_dropped = self.refused(demand, ready);
        PayError::Rejected(Box::new(Rejection {
            code: demand.code,
            reason: demand.reason.clone(),
            message: demand.message.clone(),
            kind,
            permit_dropped,
            offer: demand.offer.as_ref().ok().cloned().map(Box::new),
            status: StatusCode::PAYMENT_REQUIRED,
        }))
    }
}

enum Sent<RB> {
    Answer(Response<PaidBody<RB>>),
    Demand(Demand, Ready),
}

/// A 402.
struct Demand {
    offer: Result<PaymentRequired, ReadError>,
    reason: String,
    code: Option<ErrorCode>,
    message: Option<String>,
    /// The seller has sent a transaction, and waits for it.
    pending: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Words {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

impl Demand {
    async fn read<RB>(response: Response<RB>, limits: &Limits) -> Result<Self, PayError>
    where
        RB: Body<Data = Bytes>,
        RB::Error: Into<BoxError>,
    {
        let (parts, body) = response.into_parts();
        let mut headers = parts.headers.get_all(x402::PAYMENT_REQUIRED).iter();
        let header = headers.next().map(http::HeaderValue::as_bytes);
        let body = match Limited::new(body, limits.body_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            // The header says it all.
            Err(_) if header.is_some() => Bytes::new(),
            Err(error) => return Err(PayError::OfferBody(error)),
        };
        let offer = PaymentRequired::from_response(header, &body, limits);
        let words: Words = serde_json::from_slice(&body).unwrap_or_default();
        let told = offer.as_ref().ok().and_then(|offer| offer.error.clone());
        let reason = told
            .or(words.error)
            .map_or_else(|| "Payment required".into(), |text| readable(&text));
        let settlement = Receipt::from_headers(&parts.headers, limits).ok().flatten();
        let pending = settlement.is_some_and(|settlement| {
            settlement.transaction.is_some() || settlement.success == Some(true)
        });
        Ok(Self {
            offer,
            code: reason.parse().ok(),
            reason,
            message: words.error_message.map(|text| readable(&text)),
            pending,
        })
    }

    fn unread(error: PayError) -> Self {
        Self {
            offer: Err(ReadError::Shape("a 402 that could be received")),
            reason: error.to_string(),
            code: None,
            message: None,
            pending: false,
        }
    }

    /// Whether another permit could help: not where the payer himself is refused, or has nothing.
    fn wants_another(&self) -> bool {
        !matches!(
            self.code,
            Some(
                ErrorCode::InsufficientFunds
                    | ErrorCode::PayerRefused
                    | ErrorCode::PayerIsContract
                    | ErrorCode::SettlementPending
            )
        )
    }
}

/// A seller's text, made fit for a terminal: it is another party's.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// What a seller says of when to come back, in seconds: 1 to 10, and 1 where it says nothing that can be read.
fn retry_after(headers: &header::HeaderMap) -> u64 {
    headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or(1)
        .clamp(1, 10)
}

/// Where a redirect leads, if that is another origin.
fn elsewhere(headers: &header::HeaderMap, origin: &Origin) -> Option<String> {
    let location = headers.get(header::LOCATION)?;
    let Ok(text) = location.to_str() else {
        return Some("an address that cannot be read".into());
    };
    // //host and its misspellings name another host without a scheme.
    let within = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    let named = text.parse::<Uri>().ok();
    let same = match named.as_ref().map(|uri| (uri.scheme(), Origin::of(uri))) {
        Some((_, Some(named))) => named == *origin,
        _ => within,
    };
    (!same).then(|| readable(text))
}

impl<W, N> Clone for PayLayer<W, N> {
    fn clone(&self) -> Self {
        Self {
            payer: self.payer.clone(),
        }
    }
}

impl<S: Clone, W, N> Clone for Pay<S, W, N> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            payer: self.payer.clone(),
        }
    }
}

impl<W: Wallet, N> fmt::Debug for PayLayer<W, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayLayer")
            .field("payer", &self.payer)
            .finish()
    }
}

impl<S, W: Wallet, N> fmt::Debug for Pay<S, W, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pay")
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}
