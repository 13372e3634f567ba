//! What the tests share: a till in memory, a service that sells bytes, and its callers.
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;
use tollgate_payment::{Ask, Pricing, port::Admitted};
use tollgate_server::{
    Bounds, BoxError, Ending, Meter, Paywall, PaywallBody, PaywallLayer, Problem, Tariff, Unpriced,
};
use tollgate_x402::{Amount, ErrorCode, Limits, PaymentRequired, ResourceInfo, X402Version};
use tower::{Layer, ServiceExt};
use tower_service::Service;

use crate::till::MemoryTill;

/// The most that one answer of [`PerByte`] costs.
pub(crate) const CAP: u64 = 10_000;

/// One unit a byte. It says at the end what was charged.
#[derive(Clone)]
pub(crate) struct PerByte;

pub(crate) struct ByteMeter {
    used: u64,
    /// What the service did beside the bytes.
    work: Arc<AtomicU64>,
}

impl Tariff for PerByte {
    type Meter = ByteMeter;

    fn ask(&self, parts: &Parts, body: &Bytes) -> Result<(Ask, ByteMeter), Unpriced> {
        match parts.uri.path() {
            "/free" => return Err(Unpriced::Free),
            _ if body.starts_with(b"bad") => {
                let problem = Problem::new(ErrorCode::UnknownModel, "there is no model \"bad\"");
                return Err(Unpriced::Refused(problem));
            }
            _ => {}
        }
        let resource = ResourceInfo::new("https://seller.example/paid");
        let pricing = Pricing::Metered {
            worst: Amount::from(CAP),
            least: Amount::from(10_u64),
        };
        Ok((
            Ask { resource, pricing },
            ByteMeter {
                used: 0,
                work: Arc::default(),
            },
        ))
    }
}

/// What [`ByteMeter`] hands to the inner service.
#[derive(Clone)]
pub(crate) struct Attached {
    pub(crate) cap: Amount,
    pub(crate) work: Arc<AtomicU64>,
}

impl Meter for ByteMeter {
    fn attach(&mut self, admitted: &Admitted, extensions: &mut Extensions) {
        extensions.insert(Attached {
            cap: admitted.cap,
            work: self.work.clone(),
        });
    }

    fn observe(&mut self, frame: &Bytes) -> Amount {
        assert!(!frame.starts_with(b"panic"), "the meter panics");
        self.used += u64::try_from(frame.len()).unwrap();
        Amount::from(self.used + self.work.load(Ordering::Relaxed))
    }

    fn memo(&mut self) -> Option<String> {
        Some(format!("{} bytes", self.used))
    }

    fn replayed(&mut self, headers: &mut HeaderMap) {
        headers.insert("x-shop", "bytes".parse().unwrap());
    }

    fn closing(&mut self, ending: &Ending) -> Option<Bytes> {
        Some(Bytes::from(format!(
            "<{:?} {}>",
            ending.outcome, ending.charge.amount
        )))
    }
}

/// A body that the test feeds, and that says when it was dropped.
pub(crate) struct Fed {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>,
    till: MemoryTill,
}

pub(crate) struct Feed(mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>);

impl Feed {
    pub(crate) fn frame(&self, text: &'static str) {
        let _ = self
            .0
            .send(Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
    }

    pub(crate) fn bytes(&self, count: usize) {
        let _ = self.0.send(Ok(Frame::data(Bytes::from(vec![b'x'; count]))));
    }

    pub(crate) fn fail(&self) {
        let _ = self.0.send(Err("upstream broke".into()));
    }

    pub(crate) fn trailers(&self, trailers: HeaderMap) {
        let _ = self.0.send(Ok(Frame::trailers(trailers)));
    }

    pub(crate) async fn cancelled(&self) {
        self.0.closed().await;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

impl Fed {
    pub(crate) fn new(till: &MemoryTill) -> (Feed, Self) {
        let (feed, frames) = mpsc::unbounded_channel();
        (
            Feed(feed),
            Self {
                frames,
                till: till.clone(),
            },
        )
    }

    /// A body of these frames.
    pub(crate) fn whole(till: &MemoryTill, frames: impl IntoIterator<Item = &'static str>) -> Self {
        let (feed, body) = Self::new(till);
        frames.into_iter().for_each(|frame| feed.frame(frame));
        body
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.till.note("upstream dropped");
    }
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.frames.poll_recv(cx).map(|frame| {
            if let Some(Ok(frame)) = &frame {
                let data = frame.data_ref().map(|data| &data[..]);
                assert!(
                    data != Some(b"upstream panics".as_slice()),
                    "the upstream panics"
                );
            }
            frame
        })
    }
}

pub(crate) type Answer = Response<PaywallBody<Fed>>;

type Served = Result<Response<Fed>, BoxError>;

/// Answers with what the test put into it, in order, and remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Upstream {
    answers: Arc<Mutex<VecDeque<Served>>>,
    pub(crate) asked: Arc<Mutex<Vec<Request<Bytes>>>>,
    /// Heads are not answered while this is closed.
    gate: Option<tokio::sync::watch::Receiver<bool>>,
    pub(crate) overloaded: bool,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        Self {
            answers: Arc::default(),
            asked: Arc::default(),
            gate: None,
            overloaded: false,
        }
    }

