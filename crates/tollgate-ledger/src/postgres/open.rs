//! Opening a ledger in PostgreSQL: recognized, migrated, and found to be durable; or a sentence that helps.

use tokio_postgres::Client;
use tollgate_x402::B256;

use super::{
    config::PostgresConfig,
    failure::{Trouble, said},
    session::{Session, Use},
};
use crate::text::{hex, parse_hash};

/// The version of the tables that this version reads and writes.
pub(super) const SCHEMA: i64 = 2;

/// Each version's tables, and the oldest program that can go on beside it. What a version adds, an older one need not
/// know of (expand); what it takes away, no version that may still run uses any more (contract).
const VERSIONS: [(i64, &str, i64); 2] = [
    (1, include_str!("schema_1.sql"), 1),
    (2, include_str!("schema_2.sql"), 1),
];

/// "toll": migrations of one database come one after the other.
const MIGRATION: i64 = 0x746f_6c6c;

/// Why a ledger was not opened. The database is as it was. No message holds a password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// What should say where the database is does not.
    #[error(
        "this is no URL of a database: write postgresql://user:password@host/database (what was given is not shown, since \
         it may hold a password)"
    )]
    Url,
    /// The connection would not be encrypted, and the URL does not say that it need not be.
    #[error(
        "the URL of a database on another machine must say how the connection is protected: write sslmode=verify-full \
         (with sslrootcert=FILE where the server's certificate is of a CA of your own), or sslmode=disable over a private \
         network or a tunnel; without it nothing is sent, since it would be readable on the way"
    )]
    Tls,
    /// A mode that promises less than it seems to.
    #[error(
        "sslmode is verify-full or require, which both verify the server's certificate and name, or disable, without \
         sslrootcert; others would send the password to whoever answers"
    )]
    TlsMode,
    /// The certificates by which the server is verified cannot be had.
    #[error("the certificates of {place} (sslrootcert) cannot be used: {what}")]
    Certificates {
        /// The file, or the system.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The schema's name is none.
    #[error("{0:?} is no name of a schema: use lower-case letters, digits and _")]
    Schema(String),
    /// The server is not reached, or does not let us in.
    #[error("the ledger {place} is not reached: {what}")]
    Connect {
        /// Host, database and schema.
        place: String,
        /// What is said.
        what: String,
    },
    /// The server would lose what it acknowledged.
    #[error(
        "PostgreSQL would lose acknowledged payments: {setting} is {found} and must be {wanted}; set it in postgresql.conf, or for the role"
    )]
    NotDurable {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// It is too old, or cannot hold what is stored.
    #[error("PostgreSQL's {setting} is {found} and must be {wanted}")]
    Unfit {
        /// What is wrong.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A standby, which takes no writes.
    #[error(
        "this server is a standby and takes no writes: name the primary, or write target_session_attrs=read-write into the URL with all hosts"
    )]
    Standby,
    /// A newer version of this program has changed the tables so that this one cannot use them.
    #[error(
        "the ledger's tables need a program that knows version {needed}, and this one knows {known}: use the newer program"
    )]
    Newer {
        /// What the tables need.
        needed: i64,
        /// What this program knows.
        known: i64,
    },
    /// There is no ledger, and none was to be made.
    #[error("there is no ledger {place} yet")]
    Absent {
        /// Host, database and schema.
        place: String,
    },
    /// The tables are not a ledger's.
    #[error(
        "the ledger {place} is damaged: {what}; restore a copy and reconcile it with the chain"
    )]
    Corrupt {
        /// Host, database and schema.
        place: String,
        /// What is wrong.
        what: String,
    },
}

/// What is known of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerReport {
    /// Its version, such as "15.4".
    pub version: String,
    /// The standbys that a commit waits for (`synchronous_standby_names`); `None`: it waits for none, so that what was
    /// acknowledged is lost with the server's disk.
    pub synchronous_standby: Option<String>,
}

impl ServerReport {
    /// What the operator should know, a sentence.
    pub fn warning(&self) -> Option<&'static str> {
        self.synchronous_standby.is_none().then_some(
            "no synchronous standby: with the server's disk, acknowledged payments would be lost; set \
             synchronous_standby_names before failover is automatic",
        )
    }
}

const EXAMINE: &str = "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'),
    current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
    current_setting('synchronous_commit'), pg_is_in_recovery(), current_setting('synchronous_standby_names')";

