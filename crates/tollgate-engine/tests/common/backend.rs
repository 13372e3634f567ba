//! The chains that a test can rule: our embedded one, and anvil with the real Permit2.
//!
//! Blocks are made by the test on both, and what both can do is here. What only one can do (faults) is behind
//! [`Backend::faults`], and tests that need it run on that chain alone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
};
use tollgate_devchain::{BlockTime, DEV_SETTLER, DevChain, Development, Faults, Genesis, Orphans};
use tollgate_x402::{Address, B256, Clock, Timestamp, U256};

/// Time is the newest block's.
#[derive(Clone, Default)]
pub(crate) struct ChainClock(Arc<AtomicU64>);

impl ChainClock {
    /// Jumps, until the next block.
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ChainClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A chain with our contracts, whose blocks the test makes.
pub(crate) struct Backend {
    chain: Chain,
    pub(crate) clock: Arc<ChainClock>,
}

enum Chain {
    Dev(DevChain),
    Anvil(Anvil),
}

impl Backend {
    /// The embedded chain, of this test's own.
    pub(crate) async fn devchain() -> Self {
        Self::devchain_that_keeps(4_096).await
    }

    /// The embedded chain, with the state of the last blocks only.
    pub(crate) async fn devchain_that_keeps(blocks: usize) -> Self {
        let chain = DevChain::builder()
            .block_time(BlockTime::Manual)
            .history(blocks)
            .genesis(Genesis::development(&Development::default()))
            .start()
            .unwrap();
        chain.serve(([127, 0, 0, 1], 0)).await.unwrap();
        Self::begin(Chain::Dev(chain)).await
    }

    /// The prepared anvil of the environment, as it was at the first test's beginning; one test at a time has it.
    pub(crate) async fn anvil() -> Self {
        Self::begin(Chain::Anvil(Anvil::take().await)).await
    }

    async fn begin(chain: Chain) -> Self {
        let this = Self {
            chain,
            clock: Arc::default(),
        };
        this.mine_blocks(3).await;
        this
    }

    pub(crate) fn rpc_url(&self) -> String {
        match &self.chain {
            Chain::Dev(chain) => chain.rpc_url().unwrap(),
            Chain::Anvil(anvil) => anvil.url.clone(),
        }
    }

    /// Where the Settler stands.
    pub(crate) fn settler(&self) -> Address {
        match &self.chain {
            Chain::Dev(_) => DEV_SETTLER,
            Chain::Anvil(anvil) => anvil.settler,
        }
    }

    pub(crate) async fn mine(&self) {
        match &self.chain {
            Chain::Dev(chain) => {
                chain.mine();
            }
            Chain::Anvil(anvil) => {
                anvil.rpc("evm_mine", json!([])).await;
            }
        }
        self.tell_time().await;
    }

    pub(crate) async fn mine_blocks(&self, blocks: u64) {
        for _ in 0..blocks {
            self.mine().await;
        }
    }

    /// The next block is so much later.
    pub(crate) async fn increase_time(&self, seconds: u64) {
        match &self.chain {
            Chain::Dev(chain) => chain.increase_time(seconds),
            Chain::Anvil(anvil) => {
                anvil.rpc("evm_increaseTime", json!([seconds])).await;
            }
        }
    }

    /// Replaces the newest blocks by empty ones; their transactions are gone.
    pub(crate) async fn reorg(&self, depth: u64) {
        match &self.chain {
            Chain::Dev(chain) => chain.reorg(depth, Orphans::Vanish).unwrap(),
            Chain::Anvil(anvil) => {
                anvil.rpc("anvil_reorg", json!([depth, []])).await;
            }
        }
        self.tell_time().await;
    }

    /// Removes a transaction from the pool.
    pub(crate) async fn drop_transaction(&self, hash: B256) {
        match &self.chain {
            Chain::Dev(chain) => assert!(chain.drop_transaction(hash)),
            Chain::Anvil(anvil) => {
                anvil.rpc("anvil_dropTransaction", json!([hash])).await;
            }
        }
    }

    /// Gives an account so many wei, and no more.
    pub(crate) async fn set_bnb(&self, account: Address, wei: U256) {
        match &self.chain {
            Chain::Dev(chain) => chain.set_balance(account, wei),
            Chain::Anvil(anvil) => {
                anvil.rpc("anvil_setBalance", json!([account, wei])).await;
            }
        }
    }

    /// Whether blocks become final: of the embedded chain alone.
    pub(crate) fn freeze_finality(&self, frozen: bool) {
        match &self.chain {
            Chain::Dev(chain) => chain.freeze_finality(frozen),
            Chain::Anvil(_) => panic!("anvil finalizes always: this test is the embedded chain's"),
        }
    }

    /// Faults of the node: the embedded chain's alone.
    pub(crate) fn faults(&self) -> &Faults {
        match &self.chain {
            Chain::Dev(chain) => chain.faults(),
            Chain::Anvil(_) => panic!("anvil has no faults: this test is the embedded chain's"),
        }
    }

    /// A transaction's receipt as the node writes it: of the embedded chain alone.
    pub(crate) fn receipt(&self, hash: B256) -> Value {
        match &self.chain {
            Chain::Dev(chain) => {
                let receipt = chain.peek("eth_getTransactionReceipt", json!([hash]));
                receipt.unwrap()
            }
            Chain::Anvil(_) => panic!("this is asked of the embedded chain alone"),
        }
    }

    async fn tell_time(&self) {
        let now = match &self.chain {
            Chain::Dev(chain) => chain.timestamp(),
            Chain::Anvil(anvil) => {
                let head = anvil.rpc("eth_getBlockByNumber", json!(["latest", false]));
                let time = head.await["timestamp"].as_str().unwrap().to_owned();
                u64::from_str_radix(time.trim_start_matches("0x"), 16).unwrap()
            }
        };
        self.clock.0.store(now, Ordering::SeqCst);
    }
}

/// An anvil that mines when it is told.
struct Anvil {
    url: String,
    settler: Address,
    /// The snapshot of the prepared chain, and this test's turn.
    base: MutexGuard<'static, Option<Value>>,
}

static TURN: Mutex<Option<Value>> = Mutex::const_new(None);

impl Anvil {
    async fn take() -> Self {
        let told = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set; run `cargo xtask ci --only settlement`")
            })
        };
        let mut anvil = Self {
            url: told("TOLLGATE_ANVIL_RPC"),
            settler: told("TOLLGATE_ANVIL_SETTLER").parse().unwrap(),
            base: TURN.lock().await,
        };
        // A test that failed leaves the chain as it is, so it is put back at the beginning.
        if let Some(base) = anvil.base.take() {
            assert_eq!(anvil.rpc("evm_revert", json!([base])).await, json!(true));
        } else {
            anvil.rpc("evm_setAutomine", json!([false])).await;
            anvil.rpc("evm_setIntervalMining", json!([0])).await;
        }
        let base = anvil.rpc("evm_snapshot", json!([])).await;
        *anvil.base = Some(base);
        anvil
    }

    async fn rpc(&self, method: &str, params: Value) -> Value {
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
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let json = &answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()];
        let answer: Value = serde_json::from_str(json).unwrap();
        assert!(
            answer.get("error").is_none(),
            "anvil refuses {method}: {answer}"
        );
        answer["result"].clone()
    }
}
