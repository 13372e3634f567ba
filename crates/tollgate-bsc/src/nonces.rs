//! Who used an account's nonces.

use alloy_primitives::U64;
use tollgate_x402::{Address, B256};

use crate::{BlockTag, Chain, ChainError, chain::receipts_of, endpoint::Endpoint};

impl Chain {
    /// Whether a transaction that is none of these used an account's nonce, at or below this block.
    ///
    /// A node that shows none of them may be behind, so a node's word counts only where it has itself counted the nonce
    /// as used by that block; and as many as must agree have to say so, and fewer than that anything else. All endpoints
    /// are asked: this is not for every day.
    ///
    /// # Errors
    /// Those of the transport, where fewer answer than must agree.
    pub async fn used_elsewhere(
        &self,
        account: Address,
        nonce: u64,
        block: u64,
        hashes: &[B256],
    ) -> Result<bool, ChainError> {
        let (mut elsewhere, mut not, mut failed) = (0_usize, 0_usize, None);
        let answers = self.ask_all(|endpoint| async move {
            let used = count_of(endpoint, account, BlockTag::Number(block)).await? > nonce;
            let known = receipts_of(endpoint, hashes).await?;
            Ok(used && known.iter().all(Option::is_none))
        });
        for (_, answer) in answers.await {
            match answer {
                Ok(true) => elsewhere = elsewhere.saturating_add(1),
                Ok(false) => not = not.saturating_add(1),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if elsewhere.saturating_add(not) < self.agreement() => Err(error),
            _ => Ok(elsewhere >= self.agreement() && not < self.agreement()),
        }
    }
}

/// How many transactions of an account a node has counted.
pub(crate) async fn count_of(
    endpoint: &Endpoint,
    account: Address,
    block: BlockTag,
) -> Result<u64, ChainError> {
    #[cfg(feature = "node")]
    if let Some(node) = endpoint.node() {
        let count = node.transaction_count(account, block).await;
        return count.map_err(|error| endpoint.error(error.into()));
    }
    let count: U64 = endpoint
        .call("eth_getTransactionCount", (account, block))
        .await?;
    Ok(count.to())
}
