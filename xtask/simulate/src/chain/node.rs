//! Nodes: each has its own newest block, answers late or not at all, and may lie where several are asked.

use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, B256, Bytes, U256};
use tollgate_bsc::{
    BlockRef, BlockTag, Node, NodeAnswer, NodeError, OwnerCode, PayerQuery, PayerState, TxReceipt,
};
use tollgate_x402::{Amount, Timestamp};

use super::{Body, Chain, Taken, Tx};
use crate::{
    names::{operator, operator_of, payer_of},
    world::{Core, Event, Who, World, note},
};

/// How a node is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Its newest block.
    pub(crate) tip: usize,
    /// So many blocks it stays behind.
    pub(crate) behind: usize,
    /// It takes no new blocks.
    pub(crate) stuck: bool,
    /// It answers nothing.
    pub(crate) down: bool,
    /// It lies about payers, receipts and what is final.
    pub(crate) lies: bool,
    /// It says that the account has no money for gas.
    pub(crate) poor: bool,
}

/// A transaction on its way to a node. It needs nobody who lives: it may arrive after a replacement of it was sent, after
/// its sender's death, or twice.
pub(crate) struct Letter {
    place: usize,
    raw: Bytes,
    answer: Answer,
}

/// What a node says to it.
type Answer = Arc<Mutex<Option<Result<B256, NodeError>>>>;

impl Letter {
    /// Sends it. Where no answer comes in time it arrives much later, if at all.
    fn post(world: &World, place: usize, raw: &[u8], way: (u64, bool, bool)) -> Answer {
        let answer = Answer::default();
        let (wait, asked, answered) = way;
        let raw = Bytes::copy_from_slice(raw);
        let (first, again) = world.with(|core| {
            let late = |core: &mut Core| core.rng.range(0, 20_000_000);
            let first = asked.then(|| {
                if answered {
                    core.rng.range(0, wait)
                } else {
                    late(core)
                }
            });
            let twice = !core.calm && core.rng.permille(core.setting.lost);
            (first, twice.then(|| late(core)))
        });
        let letter = |answer: &Answer| Self {
            place,
            raw: raw.clone(),
            answer: Arc::clone(answer),
        };
        if let Some(wait) = first {
            world.schedule(wait, Event::Arrives(letter(&answer)));
        }
        if let Some(wait) = again {
            // Nobody hears the answer to the second.
            world.schedule(wait, Event::Arrives(letter(&Answer::default())));
        }
        answer
    }

    pub(crate) fn arrive(&self, core: &mut Core, now: u64) {
        let health = core.nodes[self.place].clone();
        let taken = take(&mut core.chain, &health, &self.raw);
        note!(
            core,
            u64::from(taken.is_ok()),
            "{now:>10} a transaction arrives at node {}: {taken:?}",
            self.place
        );
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }
}

fn take(chain: &mut Chain, health: &Health, raw: &[u8]) -> Result<B256, NodeError> {
    if health.down {
        return Err(NodeError::Broken);
    }
    let Some(tx) = chain.read(raw) else {
        return refused(-32_000, "rlp: no such transaction");
    };
    if health.poor {
        return refused(-32_000, "insufficient funds for gas * price + value");
    }
    let hash = tx.hash;
    match chain.offer(health.tip, tx) {
        Taken::New => Ok(hash),
        Taken::Known => refused(-32_000, "already known"),
        Taken::NonceTooLow => refused(-32_000, "nonce too low"),
        Taken::Gap => refused(-32_000, "nonce too high"),
        Taken::Underpriced => refused(-32_000, "transaction underpriced"),
        Taken::Replacement => refused(-32_000, "replacement transaction underpriced"),
        Taken::Invalid => refused(-32_000, "invalid sender"),
    }
}

/// One replica's connection to one node.
pub(crate) struct SimNode {
    pub(crate) world: Arc<World>,
    pub(crate) who: Who,
    pub(crate) place: usize,
}

fn refused<T>(code: i64, message: &str) -> Result<T, NodeError> {
    Err(NodeError::Refused {
        code,
        message: message.to_owned(),
    })
}

impl SimNode {
    /// The way to the node and back. Whether the request, and the answer, arrive.
    async fn travel(&self) -> Result<bool, NodeError> {
        let (wait, asked, answered) = self.world.network(self.place);
        self.world.pause(self.who, wait).await;
        if asked {
            Ok(answered)
        } else {
            Err(NodeError::Timeout)
        }
    }

    async fn ask_chain<T>(
        &self,
        ask: impl FnOnce(&mut Chain, usize, &Health) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let answered = self.travel().await?;
        let answer = self.world.with(|core| {
            let health = core.nodes[self.place].clone();
            if health.down {
                return Err(NodeError::Broken);
            }
            ask(&mut core.chain, health.tip, &health)
        });
        if answered {
            answer
        } else {
            Err(NodeError::Timeout)
        }
    }
}

