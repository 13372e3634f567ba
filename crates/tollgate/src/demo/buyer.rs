//! The paying side, step by step, as any client does it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tollgate_chat::dialect::dgrid;
use tollgate_client::{ChatPart, ChatReader, PaymentTold, Transport};
use tollgate_sse::Limits as SseLimits;
use tollgate_x402::{Amount, Limits, PaymentRequired, PaymentState, header};

use super::show::Show;

/// How long the settlement may take to be final. Five blocks are 2.25 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// The paying side, step by step, as any client does it.
pub(super) struct Buyer {
    pub(super) transport: Transport,
    pub(super) url: String,
}

/// What a paid answer brought.
pub(super) struct PaidAnswer {
    pub(super) text: String,
    pub(super) payment_id: String,
    pub(super) charged: Amount,
    pub(super) calculated: Amount,
    pub(super) left: Amount,
    pub(super) first_byte: Instant,
}

impl Buyer {
    pub(super) async fn call(
        &mut self,
        request: Request<Bytes>,
    ) -> anyhow::Result<Response<reqwest::Body>> {
        use tower_service::Service;
        Ok(self.transport.call(request).await?)
    }

    pub(super) async fn unpaid(
        &mut self,
        body: Bytes,
    ) -> anyhow::Result<(PaymentRequired, Vec<String>)> {
        let response = self.call(Request::post(&self.url).body(body)?).await?;
        let (parts, body) = response.into_parts();
        let body = collect(body).await?;
        if parts.status != StatusCode::PAYMENT_REQUIRED {
            bail!(
                "the gateway answered {} instead of 402: {}",
                parts.status,
                String::from_utf8_lossy(&body)
            );
        }
        let required = parts
            .headers
            .get(header::PAYMENT_REQUIRED)
            .map(|value| value.as_bytes());
        let limits = Limits {
            header_bytes: 65_536,
            decoded_bytes: 65_536,
            ..Limits::DEFAULT
        };
        let offer = PaymentRequired::from_response(required, &body, &limits)?;
        let seen = vec![
            format!("HTTP {}", parts.status),
            format!(
                "payment-required: {} bytes of base64 (v2); the body says the same to v1 clients",
                required.map_or(0, <[u8]>::len)
            ),
        ];
        Ok((offer, seen))
    }

    pub(super) async fn paid(
        &mut self,
        body: Bytes,
        name: &str,
        value: &str,
        show: &Show,
    ) -> anyhow::Result<PaidAnswer> {
        let response = self
            .call(Request::post(&self.url).header(name, value).body(body)?)
            .await?;
        let (parts, mut body) = response.into_parts();
        if !parts.status.is_success() {
            bail!(
                "the payment was refused with {}: {}",
                parts.status,
                String::from_utf8_lossy(&collect(body).await?)
            );
        }
        show.got(&[
            format!("HTTP {}", parts.status),
            format!(
                "content-type: {}",
                text(parts.headers.get(http::header::CONTENT_TYPE))
            ),
        ]);
        let mut reader = ChatReader::of(&parts.headers);
        let mut finish = dgrid::UiReader::new(SseLimits::default());
        let (mut answer, mut first_byte, mut metadata) = (String::new(), None, None);
        while let Some(data) = next_data(&mut body).await? {
            first_byte.get_or_insert_with(Instant::now);
            reader.push(data.clone())?;
            finish.push(data);
            while let Some(part) = reader.next_part() {
                if let ChatPart::Text(text) = part {
                    show.streamed(&text);
                    answer.push_str(&text);
                }
            }
            while let Some(event) = finish
                .next_event()
                .map_err(|error| anyhow::anyhow!("{error}"))?
            {
                if let dgrid::UiEvent::Finish(_, received) = event {
                    metadata = received;
                }
            }
        }
        show.end_of_stream();
        let metadata = metadata.context("the stream ended without the facts of its charge")?;
        let amount = |value: Option<&str>| -> anyhow::Result<Amount> {
            Ok(value.context("the finish event lacks an amount")?.parse()?)
        };
        Ok(PaidAnswer {
            text: answer,
            payment_id: metadata
                .text("paymentId")
                .context("the finish event names the payment")?
                .to_owned(),
            charged: amount(metadata.real_price_wei())?,
            calculated: amount(metadata.calculated_price_wei())?,
            left: amount(metadata.allowance_left())?,
            first_byte: first_byte.context("the stream was empty")?,
        })
    }

    pub(super) async fn payment(&mut self, id: &str) -> anyhow::Result<PaymentTold> {
        let request = Request::get(format!("{}/payments/{id}", self.url)).body(Bytes::new())?;
        let response = self.call(request).await?;
        let body = collect(response.into_body()).await?;
        Ok(PaymentTold::parse_body(&body, &Limits::DEFAULT)?)
    }
}

/// Follows a payment until it is final.
pub(super) async fn settled(
    buyer: &mut Buyer,
    id: &str,
    show: &Show,
) -> anyhow::Result<PaymentTold> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        let told = buyer.payment(id).await?;
        let status = &told.status;
        if last != Some(status.state) {
            let transaction = status
                .transaction
                .map(|transaction| format!(" in {transaction}"))
                .unwrap_or_default();
            let block = status
                .block
                .map(|block| format!(", block {block}"))
                .unwrap_or_default();
            show.line(&format!("{}{transaction}{block}", name_of(status.state)));
            last = Some(status.state);
        }
        match status.state {
            PaymentState::Final => return Ok(told),
            PaymentState::Lost | PaymentState::Released => {
                bail!("the payment ended as {}", name_of(status.state))
            }
            PaymentState::Accepted | PaymentState::Included if Instant::now() > deadline => {
                bail!(
                    "the settlement was not final after {} s",
                    PATIENCE.as_secs()
                )
            }
            PaymentState::Accepted | PaymentState::Included => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
        }
    }
}

pub(super) const fn name_of(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Accepted => "accepted",
        PaymentState::Included => "included",
        PaymentState::Final => "final",
        PaymentState::Released => "released",
        PaymentState::Lost => "lost",
    }
}

pub(super) async fn next_data(body: &mut reqwest::Body) -> anyhow::Result<Option<Bytes>> {
    use http_body_util::BodyExt;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

pub(super) async fn collect(body: reqwest::Body) -> anyhow::Result<Bytes> {
    use http_body_util::BodyExt;
    Ok(body.collect().await?.to_bytes())
}

pub(super) fn text(value: Option<&http::HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("-")
}
