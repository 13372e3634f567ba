//! The ready client.

use core::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tollgate_eip712::Wallet;
use tollgate_price::PriceTable;
use tollgate_x402::{Clock, PaymentId, PaymentStatus, ReadError};
use tower_service::Service;

use crate::{
    ChainFacts, ChatPart, ChatReader, Finding, NoFacts, Nonces, Origin, Paid, PaidBody, Pay,
    PayError, Payer, PayerBuilder, PaymentTold, Policy, Receipt, ReceiptHandle, Transport, audit,
    audit_receipt, error::Unfinished,
};

/// The longest answer in one piece, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// How much of an error's text is kept, in characters.
const MAX_TEXT: usize = 2_000;

/// A client that pays for what it asks. Clones share connections, limits and permits.
pub struct TollgateClient<W, N = NoFacts> {
    pay: Pay<Transport, W, N>,
    prices: Option<PriceTable>,
}

/// Makes a [`TollgateClient`]. It has no default wallet.
pub struct ClientBuilder<P> {
    payer: P,
    prices: Option<PriceTable>,
    connect_timeout: Duration,
    silence: Duration,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct BuildError(#[from] reqwest::Error);

/// An answer in one piece.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most 64 MiB.
    pub body: Bytes,
    /// What was authorized for it, if it was paid.
    pub paid: Option<Paid>,
    /// What the seller says it charged.
    pub receipt: Option<Receipt>,
    /// What is wrong with that.
    pub findings: Vec<Finding>,
}

/// A chat answer as it comes.
pub struct PaidStream {
    body: PaidBody<reqwest::Body>,
    reader: ChatReader,
    headers: HeaderMap,
    paid: Option<Paid>,
    handle: Option<ReceiptHandle>,
    ended: bool,
    cut: bool,
}

impl TollgateClient<()> {
    /// A client to be set up; the first thing that it needs is a wallet.
    pub fn builder() -> ClientBuilder<()> {
        ClientBuilder {
            payer: (),
            prices: None,
            connect_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(120),
        }
    }
}

impl<P> ClientBuilder<P> {
    fn with<Q>(self, payer: impl FnOnce(P) -> Q) -> ClientBuilder<Q> {
        ClientBuilder {
            payer: payer(self.payer),
            prices: self.prices,
            connect_timeout: self.connect_timeout,
            silence: self.silence,
        }
    }

    /// Known prices, against which receipts are computed again.
    #[must_use]
    pub fn prices(self, prices: PriceTable) -> Self {
        Self {
            prices: Some(prices),
            ..self
        }
    }

    /// How long a connection may take. 10 seconds by default.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self {
            connect_timeout: timeout,
            ..self
        }
    }

    /// How long an answer may say nothing, its beginning included. 120 seconds by default, which is for streams. An answer
    /// that is not streamed says nothing until it is whole: for such, wait longer than the seller may work on one (600 seconds
    /// at a tollgate). Who hangs up before is charged what was made for it until then.
    #[must_use]
    pub fn silence(self, timeout: Duration) -> Self {
        Self {
            silence: timeout,
            ..self
        }
    }
}

impl ClientBuilder<()> {
    /// Who pays.
    #[must_use]
    pub fn wallet<W: Wallet>(self, wallet: W) -> ClientBuilder<PayerBuilder<W, NoFacts>> {
        self.with(|()| Payer::builder(wallet))
    }
}

