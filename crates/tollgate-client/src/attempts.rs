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
//! * each seller has a book of its own, of a fixed size: one whose answers all fail is not paid any more, and the others
//!   are. An allowance is kept only for the name under which it was sent: what it can cost, it can cost without that
//!   too. So it makes room for others.
//!
//! Two equal requests at the same time are two requests, with an authorization each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::B256;
use http::{HeaderName, HeaderValue};
use tollgate_x402::{Authorization, AuthorizationKind, Timestamp};

use crate::{Dollars, Origin, Paid, target::Target};

/// How many are remembered of one origin: beyond that nothing more is signed for it until some expire.
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
struct Books {
    sellers: HashMap<Origin, Book>,
    next: u64,
    /// When there are so many sellers, what is dead is looked for among all of them.
    sweep: usize,
}

/// The attempts at one origin, by request.
#[derive(Default)]
struct Book {
    entries: HashMap<B256, Vec<Entry>>,
    count: usize,
}

/// The books of attempts.
#[derive(Default)]
pub(crate) struct Attempts(Arc<Mutex<Books>>);

/// Holds an attempt while its answer is awaited. Dropped without a word, the attempt's end is unknown.
pub(crate) struct InFlight {
    books: Arc<Mutex<Books>>,
    origin: Origin,
    request: B256,
    number: u64,
    concluded: bool,
}

/// The seller's book is full.
#[derive(Debug)]
pub(crate) struct Full;

impl Attempts {
    /// Begins an attempt, before anything is sent.
    pub(crate) fn begin(
        &self,
        target: &Target,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<InFlight, Full> {
        let mut books = lock(&self.0);
        books.sweep(now);
        let number = books.next;
        books.next = number.wrapping_add(1);
        let book = books.sellers.entry(target.origin.clone()).or_default();
        if book.count >= CAPACITY {
            book.forget_dead(now);
        }
        if book.count >= CAPACITY && !book.make_room() {
            return Err(Full);
        }
        book.count = book.count.saturating_add(1);
        book.entries.entry(target.digest).or_default().push(Entry {
            number,
            state: State::InFlight,
            attempt,
        });
        Ok(self.in_flight(target, number))
    }

    /// Whether an attempt could begin: asked before anything is signed for it.
    pub(crate) fn has_room(&self, target: &Target, now: Timestamp) -> bool {
        let mut books = lock(&self.0);
        books.sellers.get_mut(&target.origin).is_none_or(|book| {
            if book.count >= CAPACITY {
                book.forget_dead(now);
            }
            book.count < CAPACITY || book.least().is_some()
        })
    }

    fn in_flight(&self, target: &Target, number: u64) -> InFlight {
        InFlight {
            books: self.0.clone(),
            origin: target.origin.clone(),
            request: target.digest,
            number,
            concluded: false,
        }
    }

    /// Takes up an attempt of this request that had no answer.
    pub(crate) fn resume(&self, target: &Target, now: Timestamp) -> Option<(Attempt, InFlight)> {
        self.take_up(target, |entry| {
            entry.state == State::Unknown && entry.alive(now)
        })
    }

    /// Takes up a refused attempt of this request whose authorization is still good for what is asked now.
    pub(crate) fn again(
        &self,
        target: &Target,
        now: Timestamp,
        good: impl Fn(&Authorization) -> bool,
    ) -> Option<(Attempt, InFlight)> {
        self.take_up(target, |entry| {
            entry.state == State::Refused
                && entry.alive(now)
                && good(entry.attempt.paid.authorization())
        })
    }

    /// What stands of refused authorizations of this request, and until when.
    pub(crate) fn standing(&self, target: &Target, now: Timestamp) -> Option<(Dollars, Timestamp)> {
        let books = lock(&self.0);
        let standing = books
            .sellers
            .get(&target.origin)?
            .entries
            .get(&target.digest)?
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
        target: &Target,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<(Attempt, InFlight)> {
        let mut books = lock(&self.0);
        let entry = books
            .sellers
            .get_mut(&target.origin)?
            .entries
            .get_mut(&target.digest)?
            .iter_mut()
            .find(|entry| wanted(entry))?;
        entry.state = State::InFlight;
        Some((entry.attempt.clone(), self.in_flight(target, entry.number)))
    }
}

impl InFlight {
    /// The seller answered: the authorization is used up, or was never taken.
    pub(crate) fn answered(mut self) {
        let mut books = lock(&self.books);
        if let Some(book) = books.sellers.get_mut(&self.origin) {
            let number = self.number;
            book.remove(self.request, |entry| entry.number == number);
            if book.count == 0 {
                books.sellers.remove(&self.origin);
            }
        }
        drop(books);
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
        let mut books = lock(&self.books);
        let book = books.sellers.get_mut(&self.origin);
        let entries = book.and_then(|book| book.entries.get_mut(&self.request));
        let mut entries = entries.into_iter().flatten();
        if let Some(entry) = entries.find(|entry| entry.number == self.number) {
            entry.state = state;
        }
        drop(books);
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

    /// How soon it makes room for another, if it may: an allowance that nobody waits for, the oldest first, and before
    /// those whose answer may yet be fetched those whose answer may not. A once or exact authorization never does.
    fn expendable(&self) -> Option<(bool, u64)> {
        let waits = self.state == State::InFlight;
        let allowance = self.attempt.paid.kind == AuthorizationKind::Allowance;
        (allowance && !waits).then_some((self.state == State::Unknown, self.number))
    }
}

impl Books {
    /// Forgets what is dead of all sellers, each time that there are twice as many of them.
    fn sweep(&mut self, now: Timestamp) {
        if self.sellers.len() < self.sweep.max(64) {
            return;
        }
        self.sellers.retain(|_, book| {
            book.forget_dead(now);
            book.count > 0
        });
        self.sweep = self.sellers.len().saturating_mul(2);
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

    /// Forgets the one that is missed least. Whether there is room then.
    fn make_room(&mut self) -> bool {
        if let Some((request, number)) = self.least() {
            self.remove(request, |entry| entry.number == number);
        }
        self.count < CAPACITY
    }

    /// The one that is missed least, of those that may go.
    fn least(&self) -> Option<(B256, u64)> {
        let all = self.entries.iter().flat_map(|(request, entries)| {
            let of = |entry: &Entry| Some((entry.expendable()?, *request, entry.number));
            entries.iter().filter_map(of)
        });
        all.min().map(|(_, request, number)| (request, number))
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

fn lock(books: &Mutex<Books>) -> std::sync::MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}
