//! Where a seller keeps its books, and what can be done to them from outside.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;
use tollgate_ledger::{PostgresConfig, PostgresStore};
use tollgate_x402::{B256, Clock};

/// Where a seller keeps its books.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// A database.
    Postgres {
        /// The server, without the database.
        server: String,
        /// The database.
        name: String,
        /// The present moment is the server's; otherwise each process tells its own.
        own_clock: bool,
    },
}

/// Does something with the store of a place, whatever its type.
macro_rules! with_store {
    ($place:expr, $id:expr, $clock:expr, |$store:ident| $body:expr) => {
        match $place {
            $crate::place::Place::Sqlite(file) => {
                let $store = tollgate_ledger::SqliteStore::open(file, $id, $clock)?;
                $body
            }
            $crate::place::Place::Postgres {
                server,
                name,
                own_clock,
            } => {
                let $store = $crate::place::postgres(server, name, *own_clock, $id, $clock).await?;
                $body
            }
        }
    };
}
pub(crate) use with_store;

/// A ledger in a database.
pub(crate) async fn postgres(
    server: &str,
    name: &str,
    own_clock: bool,
    id: B256,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<PostgresStore> {
    let mut config = PostgresConfig::new(&format!("{server} dbname={name}"))?;
    if !own_clock {
        config = config.with_clock(clock);
    }
    Ok(PostgresStore::open(config, id).await?)
}

impl Place {
    /// An empty place of a history.
    pub(crate) async fn make(
        server: Option<&str>,
        directory: &Path,
        name: String,
    ) -> anyhow::Result<Self> {
        let Some(server) = server else {
            return Ok(Self::Sqlite(directory.join("ledger.db")));
        };
        run(
            server,
            &[
                format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                format!("CREATE DATABASE {name}"),
            ],
        )
        .await?;
        Ok(Self::Postgres {
            server: server.to_owned(),
            name,
            own_clock: false,
        })
    }

    /// The gateways that may share it.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Copies it, while nobody uses it: a backup.
    pub(crate) async fn back_up(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(file) => copy(file, &backup(file)),
            Self::Postgres { server, name, .. } => {
                replace(server, name, &format!("{name}_backup")).await
            }
        }
    }

    /// Puts the backup in its place.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(file) => copy(&backup(file), file),
            Self::Postgres { server, name, .. } => {
                replace(server, &format!("{name}_backup"), name).await
            }
        }
    }

    /// Removes it.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres { server, name, .. } => {
                let drop = |name: &str| format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                run(server, &[drop(name), drop(&format!("{name}_backup"))]).await
            }
        }
    }
}

async fn replace(server: &str, from: &str, to: &str) -> anyhow::Result<()> {
    run(
        server,
        &[
            format!("DROP DATABASE IF EXISTS {to} WITH (FORCE)"),
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'"
            ),
            format!("CREATE DATABASE {to} TEMPLATE {from}"),
        ],
    )
    .await
}

/// Runs statements, each by itself.
async fn run(server: &str, statements: &[String]) -> anyhow::Result<()> {
    let (client, connection) =
        tokio_postgres::connect(&format!("{server} dbname=postgres"), NoTls).await?;
    let connection = tokio::spawn(connection);
    for statement in statements {
        client
            .batch_execute(statement)
            .await
            .with_context(|| statement.clone())?;
    }
    drop(client);
    connection.await??;
    Ok(())
}

fn backup(file: &Path) -> PathBuf {
    file.with_extension("backup")
}

/// Copies a file of SQLite with what stands beside it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        if beside(from).exists() {
            std::fs::copy(beside(from), beside(to))?;
        } else if beside(to).exists() {
            std::fs::remove_file(beside(to))?;
        }
    }
    Ok(())
}
