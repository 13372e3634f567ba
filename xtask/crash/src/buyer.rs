//! Who buys from the program: the project's own client, again and again, whatever becomes of its seller.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_core::Stream;
use http::StatusCode;
use tokio::sync::watch;
use tollgate_client::{ChainRpc, ChatPart, PayError, Policy, TollgateClient};
use tollgate_eip712::LocalWallet;
use tollgate_x402::{Amount, AuthorizationKind, ChainId, PaymentId};

/// The keys of the first development accounts, which everybody has: a client pays a development chain with no other.
const KEYS: [&str; 4] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
];
/// How each of them pays.
const KINDS: [AuthorizationKind; 4] = [
    AuthorizationKind::Allowance,
    AuthorizationKind::Allowance,
    AuthorizationKind::Once,
    AuthorizationKind::Once,
];
/// Requests that one payer makes at once.
pub(crate) const AT_ONCE: usize = 3;
/// Until somebody who was not answered asks for something else.
const PATIENCE: Duration = Duration::from_millis(100);
/// Until somebody who was refused does: an allowance may be full of requests that the seller's death left open.
const REFUSED: Duration = Duration::from_millis(500);
/// An answer takes longer only if it is lost.
const ANSWER: Duration = Duration::from_secs(60);

/// What all buyers heard.
#[derive(Default, Debug)]
pub(crate) struct Heard {
    /// The charges that they were told.
    pub(crate) told: BTreeMap<PaymentId, Amount>,
    /// Answers to payments that broke off, or never came.
    pub(crate) cut: u32,
    /// What else they were told, and how often.
    pub(crate) refused: BTreeMap<String, u32>,
    /// What the client found wrong with its seller.
    pub(crate) wrong: Vec<String>,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u32 = self.refused.values().sum();
        let told = self.told.len();
        write!(
            f,
            "{told} charges told, {} answers cut off, {refused} requests not taken",
            self.cut
        )
    }
}

/// The payers, and how each of them pays.
pub(crate) fn payers() -> anyhow::Result<Vec<(LocalWallet, AuthorizationKind)>> {
    KEYS.iter()
        .zip(KINDS)
        .map(|(key, kind)| Ok((key.parse().context("a development key")?, kind)))
        .collect()
}

/// One payer, and what the others share.
pub(crate) struct Buyer {
    pub(crate) wallet: LocalWallet,
    pub(crate) url: String,
    pub(crate) rpc: String,
    pub(crate) kind: AuthorizationKind,
    pub(crate) heard: Arc<Mutex<Heard>>,
}

impl Buyer {
    /// Buys until it is told to stop.
    pub(crate) async fn buy(self, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let policy = Policy::new()
            .networks([ChainId::DEV])
            .kinds([self.kind])
            .without_max_charge()
            .without_max_authorization();
        let client = TollgateClient::builder()
            .wallet(self.wallet.clone())
            .policy(policy)
            .facts(ChainRpc::new(ChainId::DEV, self.rpc.clone()))
            .build()?;
        let mut number = 0;
        while !*stop.borrow() {
            number += 1;
            let answer = tokio::time::timeout(ANSWER, self.ask(&client, number)).await;
            let answer = answer.context("an answer did not come, and was not broken off")?;
            match answer {
                Ok(Some((id, charge))) => {
                    let before = self.note(|heard| heard.told.insert(id, charge));
                    ensure!(
                        before.is_none_or(|before| before == charge),
                        "payment {id} was told to cost {before:?}, and {charge}"
                    );
                }
                Ok(None) => self.note(|heard| heard.cut += 1),
                Err(PayError::AnswerLost { .. } | PayError::Broken(_)) => {
                    self.note(|heard| heard.cut += 1);
                }
                // Nothing was sent that can be charged.
                Err(PayError::Transport(_) | PayError::OfferBody(_)) => {
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(PayError::Answer { status, text })
                    if status == StatusCode::INTERNAL_SERVER_ERROR =>
                {
                    self.note(|heard| heard.wrong.push(text));
                }
                Err(error) => {
                    let error = error.to_string();
                    self.note(|heard| *heard.refused.entry(error).or_default() += 1);
                    tokio::time::sleep(REFUSED).await;
                }
            }
        }
        Ok(())
    }

    fn note<T>(&self, note: impl FnOnce(&mut Heard) -> T) -> T {
        note(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One chat, and what it is said to cost; nothing, if that is not said.
    async fn ask(
        &self,
        client: &TollgateClient<LocalWallet, ChainRpc>,
        number: u32,
    ) -> Result<Option<(PaymentId, Amount)>, PayError> {
        let words = "word ".repeat(1 + usize::try_from(number % 5).unwrap_or(0) * 5);
        let body = format!(
            r#"{{"model":"tollgate/echo","stream":true,"maxTokens":128,"messages":[{{"role":"user","content":"{number} {words}"}}]}}"#
        );
        let mut answer = client.chat(&self.url, body).await?;
        let mut whole = false;
        while let Some(part) = poll_fn(|context| Pin::new(&mut answer).poll_next(context)).await {
            whole |= matches!(part?, ChatPart::Finish(_));
        }
        let findings = answer.findings();
        if whole && !findings.is_empty() {
            self.note(|heard| heard.wrong.extend(findings.iter().map(ToString::to_string)));
        }
        let receipt = answer.receipt().filter(|_| whole);
        Ok(receipt.and_then(|receipt| receipt.payment_id.zip(receipt.charge)))
    }
}