    pub(crate) fn answers(self, status: u16, content_type: &str, body: Fed) -> Self {
        let response = Response::builder()
            .status(status)
            .header("content-type", content_type)
            .body(body)
            .unwrap();
        self.responds(Ok(response))
    }

    pub(crate) fn streams(self, body: Fed) -> Self {
        self.answers(200, "text/event-stream", body)
    }

    pub(crate) fn responds(self, response: Served) -> Self {
        self.answers.lock().unwrap().push_back(response);
        self
    }

    pub(crate) fn gated(mut self) -> (tokio::sync::watch::Sender<bool>, Self) {
        let (open, gate) = tokio::sync::watch::channel(false);
        self.gate = Some(gate);
        (open, self)
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Service<Request<Full<Bytes>>> for Upstream {
    type Response = Response<Fed>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Fed>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(if self.overloaded {
            Err("overloaded".into())
        } else {
            Ok(())
        })
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .unwrap_or_else(|error: Infallible| match error {})
                .to_bytes();
            this.asked
                .lock()
                .unwrap()
                .push(Request::from_parts(parts, body));
            if let Some(mut gate) = this.gate {
                gate.wait_for(|open| *open).await?;
            }
            let answer = this.answers.lock().unwrap().pop_front();
            answer.expect("the service was asked more often than the test expects")
        })
    }
}

pub(crate) type Shop = Paywall<Upstream, MemoryTill, PerByte>;

pub(crate) fn layer(till: &MemoryTill) -> PaywallLayer<MemoryTill, PerByte> {
    PaywallLayer::new(till.clone(), PerByte)
}

pub(crate) fn shop(till: &MemoryTill, upstream: Upstream) -> Shop {
    layer(till).layer(upstream)
}

pub(crate) fn shop_within(
    till: &MemoryTill,
    upstream: Upstream,
    set: impl FnOnce(&mut Bounds),
) -> Shop {
    let mut bounds = Bounds::new();
    set(&mut bounds);
    layer(till).with_bounds(bounds).layer(upstream)
}

pub(crate) fn request(method: Method, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// An unpaid request.
pub(crate) fn unpaid() -> Request<Full<Bytes>> {
    request(Method::POST, "/paid?by=byte", "hello")
}

/// A paid one, by a payment of this nonce.
pub(crate) fn paid_by(till: &MemoryTill, version: X402Version, nonce: u64) -> Request<Full<Bytes>> {
    let mut request = unpaid();
    let name = if version == X402Version::V1 {
        "x-payment"
    } else {
        "payment-signature"
    };
    request
        .headers_mut()
        .insert(name, till.pay(version, nonce, 900_000).parse().unwrap());
    request
}

pub(crate) fn paid(till: &MemoryTill) -> Request<Full<Bytes>> {
    paid_by(till, X402Version::V2, 1)
}

pub(crate) async fn ask(shop: &Shop, request: Request<Full<Bytes>>) -> Answer {
    shop.clone().oneshot(request).await.unwrap()
}

/// The whole body, and whether it ended as it should.
pub(crate) async fn read(answer: Answer) -> (String, bool) {
    let mut body = answer.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text
                .push_str(std::str::from_utf8(frame.data_ref().map_or(b"", |data| data)).unwrap()),
            Err(_) => return (text, false),
        }
    }
    (text, true)
}

pub(crate) async fn text(answer: Answer) -> String {
    let (text, whole) = read(answer).await;
    assert!(whole, "the body broke off after {text:?}");
    text
}

pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// Lets every other task run until nothing more happens. Only for runtimes of one thread.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The code of a refusal, checked in all the places where it stands.
pub(crate) async fn refusal(answer: Answer) -> (StatusCode, ErrorCode) {
    let status = answer.status();
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(header(&answer, "content-type"), "application/json");
    let offer = answer.headers().get("payment-required").cloned();
    let body = text(answer).await;
    let code = if status == StatusCode::PAYMENT_REQUIRED {
        let header =
            PaymentRequired::parse_header(offer.unwrap().as_bytes(), &Limits::DEFAULT).unwrap();
        let body = PaymentRequired::parse_body(body.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_eq!(
            (header.version, body.version),
            (X402Version::V2, X402Version::V1)
        );
        assert_eq!(header.accepts, body.accepts);
        assert_eq!(header.error, body.error);
        assert_eq!(header.resource.unwrap().url, "https://seller.example/paid");
        let minimum = header.accepts[0].extra.min_amount_required;
        assert_eq!(minimum, Some(Amount::from(CAP)));
        body.error.unwrap()
    } else {
        assert_eq!(offer, None);
        let field = body.strip_prefix("{\"error\":\"").unwrap();
        field[..field.find('"').unwrap()].to_owned()
    };
    assert!(body.contains("\"errorMessage\":\""), "{body}");
    if code == "Payment required" {
        return (status, ErrorCode::PaymentRequired);
    }
    let code: ErrorCode = code.parse().unwrap();
    assert_eq!(code.status(), status);
    (status, code)
}
