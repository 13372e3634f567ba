//! One connection, its settings and its prepared statements.

use std::collections::HashMap;

use tokio_postgres::{Client, NoTls, Statement};

use super::{
    config::PostgresConfig,
    failure::Trouble,
    table::{ENTRIES, TABLES},
};

/// A connection to the ledger.
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<Sql, Statement>,
    /// Whether a transaction was opened, and not closed: whoever opened it may have gone away in the middle.
    open: bool,
}

/// Runs a connection, which ends with its client.
fn run<C>((client, connection): (Client, C)) -> Client
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        // Who waits for an answer is told.
        let _ = connection.await;
    });
    client
}

/// A statement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Sql {
    /// The rows of a table, locked.
    Lock(usize),
    /// The rows of a table.
    Read(usize),
    /// New rows of a table.
    Insert(usize),
    /// Rows of a table, written again.
    Update(usize),
    /// Lines of the book.
    Book,
    /// This one.
    Text(&'static str),
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Groups of steps. It waits so many milliseconds for a row.
    Write(u32),
    /// Everything as it was at one moment.
    Read,
}

impl Session {
    /// Connects. The plans are those of a large ledger from the first row on: one built while the tables were empty would
    /// read all of them later. A transaction that its gateway leaves open (it was paused) is ended by the server, so that
    /// its rows hold nobody up.
    pub(super) async fn connect(config: &PostgresConfig, uses: Use) -> Result<Self, Trouble> {
        let client = match &config.tls {
            None => run(config.server.connect(NoTls).await?),
            Some(tls) => run(config.server.connect(tls.clone()).await?),
        };
        let specific = match uses {
            Use::Write(patience) => format!(
                "SET lock_timeout = {patience}; SET statement_timeout = 30000;
                 SET idle_in_transaction_session_timeout = 5000;
                 SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
                 SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan; SET jit = off;"
            ),
            Use::Read => "SET default_transaction_read_only = on; SET statement_timeout = 120000;
                 SET idle_in_transaction_session_timeout = 60000; SET jit = off;"
                .to_owned(),
        };
        client
            .batch_execute(&format!(
                "SET search_path = {}; SET client_min_messages = warning; SET datestyle = iso;
                 SET default_transaction_isolation = 'read committed'; {specific}",
                config.schema
            ))
            .await?;
        Ok(Self {
            client,
            statements: HashMap::new(),
            open: false,
        })
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Opens a transaction.
    pub(super) async fn open(&mut self, begin: &str) -> Result<(), Trouble> {
        self.tidy().await?;
        self.open = true;
        Ok(self.client.batch_execute(begin).await?)
    }

    /// Ends it.
    pub(super) async fn close(&mut self, end: &str) -> Result<(), Trouble> {
        self.client.batch_execute(end).await?;
        self.open = false;
        Ok(())
    }

    /// Ends what was left open.
    pub(super) async fn tidy(&mut self) -> Result<(), Trouble> {
        if self.open {
            self.close("ROLLBACK").await?;
        }
        Ok(())
    }

    /// A statement, prepared once.
    pub(super) async fn prepare(&mut self, sql: Sql) -> Result<Statement, Trouble> {
        if let Some(statement) = self.statements.get(&sql) {
            return Ok(statement.clone());
        }
        let text = match sql {
            Sql::Lock(table) => TABLES.get(table).map(|table| table.select(true)),
            Sql::Read(table) => TABLES.get(table).map(|table| table.select(false)),
            Sql::Insert(table) => TABLES.get(table).map(|table| table.insert()),
            Sql::Update(table) => TABLES.get(table).map(|table| table.update()),
            Sql::Book => Some(ENTRIES.insert()),
            Sql::Text(text) => Some(text.to_owned()),
        };
        let statement = self.client.prepare(&text.unwrap_or_default()).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}
