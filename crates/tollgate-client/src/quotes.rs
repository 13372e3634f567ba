//! What sellers asked for before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{B256, U256};
use tollgate_x402::{Amount, PaymentRequired, PaymentRequirements};

use crate::target::Target;

/// How many quotes are remembered.
const CAPACITY: usize = 256;

/// A seller's offer for one request, and the entry that was chosen.
#[derive(Clone)]
pub(crate) struct Quote {
    pub(crate) offer: Arc<PaymentRequired>,
    pub(crate) entry: Arc<PaymentRequirements>,
    /// Bytes of the request's body.
    length: u64,
}

impl Quote {
    pub(crate) fn new(
        offer: Arc<PaymentRequired>,
        entry: Arc<PaymentRequirements>,
        target: &Target,
    ) -> Self {
        Self {
            offer,
            entry,
            length: target.length,
        }
    }

    /// What a like request can cost at most, estimated: a price grows no faster than what is said.
    pub(crate) fn estimate(&self, target: &Target) -> Amount {
        let quoted = self.entry.minimum();
        if target.length <= self.length {
            return quoted;
        }
        let scaled = quoted.get().checked_mul(U256::from(target.length));
        scaled.map_or(Amount::MAX, |scaled| {
            Amount::new(scaled.div_ceil(U256::from(self.length.max(1))))
        })
    }
}

/// Quotes by the likeness of requests, the oldest forgotten first.
#[derive(Default)]
pub(crate) struct Quotes(Mutex<Book>);

#[derive(Default)]
struct Book {
    quotes: HashMap<B256, Quote>,
    order: VecDeque<B256>,
}

impl Quotes {
    pub(crate) fn of(&self, target: &Target) -> Option<Quote> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.quotes.get(&target.likeness).cloned()
    }

    pub(crate) fn remember(&self, target: &Target, quote: Quote) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.quotes.insert(target.likeness, quote).is_none() {
            book.order.push_back(target.likeness);
        }
        if book.order.len() > CAPACITY
            && let Some(oldest) = book.order.pop_front()
        {
            book.quotes.remove(&oldest);
        }
    }
}
