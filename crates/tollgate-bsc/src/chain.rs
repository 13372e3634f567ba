//! The client: reads, each as few requests as it can be.

use core::{fmt, future::Future, time::Duration};
use std::sync::Arc;

use alloy_primitives::{U64, U128};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tollgate_x402::{Address, B256, Bytes, ChainId, U256};

use crate::{
    BlockRef, BlockTag, CallRequest, ChainConfig, ChainError, Heads, PayerQuery, PayerState,
    RpcCounts, TxReceipt, agreement, counts::Counter, endpoint::Endpoint, nonces::count_of, wire,
};

/// A chain, by way of one or more nodes. Cheap to clone.
///
/// Reads that decide about money ([`payer`](Self::payer), [`receipt`](Self::receipt), [`heads`](Self::heads),
/// [`call_agreed`](Self::call_agreed)) need as many endpoints with the same answer as [`ChainConfig::agreement`] says;
/// the others believe the first that answers.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    chain_id: ChainId,
    block_time: Duration,
    agreement: usize,
    max_log_range: u64,
    counter: Arc<Counter>,
}

/// Receipts, and heads that were read after them, with the canonical blocks at the receipts' numbers: what
/// [`evidence`](crate::evidence()) needs to call something final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The receipts, in the order of the hashes that were asked for.
    pub receipts: Vec<Option<TxReceipt>>,
    /// The heads.
    pub heads: Heads,
}

impl Chain {
    /// Connects: every endpoint that answers must be of the configured chain, and at least as many as must agree
    /// have to answer.
    ///
    /// # Errors
    /// [`ChainError::Config`], [`ChainError::WrongChain`], or why too few endpoints answered.
    pub async fn connect(config: ChainConfig) -> Result<Self, ChainError> {
        if config.agreement == 0 || config.agreement > config.urls.len() {
            return Err(ChainError::Config(format!(
                "agreement is {}, and must be between 1 and the number of endpoints, {}",
                config.agreement,
                config.urls.len()
            )));
        }
        if config.block_time.is_zero() || config.timeout.is_zero() {
            return Err(ChainError::Config(
                "block_time and timeout must be more than 0".into(),
            ));
        }
        let chain = Self::relay(config)?;
        chain.check_ids().await?;
        Ok(chain)
    }

    /// Endpoints to send by alone, as builders offer them: they are asked nothing, not even for their chain. A signed
    /// transaction names its own.
    ///
    /// # Errors
    /// [`ChainError::Config`].
    pub fn relay(config: ChainConfig) -> Result<Self, ChainError> {
        let counter = Arc::new(Counter::default());
        let endpoints = config
            .urls
            .iter()
            .enumerate()
            .map(|(place, url)| {
                let place = config.first_place.saturating_add(place);
                Endpoint::new(place, url, &config, counter.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(Inner {
            endpoints,
            chain_id: config.chain_id,
            block_time: config.block_time,
            agreement: config.agreement,
            max_log_range: config.max_log_range,
            counter,
        })))
    }

    /// A chain by way of nodes inside of this process, of which `agreement` must agree: for simulations. The URLs of
    /// the configuration are not used, and nothing is asked yet.
    #[cfg(feature = "node")]
    #[must_use]
    pub fn of_nodes(config: &ChainConfig, nodes: Vec<Arc<dyn crate::Node>>) -> Self {
        let counter = Arc::new(Counter::default());
        Self(Arc::new(Inner {
            endpoints: nodes
                .into_iter()
                .enumerate()
                .map(|(place, node)| Endpoint::simulated(place, node, config, counter.clone()))
                .collect(),
            chain_id: config.chain_id,
            block_time: config.block_time,
            agreement: config.agreement,
            max_log_range: config.max_log_range,
            counter,
        }))
    }

    /// The chain.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.0.chain_id
    }

    /// So many nodes must say the same; at least one.
    pub(crate) fn agreement(&self) -> usize {
        self.0.agreement.max(1)
    }

    pub(crate) fn max_log_range(&self) -> u64 {
        self.0.max_log_range
    }

    /// The time between two blocks, at which everything is polled.
    #[must_use]
    pub fn block_time(&self) -> Duration {
        self.0.block_time
    }

    /// What was asked of the nodes so far.
    #[must_use]
    pub fn rpc_counts(&self) -> RpcCounts {
        self.0.counter.get()
    }

