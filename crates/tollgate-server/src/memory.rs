//! The memory that bodies take together while they are being read, and who gives it up where there is not enough.

use core::mem;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, BufMut, Bytes};

/// What all bodies share. Where it does not suffice, the body that takes most gives up what it has: of `n` bodies none is
/// given up that takes less than an `n`th of the whole, whatever the others do.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<State>);

#[derive(Debug)]
struct State {
    left: usize,
    /// Counts down.
    next: u64,
    /// Those that take anything, by how much; of those that take the same, the eldest last.
    bodies: BTreeMap<(usize, u64), Arc<Slot>>,
}

/// What a body has so far. Nothing, once it was given up: whoever needs the memory frees it at once.
type Slot = Mutex<Option<Held>>;

#[derive(Debug)]
enum Held {
    /// As it came.
    First(Bytes),
    Rest(Vec<u8>),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::First(bytes) => bytes,
            Self::Rest(bytes) => bytes,
        }
    }
}

/// The part of one body.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    id: u64,
    /// How much is counted for it, unless it was given up.
    taken: usize,
    slot: Arc<Slot>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// So many bytes.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            left: bytes,
            next: u64::MAX,
            bodies: BTreeMap::new(),
        })))
    }

    pub(crate) fn share(self: &Arc<Self>) -> Share {
        let mut state = lock(&self.0);
        let id = state.next;
        state.next = id.wrapping_sub(1);
        Share {
            memory: Arc::clone(self),
            id,
            taken: 0,
            slot: Arc::new(Mutex::new(Some(Held::First(Bytes::new())))),
        }
    }
}

impl Share {
    /// Keeps one more piece of a body that will be no longer than `most`. It is `false` if the memory does not suffice:
    /// nothing of the body is kept then.
    pub(crate) fn push(&mut self, mut data: impl Buf, most: usize) -> bool {
        let more = data.remaining();
        if more == 0 {
            return true;
        }
        // Only here and by giving up does it change.
        let Some((length, capacity, first)) = lock(&self.slot).as_ref().map(|held| match held {
            Held::First(bytes) => (bytes.len(), bytes.len(), true),
            Held::Rest(bytes) => (bytes.len(), bytes.capacity(), false),
        }) else {
            return false;
        };
        let needed = length.saturating_add(more);
        if length == 0 {
            return self.grow(more) && self.replace(|_| Held::First(data.copy_to_bytes(more)));
        }
        if first || needed > capacity {
            // Both count while one is copied into the other.
            let larger = needed.saturating_mul(2).min(most).max(needed);
            return self.grow(larger)
                && self.replace(|held| {
                    let mut rest = Vec::with_capacity(larger);
                    rest.extend_from_slice(held.bytes());
                    rest.put(data);
                    Held::Rest(rest)
                })
                && self.shrink(capacity);
        }
        self.replace(|held| match held {
            Held::Rest(mut rest) => {
                rest.put(data);
                Held::Rest(rest)
            }
            first @ Held::First(_) => first,
        })
    }

    /// The whole body, unless it was given up. It counts no more.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        let held = lock(&self.slot).take();
        self.free();
        held.map(|held| match held {
            Held::First(bytes) => bytes,
            Held::Rest(bytes) => Bytes::from(bytes),
        })
    }

    /// How many bytes there are; `None` once it was given up.
    pub(crate) fn len(&self) -> Option<usize> {
        lock(&self.slot).as_ref().map(|held| held.bytes().len())
    }

    /// Gives everything back.
    pub(crate) fn free(&mut self) {
        let held = lock(&self.slot).take();
        drop(held);
        let taken = mem::take(&mut self.taken);
        let mut state = lock(&self.memory.0);
        if state.bodies.remove(&(taken, self.id)).is_some() {
            state.left = state.left.saturating_add(taken);
        }
    }

    fn replace(&self, next: impl FnOnce(Held) -> Held) -> bool {
        let mut slot = lock(&self.slot);
        // It may just have been given up.
        *slot = slot.take().map(next);
        slot.is_some()
    }

    fn grow(&mut self, more: usize) -> bool {
        let mut state = lock(&self.memory.0);
        let wanted = self.taken.saturating_add(more);
        if self.taken > 0 && state.bodies.remove(&(self.taken, self.id)).is_none() {
            self.taken = 0;
            return false;
        }
        let mut given_up = None;
        if state.left < more {
            // One suffices: it has more than is wanted.
            let largest = state.bodies.last_entry();
            let Some(largest) = largest.filter(|largest| largest.key().0 > wanted) else {
                state.left = state.left.saturating_add(mem::take(&mut self.taken));
                drop(state);
                drop(lock(&self.slot).take());
                return false;
            };
            let ((freed, _), slot) = largest.remove_entry();
            given_up = lock(&slot).take();
            state.left = state.left.saturating_add(freed);
        }
        state.left = state.left.saturating_sub(more);
        self.taken = wanted;
        state
            .bodies
            .insert((wanted, self.id), Arc::clone(&self.slot));
        drop(state);
        drop(given_up);
        true
    }

    fn shrink(&mut self, less: usize) -> bool {
        let mut state = lock(&self.memory.0);
        let Some(slot) = state.bodies.remove(&(self.taken, self.id)) else {
            self.taken = 0;
            return false;
        };
        self.taken = self.taken.saturating_sub(less);
        state.left = state.left.saturating_add(less);
        state.bodies.insert((self.taken, self.id), slot);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Share, lock};
    use std::sync::Arc;

    fn left(memory: &Arc<Memory>) -> usize {
        lock(&memory.0).left
    }

    fn push(share: &mut Share, bytes: usize) -> bool {
        share.push(vec![b'x'; bytes].as_slice(), 1000)
    }

    #[test]
    fn a_body_counts_for_what_it_holds() {
        let memory = Memory::new(100);
        let mut share = memory.share();
        assert!(push(&mut share, 10));
        assert_eq!(left(&memory), 90);
        // The first piece goes into what is made for both.
        assert!(push(&mut share, 10));
        assert_eq!(left(&memory), 60);
        assert!(push(&mut share, 20));
        assert_eq!(left(&memory), 60);
        assert_eq!(share.finish().map(|body| body.len()), Some(40));
        assert_eq!(left(&memory), 100);
    }

    #[test]
    fn a_body_of_known_length_takes_no_more_than_that() {
        let memory = Memory::new(100);
        let mut share = memory.share();
        assert!(share.push(&b"12345"[..], 12));
        assert!(share.push(&b"67890"[..], 12));
        assert_eq!(left(&memory), 88);
        assert!(share.push(&b"ab"[..], 12));
        assert_eq!(left(&memory), 88);
        assert_eq!(share.finish().unwrap(), "1234567890ab");
    }

    #[test]
    fn the_largest_gives_way_to_a_smaller_one_and_nothing_to_one_as_large() {
        let memory = Memory::new(100);
        let (mut large, mut small) = (memory.share(), memory.share());
        assert!(push(&mut large, 60) && push(&mut small, 40));
        let mut as_large = memory.share();
        assert!(!push(&mut as_large, 60));
        assert_eq!((large.len(), small.len()), (Some(60), Some(40)));
        let mut smaller = memory.share();
        assert!(push(&mut smaller, 30));
        assert_eq!((large.len(), small.len()), (None, Some(40)));
        assert_eq!(left(&memory), 30);
        // It has nothing any more, and gives nothing back twice.
        assert!(!push(&mut large, 1));
        drop((large, as_large, small));
        assert_eq!(left(&memory), 70);
        assert!(smaller.finish().is_some());
        assert_eq!(left(&memory), 100);
    }
}
