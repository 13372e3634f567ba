//! One node: requests with a time limit, counted, with errors that do not tell its URL.

use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    time::Duration,
};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_json_rpc::{RpcError, RpcRecv, RpcSend};
use alloy_primitives::U64;
use alloy_rpc_client::RpcClient;
use alloy_transport::{TransportError, TransportErrorKind};
use reqwest::Url;
use tokio::time::{Instant, timeout};

use tollgate_x402::ChainId;

use crate::{ChainConfig, ChainError, counts::Counter, error::shorten, transport::HttpTransport};

pub(crate) struct Endpoint {
    way: Way,
    name: String,
    limit: Duration,
    counter: Arc<Counter>,
    sync: AtomicU8,
    failed: Mutex<Option<Instant>>,
    /// Whether it has said that it is of our chain.
    known: AtomicBool,
}

/// How a node is asked.
enum Way {
    Rpc(RpcClient),
    #[cfg(feature = "node")]
    Node(Arc<dyn crate::Node>),
}

/// How long an endpoint that did not answer is asked after the others.
const REST: Duration = Duration::from_secs(10);

/// Whether the node has `eth_sendRawTransactionSync` (EIP-7966).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncSupport {
    Untried,
    Has,
    Lacks,
}

/// How a request failed.
#[derive(Debug)]
pub(crate) enum RpcFailure {
    /// No answer in time.
    Timeout,
    /// What alloy says.
    Rpc(TransportError),
}

