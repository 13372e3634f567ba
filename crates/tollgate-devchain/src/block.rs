//! Sealed blocks and their transactions, and how they look over JSON-RPC.

use alloy_consensus::{
    Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope, TxType,
    transaction::Recovered,
};
use alloy_primitives::{Address, B256, Bloom, Log, U256};
use alloy_rpc_types_eth as rpc;

/// A block with the results of its transactions.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) txs: Vec<Mined>,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub(crate) struct Mined {
    pub(crate) tx: Recovered<TxEnvelope>,
    pub(crate) hash: B256,
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) cumulative_gas_used: u64,
    /// Wei per gas. The base fee is 0, so this is the tip.
    pub(crate) price: u128,
    pub(crate) contract: Option<Address>,
    pub(crate) logs: Vec<Log>,
    /// The index in the block of the first log.
    pub(crate) first_log: u64,
}

impl Mined {
    pub(crate) fn receipt(&self) -> ReceiptEnvelope<Log> {
        envelope(
            self.tx.tx_type(),
            Receipt {
                status: self.success.into(),
                cumulative_gas_used: self.cumulative_gas_used,
                logs: self.logs.clone(),
            },
            self.bloom(),
        )
    }

    pub(crate) fn bloom(&self) -> Bloom {
        self.logs.iter().collect()
    }
}

/// Wraps a receipt by the transaction's type. Blob transactions never enter
/// the chain, so their receipts do not arise.
fn envelope<T>(kind: TxType, receipt: Receipt<T>, logs_bloom: Bloom) -> ReceiptEnvelope<T> {
    let receipt = ReceiptWithBloom {
        receipt,
        logs_bloom,
    };
    match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

impl Block {
    /// The block as `eth_getBlockBy…` answers it.
    pub(crate) fn to_rpc(&self, full: bool) -> rpc::Block {
        let transactions = if full {
            let txs = (0..self.txs.len()).filter_map(|index| self.transaction(index));
            rpc::BlockTransactions::Full(txs.collect())
        } else {
            rpc::BlockTransactions::Hashes(self.txs.iter().map(|tx| tx.hash).collect())
        };
        rpc::Block {
            header: rpc::Header {
                hash: self.hash,
                inner: self.header.clone(),
                total_difficulty: None,
                size: Some(U256::from(self.size())),
            },
            uncles: Vec::new(),
            transactions,
            withdrawals: None,
        }
    }

    /// An estimate: the header's usual length and the transactions' bytes.
    fn size(&self) -> usize {
        use alloy_eips::eip2718::Encodable2718 as _;
        let txs: usize = self.txs.iter().map(|tx| tx.tx.encode_2718_len()).sum();
        txs.saturating_add(540)
    }

    /// A transaction as `eth_getTransactionByHash` answers it.
    pub(crate) fn transaction(&self, index: usize) -> Option<rpc::Transaction> {
        let mined = self.txs.get(index)?;
        Some(rpc::Transaction {
            inner: mined.tx.clone(),
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            transaction_index: u64::try_from(index).ok(),
            effective_gas_price: Some(mined.price),
            block_timestamp: Some(self.header.timestamp),
        })
    }

    /// The logs of one transaction, placed in the chain.
    pub(crate) fn logs(&self, index: usize) -> Vec<rpc::Log> {
        let Some(mined) = self.txs.get(index) else {
            return Vec::new();
        };
        (mined.first_log..)
            .zip(&mined.logs)
            .map(|(log_index, log)| rpc::Log {
                inner: log.clone(),
                block_hash: Some(self.hash),
                block_number: Some(self.header.number),
                block_timestamp: Some(self.header.timestamp),
                transaction_hash: Some(mined.hash),
                transaction_index: u64::try_from(index).ok(),
                log_index: Some(log_index),
                removed: false,
            })
            .collect()
    }

    /// A receipt as `eth_getTransactionReceipt` answers it.
    pub(crate) fn receipt(&self, index: usize) -> Option<rpc::TransactionReceipt> {
        let mined = self.txs.get(index)?;
        let receipt = Receipt {
            status: mined.success.into(),
            cumulative_gas_used: mined.cumulative_gas_used,
            logs: self.logs(index),
        };
        Some(rpc::TransactionReceipt {
            inner: envelope(mined.tx.tx_type(), receipt, mined.bloom()),
            transaction_hash: mined.hash,
            transaction_index: u64::try_from(index).ok(),
            block_hash: Some(self.hash),
            block_number: Some(self.header.number),
            gas_used: mined.gas_used,
            effective_gas_price: mined.price,
            blob_gas_used: None,
            blob_gas_price: None,
            from: mined.tx.signer(),
            to: mined.tx.to(),
            contract_address: mined.contract,
        })
    }
}

/// A transaction that still waits in the pool.
pub(crate) fn pending_transaction(tx: &Recovered<TxEnvelope>) -> rpc::Transaction {
    rpc::Transaction {
        inner: tx.clone(),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: Some(tip(tx)),
        block_timestamp: None,
    }
}

/// Wei per gas that the transaction pays at a base fee of 0.
pub(crate) fn tip(tx: &TxEnvelope) -> u128 {
    tx.max_priority_fee_per_gas()
        .unwrap_or(u128::MAX)
        .min(tx.max_fee_per_gas())
}
