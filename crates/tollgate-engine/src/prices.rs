//! A payer whose allowance is used again is told once that the prices are others than before.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tollgate_ledger::{Store, StoreError};
use tollgate_payment::{
    AuthorizationKey, Command as _,
    command::{Inform, Informed},
};
use tollgate_x402::B256;

/// Payers of whom is remembered that they know the prices, at most. The ledger knows it of all.
const MOST: usize = 65_536;

/// The prices of now, and who is known to know them.
#[derive(Debug)]
pub(crate) struct Prices {
    digest: B256,
    knowing: Mutex<HashSet<AuthorizationKey>>,
}

impl Prices {
    pub(crate) fn new(prices: &str) -> Self {
        Self {
            digest: alloy_primitives::keccak256(prices),
            knowing: Mutex::default(),
        }
    }

    /// Whether the payer of this allowance last paid at other prices. It costs a look at the ledger once for each
    /// allowance, and nothing is written.
    pub(crate) async fn changed<S: Store>(
        &self,
        store: &S,
        authorization: AuthorizationKey,
    ) -> Result<bool, StoreError> {
        if !self.concern(authorization) {
            return Ok(false);
        }
        let inform = self.inform(authorization);
        Ok(match inform.look(&store.read(inform.rows()).await?) {
            Informed::Now => true,
            Informed::Before => {
                self.remember(authorization);
                false
            }
            // Once it is admitted it is noted.
            Informed::Unknown | Informed::First => false,
        })
    }

    /// Notes that the payer knows the prices of now. Whether it is told by this: of several requests one is answered so.
    pub(crate) async fn tell<S: Store>(
        &self,
        store: &S,
        authorization: AuthorizationKey,
    ) -> Result<bool, StoreError> {
        if !self.concern(authorization) {
            return Ok(false);
        }
        let informed = store.execute(self.inform(authorization)).await?.outcome;
        if informed != Informed::Unknown {
            self.remember(authorization);
        }
        Ok(informed == Informed::Now)
    }

    /// A once or exact payment is signed for one offer.
    fn concern(&self, authorization: AuthorizationKey) -> bool {
        matches!(authorization, AuthorizationKey::Permit { .. })
            && !self.knowing().contains(&authorization)
    }

    const fn inform(&self, authorization: AuthorizationKey) -> Inform {
        Inform {
            authorization,
            prices: self.digest,
        }
    }

    fn remember(&self, authorization: AuthorizationKey) {
        let mut knowing = self.knowing();
        if knowing.len() >= MOST {
            knowing.clear();
        }
        knowing.insert(authorization);
    }

    fn knowing(&self) -> MutexGuard<'_, HashSet<AuthorizationKey>> {
        self.knowing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
