//! The world: one queue of events in virtual time, and all that is true in it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tollgate_engine::Ids;
use tollgate_x402::{Clock, PaymentId, Timestamp};

use crate::{
    books::Books,
    chain::{
        Chain,
        node::{Health, Letter},
    },
    payers::Payer,
    rng::{Fold, Rng},
    setting::Setting,
    tasks::is_foreign,
};

/// When a history begins, in seconds.
pub(crate) const EPOCH: u64 = 1_900_000_000;

/// Replicas, at most.
pub(crate) const REPLICAS: usize = 3;

/// A replica of the gateway, in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Who {
    pub(crate) replica: usize,
    pub(crate) life: u64,
}

/// What happens next.
pub(crate) enum Event {
    /// A task of a replica goes on.
    Wake(Who, Arc<Gate>),
    /// A block is made.
    Block,
    /// A transaction reaches a node.
    Arrives(Letter),
    /// A payer asks for something.
    Arrive,
    /// A replica dies.
    Crash(usize),
    /// It is started again.
    Start(usize),
    /// It is stopped and continued later (SIGSTOP).
    Freeze(usize, u64),
    /// A group of steps reaches the disk.
    Flush(u64),
    /// Something goes wrong, or right again.
    Weather,
    /// A fault ends.
    Mend(Fault),
}

/// What goes wrong for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A node answers nothing.
    NodeDown(usize),
    /// A node takes no new blocks.
    NodeStuck(usize),
    /// The account has no money for gas.
    Poor,
    /// No block is finalized.
    FinalityStalls,
    /// No block is made.
    ChainStalls,
    /// Only dear transactions get in.
    Spike,
    /// A replica's clock is wrong.
    Clock(usize),
    /// The ledger cannot be written, by one replica or (`None`) all.
    Store(Option<usize>),
    /// The token is paused.
    Pause,
    /// The operator is dismissed.
    Dismissed(usize),
}

/// Something that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The number in the book's list of invariants.
    pub invariant: u8,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.text)
    }
}

/// What was done for a payment, whatever the books say of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// Who serves it.
    pub(crate) by: Option<Who>,
    /// What reached the caller, in atomic units of its price.
    pub(crate) delivered: u64,
    /// What was made for the caller, delivered or not.
    pub(crate) metered: u64,
    /// The caller was told that it is paid for, and how much.
    pub(crate) told: Option<u64>,
    /// The replica that served it died, lost its run or its store while it did.
    pub(crate) broken: bool,
    /// Nobody serves it any more.
    pub(crate) ended: bool,
}

/// All that is true.
pub(crate) struct Core {
    pub(crate) setting: Setting,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) chain: Chain,
    pub(crate) nodes: Vec<Health>,
    pub(crate) faults: Vec<Fault>,
    /// Faults are over: what is owed must be settled now.
    pub(crate) calm: bool,
    pub(crate) lives: [u64; REPLICAS],
    pub(crate) alive: [bool; REPLICAS],
    pub(crate) frozen: [u64; REPLICAS],
    pub(crate) payers: Vec<Payer>,
    pub(crate) served: BTreeMap<PaymentId, Served>,
    pub(crate) books: Books,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) fold: Fold,
    pub(crate) events: u64,
    pub(crate) requests: u64,
    pub(crate) admitted: u64,
    /// Requests whose task has not ended, by replica.
    pub(crate) open: [u64; REPLICAS],
    ids: u128,
}

struct Queued {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The world, shared by everything in it; one thread uses it.
pub(crate) struct World {
    /// Microseconds since the beginning.
    now: AtomicU64,
    offsets: [AtomicI64; REPLICAS],
    core: Mutex<Core>,
}

/// Notes what happens: for the digest always, in words where a trace is kept.
macro_rules! note {
    ($core:expr, $number:expr, $($text:tt)*) => {{
        let core = &mut *$core;
        core.fold.add(u64::from(line!()) << 32 ^ $number);
        if let Some(trace) = &mut core.trace {
            trace.push(format!($($text)*));
        }
    }};
}
pub(crate) use note;

impl World {
    pub(crate) fn new(setting: Setting, chain: Chain, payers: Vec<Payer>, traced: bool) -> Self {
        let nodes = vec![Health::default(); setting.nodes];
        let rng = Rng::new(setting.seed ^ 0x5eed);
        let books = Books::new(&setting);
        let core = Core {
            setting,
            rng,
            queue: BinaryHeap::new(),
            queued: 0,
            chain,
            nodes,
            faults: Vec::new(),
            calm: false,
            lives: [0; REPLICAS],
            alive: [false; REPLICAS],
            frozen: [0; REPLICAS],
            payers,
            served: BTreeMap::new(),
            books,
            violation: None,
            trace: traced.then(Vec::new),
            fold: Fold::default(),
            events: 0,
            requests: 0,
            admitted: 0,
            open: [0; REPLICAS],
            ids: 0,
        };
        Self {
            now: AtomicU64::new(0),
            offsets: Default::default(),
            core: Mutex::new(core),
        }
    }

