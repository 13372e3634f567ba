//! The ledger of this program: a file of one gateway, or a database of several.

use anyhow::{Context, bail};
use tollgate_ledger::{
    BookedEntry, Due, Executed, LogFilter, PaymentLog, PostgresConfig, PostgresStore, Queue,
    RowKind, Run, SqliteStore, Store, StoreError, Totals,
};
use tollgate_payment::{BatchId, BatchRow, Command, PaymentRow, Row, RowKey, RowSet, Rows};
use tollgate_x402::{B256, PaymentId};

use crate::plan::{SharedPlan, UrlSource};

/// Either kind of ledger.
#[derive(Clone, Debug)]
pub(crate) enum AnyStore {
    /// One gateway's file.
    File(SqliteStore),
    /// Several gateways' database.
    Shared(PostgresStore),
}

impl AnyStore {
    /// Opens the database of several gateways.
    ///
    /// # Errors
    /// Why it is not open. No message holds its password.
    pub(crate) async fn shared(plan: &SharedPlan, id: Option<B256>) -> anyhow::Result<Self> {
        Self::open(plan.config()?, id).await
    }

    /// The same for who operates it: where there is no ledger, none is made.
    ///
    /// # Errors
    /// Why it is not open, with [`PostgresError::Absent`](tollgate_ledger::PostgresError::Absent) among it.
    pub(crate) async fn existing(plan: &SharedPlan, id: Option<B256>) -> anyhow::Result<Self> {
        Self::open(plan.config()?.existing(), id).await
    }

    async fn open(config: PostgresConfig, id: Option<B256>) -> anyhow::Result<Self> {
        let new = id.unwrap_or_else(|| B256::from(rand::random::<[u8; 32]>()));
        let store = PostgresStore::open(config, new).await?;
        if let Some(id) = id.filter(|id| *id != store.ledger_id()) {
            bail!(
                "the database holds the ledger {}, not {id} as ledger.id says: set ledger.id to it if your Settler was deployed for it; or name another schema",
                store.ledger_id()
            );
        }
        if let Some(warning) = store.report().warning() {
            tracing::warn!("{warning}");
        }
        Ok(Self::Shared(store))
    }

    /// What the operator should know of where it is kept, for `/readyz`.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        match self {
            Self::File(_) => None,
            Self::Shared(store) => store.report().warning(),
        }
    }
}

impl SharedPlan {
    fn config(&self) -> anyhow::Result<PostgresConfig> {
        let url = self.url.read()?;
        Ok(PostgresConfig::new(&url)?.schema(&self.schema)?)
    }
}

impl UrlSource {
    /// The URL, which may hold a password.
    fn read(&self) -> anyhow::Result<String> {
        match self {
            Self::Variable(name) => std::env::var(name).with_context(|| {
                format!(
                    "the environment variable {name}, which ledger.postgres.url names, is not set"
                )
            }),
            Self::File(path) => std::fs::read_to_string(path).with_context(|| {
                format!(
                    "{} (ledger.postgres.url_file) cannot be read",
                    path.display()
                )
            }),
        }
    }
}

macro_rules! either {
    ($store:expr, $inner:ident => $does:expr) => {
        match $store {
            AnyStore::File($inner) => $does,
            AnyStore::Shared($inner) => $does,
        }
    };
}

impl Store for AnyStore {
    fn ledger_id(&self) -> B256 {
        either!(self, store => store.ledger_id())
    }

    async fn execute<C: Command>(&self, command: C) -> Result<Executed<C::Outcome>, StoreError> {
        either!(self, store => store.execute(command).await)
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<PaymentRow>, StoreError> {
        either!(self, store => store.payment(id).await)
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRow>, StoreError> {
        either!(self, store => store.batch(id).await)
    }

    async fn read(&self, names: RowSet) -> Result<Rows, StoreError> {
        either!(self, store => store.read(names).await)
    }

    async fn due(&self, filter: Due, limit: usize) -> Result<Vec<PaymentRow>, StoreError> {
        either!(self, store => store.due(filter, limit).await)
    }

    async fn queues(&self) -> Result<Vec<Queue>, StoreError> {
        either!(self, store => store.queues().await)
    }

    async fn abandoned(&self, epoch: u64) -> Result<Vec<PaymentRow>, StoreError> {
        either!(self, store => store.abandoned(epoch).await)
    }

    async fn undecided(&self) -> Result<Vec<BatchRow>, StoreError> {
        either!(self, store => store.undecided().await)
    }

    async fn begin_run(&self, gateways: u32) -> Result<Run, StoreError> {
        either!(self, store => store.begin_run(gateways).await)
    }

    async fn renew(&self, epoch: u64) -> Result<bool, StoreError> {
        either!(self, store => store.renew(epoch).await)
    }

    async fn end_run(&self, epoch: u64) -> Result<(), StoreError> {
        either!(self, store => store.end_run(epoch).await)
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        either!(self, store => store.prune(limit).await)
    }

    async fn entries(&self, after_seq: u64, limit: usize) -> Result<Vec<BookedEntry>, StoreError> {
        either!(self, store => store.entries(after_seq, limit).await)
    }

    async fn logs(&self, filter: LogFilter, limit: usize) -> Result<Vec<PaymentLog>, StoreError> {
        either!(self, store => store.logs(filter, limit).await)
    }

    async fn scan(
        &self,
        kind: RowKind,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        either!(self, store => store.scan(kind, after, limit).await)
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        either!(self, store => store.totals().await)
    }
}
