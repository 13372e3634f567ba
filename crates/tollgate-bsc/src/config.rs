//! How to reach the chain.

use core::{fmt, time::Duration};

use tollgate_x402::ChainId;

/// How to reach one chain. `Debug` does not print the URLs, which may hold API keys.
#[derive(Clone)]
pub struct ChainConfig {
    /// JSON-RPC endpoints over HTTP(S), the preferred one first.
    pub urls: Vec<String>,
    /// The place of the first of them among all that are known, from 0: messages number endpoints from there. Default 0.
    pub first_place: usize,
    /// The chain that they must be of (`eth_chainId`).
    pub chain_id: ChainId,
    /// The time between two blocks: also the interval at which anything is polled. 450 ms on BSC (BEP-619).
    pub block_time: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// How many endpoints must give the same answer to a read that decides about money: 1 up to their number.
    /// With 1 the first that answers is believed; with more, all are asked at once.
    pub agreement: usize,
    /// The most blocks of one `eth_getLogs`; a longer range is split. Nodes bound it, some to 1,000 or less.
    pub max_log_range: u64,
    /// The most bytes of one answer.
    pub max_response: usize,
}

impl ChainConfig {
    /// The usual configuration: BSC's block time, 5 seconds a request, the first endpoint's word is believed.
    pub fn new(chain_id: ChainId, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            first_place: 0,
            chain_id,
            block_time: Duration::from_millis(450),
            timeout: Duration::from_secs(5),
            agreement: 1,
            max_log_range: 1_000,
            max_response: 16 << 20,
        }
    }
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainConfig")
            .field("urls", &format_args!("{} hidden", self.urls.len()))
            .field("first_place", &self.first_place)
            .field("chain_id", &self.chain_id)
            .field("block_time", &self.block_time)
            .field("timeout", &self.timeout)
            .field("agreement", &self.agreement)
            .field("max_log_range", &self.max_log_range)
            .field("max_response", &self.max_response)
            .finish()
    }
}