fn block_of<'a>(
    chain: &'a Chain,
    tip: usize,
    tag: BlockTag,
    health: &Health,
) -> Option<&'a super::Block> {
    let newest = &chain.blocks[tip];
    match tag {
        BlockTag::Latest | BlockTag::Pending => Some(newest),
        BlockTag::Finalized | BlockTag::Safe => {
            if health.lies {
                return Some(newest);
            }
            chain.at(tip, newest.finalized)
        }
        BlockTag::Number(number) => chain.at(tip, number),
    }
}

impl Node for SimNode {
    fn payer<'a>(&'a self, query: &'a PayerQuery, block: BlockTag) -> NodeAnswer<'a, PayerState> {
        Box::pin(self.ask_chain(move |chain, tip, health| {
            let Some(block) = block_of(chain, tip, block, health) else {
                return refused(-32_000, "header not found");
            };
            let Some(index) = payer_of(query.owner) else {
                return refused(-32_000, "no such payer");
            };
            let (state, purse) = (&block.state, &block.state.purses[index]);
            let lie = if health.lies { 1_000_000 } else { 0 };
            Ok(PayerState {
                block: block.number,
                timestamp: Timestamp(block.time),
                balance: Amount::from(purse.balance + lie),
                allowance: Amount::from(purse.seller.saturating_add(lie)),
                permit2_allowance: Amount::from(purse.permit2.saturating_add(lie)),
                permit_nonce: Some(U256::from(purse.permit_nonce)),
                permit2_nonce_used: query
                    .permit2_nonce
                    .map(|nonce| purse.permit2_used.contains(&nonce)),
                authorization_used: query
                    .eip3009_nonce
                    .map(|nonce| purse.eip3009_used.contains(&nonce)),
                counter: query.settler.map(|_| Amount::from(purse.charged)),
                paused: Some(state.paused),
                owner_frozen: Some(purse.frozen),
                payee_frozen: Some(false),
                owner_code: if purse.code {
                    OwnerCode::Delegated(Address::repeat_byte(0xde))
                } else {
                    OwnerCode::None
                },
                native_balance: U256::ZERO,
            })
        }))
    }

    fn receipts<'a>(&'a self, hashes: &'a [B256]) -> NodeAnswer<'a, Vec<Option<TxReceipt>>> {
        Box::pin(self.ask_chain(move |chain, tip, health| {
            let receipt = |hash: &B256| {
                let mut receipt = chain.receipt(tip, *hash)?;
                if health.lies {
                    receipt.success = !receipt.success;
                    receipt.logs.clear();
                }
                Some(receipt)
            };
            Ok(hashes.iter().map(receipt).collect())
        }))
    }

    fn blocks<'a>(&'a self, tags: &'a [BlockTag]) -> NodeAnswer<'a, Vec<Option<BlockRef>>> {
        Box::pin(self.ask_chain(move |chain, tip, health| {
            let told = |tag: &BlockTag| {
                let block = block_of(chain, tip, *tag, health)?;
                let mut told = block.told();
                if health.lies && *tag == BlockTag::Finalized {
                    told.number += 3;
                    told.hash = B256::repeat_byte(0xbd);
                }
                Some(told)
            };
            Ok(tags.iter().map(told).collect())
        }))
    }

    fn transaction_count(&self, account: Address, block: BlockTag) -> NodeAnswer<'_, u64> {
        Box::pin(self.ask_chain(move |chain, tip, health| {
            let Some(account) = operator_of(account) else {
                return Ok(0);
            };
            let Some(found) = block_of(chain, tip, block, health) else {
                return refused(-32_000, "header not found");
            };
            let mut count = found.state.nonces[account];
            if health.lies {
                count += 3;
            }
            if block == BlockTag::Pending {
                while chain.pool.iter().any(|tx| {
                    matches!(&tx.body, Body::Ours { from, nonce, .. } if *from == account && *nonce == count)
                }) {
                    count += 1;
                }
            }
            Ok(count)
        }))
    }

    /// What is sent is on its way, whatever becomes of who sent it.
    fn send<'a>(&'a self, raw: &'a [u8]) -> NodeAnswer<'a, B256> {
        self.world.with(|core| {
            let hash = core.chain.read(raw).map(|tx| tx.hash);
            let stored = hash.map(|hash| core.books.check_sent(hash));
            if let Some(Err((number, text))) = stored {
                core.violate(number, || text);
            }
        });
        Box::pin(async move {
            let (wait, asked, answered) = self.world.network(self.place);
            let answer = Letter::post(&self.world, self.place, raw, (wait, asked, answered));
            self.world.pause(self.who, wait).await;
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match &*answer {
                Some(answer) if answered => answer.clone(),
                _ => Err(NodeError::Timeout),
            }
        })
    }

    fn ask(&self, method: &'static str, params: String) -> NodeAnswer<'_, String> {
        Box::pin(self.ask_chain(move |chain, tip, health| {
            if method == "eth_call" {
                return simulate(chain, tip, &params);
            }
            let params: serde_json::Value = serde_json::from_str(&params).unwrap_or_default();
            let answer = match method {
                "eth_gasPrice" => serde_json::json!("0x2faf080"),
                "eth_chainId" => serde_json::json!("0x7a69"),
                "eth_getBalance" => {
                    let wei: u128 = if health.poor { 0 } else { 1 << 64 };
                    serde_json::json!(format!("{wei:#x}"))
                }
                "eth_getTransactionByHash" => {
                    let hash: B256 = serde_json::from_value(params[0].clone()).unwrap_or_default();
                    chain
                        .transaction(tip, hash)
                        .map_or(serde_json::Value::Null, told)
                }
                "eth_getLogs" => logs(chain, tip, &params[0]),
                _ => return refused(-32_601, "method not found"),
            };
            Ok(answer.to_string())
        }))
    }
}

