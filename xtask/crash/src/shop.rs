//! What is sold: a service that makes tokens, behind the real paywall.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::{Body, Frame};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::time::{Sleep, sleep};
use tollgate_payment::{Ask, Pricing};
use tollgate_server::{Delivery, Ending, Meter, Outcome, Problem, Tariff, Unpriced};
use tollgate_x402::{Amount, ErrorCode, ResourceInfo};
use tower::Service;

use crate::{
    journal::{Event, Journal},
    work::{self, tokens},
};

/// What an answer is told that ends before its last token.
pub(crate) const CUT: &str = "cut off, ";

/// The time between two tokens.
const PACE: Duration = Duration::from_millis(1);

/// The body of a request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) request: u32,
    pub(crate) attempt: u32,
    pub(crate) tokens: u32,
    pub(crate) fixed: bool,
}

impl Order {
    pub(crate) fn of(request: &work::Request, attempt: u32) -> Self {
        Self {
            request: request.number,
            attempt,
            tokens: request.tokens,
            fixed: request.fixed(),
        }
    }

    /// What the order costs, at most or at all.
    pub(crate) fn ask(&self) -> Ask {
        let pricing = if self.fixed {
            Pricing::Fixed(tokens(self.tokens))
        } else {
            Pricing::Metered {
                worst: tokens(self.tokens + 1),
                least: tokens(1),
            }
        };
        Ask {
            resource: ResourceInfo::new("http://127.0.0.1/tokens"),
            pricing,
        }
    }

    /// The name under which the ledger knows it.
    pub(crate) fn memo(&self) -> String {
        format!("{}.{}", self.request, self.attempt)
    }
}

/// The price list.
#[derive(Clone)]
pub(crate) struct PerToken;

impl Tariff for PerToken {
    type Meter = TokenMeter;

    fn ask(&self, _: &Parts, body: &Bytes) -> Result<(Ask, TokenMeter), Unpriced> {
        let order: Order = serde_json::from_slice(body).map_err(|error| {
            Unpriced::Refused(Problem::new(ErrorCode::InvalidPayload, error.to_string()))
        })?;
        let ask = order.ask();
        Ok((ask, TokenMeter { order, made: 0 }))
    }
}

/// Counts frames: a token is one.
pub(crate) struct TokenMeter {
    order: Order,
    made: u32,
}

impl Meter for TokenMeter {
    fn observe(&mut self, frame: &Bytes) -> Amount {
        if self.order.fixed && !frame.is_empty() {
            // A buffered answer comes whole.
            self.made = self.order.tokens;
        } else if !frame.is_empty() {
            self.made += 1;
        }
        tokens(self.made)
    }

    fn memo(&mut self) -> Option<String> {
        Some(self.order.memo())
    }

    fn closing(&mut self, ending: &Ending) -> Option<Bytes> {
        let cut = if ending.outcome == Outcome::Complete {
            ""
        } else {
            CUT
        };
        Some(Bytes::from(format!(
            "{cut}charged {}",
            ending.charge.amount
        )))
    }
}

/// The service behind the paywall.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) journal: Journal,
}

impl Service<Request<Full<Bytes>>> for Model {
    type Response = Response<Tokens>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let journal = self.journal.clone();
        Box::pin(async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await?;
            let order = serde_json::from_slice(&body.to_bytes()).unwrap_or(Order {
                request: u32::MAX,
                attempt: 0,
                tokens: 0,
                fixed: false,
            });
            journal.write(&Event::Called {
                request: order.request,
                attempt: order.attempt,
            });
            let delivery = if order.fixed {
                Delivery::Buffered
            } else {
                Delivery::Streamed
            };
            let mut response = Response::new(Tokens {
                order,
                made: 0,
                journal,
                pace: Box::pin(sleep(PACE)),
            });
            response.extensions_mut().insert(delivery);
            Ok(response)
        })
    }
}

/// An answer that is being made.
pub(crate) struct Tokens {
    order: Order,
    made: u32,
    journal: Journal,
    pace: Pin<Box<Sleep>>,
}

impl Body for Tokens {
    type Data = Bytes;
    type Error = Arc<std::io::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.made >= self.order.tokens {
            return Poll::Ready(None);
        }
        if self.pace.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.pace = Box::pin(sleep(PACE));
        self.made += 1;
        self.journal.write(&Event::Made {
            request: self.order.request,
            attempt: self.order.attempt,
            tokens: self.made,
        });
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"token ")))))
    }
}