/// Finds out whether what the server acknowledges lasts.
pub(super) async fn examine(client: &Client) -> Result<ServerReport, PostgresError> {
    let failed = |error: tokio_postgres::Error| PostgresError::Connect {
        place: "PostgreSQL".into(),
        what: said(&error),
    };
    let row = client.query_one(EXAMINE, &[]).await.map_err(failed)?;
    let text = |column| row.try_get::<_, String>(column).map_err(failed);
    let number: i64 = row.try_get(0).map_err(failed)?;
    if number < 130_000 {
        return Err(PostgresError::Unfit {
            setting: "version",
            found: text(1)?,
            wanted: "13 or newer",
        });
    }
    if text(2)? != "UTF8" {
        return Err(PostgresError::Unfit {
            setting: "server_encoding",
            found: text(2)?,
            wanted: "UTF8",
        });
    }
    let durable = |setting, column, good: &[&str], wanted| {
        let found = text(column)?;
        if good.contains(&found.as_str()) {
            return Ok(());
        }
        Err(PostgresError::NotDurable {
            setting,
            found,
            wanted,
        })
    };
    durable("fsync", 3, &["on"], "on")?;
    durable("full_page_writes", 4, &["on"], "on")?;
    durable(
        "synchronous_commit",
        5,
        &["on", "remote_apply", "remote_write"],
        "on, remote_apply or remote_write",
    )?;
    if row.try_get::<_, bool>(6).map_err(failed)? {
        return Err(PostgresError::Standby);
    }
    Ok(ServerReport {
        version: text(1)?,
        synchronous_standby: Some(text(7)?).filter(|names| !names.trim().is_empty()),
    })
}

/// An open ledger.
pub(super) struct Opened {
    pub(super) ledger_id: B256,
    pub(super) report: ServerReport,
    pub(super) session: Session,
}

/// Connects, examines the server, and brings the tables to the version that this program knows.
pub(super) async fn open(
    config: &PostgresConfig,
    new_ledger_id: B256,
) -> Result<Opened, PostgresError> {
    let session = Session::connect(config, Use::Write(5_000))
        .await
        .map_err(|trouble| connect(config, trouble))?;
    let report = examine(&session.client).await?;
    if config.existing {
        let there = tables(config, &session.client).await;
        let (_, there) = there.map_err(|error| connect(config, error.into()))?;
        if !there {
            let place = config.place();
            return Err(PostgresError::Absent { place });
        }
    }
    let (needed, id) = migrate(config, &session.client, new_ledger_id)
        .await
        .map_err(|error| connect(config, error.into()))?;
    if needed > config.known {
        return Err(PostgresError::Newer {
            needed,
            known: config.known,
        });
    }
    let corrupt = |what: &str| PostgresError::Corrupt {
        place: config.place(),
        what: what.into(),
    };
    let id = id.ok_or_else(|| corrupt("it has no name"))?;
    let ledger_id = parse_hash(&id).map_err(|_| corrupt("its name is not 32 bytes"))?;
    Ok(Opened {
        ledger_id,
        report,
        session,
    })
}

fn connect(config: &PostgresConfig, trouble: Trouble) -> PostgresError {
    PostgresError::Connect {
        place: config.place(),
        what: trouble.told().to_string(),
    }
}

/// Whether the schema is there, and whether it has a ledger's tables.
async fn tables(
    config: &PostgresConfig,
    client: &Client,
) -> Result<(bool, bool), tokio_postgres::Error> {
    let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
        to_regclass(quote_ident($1) || '.meta') IS NOT NULL";
    let exists = client.query_one(exists, &[&config.schema]).await?;
    Ok((exists.try_get(0)?, exists.try_get(1)?))
}

/// Brings the tables to the known version, unless they are there or beyond. Returns the oldest version that can use
/// them, and the ledger's name.
async fn migrate(
    config: &PostgresConfig,
    client: &Client,
    new_ledger_id: B256,
) -> Result<(i64, Option<String>), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    // It lasts as long as the transaction, which does everything.
    client
        .query_one("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION])
        .await?;
    let (schema, meta) = tables(config, client).await?;
    if !schema {
        client
            .batch_execute(&format!("CREATE SCHEMA {}", config.schema))
            .await?;
    }
    let read = async |key: &str| {
        let row = client
            .query_opt("SELECT value FROM meta WHERE key = $1", &[&key])
            .await?;
        row.map(|row| row.try_get::<_, String>(0)).transpose()
    };
    let version = async |key: &str| {
        let value = read(key).await?;
        Ok::<i64, tokio_postgres::Error>(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    };
    let found = if meta { version("schema").await? } else { 0 };
    let mut needed = if meta {
        version("compatible").await?
    } else {
        0
    };
    if found < config.known && needed <= config.known {
        for (number, tables, compatible) in VERSIONS {
            if number > found && number <= config.known {
                client.batch_execute(tables).await?;
                needed = needed.max(compatible);
            }
        }
        let set = "INSERT INTO meta (key, value) VALUES ('schema', $1), ('compatible', $2)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        client
            .execute(set, &[&config.known.to_string(), &needed.to_string()])
            .await?;
    }
    if found == 0 {
        let name = "INSERT INTO meta (key, value) VALUES ('ledger_id', $1)";
        client.execute(name, &[&hex(new_ledger_id)]).await?;
    }
    let id = read("ledger_id").await?;
    client.batch_execute("COMMIT").await?;
    Ok((needed, id))
}