    async fn check_ids(&self) -> Result<(), ChainError> {
        let mut answered = 0_usize;
        let mut failed = None;
        for (_, answer) in self
            .ask_all(|endpoint| endpoint.meet(self.0.chain_id))
            .await
        {
            match answer {
                Ok(()) => answered = answered.saturating_add(1),
                Err(error @ ChainError::WrongChain { .. }) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if answered < self.0.agreement => Err(error),
            _ => Ok(()),
        }
    }

    /// Everything about one payer, at one block: one `eth_call` an endpoint.
    ///
    /// Where endpoints must agree and one is a block ahead, what counts is whether they say the same of the payer;
    /// if not, they are asked once more, of the same block.
    ///
    /// # Errors
    /// [`ChainError::NotAToken`], [`ChainError::Disagreement`], and those of the transport.
    pub async fn payer(&self, query: &PayerQuery) -> Result<PayerState, ChainError> {
        let quorum = self.0.agreement;
        let states = self
            .money(
                |endpoint| self.payer_at(endpoint, query, BlockTag::Latest),
                |states| agreement::elect(states, quorum, PayerState::same_but_block).is_some(),
            )
            .await?;
        if let Some(group) = agreement::elect(&states, quorum, PayerState::same_but_block) {
            // The oldest: what we know of later blocks is ours to apply.
            if let Some(oldest) = group.into_iter().min_by_key(|state| state.block) {
                return Ok(oldest.clone());
            }
        }
        let disagreement = ChainError::Disagreement {
            what: "a payer's state",
        };
        let block = states.iter().map(|state| state.block).min();
        self.payer_in(query, block.ok_or(disagreement)?).await
    }

    /// Everything about one payer at the end of a block that was. Nodes keep the state of the last blocks only, some 128 of
    /// them where they are not archives: of one before those they say no more than an error.
    ///
    /// # Errors
    /// As [`Chain::payer`].
    pub async fn payer_in(&self, query: &PayerQuery, block: u64) -> Result<PayerState, ChainError> {
        let (quorum, block) = (self.0.agreement, BlockTag::Number(block));
        let states = self
            .money(
                |endpoint| self.payer_at(endpoint, query, block),
                |states| agreement::elect(states, quorum, PartialEq::eq).is_some(),
            )
            .await?;
        agreement::elect_value(&states, quorum, "a payer's state")
    }

    async fn payer_at(
        &self,
        endpoint: &Endpoint,
        query: &PayerQuery,
        block: BlockTag,
    ) -> Result<PayerState, ChainError> {
        #[cfg(feature = "node")]
        if let Some(node) = endpoint.node() {
            let state = node.payer(query, block).await;
            return state.map_err(|error| endpoint.error(error.into()));
        }
        let request = CallRequest {
            input: tollgate_contracts::lens::call_data(&query.lens()),
            ..CallRequest::default()
        };
        let returned: Bytes = endpoint.call("eth_call", (&request, block)).await?;
        PayerState::decode(query, self.0.chain_id, &returned)
            .map_err(|unread| unread.into_error(endpoint.name(), self.0.chain_id, query.token))
    }

    /// A transaction's receipt, if it is in a block.
    ///
    /// `None` says that enough endpoints do not have it: not that the transaction failed.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`], and those of the transport.
    pub async fn receipt(&self, hash: B256) -> Result<Option<TxReceipt>, ChainError> {
        let receipts = self.receipts(&[hash]).await?;
        Ok(receipts.into_iter().next().flatten())
    }

    /// The receipts of several transactions, in one round trip an endpoint.
    ///
    /// # Errors
    /// As [`Chain::receipt`].
    pub async fn receipts(&self, hashes: &[B256]) -> Result<Vec<Option<TxReceipt>>, ChainError> {
        let answers = self
            .money(
                |endpoint| receipts_of(endpoint, hashes),
                |answers| agreement::elect(answers, self.0.agreement, PartialEq::eq).is_some(),
            )
            .await?;
        (0..hashes.len())
            .map(|place| {
                let seen: Vec<Option<TxReceipt>> = answers
                    .iter()
                    .map(|receipts| receipts.get(place).cloned().flatten())
                    .collect();
                agreement::elect_seen(&seen, self.0.agreement, "a receipt")
            })
            .collect()
    }

    /// Whether a node knows the transaction: in a block, or in its pool.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn transaction_known(&self, hash: B256) -> Result<bool, ChainError> {
        let known: Option<serde_json::Value> = self
            .first(|endpoint| endpoint.call("eth_getTransactionByHash", (hash,)))
            .await?;
        Ok(known.is_some())
    }

    /// The latest, the safe and the finalized block, in one round trip an endpoint.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`], and those of the transport.
    pub async fn heads(&self) -> Result<Heads, ChainError> {
        self.heads_with(&[]).await
    }

