//! When a charge is in a block, for a caller that waits for it.

use std::{future::Future, sync::Arc, time::Duration};

use tollgate_ledger::Store;
use tollgate_payment::AuthorizationKey;
use tollgate_x402::{PaymentId, PaymentState, PaymentStatus};

use crate::{health::Health, market::Markets, policy::Policy, status::status};

/// The shortest time between two looks at the ledger.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest: who waits for seconds wants to be told within one.
const LONGEST: Duration = Duration::from_secs(1);

/// How soon charges are settled, as a till needs to know it whose callers may wait for a block: what the
/// [`Worker`](crate::Worker) of the same ledger does.
#[derive(Clone, Debug)]
pub struct Pace {
    /// When allowances are settled.
    pub allowances: Policy,
    /// When once and exact payments are settled.
    pub claims: Policy,
    /// The time between blocks.
    pub block_time: Duration,
    /// How settlement is.
    pub health: Health,
}

/// What a hold needs to know when its charge is in a block.
#[derive(Debug)]
pub(crate) struct Inclusions {
    pace: Pace,
    markets: Markets,
}

impl Inclusions {
    pub(crate) const fn new(pace: Pace, markets: Markets) -> Self {
        Self { pace, markets }
    }

    /// Whether what this authorization pays is settled by itself, and now.
    pub(crate) fn expected(&self, authorization: &AuthorizationKey) -> bool {
        let policy = match authorization {
            AuthorizationKey::Claim { .. } => self.pace.claims,
            AuthorizationKey::Permit { .. } => self.pace.allowances,
        };
        policy == Policy::AtOnce && self.pace.health.settles().is_ok()
    }

    /// Looks at the ledger until the payment is in a block or was ended otherwise. The worker looks at what it has sent twice
    /// in a block, and so does this at first, then less and less often: another process's worker wakes nobody here.
    pub(crate) fn wait<S: Store>(
        self: Arc<Self>,
        store: S,
        id: PaymentId,
    ) -> impl Future<Output = Option<PaymentStatus>> + Send + use<S> {
        let half_a_block = self.pace.block_time.checked_div(2).unwrap_or_default();
        let mut pause = half_a_block.clamp(SHORTEST, LONGEST);
        async move {
            loop {
                tokio::time::sleep(pause).await;
                let more = pause.checked_div(8).unwrap_or_default();
                pause = pause.saturating_add(more).min(LONGEST);
                let told = match status(&store, &self.markets, id).await {
                    Ok(told) => told?.status,
                    Err(error) => {
                        // The charge stands; how it is settled can be asked for later.
                        tracing::debug!(payment = ?id, %error, "nobody waits for a block that cannot be read of");
                        return None;
                    }
                };
                if told.state != PaymentState::Accepted {
                    return Some(told);
                }
                self.pace.health.settles().ok()?;
            }
        }
    }
}