    /// Nobody may wait while this is held.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, see: impl FnOnce(&mut Core) -> T) -> T {
        see(&mut self.lock())
    }

    /// Microseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The true time, in seconds.
    pub(crate) fn seconds(&self) -> u64 {
        EPOCH + self.now() / 1_000_000
    }

    /// A replica's clock goes wrong by so many seconds.
    pub(crate) fn skew(&self, replica: usize, seconds: i64) {
        self.offsets[replica].store(seconds, Ordering::Relaxed);
    }

    pub(crate) fn schedule(&self, wait: u64, event: Event) {
        let at = self.now() + wait;
        self.lock().push(at, event);
    }

    /// Goes on to the next event.
    pub(crate) fn next(&self) -> Option<Event> {
        let Queued { at, event, .. } = self.lock().queue.pop()?.0;
        self.now.store(at.max(self.now()), Ordering::Relaxed);
        let mut core = self.lock();
        core.events += 1;
        core.fold.add(at);
        Some(event)
    }

    /// Lets others go first, for so many microseconds.
    pub(crate) fn pause(&self, who: Who, wait: u64) -> Waiting {
        let gate = Arc::new(Gate::default());
        self.schedule(wait, Event::Wake(who, Arc::clone(&gate)));
        Waiting(gate)
    }

    /// The time of one step of a ledger or an upstream.
    pub(crate) fn latency(&self) -> u64 {
        let mut core = self.lock();
        if core.rng.permille(20) {
            core.rng.range(50_000, 900_000)
        } else {
            core.rng.range(50, 15_000)
        }
    }

    /// The time of a request to a node, whether it arrives, and whether the answer does.
    pub(crate) fn network(&self, node: usize) -> (u64, bool, bool) {
        let mut core = self.lock();
        let _ = node;
        let wait = core.rng.range(500, 30_000);
        if core.calm {
            return (wait, true, true);
        }
        let lost = core.setting.lost;
        if core.rng.permille(lost) {
            let wait = core.rng.range(1_000_000, 5_000_000);
            let asked = core.rng.permille(600);
            return (wait, asked, false);
        }
        if core.rng.permille(lost) {
            return (core.rng.range(200_000, 3_000_000), true, true);
        }
        (wait, true, true)
    }

    /// Names by number: easy to read in a trace, and the same at every replay.
    pub(crate) fn ids(self: &Arc<Self>) -> Ids {
        let world = Arc::clone(self);
        Ids::from_fn(move || {
            let mut core = world.lock();
            core.ids += 1;
            // Its beginning is what is shown of it.
            core.ids << 96
        })
    }

    pub(crate) fn is_alive(&self, who: Who) -> bool {
        let core = self.lock();
        core.alive[who.replica] && core.lives[who.replica] == who.life
    }
}

impl Core {
    fn push(&mut self, at: u64, event: Event) {
        self.queued += 1;
        let order = self.queued;
        self.queue.push(Reverse(Queued { at, order, event }));
    }

    /// The first violation is the one that is told.
    pub(crate) fn violate(&mut self, invariant: u8, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let text = text();
            note!(
                self,
                u64::from(invariant),
                "VIOLATION of {invariant}: {text}"
            );
            self.violation = Some(Violation { invariant, text });
        }
    }

    pub(crate) fn suffers(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

/// Opened by an event.
#[derive(Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    /// Who waits, and whether it is a task of tokio's.
    waker: Mutex<Option<(Waker, bool)>>,
}

impl Gate {
    /// Whether a task of tokio's can go on now.
    pub(crate) fn open(&self) -> bool {
        self.open.store(true, Ordering::Relaxed);
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        waker.is_some_and(|(waker, foreign)| {
            waker.wake();
            foreign
        })
    }
}

/// Waits for a gate.
pub(crate) struct Waiting(pub(crate) Arc<Gate>);

impl Future for Waiting {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.open.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let mut waker = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some((context.waker().clone(), is_foreign()));
        Poll::Pending
    }
}

/// A replica's clock, or (`None`) the ledger's, which is right.
#[derive(Clone)]
pub(crate) struct SimClock {
    pub(crate) world: Arc<World>,
    pub(crate) replica: Option<usize>,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let offset = self.replica.map_or(0, |replica| {
            self.world.offsets[replica].load(Ordering::Relaxed)
        });
        Timestamp(self.world.seconds().saturating_add_signed(offset))
    }
}