    /// The heads, and the canonical blocks of these numbers, in one round trip an endpoint.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`], and those of the transport.
    pub async fn heads_with(&self, numbers: &[u64]) -> Result<Heads, ChainError> {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        let tags: Vec<(BlockTag, bool)> = [BlockTag::Latest, BlockTag::Safe, BlockTag::Finalized]
            .into_iter()
            .chain(numbers.iter().copied().map(BlockTag::Number))
            .map(|tag| (tag, false))
            .collect();
        // Fewer answers can only make the agreed heads older; a node that stands still must not keep a block from
        // being known, though.
        let answers = self
            .money(
                |endpoint| heads_of(endpoint, tags.clone()),
                |answers| {
                    agreement::elect_heads(answers, self.0.agreement, &numbers)
                        .is_ok_and(|heads| heads.canonical.len() == numbers.len())
                },
            )
            .await?;
        agreement::elect_heads(&answers, self.0.agreement, &numbers)
    }

    /// The receipts, then the heads with the canonical blocks that the receipts name: two round trips an endpoint.
    ///
    /// # Errors
    /// As [`Chain::receipt`] and [`Chain::heads`].
    pub async fn sight(&self, hashes: &[B256]) -> Result<Sight, ChainError> {
        let receipts = if hashes.is_empty() {
            Vec::new()
        } else {
            self.receipts(hashes).await?
        };
        let numbers: Vec<u64> = receipts
            .iter()
            .flatten()
            .map(|receipt| receipt.block.number)
            .collect();
        let heads = self.heads_with(&numbers).await?;
        Ok(Sight { receipts, heads })
    }

    /// How many transactions the account has sent: the next nonce. `Pending` counts the pool's as well. Where endpoints
    /// must agree, as many as enough of them have counted.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`], and those of the transport.
    pub async fn transaction_count(
        &self,
        account: Address,
        block: BlockTag,
    ) -> Result<u64, ChainError> {
        let quorum = self.0.agreement;
        let mut counts = self
            .money(
                |endpoint| count_of(endpoint, account, block),
                |counts| agreement::elect(counts, quorum, PartialEq::eq).is_some(),
            )
            .await?;
        // What enough nodes have counted at least: one that lies of a used nonce is not believed.
        counts.sort_unstable_by_key(|count| core::cmp::Reverse(*count));
        let agreed = counts.get(quorum.saturating_sub(1)).copied();
        agreed.ok_or(ChainError::Disagreement {
            what: "an account's transaction count",
        })
    }

    /// The account's BNB, in wei.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn balance(&self, account: Address) -> Result<U256, ChainError> {
        self.first(|endpoint| endpoint.call("eth_getBalance", (account, BlockTag::Latest)))
            .await
    }

    /// What the node would pay, in wei a unit of gas. Nodes answer odd things here: hold it against a floor and a cap.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn gas_price(&self) -> Result<u128, ChainError> {
        let price: U128 = self
            .first(|endpoint| endpoint.call("eth_gasPrice", ()))
            .await?;
        Ok(price.to())
    }

    /// The code at an address, empty if none.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.first(|endpoint| endpoint.call("eth_getCode", (address, BlockTag::Latest)))
            .await
    }

    /// Simulates a call.
    ///
    /// # Errors
    /// [`ChainError::Reverted`], and those of the transport.
    pub async fn call(&self, request: &CallRequest, block: BlockTag) -> Result<Bytes, ChainError> {
        self.first(|endpoint| endpoint.call("eth_call", (request, block)))
            .await
    }

    /// Simulates a call whose answer decides about money: enough endpoints must give the same.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`], [`ChainError::Reverted`], and those of the transport.
    pub async fn call_agreed(
        &self,
        request: &CallRequest,
        block: BlockTag,
    ) -> Result<Bytes, ChainError> {
        let answers: Vec<Bytes> = self
            .money(
                |endpoint| endpoint.call("eth_call", (request, block)),
                |answers| agreement::elect(answers, self.0.agreement, PartialEq::eq).is_some(),
            )
            .await?;
        agreement::elect_value(&answers, self.0.agreement, "a call's result")
    }

    /// The gas that a call would take. For cross-checks: limits are fixed by the kind of call.
    ///
    /// # Errors
    /// [`ChainError::Reverted`], and those of the transport.
    pub async fn estimate(&self, request: &CallRequest) -> Result<u64, ChainError> {
        let gas: U64 = self
            .first(|endpoint| endpoint.call("eth_estimateGas", (request,)))
            .await?;
        Ok(gas.to())
    }

    /// The endpoints in the order of asking: those that lately did not answer come last.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Endpoint> {
        let (resting, ready): (Vec<_>, Vec<_>) = self
            .0
            .endpoints
            .iter()
            .partition(|endpoint| endpoint.rests());
        ready.into_iter().chain(resting)
    }

    /// The first endpoint's word; the next one's where it has none.
    pub(crate) async fn first<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut failed = None;
        for endpoint in self.in_order() {
            let asked = match endpoint.meet(self.0.chain_id).await {
                Ok(()) => ask(endpoint).await,
                Err(error) => Err(error),
            };
            match asked {
                Err(error)
                    if !error.is_definite() || matches!(error, ChainError::WrongChain { .. }) =>
                {
                    endpoint.answered(false);
                    failed = failed.or(Some(error));
                }
                definite => {
                    endpoint.answered(true);
                    return definite;
                }
            }
        }
        Err(failed.unwrap_or(ChainError::Config("there is no endpoint".into())))
    }

    /// The answers of a read that decides about money: the first one, or, where some must agree, as many as it takes
    /// until `enough` is said of them, which no more could change.
    async fn money<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a Endpoint) -> F,
        enough: impl Fn(&[T]) -> bool,
    ) -> Result<Vec<T>, ChainError>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        if self.0.agreement <= 1 {
            return Ok(vec![self.first(ask).await?]);
        }
        let mut answers = Vec::new();
        let mut failed = None;
        let met = |endpoint: &'a Endpoint| {
            let ask = &ask;
            async move {
                endpoint.meet(self.0.chain_id).await?;
                ask(endpoint).await
            }
        };
        let mut asked: FuturesUnordered<_> = self.0.endpoints.iter().map(met).collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => failed = failed.or(Some(error)),
            }
            // Nobody waits for the slowest when the others have agreed.
            if answers.len() >= self.0.agreement && enough(&answers) {
                return Ok(answers);
            }
        }
        match failed {
            Some(error) if answers.len() < self.0.agreement => Err(error),
            _ => Ok(answers),
        }
    }

    pub(crate) async fn ask_all<'a, T, F>(
        &'a self,
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> Vec<(&'a Endpoint, Result<T, ChainError>)>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        self.0
            .endpoints
            .iter()
            .map(|endpoint| {
                let answer = ask(endpoint);
                async move { (endpoint, answer.await) }
            })
            .collect::<FuturesUnordered<_>>()
            .collect()
            .await
    }
}

