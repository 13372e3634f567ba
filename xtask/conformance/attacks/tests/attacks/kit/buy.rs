//! Requests, offers, payments on the wire, and answers.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tollgate_x402::{
    Authorization, Limits, PaymentPayload, PaymentRequired, PaymentStatus, X402Version,
};

use super::world::World;

pub(crate) const CHAT: &str = "/x402/v1";
pub(crate) const FIXED_PATH: &str = "/fixed";

/// A chat request for at most so many tokens.
pub(crate) fn chat(tokens: u32) -> String {
    json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens}).to_string()
}

/// A payment as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Header {
    /// The header of a version with this JSON.
    pub(crate) fn of(version: X402Version, payment: &Value) -> Self {
        let name = match version {
            X402Version::V1 => "x-payment",
            X402Version::V2 => "payment-signature",
        };
        Self::of_text(name, &payment.to_string())
    }

    /// A header with this text, which need not be JSON.
    pub(crate) fn of_text(name: &'static str, text: &str) -> Self {
        Self {
            name,
            value: STANDARD.encode(text),
        }
    }

    /// The payment's JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&STANDARD.decode(&self.value).unwrap()).unwrap()
    }
}

/// An answer that has been read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of a refusal.
    pub(crate) fn error(&self) -> String {
        match self.json()["error"].as_str() {
            Some(error) => error.to_owned(),
            None => panic!("{} without an error: {}", self.status, self.text()),
        }
    }

    /// The id of the payment that it tells of.
    pub(crate) fn payment(&self) -> Option<&str> {
        self.header("x-payment-id")
    }
}

impl World {
    pub(crate) async fn request(&self, path: &str, body: &str, payment: Option<&Header>) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path);
        if let Some(payment) = payment {
            request = request.header(payment.name, &payment.value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        self.ask(request.body(body).unwrap()).await
    }

    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.call(request).await.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => Bytes::from(format!("broken off: {error}")),
        };
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Full::default()).unwrap();
        self.ask(request).await
    }

    /// The offer of an unpaid request, in a version.
    pub(crate) async fn offer(
        &self,
        path: &str,
        body: &str,
        version: X402Version,
    ) -> PaymentRequired {
        let answer = self.request(path, body, None).await;
        assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
        match version {
            X402Version::V1 => PaymentRequired::parse_body(&answer.body, &Limits::DEFAULT),
            X402Version::V2 => PaymentRequired::parse_header(
                answer.headers["payment-required"].as_bytes(),
                &Limits::DEFAULT,
            ),
        }
        .unwrap()
    }

    /// What a client makes of the offer and what it signed.
    pub(crate) async fn payment(
        &self,
        path: &str,
        body: &str,
        version: X402Version,
        signed: &Authorization,
    ) -> Header {
        let offer = self.offer(path, body, version).await;
        let entry = offer
            .accepts
            .iter()
            .find(|entry| {
                PaymentPayload::answering(&offer, entry, signed)
                    .authorization_for(entry)
                    .is_ok()
            })
            .unwrap_or(&offer.accepts[0]);
        let payload = PaymentPayload::answering(&offer, entry, signed);
        Header {
            name: payload.header().name(),
            value: payload.to_header_value(),
        }
    }

    /// Pays for a chat of at most so many tokens, and reads the answer.
    pub(crate) async fn buy(&self, tokens: u32, signed: &Authorization) -> Answer {
        let body = chat(tokens);
        let payment = self.payment(CHAT, &body, X402Version::V2, signed).await;
        self.request(CHAT, &body, Some(&payment)).await
    }

    /// The state of a payment, as the gateway tells it.
    pub(crate) async fn status(&self, id: &str) -> PaymentStatus {
        let answer = self.get(&format!("/x402/v1/payments/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        PaymentStatus::parse_body(&answer.body, &Limits::DEFAULT).unwrap()
    }
}

/// The statuses of answers, each once.
pub(crate) fn statuses(answers: &[Answer]) -> BTreeSet<u16> {
    answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect()
}