impl Endpoint {
    pub(crate) fn new(
        place: usize,
        url: &str,
        config: &ChainConfig,
        counter: Arc<Counter>,
    ) -> Result<Self, ChainError> {
        let place = place.saturating_add(1);
        let bad = |reason: &str| ChainError::Config(format!("endpoint {place}: {reason}"));
        // The parser's errors do not repeat the URL.
        let url = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("the URL must begin with http:// or https://"));
        }
        let host = url.host_str().ok_or_else(|| bad("the URL has no host"))?;
        let name = match url.port() {
            Some(port) => format!("endpoint {place} ({host}:{port})"),
            None => format!("endpoint {place} ({host})"),
        };
        let transport = HttpTransport::new(url, config.max_response)
            .map_err(|error| bad(&error.to_string()))?;
        Ok(Self {
            way: Way::Rpc(RpcClient::new(transport, false).with_poll_interval(config.block_time)),
            name,
            limit: config.timeout,
            counter,
            sync: AtomicU8::new(0),
            failed: Mutex::new(None),
            known: AtomicBool::new(false),
        })
    }

    #[cfg(feature = "node")]
    pub(crate) fn simulated(
        place: usize,
        node: Arc<dyn crate::Node>,
        config: &ChainConfig,
        counter: Arc<Counter>,
    ) -> Self {
        Self {
            way: Way::Node(node),
            name: format!("node {}", place.saturating_add(1)),
            limit: config.timeout,
            counter,
            sync: AtomicU8::new(2),
            failed: Mutex::new(None),
            known: AtomicBool::new(true),
        }
    }

    const fn client(&self) -> Option<&RpcClient> {
        match &self.way {
            Way::Rpc(client) => Some(client),
            #[cfg(feature = "node")]
            Way::Node(_) => None,
        }
    }

    /// The node, if it is one of this process.
    #[cfg(feature = "node")]
    pub(crate) fn node(&self) -> Option<&dyn crate::Node> {
        match &self.way {
            Way::Rpc(_) => None,
            Way::Node(node) => Some(&**node),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it lately did not answer.
    pub(crate) fn rests(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < REST)
    }

    pub(crate) fn answered(&self, answered: bool) {
        let at = (!answered).then(Instant::now);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Makes sure that it is of our chain. One that was out at the start is asked before its first use.
    pub(crate) async fn meet(&self, chain: ChainId) -> Result<(), ChainError> {
        if self.known.load(Ordering::Relaxed) {
            return Ok(());
        }
        let id: U64 = self.call("eth_chainId", ()).await?;
        if id != U64::from(chain.0) {
            return Err(ChainError::WrongChain {
                endpoint: self.name().into(),
                expected: chain,
                actual: id.to(),
            });
        }
        self.known.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn sync(&self) -> SyncSupport {
        match self.sync.load(Ordering::Relaxed) {
            1 => SyncSupport::Has,
            2 => SyncSupport::Lacks,
            _ => SyncSupport::Untried,
        }
    }

    pub(crate) fn set_sync(&self, has: bool) {
        self.sync.store(if has { 1 } else { 2 }, Ordering::Relaxed);
    }

    /// One request; the failure as it came.
    pub(crate) async fn raw<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
        limit: Option<Duration>,
    ) -> Result<R, RpcFailure> {
        self.counter.add(&[method]);
        #[cfg(feature = "node")]
        if let Way::Node(node) = &self.way {
            let broken = |error| RpcFailure::Rpc(RpcError::SerError(error));
            let params = serde_json::to_string(&params).map_err(broken)?;
            let answer = node.ask(method, params).await?;
            return serde_json::from_str(&answer).map_err(broken);
        }
        let Some(client) = self.client() else {
            return Err(RpcFailure::Timeout);
        };
        let call = client.request::<P, R>(method, params);
        match timeout(limit.unwrap_or(self.limit), call).await {
            Ok(answer) => answer.map_err(RpcFailure::Rpc),
            Err(_) => Err(RpcFailure::Timeout),
        }
    }

    /// One request.
    pub(crate) async fn call<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, ChainError> {
        self.raw(method, params, None)
            .await
            .map_err(|failure| self.error(failure))
    }

    /// Requests of one method, in one round trip; one by one where the node takes no batches.
    pub(crate) async fn batch<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        all: Vec<P>,
    ) -> Result<Vec<R>, ChainError> {
        if matches!(all.as_slice(), [_] | []) || self.client().is_none() {
            return self.one_by_one(method, all).await;
        }
        self.counter.add(&vec![method; all.len()]);
        match timeout(self.limit, self.send_batch(method, &all)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) if refuses_batches(&error) => self.one_by_one(method, all).await,
            Ok(Err(error)) => Err(self.error(RpcFailure::Rpc(error))),
            Err(_) => Err(self.error(RpcFailure::Timeout)),
        }
    }

    /// The same, with an answer or an error for each.
    pub(crate) async fn batch_each<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        all: Vec<P>,
    ) -> Result<Vec<Result<R, ChainError>>, ChainError> {
        if !matches!(all.as_slice(), [_] | [])
            && let Some(client) = self.client()
        {
            self.counter.add(&vec![method; all.len()]);
            let sending = async {
                let mut batch = client.new_batch();
                let waiters = all
                    .iter()
                    .map(|params| batch.add_call::<P, R>(method, params))
                    .collect::<Result<Vec<_>, _>>()?;
                batch.send().await?;
                let mut answers = Vec::with_capacity(waiters.len());
                for waiter in waiters {
                    let answer = waiter.await;
                    answers.push(answer.map_err(|error| self.error(RpcFailure::Rpc(error))));
                }
                Ok::<_, TransportError>(answers)
            };
            match timeout(self.limit, sending).await {
                Ok(Ok(answers)) => return Ok(answers),
                Ok(Err(error)) if refuses_batches(&error) => {}
                Ok(Err(error)) => return Err(self.error(RpcFailure::Rpc(error))),
                Err(_) => return Err(self.error(RpcFailure::Timeout)),
            }
        }
        let mut answers = Vec::with_capacity(all.len());
        for params in all {
            answers.push(self.call(method, params).await);
        }
        Ok(answers)
    }

    async fn send_batch<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        all: &[P],
    ) -> Result<Vec<R>, TransportError> {
        let Some(client) = self.client() else {
            return Err(TransportErrorKind::custom_str("no batches"));
        };
        let mut batch = client.new_batch();
        let waiters = all
            .iter()
            .map(|params| batch.add_call::<P, R>(method, params))
            .collect::<Result<Vec<_>, _>>()?;
        batch.send().await?;
        let mut answers = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            answers.push(waiter.await?);
        }
        Ok(answers)
    }

    async fn one_by_one<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        all: Vec<P>,
    ) -> Result<Vec<R>, ChainError> {
        let mut answers = Vec::with_capacity(all.len());
        for params in all {
            answers.push(self.call(method, params).await?);
        }
        Ok(answers)
    }

    pub(crate) fn malformed(&self, reason: impl Into<String>) -> ChainError {
        ChainError::Malformed {
            endpoint: self.name.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn error(&self, failure: RpcFailure) -> ChainError {
        let endpoint = self.name.clone();
        let unreachable = |reason: String| ChainError::Unreachable {
            endpoint: self.name.clone(),
            reason,
        };
        match failure {
            RpcFailure::Timeout => unreachable("no answer in time".into()),
            RpcFailure::Rpc(RpcError::ErrorResp(payload)) => {
                if let Some(data) =
                    revert_data(payload.code, &payload.message, payload.data.as_deref())
                {
                    return ChainError::Reverted {
                        data,
                        message: shorten(&payload.message),
                    };
                }
                if is_rate_limit(payload.code, &payload.message) || is_behind(&payload.message) {
                    return unreachable(shorten(&payload.message));
                }
                ChainError::Node {
                    endpoint,
                    code: payload.code,
                    message: shorten(&payload.message),
                }
            }
            RpcFailure::Rpc(RpcError::Transport(kind)) => unreachable(transport_reason(&kind)),
            RpcFailure::Rpc(RpcError::NullResp) => {
                self.malformed("null, where an answer was expected")
            }
            RpcFailure::Rpc(RpcError::DeserError { err, text }) => {
                self.malformed(format!("{err}: {}", shorten(&text)))
            }
            RpcFailure::Rpc(other) => self.malformed(shorten(&other.to_string())),
        }
    }
}

/// What went wrong below JSON-RPC, with the causes that reqwest keeps apart.
pub(crate) fn transport_reason(kind: &TransportErrorKind) -> String {
    if let Some(http) = kind.as_http_error() {
        return shorten(&format!("HTTP status {}: {}", http.status, http.body));
    }
    let mut reason = kind.to_string();
    let mut source = core::error::Error::source(kind).and_then(core::error::Error::source);
    while let Some(error) = source {
        reason.push_str(": ");
        reason.push_str(&error.to_string());
        source = error.source();
    }
    shorten(&reason)
}

/// Whether a JSON-RPC error means: ask less, or elsewhere.
pub(crate) fn is_rate_limit(code: i64, message: &str) -> bool {
    const WORDS: [&str; 7] = [
        "rate limit",
        "too many requests",
        "limit exceeded",
        "request limit",
        "compute units",
        "capacity exceeded",
        "quota",
    ];
    let message = message.to_ascii_lowercase();
    matches!(code, 429 | -32_005 | -32_029 | -32_007)
        || WORDS.iter().any(|word| message.contains(word))
            // A transaction's or a block's limits are not the endpoint's.
            && !message.contains("gas")
            && !message.contains("pool")
            && !message.contains("account")
}

/// Whether an error of a batch may be about its being one.
fn refuses_batches(error: &TransportError) -> bool {
    match error {
        RpcError::ErrorResp(_) | RpcError::DeserError { .. } => true,
        RpcError::Transport(TransportErrorKind::MissingBatchResponse(_)) => true,
        RpcError::Transport(kind) => kind.as_http_error().is_some_and(|http| http.status == 400),
        _ => false,
    }
}

/// Whether a node says that it does not have the block or its state, which another one may have.
fn is_behind(message: &str) -> bool {
    const WORDS: [&str; 6] = [
        "header not found",
        "block not found",
        "unknown block",
        "missing trie node",
        "is not available",
        "is ahead of the head",
    ];
    let message = message.to_ascii_lowercase();
    !message.contains("method") && WORDS.iter().any(|word| message.contains(word))
}

/// The data of a revert, if the error is one: geth's code 3, or the words with or without data.
fn revert_data(
    code: i64,
    message: &str,
    data: Option<&serde_json::value::RawValue>,
) -> Option<tollgate_x402::Bytes> {
    let reverted = code == 3 || message.to_ascii_lowercase().contains("revert");
    if !reverted {
        return None;
    }
    let data = data.and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok());
    Some(data.as_ref().and_then(find_bytes).unwrap_or_default())
}

/// Nodes put the bytes plainly, behind `Reverted `, or some objects deep.
fn find_bytes(value: &serde_json::Value) -> Option<tollgate_x402::Bytes> {
    match value {
        serde_json::Value::String(text) => text
            .trim_start_matches("Reverted ")
            .starts_with("0x")
            .then(|| text.trim_start_matches("Reverted ").parse().ok())
            .flatten(),
        serde_json::Value::Object(fields) => fields.values().find_map(find_bytes),
        _ => None,
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
