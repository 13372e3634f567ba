//! `tollgate chat`: ask a gateway, pay, and see the answer come.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tollgate_chat::{ChatRequest, dialect::dgrid};
use tollgate_client::{
    AuthorizationKind, ChainRpc, ChatPart, Dollars, Finding, Paid, PayError, PaymentTold, Policy,
    Receipt, SignedReceipt, TollgateClient, is_development_account, verify_signer,
};
use tollgate_eip712::LocalWallet;
use tollgate_x402::ChainId;

/// Ask a gateway a question, and pay for the answer.
///
/// The key of the paying account comes from an environment variable, never from the command line. Nothing is signed
/// if the request could cost more than --max-usd, and nothing above --max-sign-usd: a seller may ask for an allowance that is
/// larger than one request costs, and takes of it what was used. Each run signs anew.
#[derive(clap::Args)]
pub(crate) struct Chat {
    /// What to ask; "-" reads standard input
    prompt: String,
    /// The gateway, such as http://127.0.0.1:8402 (its API is at /x402/v1)
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// The environment variable that holds the paying account's private key
    #[arg(long, default_value = "TOLLGATE_KEY", value_name = "NAME")]
    key_env: String,
    /// The most that this request may cost, in dollars
    #[arg(long, default_value = "0.10", value_name = "USD")]
    max_usd: Dollars,
    /// The most that may be signed for, in dollars
    #[arg(long, default_value = "1.00", value_name = "USD")]
    max_sign_usd: Dollars,
    /// The model; the gateway's default if not given
    #[arg(long)]
    model: Option<String>,
    /// The most output tokens
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// The chain's id. Default: 31337 for a development key, else 56
    #[arg(long, value_name = "ID")]
    chain_id: Option<u64>,
    /// A JSON-RPC endpoint of the chain, for the nonce of a permit. Default: http://127.0.0.1:8545 on chain 31337, else
    /// a public endpoint of BSC
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Wait for the whole answer instead of streaming it
    #[arg(long)]
    no_stream: bool,
    /// With --no-stream: wait so long, after the answer is there, until its payment is in a block. The gateway may wait less,
    /// and does not wait where it settles an allowance's charges together
    #[arg(
        long,
        requires = "no_stream",
        value_parser = clap::value_parser!(u64).range(1..=3_600),
        value_name = "SECONDS"
    )]
    wait: Option<u64>,
    /// Print one JSON object at the end, with the answer and what it cost
    #[arg(long)]
    json: bool,
}

type Client = TollgateClient<LocalWallet, ChainRpc>;

/// BSC's own public endpoint: enough for a nonce.
const PUBLIC_BSC: &str = "https://bsc-dataseed.bnbchain.org";

impl Chat {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let wallet = self.wallet()?;
        let development = is_development_account(wallet.address());
        let chain = ChainId(self.chain_id.unwrap_or(if development {
            ChainId::DEV.0
        } else {
            ChainId::BSC.0
        }));
        let rpc = self.rpc.clone().unwrap_or_else(|| {
            if chain == ChainId::DEV {
                "http://127.0.0.1:8545".to_owned()
            } else {
                PUBLIC_BSC.to_owned()
            }
        });
        let policy = Policy::new()
            .networks([chain])
            .max_charge(self.max_usd)
            .max_authorization(self.max_sign_usd);
        // A gateway works on an answer for ten minutes at most.
        let silence = if self.no_stream { 660 } else { 120 };
        let silence = silence + self.wait.unwrap_or(0);
        let client = TollgateClient::builder()
            .silence(Duration::from_secs(silence))
            .wallet(wallet)
            .policy(policy)
            .facts(ChainRpc::new(chain, rpc.as_str()))
            .build()?;

