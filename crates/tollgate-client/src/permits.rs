//! Permits that can be used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_x402::{Address, Allowance, Amount, ChainId, Timestamp};

/// Whose money through whom: there is one permit at a time for each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PermitKey {
    pub(crate) chain: ChainId,
    pub(crate) token: Address,
    pub(crate) owner: Address,
    pub(crate) spender: Address,
}

impl PermitKey {
    fn of(allowance: &Allowance) -> Self {
        Self {
            chain: allowance.chain,
            token: allowance.token,
            owner: allowance.owner,
            spender: allowance.spender,
        }
    }
}

struct Held {
    allowance: Arc<Allowance>,
    /// What the seller told last, less what was charged since; at first what was signed.
    left: Amount,
    /// Until when it is sent; its deadline comes later.
    fresh_until: Timestamp,
}

#[derive(Default)]
struct Slot {
    held: Option<Held>,
    signing: Arc<tokio::sync::Mutex<()>>,
}

/// The permits in use, by chain, token, owner and spender.
#[derive(Default)]
pub(crate) struct PermitCache {
    slots: Mutex<HashMap<PermitKey, Slot>>,
}

impl PermitCache {
    /// The permit, if it is good for so much more.
    pub(crate) fn usable(
        &self,
        key: &PermitKey,
        need: Amount,
        now: Timestamp,
    ) -> Option<Arc<Allowance>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let held = slots.get(key)?.held.as_ref()?;
        (held.left >= need && now < held.fresh_until).then(|| held.allowance.clone())
    }

    /// What is to be held while a permit is signed, so that two calls do not sign two.
    pub(crate) fn signing(&self, key: PermitKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key).or_default().signing.clone()
    }

    pub(crate) fn insert(&self, allowance: Arc<Allowance>, fresh_until: Timestamp) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(PermitKey::of(&allowance)).or_default();
        slot.held = Some(Held {
            left: allowance.value,
            allowance,
            fresh_until,
        });
    }

    /// The seller told what is left.
    pub(crate) fn told(&self, allowance: &Allowance, left: Amount) {
        self.with(allowance, |held| held.left = left.min(allowance.value));
    }

    /// So much was charged, or may have been.
    pub(crate) fn spent(&self, allowance: &Allowance, amount: Amount) {
        self.with(allowance, |held| {
            held.left = held.left.saturating_sub(amount);
        });
    }

    /// Forgets the permit, unless another has taken its place.
    pub(crate) fn forget(&self, allowance: &Allowance) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(&PermitKey::of(allowance)) {
            slot.held
                .take_if(|held| held.allowance.signature == allowance.signature);
        }
    }

    fn with(&self, allowance: &Allowance, change: impl FnOnce(&mut Held)) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let held = slots
            .get_mut(&PermitKey::of(allowance))
            .and_then(|slot| slot.held.as_mut());
        if let Some(held) = held.filter(|held| held.allowance.signature == allowance.signature) {
            change(held);
        }
    }
}
