//! A payer with one signed allowance, used again and again.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use tollgate_eip712::{AllowanceTerms, LocalWallet, TokenDomain, sign_allowance};
use tollgate_x402::{
    Authorization, Limits, PaymentId, PaymentPayload, PaymentRequired, Timestamp, U256, header,
};

use crate::client::{Answer, Ask, Client};

/// By this a streamed text is known in the seller's dialect.
const TEXT: &[u8] = b"text-delta";

/// A payer.
#[derive(Clone, Debug)]
pub(crate) struct Payer {
    sale: String,
    header: (&'static str, String),
}

/// A paid answer.
#[derive(Debug)]
pub(crate) struct Paid {
    pub(crate) answer: Answer,
    pub(crate) id: PaymentId,
    /// Atomic units.
    pub(crate) charge: U256,
}

/// A chat of some 200 bytes, streamed.
pub(crate) fn chat() -> Bytes {
    let words =
        "Say something of eight tokens, and nothing else, whatever the weather is like today. ";
    Bytes::from(format!(
        r#"{{"model":"mock","stream":true,"maxTokens":32,"messages":[{{"role":"user","content":"{words}"}}]}}"#
    ))
}

/// The same, as an OpenAI-compatible server takes it.
pub(crate) fn upstream_chat() -> Bytes {
    let chat = String::from_utf8_lossy(&chat()).replace("maxTokens", "max_tokens");
    Bytes::from(chat.into_bytes())
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

impl Payer {
    /// Gets an offer and signs an allowance for all of it.
    pub(crate) async fn sign(
        client: &Client,
        sale: &str,
        wallet: LocalWallet,
    ) -> anyhow::Result<Self> {
        let ask = Ask {
            url: sale.to_owned(),
            body: chat(),
            header: None,
        };
        let answer = client.post(ask, b"").await?;
        let value = answer.headers.get(header::PAYMENT_REQUIRED);
        let offer = PaymentRequired::from_response(
            value.map(http::HeaderValue::as_bytes),
            &answer.body,
            &Limits::default(),
        )?;
        let entry = offer.accepts.first().context("an offer of nothing")?;
        let (name, version) = (&entry.extra.name, &entry.extra.version);
        let domain = TokenDomain::new(
            name.as_deref().context("an offer without a token's name")?,
            version
                .as_deref()
                .context("an offer without a token's version")?,
            entry.network.chain_id().context("an offer on no chain")?,
            entry.asset,
        );
        let terms = AllowanceTerms {
            spender: entry.pay_to,
            value: entry.amount,
            nonce: U256::ZERO,
            deadline: now().plus(entry.max_timeout_seconds),
        };
        let signed = Authorization::Allowance(sign_allowance(&wallet, &domain, &terms).await?);
        let payload = PaymentPayload::answering(&offer, entry, &signed);
        Ok(Self {
            sale: sale.to_owned(),
            header: (payload.header().name(), payload.to_header_value()),
        })
    }

    /// Pays for one chat.
    pub(crate) async fn chat(&self, client: &Client) -> anyhow::Result<Paid> {
        let ask = Ask {
            url: self.sale.clone(),
            body: chat(),
            header: Some(self.header.clone()),
        };
        let answer = client.post(ask, TEXT).await?;
        ensure!(
            answer.status.is_success() && answer.marked.is_some(),
            "a paid request was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        let (id, charge) = finish(&answer.body)?;
        Ok(Paid { answer, id, charge })
    }
}

#[derive(Deserialize)]
struct Finish {
    #[serde(rename = "messageMetadata")]
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    payment_id: PaymentId,
    real_price_wei: String,
}

/// What the last event says of the charge.
fn finish(stream: &[u8]) -> anyhow::Result<(PaymentId, U256)> {
    let text = std::str::from_utf8(stream)?;
    let line = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .find(|data| data.contains("\"finish\""))
        .context("a stream without its end")?;
    let Finish { metadata } = serde_json::from_str(line)?;
    let charge = U256::from_str_radix(&metadata.real_price_wei, 10)?;
    Ok((metadata.payment_id, charge))
}
