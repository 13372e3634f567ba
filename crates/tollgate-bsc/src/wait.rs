//! Waiting for a transaction: looking once a block time.

use core::{future::Future, time::Duration};

use tollgate_x402::B256;

use crate::{Chain, ChainError, TxReceipt};

impl Chain {
    /// Waits until the transaction is in a block, looking once a block time; `None` if it was not within the time.
    ///
    /// # Errors
    /// As [`Chain::receipt`].
    pub async fn included(
        &self,
        hash: B256,
        within: Duration,
    ) -> Result<Option<TxReceipt>, ChainError> {
        self.poll(within, || self.receipt(hash)).await
    }

    /// Waits until the transaction is final; `None` if it was not within the time.
    ///
    /// # Errors
    /// As [`Chain::sight`].
    pub async fn finalized(
        &self,
        hash: B256,
        within: Duration,
    ) -> Result<Option<TxReceipt>, ChainError> {
        self.poll(within, || async {
            let sight = self.sight(&[hash]).await?;
            let receipt = sight.receipts.into_iter().next().flatten();
            Ok(receipt.filter(|receipt| sight.heads.finality(receipt.block).is_final()))
        })
        .await
    }

    async fn poll<T, F>(
        &self,
        within: Duration,
        look: impl Fn() -> F,
    ) -> Result<Option<T>, ChainError>
    where
        F: Future<Output = Result<Option<T>, ChainError>>,
    {
        let looking = async {
            loop {
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                tokio::time::sleep(self.block_time()).await;
            }
        };
        match tokio::time::timeout(within, looking).await {
            Ok(found) => found.map(Some),
            Err(_) => Ok(None),
        }
    }
}