        let url = format!(
            "{}/x402/v1",
            self.gateway
                .trim_end_matches('/')
                .trim_end_matches("/x402/v1")
        );
        let asked = client.chat_with(&url, self.preferences(), self.body()?);
        let mut answer = match asked.await.map_err(lost) {
            Ok(answer) => answer,
            Err(error) => {
                if self.json {
                    let told = error.to_string();
                    say!("{}", report("", None, None, None, &[], Some(&told)));
                }
                return Err(error);
            }
        };
        let mut text = String::new();
        let mut ending = Ending::default();
        while let Some(part) = answer.next().await {
            match part {
                Ok(ChatPart::Text(more)) => {
                    if !self.json {
                        say_part!("{}", printable(&more));
                    }
                    text.push_str(&more);
                }
                Ok(ChatPart::Error(error)) => ending.reported = Some(error),
                Ok(ChatPart::Finish(reason)) => ending.finish = Some(reason),
                Ok(_) => {}
                Err(error) => ending.broken = Some(lost(error).to_string()),
            }
        }
        let receipt = answer.receipt();
        let failed = ending.failure();
        let mut findings: Vec<String> = answer.findings().iter().map(ToString::to_string).collect();
        if failed.is_none() && untold(answer.paid(), receipt.as_ref()) {
            findings.push(UNTOLD.to_owned());
        }
        if self.json {
            let mut signed = None;
            if let (Some(paid), Some(receipt)) = (answer.paid(), &receipt)
                && let Some(told) = told(&client, paid, receipt).await
            {
                let mut wrong = client.audit(paid, receipt, Some(&told.status));
                wrong.retain(|finding| !answer.findings().contains(finding));
                wrong.extend(client.audit_receipt(paid, &told));
                if let Some(signed) = told.signed() {
                    let chain = ChainRpc::new(chain, rpc.as_str());
                    wrong.extend(by_whom(&chain, paid, signed).await);
                }
                findings.extend(wrong.iter().map(ToString::to_string));
                signed = told.receipt.and_then(Result::ok);
            }
            say!(
                "{}",
                report(
                    &text,
                    receipt.as_ref(),
                    answer.paid(),
                    signed.as_ref(),
                    &findings,
                    failed.as_deref()
                )
            );
        } else {
            say!("");
            if let (Some(paid), Some(receipt)) = (answer.paid(), &receipt) {
                let charge = receipt
                    .charge
                    .map_or_else(|| "?".to_owned(), |charge| paid.priced(charge).to_string());
                let id = receipt
                    .payment_id
                    .map(|id| format!(" · payment {id}"))
                    .unwrap_or_default();
                let block = self.block(receipt);
                warn_person!("{}", dim(&format!("paid {charge}{id}{block}")));
            }
            for finding in &findings {
                warn_person!("tollgate: {finding}");
            }
        }
        if let Some(error) = failed {
            if ending.reported.is_some() {
                bail!("the gateway reports: {}", printable(&error));
            }
            bail!("{}", printable(&error));
        }
        Ok(if findings.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn wallet(&self) -> anyhow::Result<LocalWallet> {
        let name = &self.key_env;
        let key = std::env::var(name).ok().filter(|key| !key.is_empty()).with_context(|| {
            format!("put the paying account's private key into the environment variable {name}, or name another with --key-env")
        })?;
        LocalWallet::from_hex(&key).with_context(|| format!("{name} holds no private key"))
    }

    /// What the gateway is asked beside the question.
    fn preferences(&self) -> HeaderMap {
        let wait = |seconds: u64| {
            let value = HeaderValue::try_from(format!("wait={seconds}")).ok()?;
            Some((HeaderName::from_static("prefer"), value))
        };
        self.wait.and_then(wait).into_iter().collect()
    }

    /// Whether the payment is in a block, if that was waited for.
    fn block(&self, receipt: &Receipt) -> String {
        match (receipt.transaction, self.wait) {
            (Some(transaction), _) => format!(" · transaction {transaction}"),
            (None, Some(_)) => " · in no block yet".to_owned(),
            (None, None) => String::new(),
        }
    }

    fn body(&self) -> anyhow::Result<bytes::Bytes> {
        let prompt = if self.prompt == "-" {
            std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
        } else {
            self.prompt.clone()
        };
        let mut request = ChatRequest::ask(prompt);
        request.model.clone_from(&self.model);
        request.max_output_tokens = self.max_tokens;
        request.stream = !self.no_stream;
        Ok(dgrid::encode_request(&request))
    }
}

/// How long the gateway and the chain may take to tell of a payment that has its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the gateway tells of the payment, if it does in time: the answer is there either way.
async fn told(client: &Client, paid: &Paid, receipt: &Receipt) -> Option<PaymentTold> {
    let asked = client.payment(&paid.origin, receipt.payment_id?);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(told)) => Some(told),
        Ok(Err(_)) | Err(_) => {
            warn_person!("tollgate: the gateway does not tell of the payment; there is no receipt");
            None
        }
    }
}