pub(crate) async fn receipts_of(
    endpoint: &Endpoint,
    hashes: &[B256],
) -> Result<Vec<Option<TxReceipt>>, ChainError> {
    #[cfg(feature = "node")]
    if let Some(node) = endpoint.node() {
        let receipts = node.receipts(hashes).await;
        return receipts.map_err(|error| endpoint.error(error.into()));
    }
    let params = hashes.iter().map(|hash| (*hash,)).collect();
    let receipts: Vec<Option<wire::Receipt>> =
        endpoint.batch("eth_getTransactionReceipt", params).await?;
    let receipts: Vec<_> = receipts
        .into_iter()
        .map(|receipt| receipt.and_then(wire::Receipt::included))
        .collect();
    let mixed_up = receipts.len() != hashes.len()
        || receipts.iter().zip(hashes).any(|(receipt, hash)| {
            receipt
                .as_ref()
                .is_some_and(|receipt| receipt.hash != *hash)
        });
    if mixed_up {
        return Err(endpoint.malformed("a receipt of another transaction"));
    }
    Ok(receipts)
}

pub(crate) async fn blocks_of(
    endpoint: &Endpoint,
    tags: Vec<(BlockTag, bool)>,
) -> Result<Vec<Option<BlockRef>>, ChainError> {
    #[cfg(feature = "node")]
    if let Some(node) = endpoint.node() {
        let tags: Vec<BlockTag> = tags.into_iter().map(|(tag, _)| tag).collect();
        let blocks = node.blocks(&tags).await;
        return blocks.map_err(|error| endpoint.error(error.into()));
    }
    let blocks: Vec<Option<wire::Block>> = endpoint.batch("eth_getBlockByNumber", tags).await?;
    Ok(blocks
        .into_iter()
        .map(|block| block.map(BlockRef::from))
        .collect())
}

/// The first three tags are the heads', the others numbers.
async fn heads_of(endpoint: &Endpoint, tags: Vec<(BlockTag, bool)>) -> Result<Heads, ChainError> {
    let mut blocks = blocks_of(endpoint, tags).await?.into_iter();
    let mut head = |name: &str| {
        blocks
            .next()
            .flatten()
            .ok_or_else(|| endpoint.malformed(format!("no {name} block")))
    };
    let (latest, safe, finalized) = (head("latest")?, head("safe")?, head("finalized")?);
    Ok(Heads {
        latest,
        safe,
        finalized,
        canonical: blocks.flatten().collect(),
    })
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("chain_id", &self.0.chain_id)
            .field("endpoints", &self.0.endpoints)
            .field("agreement", &self.0.agreement)
            .finish()
    }
}
