//! Faults on demand, to see what clients of a chain make of them.
//!
//! Everything here is deterministic: a fault is armed for the next calls of a
//! method, or holds until it is lifted. Nothing happens by chance or by time.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::rpc::RpcError;

/// What goes wrong with one JSON-RPC call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The call is not executed and this error is the answer.
    Error(RpcError),
    /// The call is executed, and the answer is lost: over HTTP status 504 with
    /// no body, in process an error that says so.
    LoseAnswer,
    /// The call arrives twice, as from a proxy that tried again; the second
    /// answer is the one that is seen.
    Repeat,
    /// The call is executed, and this is answered as the result: a forged
    /// receipt, another chain's id.
    Forge(Value),
    /// The call is not executed; over HTTP this status with no body (429,
    /// 503), in process an error that names it.
    Status(u16),
    /// The call is executed and the body of the HTTP answer ends in the
    /// middle; in process like [`Fault::LoseAnswer`].
    Truncate,
}

/// The switchboard of faults of one chain. Clones steer the same chain.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    next: HashMap<String, VecDeque<Fault>>,
    always: HashMap<String, Fault>,
    switches: Switches,
    drops: u64,
    delays: VecDeque<u64>,
    counts: BTreeMap<String, u64>,
}

/// The faults that hold until lifted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    pub(crate) lag: u64,
    pub(crate) floor: u128,
    pub(crate) hold: bool,
}

/// What becomes of a transaction that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Acknowledged and then forgotten.
    Drop,
    /// Pooled, and included this many blocks later than it could be.
    Pool { delay: u64 },
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `calls` calls of `method` meet `fault`. Faults of one method
    /// happen in the order they were armed.
    pub fn next(&self, method: &str, calls: usize, fault: Fault) {
        let mut plan = self.plan();
        let queue = plan.next.entry(method.to_owned()).or_default();
        queue.extend(std::iter::repeat_n(fault, calls));
    }

    /// The next `calls` calls of `method` fail with an internal error and are
    /// not executed.
    pub fn fail_next(&self, method: &str, calls: usize) {
        let error = RpcError::new(-32603, "internal error (injected)");
        self.next(method, calls, Fault::Error(error));
    }

    /// The next `calls` calls of `method` are executed and their answers lost.
    pub fn lose_answers(&self, method: &str, calls: usize) {
        self.next(method, calls, Fault::LoseAnswer);
    }

    /// The next `calls` calls of `method` arrive twice.
    pub fn answer_twice(&self, method: &str, calls: usize) {
        self.next(method, calls, Fault::Repeat);
    }

    /// Every call of `method` meets `fault` until [`Faults::lift`] or
    /// [`Faults::clear`]. The method `"*"` stands for all that have no fault of
    /// their own: with [`Fault::Status`] the node is down.
    pub fn always(&self, method: &str, fault: Fault) {
        self.plan().always.insert(method.to_owned(), fault);
    }

    /// Ends what is armed for `method`.
    pub fn lift(&self, method: &str) {
        let mut plan = self.plan();
        plan.next.remove(method);
        plan.always.remove(method);
    }

    /// The next `transactions` sent are acknowledged with their hash and
    /// forgotten.
    pub fn drop_transactions(&self, transactions: u64) {
        self.plan().drops += transactions;
    }

    /// The next `transactions` sent are included `blocks` blocks later than
    /// they could be.
    pub fn delay_inclusion(&self, transactions: usize, blocks: u64) {
        let delays = std::iter::repeat_n(blocks, transactions);
        self.plan().delays.extend(delays);
    }

    /// Reads see the chain as it was `blocks` blocks ago, as from a node that
    /// lags. Sending is not delayed. 0 ends it.
    pub fn lag_reads(&self, blocks: u64) {
        self.plan().switches.lag = blocks;
    }

    /// The pool asks for at least this many wei per gas. 0, or anything below
    /// the chain's own floor, restores the floor.
    pub fn min_gas_price(&self, wei: u128) {
        self.plan().switches.floor = wei;
    }

    /// While held, neither the clock nor a sent transaction makes a block;
    /// `mine` still does. Only the first node mines: on a peer this does
    /// nothing.
    pub fn hold_mining(&self, hold: bool) {
        self.plan().switches.hold = hold;
    }

    /// Lifts everything but the counters.
    pub fn clear(&self) {
        let mut plan = self.plan();
        let counts = std::mem::take(&mut plan.counts);
        *plan = Plan {
            counts,
            ..Plan::default()
        };
    }

    pub(crate) fn switches(&self) -> Switches {
        self.plan().switches
    }

    /// Counts a call and says what goes wrong with it.
    pub(crate) fn meet(&self, method: &str) -> Option<Fault> {
        let mut plan = self.plan();
        match plan.counts.get_mut(method) {
            Some(count) => *count += 1,
            None => {
                plan.counts.insert(method.to_owned(), 1);
            }
        }
        if let Some(fault) = plan.next.get_mut(method).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let always = &plan.always;
        always.get(method).or_else(|| always.get("*")).cloned()
    }

    pub(crate) fn sent(&self) -> Sent {
        let mut plan = self.plan();
        if plan.drops > 0 {
            plan.drops -= 1;
            return Sent::Drop;
        }
        let delay = plan.delays.pop_front().unwrap_or(0);
        Sent::Pool { delay }
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.plan().counts.clone()
    }

    pub(crate) fn reset_counts(&self) {
        self.plan().counts.clear();
    }
}