impl<W: Wallet, N> ClientBuilder<PayerBuilder<W, N>> {
    /// What may be paid.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        self.with(|payer| payer.policy(policy))
    }

    /// Where permit nonces are read. Without it there are no allowances.
    #[must_use]
    pub fn facts<M: ChainFacts>(self, facts: M) -> ClientBuilder<PayerBuilder<W, M>> {
        self.with(|payer| payer.facts(facts))
    }

    /// Reads permit nonces of this chain from this JSON-RPC endpoint. It is asked when the first permit is signed.
    #[cfg(feature = "chain")]
    #[must_use]
    pub fn chain_rpc(
        self,
        chain: tollgate_x402::ChainId,
        url: impl Into<String>,
    ) -> ClientBuilder<PayerBuilder<W, crate::ChainRpc>> {
        self.facts(crate::ChainRpc::new(chain, url))
    }

    /// Another clock than this machine's.
    #[must_use]
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        self.with(|payer| payer.clock(clock))
    }

    /// Other random nonces than the operating system's.
    #[must_use]
    pub fn nonces(self, nonces: impl Nonces + 'static) -> Self {
        self.with(|payer| payer.nonces(nonces))
    }

    /// The client.
    ///
    /// # Errors
    /// [`BuildError`] where TLS cannot be set up.
    pub fn build(self) -> Result<TollgateClient<W, N>, BuildError> {
        let transport = Transport::new(self.connect_timeout, self.silence)?;
        Ok(TollgateClient {
            pay: Pay::new(transport, self.payer.build()),
            prices: self.prices,
        })
    }
}

impl<W: Wallet + 'static, N: ChainFacts + 'static> TollgateClient<W, N> {
    /// Who pays, and by which rules.
    pub const fn payer(&self) -> &Payer<W, N> {
        self.pay.payer()
    }

    /// Sends any request, and pays for it if it must. The answer has [`Paid`] and [`ReceiptHandle`] among its
    /// extensions if it was paid.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<PaidBody<reqwest::Body>>, PayError> {
        let mut pay = self.pay.clone();
        poll_fn(|cx| pay.poll_ready(cx)).await?;
        pay.call(request).await
    }

    /// Posts JSON and waits for the whole answer, of whatever status.
    ///
    /// # Errors
    /// [`PayError`]; of a paid answer that ends before its end [`PayError::Broken`].
    pub async fn post_json(&self, url: &str, body: impl Into<Bytes>) -> Result<Answer, PayError> {
        whole(self.send(post(url, body.into())?).await?).await
    }

    /// Posts a chat request (DGrid's dialect: `{"messages": …}`) and gives its answer as it comes, streamed or not.
    ///
    /// # Errors
    /// [`PayError`]; an answer of another status than success is [`PayError::Answer`]. One that ends before its end
    /// (without `finish` and `[DONE]`, or in the middle of a JSON text) is [`PayError::Broken`], after the parts that
    /// came.
    pub async fn chat(&self, url: &str, body: impl Into<Bytes>) -> Result<PaidStream, PayError> {
        self.chat_with(url, HeaderMap::new(), body).await
    }

    /// The same, with further headers on the request, such as `Prefer: wait=10` where the answer is not streamed and shall
    /// tell the transaction.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub async fn chat_with(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<PaidStream, PayError> {
        let mut request = post(url, body.into())?;
        request.headers_mut().extend(headers);
        let response = self.send(request).await?;
        if !response.status().is_success() {
            let answer = whole(response).await?;
            return Err(PayError::Answer {
                status: answer.status,
                text: text(&answer.body),
            });
        }
        let (mut parts, body) = response.into_parts();
        Ok(PaidStream {
            body,
            reader: ChatReader::of(&parts.headers),
            headers: parts.headers,
            paid: parts.extensions.remove(),
            handle: parts.extensions.remove(),
            ended: false,
            cut: false,
        })
    }

    /// What the seller tells of a payment: `GET {origin}/x402/v1/payments/{id}`. It is never paid for.
    ///
    /// # Errors
    /// [`PayError`]; an answer of another status than 200 is [`PayError::Answer`].
    pub async fn payment(&self, origin: &Origin, id: PaymentId) -> Result<PaymentTold, PayError> {
        let url = format!("{origin}/x402/v1/payments/{id}");
        let uri: Uri = url.parse().map_err(|_| PayError::Url(url))?;
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri;
        let mut transport = self.pay.transport().clone();
        let response = transport
            .call(request)
            .await
            .map_err(|error| PayError::Transport(error.into()))?;
        let answer = whole(response.map(PaidBody::unpaid)).await?;
        if answer.status != StatusCode::OK {
            return Err(PayError::Answer {
                status: answer.status,
                text: text(&answer.body),
            });
        }
        let told = PaymentTold::parse_body(&answer.body, &self.payer().policy().limits)?;
        if told.status.id != id {
            return Err(ReadError::Shape("the status of the payment that was asked for").into());
        }
        Ok(told)
    }

    /// Holds a receipt against what was signed, quoted and priced, and against the payment's status if one was
    /// fetched by [`payment`](Self::payment). The chain is not asked.
    pub fn audit(
        &self,
        paid: &Paid,
        receipt: &Receipt,
        status: Option<&PaymentStatus>,
    ) -> Vec<Finding> {
        audit(paid, receipt, status, self.prices.as_ref())
    }

    /// Holds the signed receipt that a seller told of a payment against what was signed for it and against the payment's
    /// status. The chain is not asked: who signed is its to tell.
    pub fn audit_receipt(&self, paid: &Paid, told: &PaymentTold) -> Vec<Finding> {
        audit_receipt(paid.authorization(), paid.digest(), told)
    }
}

