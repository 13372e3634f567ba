//! The handle to a running chain.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tollgate_contracts::abi::IErc20;

use crate::{
    builder::Builder,
    chain::Orphans,
    error::ReorgError,
    faults::Faults,
    http,
    node::{Node, World},
    rpc::{self, Reply, RpcError},
};

/// A running chain. Clones are handles to the same chain; when the last one is
/// dropped, mining and serving end.
#[derive(Clone)]
pub struct DevChain {
    node: Arc<Node>,
    /// Dropped with the last handle, which ends the tasks.
    stop: Arc<watch::Sender<bool>>,
    served: Arc<Mutex<Option<SocketAddr>>>,
}

impl DevChain {
    /// Settings for a chain, BSC's where not set.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            stop: Arc::new(watch::Sender::new(false)),
            served: Arc::default(),
        }
    }

    pub(crate) fn world(&self) -> Weak<World> {
        Arc::downgrade(&self.node.world)
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Another node of the same chain: the same blocks and pool, but faults,
    /// counters and listeners of its own. For clients that ask several
    /// endpoints and must not believe the one that lags or lies.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self {
            node: Arc::new(self.node.peer()),
            stop: self.stop.clone(),
            served: Arc::default(),
        }
    }

    /// Serves JSON-RPC over HTTP, and answers with the address, whose port is
    /// chosen by the system if 0 was asked for. Several listeners may serve
    /// one chain.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn serve(&self, listen: impl Into<SocketAddr>) -> io::Result<SocketAddr> {
        let address =
            http::serve(Arc::downgrade(&self.node), listen.into(), self.stopped()).await?;
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(address)
    }

    /// The URL of the newest listener.
    #[must_use]
    pub fn rpc_url(&self) -> Option<String> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.map(|address| format!("http://{address}"))
    }

    /// Ends mining and serving for all handles. What is there can still be
    /// read in process.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Answers a JSON-RPC request or batch in process, counted and with faults
    /// as over HTTP. An answer lost to a fault is error -32603.
    pub async fn handle(&self, request: Value) -> Value {
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let lost = |text: String| rpc::failure(id, RpcError::new(-32603, text));
        match rpc::serve(&self.node, request).await {
            Reply::Json(answer) => answer,
            Reply::Status(code) => lost(format!("no answer: HTTP status {code} (injected)")),
            Reply::Truncated(_) => lost("no answer: truncated (injected)".to_owned()),
        }
    }

    /// One JSON-RPC call in process.
    ///
    /// # Errors
    /// The `error` of the answer.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut answer = self.handle(request).await;
        if let Some(error) = answer.get("error") {
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            return Err(RpcError {
                code: error.get("code").and_then(Value::as_i64).unwrap_or(-32603),
                message: text("message").to_owned(),
                data: error.get("data").cloned(),
            });
        }
        Ok(answer
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// One JSON-RPC call in process that is not counted and meets no faults:
    /// for looking at the chain as it is. `eth_sendRawTransactionSync` is not
    /// among the methods.
    ///
    /// # Errors
    /// The error of the method.
    pub fn peek(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let params = match params {
            Value::Array(params) => params,
            _ => Vec::new(),
        };
        rpc::peek(&self.node.peer(), method, params)
    }

    /// What a contract answers at the head; not counted, no faults.
    ///
    /// # Errors
    /// The revert, with its data.
    pub fn call(&self, to: Address, data: impl Into<Bytes>) -> Result<Bytes, RpcError> {
        let call = json!([{ "to": to, "data": data.into() }, "latest"]);
        let output = self.peek("eth_call", call)?;
        serde_json::from_value(output).map_err(|error| RpcError::new(-32603, error.to_string()))
    }

    /// An ERC-20 balance at the head in atomic units; not counted, no faults.
    ///
    /// # Errors
    /// There is no such token, or it reverts.
    pub fn token_balance(&self, token: Address, owner: Address) -> Result<U256, RpcError> {
        let output = self.call(token, IErc20::balanceOfCall { owner }.abi_encode())?;
        IErc20::balanceOfCall::abi_decode_returns(&output)
            .map_err(|error| RpcError::new(-32603, format!("{token} is no token: {error}")))
    }

    /// Makes a block of what waits and answers with its number, also while
    /// mining is held.
    pub fn mine(&self) -> u64 {
        self.node.mine()
    }

    /// Makes `blocks` blocks and answers with the number of the last.
    pub fn mine_blocks(&self, blocks: u64) -> u64 {
        (0..blocks).fold(self.head(), |_, _| self.mine())
    }

    /// Replaces the newest `depth` blocks by as many empty ones with other
    /// hashes.
    ///
    /// # Errors
    /// A finalized block would go, or one whose state is forgotten.
    pub fn reorg(&self, depth: u64, orphans: Orphans) -> Result<(), ReorgError> {
        self.node.reorg(depth, orphans)
    }

    /// Removes a waiting transaction; whether it was there.
    pub fn drop_transaction(&self, hash: B256) -> bool {
        self.node.write().pool.remove(hash).is_some()
    }

    /// While frozen, `safe` and `finalized` stay where they are.
    pub fn freeze_finality(&self, frozen: bool) {
        self.node.freeze_finality(frozen);
    }

    /// The switchboard of faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.node.faults
    }

    /// How often each JSON-RPC method was called, over HTTP or in process. A
    /// batch counts each of its calls.
    #[must_use]
    pub fn rpc_counts(&self) -> BTreeMap<String, u64> {
        self.node.faults.counts()
    }

    /// All JSON-RPC calls so far.
    #[must_use]
    pub fn rpc_total(&self) -> u64 {
        self.rpc_counts().values().sum()
    }

    /// Begins counting anew.
    pub fn reset_rpc_counts(&self) {
        self.node.faults.reset_counts();
    }

    /// The chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.node.read().settings.chain_id
    }

    /// The number of the newest block.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.node.read().height()
    }

    /// The number of the newest finalized block.
    #[must_use]
    pub fn finalized(&self) -> u64 {
        self.node.read().finalized()
    }

    /// The timestamp of the newest block, in seconds.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.node.read().head().header.timestamp
    }

    /// How many transactions wait, those for a nonce included.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let chain = self.node.read();
        let (pending, queued) = chain.pool.counts(&chain.state);
        pending + queued
    }

    /// Time passes: the next block is this many seconds later.
    pub fn increase_time(&self, seconds: u64) {
        self.node.write().clock.advance(seconds);
    }

    /// The next block has this timestamp, or its parent's if that is later.
    pub fn set_time(&self, seconds: u64) {
        self.node.write().clock.set(seconds);
    }

    /// An account's balance at the head, in wei.
    #[must_use]
    pub fn balance(&self, address: Address) -> U256 {
        self.node.read().state.balance(address)
    }

    /// An account's next nonce at the head.
    #[must_use]
    pub fn nonce(&self, address: Address) -> u64 {
        self.node.read().state.nonce(address)
    }

    /// The sum of all balances in wei. Transfers and fees leave it as it is.
    #[must_use]
    pub fn total_balance(&self) -> U256 {
        self.node.read().state.total_balance()
    }

    /// Sets a balance in wei. As with all changes from outside, it belongs to
    /// the head block: a reorg of that block takes it back.
    pub fn set_balance(&self, address: Address, balance: U256) {
        let mut chain = self.node.write();
        chain.edit(|state| state.edit_account(address, |info| info.balance = balance));
    }

    /// Sets an account's runtime code.
    pub fn set_code(&self, address: Address, code: impl Into<Bytes>) {
        let code = code.into();
        self.node
            .write()
            .edit(|state| state.set_code(address, code));
    }

    /// Sets a storage slot.
    pub fn set_storage(&self, address: Address, slot: U256, value: U256) {
        let mut chain = self.node.write();
        chain.edit(|state| state.set_slot(address, slot, value));
    }
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain")
            .field("chain_id", &self.chain_id())
            .field("head", &self.head())
            .field("rpc_url", &self.rpc_url())
            .finish_non_exhaustive()
    }
}
