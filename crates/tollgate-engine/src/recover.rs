//! Payments of gateways that died.

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{Refusal, command::Commit};

/// Concludes the payments of runs that died: what their last checkpoint says is owed. `epoch` is the run that asks.
/// Says how many there were. Any number of gateways may do it at once.
///
/// # Errors
/// [`StoreError`]: some may be concluded; ask again.
pub async fn recover<S: Store>(store: &S, epoch: u64) -> Result<usize, StoreError> {
    let abandoned = store.abandoned(epoch).await?;
    for payment in &abandoned {
        let commit = Commit {
            keys: payment.keys,
            used: None,
            memo: None,
            answer: None,
        };
        match store.transact(commit).await {
            // Somebody else ended it meanwhile.
            Ok(_) | Err(StoreError::Refused(Refusal::Overtaken)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(abandoned.len())
}
