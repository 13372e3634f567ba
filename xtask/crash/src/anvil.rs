//! The chain: an anvil that mines what it is sent at once, put back to its beginning for every history.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use alloy_primitives::{hex, keccak256};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tollgate_contracts::{addresses::PERMIT2, tokens::USD1};
use tollgate_x402::{Address, Amount, B256, U256};

/// Development account 8, which may mint.
const ADMIN: &str = "0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f";
/// Development account 9, where the Settler's money ends.
pub(crate) const TREASURY: &str = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720";

/// So many blocks a history begins with.
const FRESH: u64 = 20;

/// An anvil with our contracts.
pub(crate) struct Anvil {
    pub(crate) url: String,
    pub(crate) settler: Address,
    pub(crate) ledger_id: B256,
    base: Mutex<Option<Value>>,
}

/// A movement of the token.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) amount: Amount,
    pub(crate) transaction: B256,
    pub(crate) block: u64,
}

impl Anvil {
    /// The one that `cargo xtask anvil` prepared.
    pub(crate) fn prepared() -> anyhow::Result<Self> {
        let told = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: run this by `cargo xtask crash`, which starts a chain")
            })
        };
        Ok(Self {
            url: told("TOLLGATE_ANVIL_RPC")?,
            settler: told("TOLLGATE_ANVIL_SETTLER")?.parse()?,
            ledger_id: told("TOLLGATE_ANVIL_LEDGER_ID")?.parse()?,
            base: Mutex::new(None),
        })
    }

    /// Back to the beginning, at the present time.
    pub(crate) fn begin(&self) -> anyhow::Result<()> {
        let mut base = self
            .base
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match base.take() {
            Some(base) => {
                let reverted = self.rpc("evm_revert", json!([base]))?;
                ensure!(reverted == json!(true), "anvil does not go back");
            }
            None => {
                self.rpc("evm_setIntervalMining", json!([0]))?;
                self.rpc("anvil_autoImpersonateAccount", json!([true]))?;
            }
        }
        *base = Some(self.rpc("evm_snapshot", json!([]))?);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        self.automine(false)?;
        // Anvil forgets the state of the oldest blocks that it ever made: after many histories that of the blocks before the
        // snapshot. Nobody looks further back than at these, which are new.
        let before = now.as_secs().saturating_sub(FRESH);
        self.rpc("evm_setTime", json!([before]))?;
        self.mine(FRESH)?;
        self.rpc("evm_setTime", json!([now.as_secs()]))?;
        Ok(())
    }

    /// Whether a transaction gets a block of its own as soon as it is there.
    pub(crate) fn automine(&self, on: bool) -> anyhow::Result<()> {
        self.rpc("evm_setAutomine", json!([on])).map(drop)
    }

    pub(crate) fn mine(&self, blocks: u64) -> anyhow::Result<()> {
        for _ in 0..blocks {
            self.rpc("evm_mine", json!([]))?;
        }
        Ok(())
    }

    /// Gives payers money, and lets Permit2 have it.
    pub(crate) fn fund(&self, payers: &[Address], amount: u128) -> anyhow::Result<()> {
        let mut sent = Vec::new();
        for payer in payers {
            self.rpc("anvil_setBalance", json!([payer, "0xde0b6b3a7640000"]))?;
            let purse = U256::from(amount);
            sent.push(self.send(
                ADMIN.parse()?,
                USD1,
                "mint(address,uint256)",
                &[word(*payer), purse],
            )?);
            sent.push(self.send(
                *payer,
                USD1,
                "approve(address,uint256)",
                &[word(PERMIT2), U256::MAX],
            )?);
        }
        self.mine(1)?;
        for hash in sent {
            let receipt = self.receipt(hash)?.context("a transaction is not mined")?;
            ensure!(receipt["status"] == json!("0x1"), "a transaction failed");
        }
        Ok(())
    }

    /// Sends a call from any account.
    pub(crate) fn send(
        &self,
        from: Address,
        to: Address,
        signature: &str,
        words: &[U256],
    ) -> anyhow::Result<B256> {
        let call =
            json!({"from": from, "to": to, "gas": "0x30d40", "data": data(signature, words)});
        let hash = self.rpc("eth_sendTransaction", json!([call]))?;
        Ok(serde_json::from_value(hash)?)
    }

    pub(crate) fn balance(&self, account: Address) -> anyhow::Result<Amount> {
        let call = json!({"to": USD1, "data": data("balanceOf(address)", &[word(account)])});
        let answer = self.rpc("eth_call", json!([call, "latest"]))?;
        let answer: U256 = serde_json::from_value(answer)?;
        Ok(Amount::new(answer))
    }

    pub(crate) fn head(&self) -> anyhow::Result<u64> {
        number(&self.rpc("eth_blockNumber", json!([]))?)
    }

    pub(crate) fn finalized(&self) -> anyhow::Result<u64> {
        let block = self.rpc("eth_getBlockByNumber", json!(["finalized", false]))?;
        number(&block["number"])
    }

    /// How many transactions of an account are in blocks.
    pub(crate) fn nonce(&self, account: Address) -> anyhow::Result<u64> {
        number(&self.rpc("eth_getTransactionCount", json!([account, "latest"]))?)
    }

    pub(crate) fn receipt(&self, hash: B256) -> anyhow::Result<Option<Value>> {
        let receipt = self.rpc("eth_getTransactionReceipt", json!([hash]))?;
        Ok((!receipt.is_null()).then_some(receipt))
    }

    /// The block of a transaction, if it is in one.
    pub(crate) fn block_of(&self, hash: B256) -> anyhow::Result<Option<u64>> {
        let receipt = self.receipt(hash)?;
        receipt
            .map(|receipt| number(&receipt["blockNumber"]))
            .transpose()
    }

    /// Takes the newest blocks out, with what is in them.
    pub(crate) fn reorg(&self, depth: u64) -> anyhow::Result<()> {
        self.rpc("anvil_reorg", json!([depth, []])).map(drop)
    }

    /// Removes a transaction that waits for a block.
    pub(crate) fn drop_transaction(&self, hash: B256) -> anyhow::Result<()> {
        self.rpc("anvil_dropTransaction", json!([hash])).map(drop)
    }

    /// Every movement of the token since a block.
    pub(crate) fn transfers(&self, since: u64) -> anyhow::Result<Vec<Transfer>> {
        let transfer = keccak256("Transfer(address,address,uint256)");
        let filter = json!({"address": USD1, "topics": [transfer], "fromBlock": format!("{since:#x}"), "toBlock": "latest"});
        let logs = self.rpc("eth_getLogs", json!([filter]))?;
        let logs = logs.as_array().context("logs are a list")?;
        logs.iter()
            .map(|log| {
                let topic = |place: usize| -> anyhow::Result<Address> {
                    let word: B256 = serde_json::from_value(log["topics"][place].clone())?;
                    Ok(Address::from_word(word))
                };
                let amount: U256 = serde_json::from_value(log["data"].clone())?;
                Ok(Transfer {
                    from: topic(1)?,
                    to: topic(2)?,
                    amount: Amount::new(amount),
                    transaction: serde_json::from_value(log["transactionHash"].clone())?,
                    block: number(&log["blockNumber"])?,
                })
            })
            .collect()
    }

    pub(crate) fn rpc(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let body = call.to_string();
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).context("anvil cannot be reached")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let json = answer
            .find('{')
            .zip(answer.rfind('}'))
            .map(|(first, last)| &answer[first..=last])
            .context("anvil does not answer in JSON")?;
        let mut answer: Value = serde_json::from_str(json)?;
        ensure!(
            answer.get("error").is_none(),
            "anvil refuses {method}: {answer}"
        );
        Ok(answer["result"].take())
    }
}

fn data(signature: &str, words: &[U256]) -> String {
    if signature.is_empty() {
        return "0x".to_owned();
    }
    let mut data = keccak256(signature)[..4].to_vec();
    for word in words {
        data.extend_from_slice(&word.to_be_bytes::<32>());
    }
    hex::encode_prefixed(data)
}

fn word(address: Address) -> U256 {
    U256::from_be_slice(address.as_slice())
}

fn number(value: &Value) -> anyhow::Result<u64> {
    let text = value.as_str().context("a number is a string")?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}