/// What the chain finds wrong with who signed a receipt, if it answers in time.
async fn by_whom(rpc: &ChainRpc, paid: &Paid, receipt: &SignedReceipt) -> Option<Finding> {
    let asked = async { verify_signer(rpc.chain().await?, paid.pay_to, receipt).await };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(wrong)) => wrong,
        Ok(Err(_)) | Err(_) => {
            warn_person!("tollgate: the chain does not tell whether who signed the receipt may");
            None
        }
    }
}

/// What is wrong with a receipt that names no charge.
const UNTOLD: &str = "the answer was paid for, and the gateway does not say what it charged";

/// Whether an answer was paid for and its charge not told, so that it cannot be held against anything. An exact payment
/// moves what was signed, whatever is told.
fn untold(paid: Option<&Paid>, receipt: Option<&Receipt>) -> bool {
    paid.is_some_and(|paid| paid.kind != AuthorizationKind::Exact)
        && receipt.and_then(|receipt| receipt.charge).is_none()
}

/// How an answer ended.
#[derive(Default)]
struct Ending {
    /// The error that the gateway told of.
    reported: Option<String>,
    /// Why no more came.
    broken: Option<String>,
    /// The end, and the reason that was given for it.
    finish: Option<Option<String>>,
}

impl Ending {
    /// Why it is no answer, if it is none.
    fn failure(&self) -> Option<String> {
        let told = self.reported.clone().or_else(|| self.broken.clone());
        told.or_else(|| match &self.finish {
            None => Some("the answer ended without its end; what came of it may be charged".into()),
            Some(Some(reason)) if reason == "error" => {
                Some("the answer ended with an error; what came of it may be charged".into())
            }
            Some(_) => None,
        })
    }
}

/// The client remembers what it signed, and says so; a run of this program remembers nothing for the next.
fn lost(error: PayError) -> anyhow::Error {
    match error {
        PayError::AnswerLost { source, .. } => anyhow::anyhow!(
            "the payment was sent and no answer came ({source}): it may be charged, and asking again is a new payment"
        ),
        PayError::Broken(source) => anyhow::anyhow!(
            "the answer broke off: {source}. What came of it may be charged, and asking again is a new payment"
        ),
        other => in_our_words(other),
    }
}

/// A seller's text without what would steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !c.is_control())
        .collect()
}

/// The client names its settings; here they are flags.
fn in_our_words(error: tollgate_client::PayError) -> anyhow::Error {
    let text = match refusal(&error) {
        Some(refusal) => refusal,
        None => crate::explain(&anyhow::Error::new(error)),
    };
    anyhow::anyhow!(
        text.replace("max_charge", "--max-usd")
            .replace("max_authorization", "--max-sign-usd")
            .replace(
                "allow that network if you mean to pay there",
                "name it with --chain-id if you mean to pay there"
            )
    )
}

/// What a gateway says of a request that it does not serve: its sentences, not its JSON.
fn refusal(error: &tollgate_client::PayError) -> Option<String> {
    let tollgate_client::PayError::Answer { status, text } = error else {
        return None;
    };
    let told: serde_json::Value = serde_json::from_str(text).ok()?;
    let word = |key: &str| told.get(key)?.as_str().map(printable);
    let (code, message) = (word("error")?, word("errorMessage")?);
    let advice = word("advice").map_or_else(String::new, |advice| format!(". {advice}"));
    Some(format!("{message} ({status}, {code}){advice}"))
}

fn dim(text: &str) -> String {
    if std::io::stderr().is_terminal() {
        format!("\x1b[2m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn report(
    text: &str,
    receipt: Option<&Receipt>,
    paid: Option<&Paid>,
    signed: Option<&SignedReceipt>,
    findings: &[String],
    error: Option<&str>,
) -> serde_json::Value {
    json!({
        "text": text,
        "charged": receipt.and_then(|receipt| receipt.charge),
        "allowanceLeft": receipt.and_then(|receipt| receipt.allowance_left),
        "totalTokens": receipt.and_then(|receipt| receipt.total_tokens),
        "paymentId": receipt.and_then(|receipt| receipt.payment_id),
        "transaction": receipt.and_then(|receipt| receipt.transaction),
        "payer": paid.map(|paid| paid.payer),
        "payTo": paid.map(|paid| paid.pay_to),
        "token": paid.map(|paid| paid.token),
        "chainId": paid.map(|paid| paid.chain),
        "receipt": signed,
        "findings": findings,
        "error": error,
    })
}
