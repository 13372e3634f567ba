//! What is remembered of sellers: whom they ask to pay, and who took too much.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use tollgate_x402::{Address, ChainId};

use crate::Origin;

type Place = (Origin, ChainId, Address);

#[derive(Default)]
pub(crate) struct Hosts {
    payees: Mutex<HashMap<Place, Address>>,
    blocked: Mutex<HashSet<Origin>>,
}

impl Hosts {
    /// Whom this origin named for a token before.
    pub(crate) fn payee(&self, origin: &Origin, chain: ChainId, token: Address) -> Option<Address> {
        let payees = self.payees.lock().unwrap_or_else(PoisonError::into_inner);
        payees.get(&(origin.clone(), chain, token)).copied()
    }

    /// Keeps to this payee from now on, unless another is kept to: that one is the answer then.
    pub(crate) fn pin(
        &self,
        origin: &Origin,
        chain: ChainId,
        token: Address,
        payee: Address,
        may_change: bool,
    ) -> Result<(), Address> {
        let mut payees = self.payees.lock().unwrap_or_else(PoisonError::into_inner);
        let known = payees
            .entry((origin.clone(), chain, token))
            .or_insert(payee);
        if *known != payee && !may_change {
            return Err(*known);
        }
        *known = payee;
        Ok(())
    }

    pub(crate) fn block(&self, origin: &Origin) {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.insert(origin.clone());
    }

    pub(crate) fn unblock(&self, origin: &Origin) -> bool {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.remove(origin)
    }

    pub(crate) fn is_blocked(&self, origin: &Origin) -> bool {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.contains(origin)
    }
}