impl PaidStream {
    /// The next part, nothing at the end.
    pub async fn next(&mut self) -> Option<Result<ChatPart, PayError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The answer's headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What was authorized for the answer, if it was paid.
    pub const fn paid(&self) -> Option<&Paid> {
        self.paid.as_ref()
    }

    /// What the seller says it charged. It is complete when the stream has ended.
    pub fn receipt(&self) -> Option<Receipt> {
        self.handle.as_ref()?.receipt()
    }

    /// What is wrong with that.
    pub fn findings(&self) -> Vec<Finding> {
        self.handle
            .as_ref()
            .map(ReceiptHandle::findings)
            .unwrap_or_default()
    }
}

impl Stream for PaidStream {
    type Item = Result<ChatPart, PayError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(part) = this.reader.next_part() {
                return Poll::Ready(Some(Ok(part)));
            }
            if core::mem::take(&mut this.cut) {
                return Poll::Ready(Some(Err(PayError::Broken(Unfinished.into()))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && let Err(error) = this.reader.push(data)
                    {
                        this.ended = true;
                        return Poll::Ready(Some(Err(PayError::Broken(error.into()))));
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(PayError::Broken(error.into()))));
                }
                None => {
                    this.ended = true;
                    this.reader.end();
                    this.cut = !this.reader.is_whole();
                }
            }
        }
    }
}

fn post(url: &str, body: Bytes) -> Result<Request<Bytes>, PayError> {
    let uri: Uri = url.parse().map_err(|_| PayError::Url(url.into()))?;
    if Origin::of(&uri).is_none() {
        return Err(PayError::Url(url.into()));
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(request)
}

async fn whole(response: Response<PaidBody<reqwest::Body>>) -> Result<Answer, PayError> {
    let (mut parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(PayError::Broken)?
        .to_bytes();
    let handle: Option<ReceiptHandle> = parts.extensions.remove();
    if handle.as_ref().is_some_and(ReceiptHandle::broke_off) {
        return Err(PayError::Broken(Unfinished.into()));
    }
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
        paid: parts.extensions.remove(),
        receipt: handle.as_ref().and_then(ReceiptHandle::receipt),
        findings: handle.map(|handle| handle.findings()).unwrap_or_default(),
    })
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(MAX_TEXT)
        .collect()
}

impl<W, N> Clone for TollgateClient<W, N> {
    fn clone(&self) -> Self {
        Self {
            pay: self.pay.clone(),
            prices: self.prices.clone(),
        }
    }
}

impl<W: Wallet, N> fmt::Debug for TollgateClient<W, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TollgateClient")
            .field("pay", &self.pay)
            .finish_non_exhaustive()
    }
}

impl<P: fmt::Debug> fmt::Debug for ClientBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PaidStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaidStream")
            .field("paid", &self.paid)
            .finish_non_exhaustive()
    }
}
