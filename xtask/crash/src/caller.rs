//! The callers: they pay, read what they get, and note it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;
use tollgate_payment::port::Till;
use tollgate_server::{Bounds, PaywallLayer};
use tollgate_x402::{Amount, PaymentPayload};
use tower::{Layer, ServiceExt};

use crate::{
    journal::{Event, Journal},
    seller::Life,
    shop::{CUT, Model, Order, PerToken},
    site::Site,
    trigger::Trigger,
    work::{self, STEP, Signer, TOKEN},
};

/// The time before a refused request is asked again. Where the disk is limited, the journal is so too: it is not to be
/// filled with refusals.
const PATIENCE: Duration = Duration::from_millis(500);

/// Requests that one payer makes at once.
const AT_ONCE: usize = 3;

/// Whether who is refused so asks again: later, or with another permit, where another request of the same payer came with its
/// successor meanwhile.
pub(crate) fn comes_again(status: u16, body: &str) -> bool {
    [425, 503].contains(&status) || status == 402 && body.contains("\"invalid_permit_nonce\"")
}

/// Asks for everything that was not answered in an earlier life. Returns when the last caller has gone.
pub(crate) async fn ask_for_everything<T: Till>(
    life: &Life,
    till: &T,
    signer: Signer,
    journal: Journal,
    trigger: Arc<Trigger>,
) -> anyhow::Result<()> {
    let answered: BTreeSet<u32> = Journal::read(&life.journal)?
        .into_iter()
        .filter_map(|event| match event {
            Event::Told { request, .. } => Some(request),
            // A seller that cannot write its books now can later.
            Event::Refused {
                request,
                status,
                body,
                ..
            } if !comes_again(status, &body) => Some(request),
            _ => None,
        })
        .collect();
    let mut bounds = Bounds::new();
    bounds.checkpoint_step = Amount::from(STEP * TOKEN);
    let model = Model {
        journal: journal.clone(),
    };
    let shop = PaywallLayer::new(till.clone(), PerToken)
        .with_bounds(bounds)
        .layer(model);
    let signer = Arc::new(signer);
    let mut callers = JoinSet::new();
    for payer in 0..work::PAYERS {
        let requests: Vec<work::Request> = work::requests(life.seed)
            .into_iter()
            .filter(|request| request.payer == payer)
            .filter(|request| (life.requests.0..life.requests.1).contains(&request.number))
            .filter(|request| !answered.contains(&request.number))
            .collect();
        for lane in 0..AT_ONCE {
            let requests: Vec<_> = requests
                .iter()
                .skip(lane)
                .step_by(AT_ONCE)
                .cloned()
                .collect();
            let caller = Caller {
                attempt: life.life,
                till: till.clone(),
                signer: Arc::clone(&signer),
                journal: journal.clone(),
                trigger: Arc::clone(&trigger),
            };
            let shop = shop.clone();
            callers.spawn(async move {
                for request in requests {
                    while caller.ask(shop.clone(), &request).await? == Answered::NotNow {
                        tokio::time::sleep(PATIENCE).await;
                    }
                }
                anyhow::Ok(())
            });
        }
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    Ok(())
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    Finally,
    /// It is to be asked again later.
    NotNow,
}

struct Caller<T> {
    attempt: u32,
    till: T,
    signer: Arc<Signer>,
    journal: Journal,
    trigger: Arc<Trigger>,
}

impl<T: Till> Caller<T> {
    /// One request, from the signature to the last byte.
    async fn ask<S, B>(&self, shop: S, request: &work::Request) -> anyhow::Result<Answered>
    where
        S: tower::Service<Request<Full<Bytes>>, Response = http::Response<B>>,
        S::Error: std::fmt::Debug,
        B: http_body::Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (number, attempt) = (request.number, self.attempt);
        let order = Order::of(request, attempt);
        self.journal.write(&Event::Asked {
            request: number,
            attempt,
        });
        let answer = shop
            .oneshot(self.paid(request, &order).await?)
            .await
            .map_err(|error| anyhow::anyhow!("the paywall failed: {error:?}"))?;
        let status = answer.status();
        let mut body = std::pin::pin!(answer.into_body());
        let mut read = 0;
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            // A stream that breaks off: what was read stays read.
            let Ok(frame) = frame else {
                return Ok(Answered::Finally);
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            whole.extend_from_slice(&data);
            if status.is_success() && &data[..] == b"token " {
                read += 1;
                self.journal.write(&Event::Read {
                    request: number,
                    attempt,
                    tokens: read,
                });
                if read == 1 {
                    self.trigger.pass(Site::FirstToken);
                }
                if request.hangs_up == Some(read) {
                    return Ok(Answered::Finally);
                }
            }
        }
        let text = String::from_utf8_lossy(&whole);
        if !status.is_success() {
            let again = comes_again(status.as_u16(), &text);
            self.journal.write(&Event::Refused {
                request: number,
                attempt,
                status: status.as_u16(),
                body: text.into_owned(),
            });
            return Ok(if again {
                Answered::NotNow
            } else {
                Answered::Finally
            });
        }
        let (before, amount) = text
            .rsplit_once("charged ")
            .with_context(|| format!("request {number} was not told its charge: {text}"))?;
        ensure!(
            request.fixed() || read == request.tokens || before.ends_with(CUT),
            "request {number} was answered in part and told it was whole"
        );
        self.journal.write(&Event::Told {
            request: number,
            attempt,
            amount: amount.to_owned(),
        });
        Ok(Answered::Finally)
    }

    /// The request with its payment, as a client makes it of the offer.
    async fn paid(
        &self,
        request: &work::Request,
        order: &Order,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let signed = self.signer.sign(request).await?;
        let required = self.till.offer(order.ask()).required("payment_required");
        let payload = required
            .accepts
            .iter()
            .map(|entry| (entry, PaymentPayload::answering(&required, entry, &signed)))
            .find(|(entry, payload)| payload.authorization_for(entry).as_ref() == Ok(&signed))
            .map(|(_, payload)| payload)
            .context("no entry of the offer takes this authorization")?;
        let body = serde_json::to_vec(order)?;
        Ok(Request::post("http://127.0.0.1/tokens")
            .header("PAYMENT-SIGNATURE", payload.to_header_value())
            .body(Full::from(body))?)
    }
}
