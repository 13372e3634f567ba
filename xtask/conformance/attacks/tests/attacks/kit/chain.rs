//! The chains that an attack runs on: our embedded one, or the anvil of the environment with the real Permit2.
//!
//! Blocks are made by the test, and time is the chain's.

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
};
use tollgate_devchain::{BlockTime, DEV_SETTLER, DevChain, Development, Faults, Genesis};
use tollgate_x402::{Address, B256, Bytes, ChainId, Clock, Timestamp, U256};

/// Time is the newest block's.
#[derive(Clone, Default)]
pub(crate) struct ChainClock(Arc<AtomicU64>);

impl Clock for ChainClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A chain with our contracts.
pub(crate) struct Backend {
    pub(crate) url: String,
    pub(crate) chain_id: ChainId,
    pub(crate) settler: Address,
    pub(crate) clock: Arc<ChainClock>,
    embedded: Option<DevChain>,
    /// One test at a time has the anvil; what it holds is the snapshot of the prepared chain.
    turn: Option<MutexGuard<'static, Option<Value>>>,
}

static TURN: Mutex<Option<Value>> = Mutex::const_new(None);

/// Whether the tests run over anvil: `cargo xtask anvil -- cargo test -p tollgate-attacks`.
pub(crate) fn on_anvil() -> bool {
    std::env::var_os("TOLLGATE_ANVIL_RPC").is_some()
}

impl Backend {
    /// The anvil of the environment, if it names one, else an embedded chain of the test's own.
    pub(crate) async fn start() -> Self {
        static SAID: Once = Once::new();
        let this = if on_anvil() {
            SAID.call_once(|| {
                // Which chain a run was over is part of its evidence; libtest shows it with --nocapture.
                let _ = std::io::Write::write_all(&mut std::io::stderr(), b"over anvil\n");
            });
            Self::anvil().await
        } else {
            Self::embedded(31337).await
        };
        this.mine_blocks(3).await;
        this
    }

    /// An embedded chain with this id, whatever the environment names. With the id of a real network nobody has a key
    /// of its accounts.
    pub(crate) async fn embedded(chain_id: u64) -> Self {
        let mut builder = DevChain::builder()
            .block_time(BlockTime::Manual)
            .chain_id(chain_id);
        let settler = if chain_id == 31337 {
            builder = builder.genesis(Genesis::development(&Development::default()));
            DEV_SETTLER
        } else {
            let nobody = Address::repeat_byte(0x0b);
            let settler = Address::repeat_byte(0x56);
            let who = Development {
                accounts: vec![nobody],
                settler,
                treasury: nobody,
                admin: nobody,
                operators: vec![nobody],
                token_admin: nobody,
                ..Development::default()
            };
            builder = builder
                .genesis(Genesis::development(&who))
                .allow_real_chain_id();
            settler
        };
        let chain = builder.start().unwrap();
        chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
        Self {
            url: chain.rpc_url().unwrap(),
            chain_id: ChainId(chain_id),
            settler,
            clock: Arc::default(),
            embedded: Some(chain),
            turn: None,
        }
    }

    async fn anvil() -> Self {
        let told = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let mut this = Self {
            url: told("TOLLGATE_ANVIL_RPC"),
            chain_id: ChainId::DEV,
            settler: told("TOLLGATE_ANVIL_SETTLER").parse().unwrap(),
            clock: Arc::default(),
            embedded: None,
            turn: None,
        };
        let mut turn = TURN.lock().await;
        // A test that failed leaves the chain as it is, so it is put back at the beginning.
        if let Some(base) = turn.take() {
            assert_eq!(this.rpc("evm_revert", json!([base])).await, json!(true));
        } else {
            this.rpc("evm_setAutomine", json!([false])).await;
            this.rpc("evm_setIntervalMining", json!([0])).await;
        }
        *turn = Some(this.rpc("evm_snapshot", json!([])).await);
        this.turn = Some(turn);
        this
    }

    /// Another handle on the same chain, for a second seller on it.
    pub(crate) fn share(&self) -> Self {
        Self {
            url: self.url.clone(),
            chain_id: self.chain_id,
            settler: self.settler,
            clock: Arc::clone(&self.clock),
            embedded: self.embedded.clone(),
            turn: None,
        }
    }

    pub(crate) async fn mine(&self) {
        self.rpc("evm_mine", json!([])).await;
        self.tell_time().await;
    }

    pub(crate) async fn mine_blocks(&self, blocks: u64) {
        for _ in 0..blocks {
            self.mine().await;
        }
    }

    /// A block, so many seconds later.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.rpc("evm_increaseTime", json!([seconds])).await;
        self.mine().await;
    }

    pub(crate) async fn set_bnb(&self, account: Address, wei: u128) {
        self.rpc("anvil_setBalance", json!([account, U256::from(wei)]))
            .await;
    }

    pub(crate) async fn set_code(&self, account: Address, code: Bytes) {
        self.rpc("anvil_setCode", json!([account, code])).await;
    }

    pub(crate) async fn set_storage(&self, account: Address, slot: U256, value: B256) {
        let slot = B256::from(slot);
        self.rpc("anvil_setStorageAt", json!([account, slot, value]))
            .await;
    }

    /// Faults of the node, where the chain is the embedded one.
    pub(crate) fn faults(&self) -> Option<&Faults> {
        self.embedded.as_ref().map(DevChain::faults)
    }

    async fn tell_time(&self) {
        let head = self.rpc("eth_getBlockByNumber", json!(["latest", false]));
        let time = head.await["timestamp"].as_str().unwrap().to_owned();
        let now = u64::from_str_radix(time.trim_start_matches("0x"), 16).unwrap();
        self.clock.0.store(now, Ordering::SeqCst);
    }

    /// The result of a JSON-RPC call. It goes past the seller's reader, whose calls are counted.
    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params).await {
            Ok(result) => result,
            Err(error) => panic!("{method} is refused: {error}"),
        }
    }

    pub(crate) async fn try_rpc(&self, method: &str, params: Value) -> Result<Value, Value> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let body = call.to_string();
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let json = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
        let answer: Value = serde_json::from_str(json).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }
}
