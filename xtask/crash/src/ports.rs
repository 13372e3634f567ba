//! The ports of the product, with the places between them at which the process can die.

use std::sync::Arc;

use tollgate_ledger::{
    BookedEntry, Due, Durable, Executed, LogFilter, PaymentLog, Queue, RowKind, Run, Store,
    StoreError, Totals,
};
use tollgate_payment::{
    BatchId, BatchRow, Command, Instruction, PaymentRow, Row, RowKey, RowSet, Rows, Submission,
    port::{Pulse, Rail, RailError, Rehearsal, Trace},
};
use tollgate_x402::{B256, PaymentId};

use crate::{
    site::{Site, Step},
    trigger::Trigger,
};

/// A store whose process can die at any of its steps.
#[derive(Clone)]
pub(crate) struct MortalStore<S> {
    pub(crate) inner: S,
    pub(crate) trigger: Arc<Trigger>,
}

impl<S: Store> Store for MortalStore<S> {
    fn ledger_id(&self) -> B256 {
        self.inner.ledger_id()
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        let trigger = Arc::clone(&self.trigger);
        let step = Step::of(&command, |seal| trigger.is_replaced(seal.batch));
        trigger.pass(Site::Before(step));
        let executed = self.inner.execute(command).await?;
        trigger.pass(Site::Executed(step));
        let inner = executed.durable;
        let durable = Durable::later(async move {
            inner.await?;
            trigger.pass(Site::Durable(step));
            Ok(())
        });
        Ok(Executed {
            outcome: executed.outcome,
            durable,
        })
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        self.inner.payment(id).await
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        self.inner.batch(id).await
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        self.inner.read(names).await
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        self.inner.due(filter, limit).await
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        self.inner.queues().await
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        self.inner.abandoned(epoch).await
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        self.inner.undecided().await
    }

    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        self.inner.begin_run(gateways).await
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        self.inner.renew(epoch).await
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        self.inner.end_run(epoch).await
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.prune(limit).await
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        self.inner.entries(after_seq, limit).await
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        self.inner.logs(filter, limit).await
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(kind, after, limit).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.inner.totals().await
    }
}

/// A rail whose process can die before and after it speaks to the chain.
pub(crate) struct MortalRail<R> {
    pub(crate) inner: R,
    pub(crate) trigger: Arc<Trigger>,
}

impl<R: Rail> Rail for MortalRail<R> {
    async fn prepare(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: Option<u128>,
    ) -> Result<Instruction, RailError> {
        if above.is_some() {
            self.trigger.replaces(batch.id);
        }
        self.inner.prepare(batch, nonce, above).await
    }

    async fn submit(&self, stored: &Instruction) -> Submission {
        self.trigger.pass(Site::Unsent);
        let answer = self.inner.submit(stored).await;
        self.trigger.pass(Site::Sent);
        answer
    }

    async fn trace(&self, batch: &BatchRow) -> Result<Trace, RailError> {
        self.trigger.pass(Site::Untraced);
        self.inner.trace(batch).await
    }

    async fn nonce(&self) -> Result<u64, RailError> {
        self.inner.nonce().await
    }

    async fn rehearse(&self, batch: &BatchRow) -> Result<Rehearsal, RailError> {
        self.inner.rehearse(batch).await
    }

    async fn void(
        &self,
        batch: &BatchRow,
        nonce: u64,
        above: u128,
    ) -> Result<Instruction, RailError> {
        self.trigger.replaces(batch.id);
        self.inner.void(batch, nonce, above).await
    }

    async fn pulse(&self) -> Result<Pulse, RailError> {
        self.inner.pulse().await
    }
}
