//! Payments whose end is not known.
//!
//! A once or exact authorization that left this process may be settled until its deadline, whatever was heard of it.
//! So it is remembered with the request that it was signed for, before it is sent, and:
//!
//! * if no answer came, the same request sends the same authorization again, and no other is signed for it;
//! * if the seller refused it, it is sent again where it still answers the seller's offer; where it does not, another
//!   is signed only if both together are within the limit on authorizations;
//! * after its deadline it is dead on the chain, and forgotten.
//!
//! Two equal requests at the same time are two requests, with an authorization each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::B256;
use http::{HeaderName, HeaderValue};
use tollgate_x402::{Authorization, Timestamp};

use crate::{Dollars, Paid};

/// How many are remembered: beyond that nothing more is signed until some expire.
const CAPACITY: usize = 4096;

/// One authorization on its way.
#[derive(Clone)]
pub(crate) struct Attempt {
    /// The header as it was sent.
    pub(crate) header: (HeaderName, HeaderValue),
    pub(crate) paid: Paid,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Somebody waits for its answer.
    InFlight,
    /// No answer came.
    Unknown,
    /// The seller said no.
    Refused,
    /// The seller says that it is used up: it is not sent again. It stands all the same.
    Burned,
}

struct Entry {
    number: u64,
    state: State,
    attempt: Attempt,
}

#[derive(Default)]
struct Book {
    entries: HashMap<B256, Vec<Entry>>,
    count: usize,
    next: u64,
}

/// The book of attempts.
#[derive(Default)]
pub(crate) struct Attempts(Arc<Mutex<Book>>);

/// Holds an attempt while its answer is awaited. Dropped without a word, the attempt's end is unknown.
pub(crate) struct InFlight {
    book: Arc<Mutex<Book>>,
    request: B256,
    number: u64,
    concluded: bool,
}

/// The book is full.
#[derive(Debug)]
pub(crate) struct Full;

impl Attempts {
    /// Begins an attempt, before anything is sent.
    pub(crate) fn begin(
        &self,
        request: B256,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<InFlight, Full> {
        let mut book = lock(&self.0);
        if book.count >= CAPACITY {
            book.forget_dead(now);
        }
        if book.count >= CAPACITY {
            return Err(Full);
        }
        let number = book.next;
        book.next = number.wrapping_add(1);
        book.count = book.count.saturating_add(1);
        book.entries.entry(request).or_default().push(Entry {
            number,
            state: State::InFlight,
            attempt,
        });
        Ok(InFlight {
            book: self.0.clone(),
            request,
            number,
            concluded: false,
        })
    }

    /// Takes up an attempt of this request that had no answer.
    pub(crate) fn resume(&self, request: B256, now: Timestamp) -> Option<(Attempt, InFlight)> {
        self.take_up(request, |entry| {
            entry.state == State::Unknown && entry.alive(now)
        })
    }

    /// Takes up a refused attempt of this request whose authorization is still good for what is asked now.
    pub(crate) fn again(
        &self,
        request: B256,
        now: Timestamp,
        good: impl Fn(&Authorization) -> bool,
    ) -> Option<(Attempt, InFlight)> {
        self.take_up(request, |entry| {
            entry.state == State::Refused
                && entry.alive(now)
                && good(entry.attempt.paid.authorization())
        })
    }

    /// What stands of refused authorizations of this request, and until when.
    pub(crate) fn standing(&self, request: B256, now: Timestamp) -> Option<(Dollars, Timestamp)> {
        let book = lock(&self.0);
        let standing = book
            .entries
            .get(&request)?
            .iter()
            .filter(|entry| matches!(entry.state, State::Refused | State::Burned))
            .filter(|entry| entry.alive(now));
        standing.fold(None, |sum, entry| {
            let (dollars, until) = sum.unwrap_or_default();
            let paid = &entry.attempt.paid;
            Some((
                paid.authorized.dollars().saturating_add(dollars),
                paid.deadline.max(until),
            ))
        })
    }

    fn take_up(
        &self,
        request: B256,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<(Attempt, InFlight)> {
        let mut book = lock(&self.0);
        let entry = book
            .entries
            .get_mut(&request)?
            .iter_mut()
            .find(|entry| wanted(entry))?;
        entry.state = State::InFlight;
        let in_flight = InFlight {
            book: self.0.clone(),
            request,
            number: entry.number,
            concluded: false,
        };
        Some((entry.attempt.clone(), in_flight))
    }
}

impl InFlight {
    /// The seller answered: the authorization is used up, or was never taken.
    pub(crate) fn answered(mut self) {
        let mut book = lock(&self.book);
        let number = self.number;
        book.remove(self.request, |entry| entry.number == number);
        drop(book);
        self.concluded = true;
    }

    /// The seller says that it is used up.
    pub(crate) fn burned(mut self) {
        self.leave(State::Burned);
    }

    /// The seller refused it.
    pub(crate) fn refused(mut self) {
        self.leave(State::Refused);
    }

    fn leave(&mut self, state: State) {
        let mut book = lock(&self.book);
        let mut entries = book.entries.get_mut(&self.request).into_iter().flatten();
        if let Some(entry) = entries.find(|entry| entry.number == self.number) {
            entry.state = state;
        }
        drop(book);
        self.concluded = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.concluded {
            self.leave(State::Unknown);
        }
    }
}

impl Entry {
    fn alive(&self, now: Timestamp) -> bool {
        now <= self.attempt.paid.deadline
    }
}

impl Book {
    fn forget_dead(&mut self, now: Timestamp) {
        let requests: Vec<B256> = self.entries.keys().copied().collect();
        for request in requests {
            self.remove(request, |entry| {
                entry.state != State::InFlight && !entry.alive(now)
            });
        }
    }

    fn remove(&mut self, request: B256, which: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.entries.get_mut(&request) else {
            return;
        };
        let before = entries.len();
        entries.retain(|entry| !which(entry));
        self.count = self
            .count
            .saturating_sub(before.saturating_sub(entries.len()));
        if entries.is_empty() {
            self.entries.remove(&request);
        }
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