/// A transaction, as a node tells it.
fn told(tx: &Tx) -> serde_json::Value {
    let (from, to, nonce, input) = match &tx.body {
        Body::Ours {
            from,
            nonce,
            to,
            input,
            ..
        } => (operator(*from), *to, *nonce, input.clone()),
        Body::Act(_) => (Address::ZERO, Address::ZERO, 0, Bytes::new()),
    };
    serde_json::json!({
        "hash": tx.hash,
        "from": from,
        "to": to,
        "nonce": format!("{nonce:#x}"),
        "input": input,
    })
}

/// A simulated call: of an item of the `Settler`, or of a plain account.
fn simulate(chain: &Chain, tip: usize, params: &str) -> Result<String, NodeError> {
    let block = &chain.blocks[tip];
    let mut state = (*block.state).clone();
    let address = |name| {
        let bytes = bytes_of(params, name).filter(|bytes| bytes.len() == 20);
        bytes.map_or(Address::ZERO, |bytes| Address::from_slice(&bytes))
    };
    let (from, to) = (address("from"), address("to"));
    let input = Bytes::from(bytes_of(params, "input").unwrap_or_default());
    // An account that code flips, or that knows a simulation, says yes here.
    for purse in &mut state.purses {
        purse.code = false;
    }
    let done = if from == to {
        state.run_item(&input, block.time).is_ok()
    } else {
        operator_of(from).is_some_and(|from| state.call(from, to, &input, block.time).is_ok())
    };
    if done {
        Ok("\"0x\"".to_owned())
    } else {
        refused(3, "execution reverted")
    }
}

/// A field of a call, in hexadecimal. Looked for, not parsed: calls are most of what nodes are asked.
fn bytes_of(params: &str, name: &str) -> Option<Vec<u8>> {
    fn nibble(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            b'A'..=b'F' => Some(byte - b'A' + 10),
            _ => None,
        }
    }
    let (_, rest) = params.split_once(&format!("\"{name}\":\"0x"))?;
    let (digits, _) = rest.split_once('"')?;
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

fn logs(chain: &Chain, tip: usize, filter: &serde_json::Value) -> serde_json::Value {
    let number = |key: &str| -> u64 {
        let text = filter[key].as_str().unwrap_or_default();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
    };
    let topics: Vec<Option<B256>> =
        serde_json::from_value(filter["topics"].clone()).unwrap_or_default();
    let addresses: Vec<Address> =
        serde_json::from_value(filter["address"].clone()).unwrap_or_default();
    let (from, to) = (number("fromBlock"), number("toBlock"));
    let newest = chain.blocks[tip].number;
    let mut found = Vec::new();
    for block in (from.max(1_000)..=to.min(newest)).filter_map(|number| chain.at(tip, number)) {
        for log in block.receipts.iter().flat_map(|receipt| &receipt.logs) {
            let fits = topics.iter().enumerate().all(|(place, topic)| {
                topic.is_none_or(|topic| log.topics.get(place) == Some(&topic))
            });
            if fits && (addresses.is_empty() || addresses.contains(&log.address)) {
                found.push(serde_json::json!({
                    "address": log.address,
                    "topics": log.topics,
                    "data": log.data,
                    "logIndex": format!("{:#x}", log.index),
                    "transactionHash": log.transaction,
                    "blockNumber": format!("{:#x}", log.block.number),
                    "blockHash": log.block.hash,
                }));
            }
        }
    }
    serde_json::Value::Array(found)
}
