//! Where the database is, and what it is asked to be.

use core::fmt;
use std::{str::FromStr, sync::Arc, time::Duration};

use tokio_postgres::config::{Host, SslMode};
use tollgate_x402::Clock;

use super::{PostgresError, open::SCHEMA};

/// Which database and schema hold the ledger. It shows no password.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) server: tokio_postgres::Config,
    pub(super) schema: String,
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// The newest version of the tables that this program knows.
    pub(super) known: i64,
}

impl PostgresConfig {
    /// From a URL (`postgresql://user:password@host/database?sslmode=require`) or `key=value` words, as libpq takes them.
    /// The ledger is in the schema `tollgate`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`PostgresError::Url`]; it does not repeat what was given, since that may hold a password.
    pub fn new(url: &str) -> Result<Self, PostgresError> {
        let mut server =
            tokio_postgres::Config::from_str(url.trim()).map_err(|_| PostgresError::Url)?;
        if server.get_hosts().is_empty() || server.get_dbname().is_none() {
            return Err(PostgresError::Url);
        }
        let near = |host: &Host| match host {
            Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        // `prefer` would send the password and the books in the clear where the server has no TLS, without a word.
        let allowed = match server.get_ssl_mode() {
            SslMode::Disable => true,
            SslMode::Prefer => server.get_hosts().iter().all(near),
            _ => false,
        };
        if !allowed {
            return Err(PostgresError::Tls);
        }
        server.ssl_mode(SslMode::Disable);
        if server.get_application_name().is_none() {
            server.application_name("tollgate");
        }
        server
            .connect_timeout(Duration::from_secs(5))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10));
        Ok(Self {
            server,
            schema: "tollgate".into(),
            clock: None,
            known: SCHEMA,
        })
    }

    /// Another schema: lower-case letters, digits and `_`, not beginning with a digit, at most 63.
    ///
    /// # Errors
    /// [`PostgresError::Schema`].
    pub fn schema(self, name: &str) -> Result<Self, PostgresError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let digit = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || name.len() > 63 || digit || !name.chars().all(plain) {
            return Err(PostgresError::Schema(name.into()));
        }
        Ok(Self {
            schema: name.into(),
            ..self
        })
    }

    /// Gives commands and leases this clock instead of the server's: for tests alone. Gateways that share a ledger must
    /// share its clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// As a program does that knows no newer version of the tables: for tests of two versions at once.
    #[cfg(feature = "kit")]
    #[must_use]
    pub fn knowing(self, known: i64) -> Self {
        Self { known, ..self }
    }

    /// The host and the database, for messages.
    pub(super) fn place(&self) -> String {
        let hosts: Vec<String> = self
            .server
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        format!(
            "{}/{} (schema {})",
            hosts.join(","),
            self.server.get_dbname().unwrap_or_default(),
            self.schema
        )
    }

    /// The present moment where it is not the server's.
    pub(super) fn now(&self) -> Option<i64> {
        let clock = self.clock.as_ref()?;
        Some(i64::try_from(clock.now().0).unwrap_or(i64::MAX))
    }
}

/// It says where it is, and not how it gets in.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresConfig")
            .field(&self.place())
            .finish()
    }
}
