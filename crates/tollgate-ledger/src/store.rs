//! The port: what a store of payments does.

use core::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tollgate_payment::{BatchId, BatchRow, Command, PaymentRow, Row, RowKey, RowSet, Rows};
use tollgate_x402::{B256, PaymentId};

use crate::{
    error::StoreError,
    log::{LogFilter, PaymentLog},
    query::{BookedEntry, Due, Queue},
    run::Run,
    scan::RowKind,
    totals::Totals,
};

/// A durable store of payments.
///
/// It locks the rows that a [`Command`] names, asks the command, and writes what it decided, in one atomic
/// step. It has no rules of its own, so that stores cannot differ in rules. The present moment that
/// commands are given is the store's: one clock for all gateways that share it.
///
/// Reads see what is durable, and never a step whose [`Durable`] has not resolved.
pub trait Store: Clone + Send + Sync + 'static {
    /// The random name of this ledger, given at its creation. A `Settler` contract serves one ledger.
    fn ledger_id(&self) -> B256;

    /// Executes a command. It returns after the command decided and was written in the open group, which
    /// steps that follow see, and before the group has reached the disk: nothing may be delivered on the
    /// strength of the outcome until [`Executed::durable`] has resolved.
    ///
    /// The command is executed even if the future is dropped after its first poll.
    ///
    /// # Errors
    /// [`StoreError::Refused`] as the command refused, perhaps because of a step that is not durable yet;
    /// the others as they say. Nothing was written.
    fn execute<C: Command>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<Executed<C::Outcome>, StoreError>> + Send;

    /// Executes a command, and waits until it is durable.
    ///
    /// # Errors
    /// As [`execute`](Store::execute), and as [`Durable`].
    fn transact<C: Command>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<C::Outcome, StoreError>> + Send {
        async move { self.execute(command).await?.settled().await }
    }

    /// A payment.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], or [`StoreError::Corrupt`]; so for every read.
    fn payment(
        &self,
        id: PaymentId,
    ) -> impl Future<Output = Result<Option<PaymentRow>, StoreError>> + Send;

    /// A batch.
    fn batch(
        &self,
        id: BatchId,
    ) -> impl Future<Output = Result<Option<BatchRow>, StoreError>> + Send;

    /// The rows that exist of these names, as they were at one moment.
    fn read(&self, names: RowSet) -> impl Future<Output = Result<Rows, StoreError>> + Send;

    /// Payments that are due, the most urgent first: queues (payer and spender) by their earliest deadline,
    /// and within a queue in the order of their commits, whatever their deadlines. The order of commits
    /// stays when a settlement fails and the payments are due again.
    fn due(
        &self,
        filter: Due,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PaymentRow>, StoreError>> + Send;

    /// Everything due, summed by payer and spender, the earliest deadline first.
    fn queues(&self) -> impl Future<Output = Result<Vec<Queue>, StoreError>> + Send;

    /// Payments that are still being served, according to the books, by runs that are dead: they are to be concluded.
    /// Never those of the run that asks. By the number of the run and the order of admission.
    ///
    /// Where several gateways share the ledger, a run whose lease has expired is declared dead in this step, for good:
    /// what it writes from then on is refused with [`Outage::RunEnded`](crate::Outage::RunEnded). Where one process owns
    /// the ledger, every other run is dead.
    fn abandoned(
        &self,
        epoch: u64,
    ) -> impl Future<Output = Result<Vec<PaymentRow>, StoreError>> + Send;

    /// Batches that the finalized chain has not decided, oldest first.
    fn undecided(&self) -> impl Future<Output = Result<Vec<BatchRow>, StoreError>> + Send;

    /// Begins a run of a gateway, one of `gateways` at most that live at once: durable when it returns. Its slot is the
    /// lowest that no living run has, below `gateways`. It lives until [`end_run`](Store::end_run), or until it has not
    /// been [renewed](Store::renew) for [`RUN_LEASE`](crate::RUN_LEASE) seconds and another run finds that out.
    ///
    /// What this store and its clones write from now on is written for this run.
    ///
    /// # Errors
    /// [`Outage::NoSlot`](crate::Outage::NoSlot) or [`Outage::Slots`](crate::Outage::Slots), and as reads.
    fn begin_run(&self, gateways: u32) -> impl Future<Output = Result<Run, StoreError>> + Send;

    /// A sign of life, every [`RENEW_EVERY`](crate::RENEW_EVERY) seconds. `false`: the run is dead, and stays dead.
    fn renew(&self, epoch: u64) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends a run: its slot is free, and what it still serves is abandoned.
    fn end_run(&self, epoch: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets identifiers and outcomes that have expired, the oldest first, so many at most; says how many.
    fn prune(&self, limit: usize) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Lines of the double-entry book after this one (0: from the first), in their order.
    fn entries(
        &self,
        after_seq: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<BookedEntry>, StoreError>> + Send;

    /// Payments for people (`x402_payment_logs`), the newest first.
    fn logs(
        &self,
        filter: LogFilter,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PaymentLog>, StoreError>> + Send;

    /// Rows of one kind, in an order of the store's own: the first `limit` after the row of this name, or from the
    /// first (`None`). A row that exists during all of a scan comes in it exactly once; each page is of one moment,
    /// and two pages may be of two.
    fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Sums of everything, at one moment. It reads everything.
    fn totals(&self) -> impl Future<Output = Result<Totals, StoreError>> + Send;
}

/// A command that was executed and is perhaps not durable yet.
#[derive(Debug)]
#[must_use = "an outcome is worth nothing before it is durable"]
pub struct Executed<T> {
    /// What the caller learns. Treat it as if it had not happened unless `durable` resolves to `Ok`.
    pub outcome: T,
    /// Resolves when it is on the disk.
    pub durable: Durable,
}

impl<T> Executed<T> {
    /// Waits until the outcome is durable, and returns it.
    ///
    /// # Errors
    /// As [`Durable`].
    pub async fn settled(self) -> Result<T, StoreError> {
        self.durable.await?;
        Ok(self.outcome)
    }
}

/// Resolves when a step is on the disk.
///
/// An error means that the step is undone, together with every other of its group, and that the
/// store goes on without it. Only if the process dies before its next successful write may it turn out
/// at the next start that such a step did reach the disk; it is then found like any other that was begun.
#[must_use = "a step is not durable before this resolves"]
pub struct Durable(State);

enum State {
    Now,
    Later(Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>),
}

impl Durable {
    /// It is already.
    pub const fn now() -> Self {
        Self(State::Now)
    }

    /// It is when this resolves.
    pub fn later(future: impl Future<Output = Result<(), StoreError>> + Send + 'static) -> Self {
        Self(State::Later(Box::pin(future)))
    }
}

impl Future for Durable {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Now => Poll::Ready(Ok(())),
            State::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Now => "Durable(now)",
            State::Later(_) => "Durable(later)",
        })
    }
}
