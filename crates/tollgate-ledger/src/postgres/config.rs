//! Where the database is, and what it is asked to be.

use core::fmt;
use std::{str::FromStr, sync::Arc, time::Duration};

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use tollgate_x402::Clock;

use super::{
    PostgresError,
    open::SCHEMA,
    tls::{self, Mode},
};

/// Which database and schema hold the ledger. It shows no password.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) server: tokio_postgres::Config,
    /// What encrypts, and verifies the server; `None`: in the clear.
    pub(super) tls: Option<MakeRustlsConnect>,
    pub(super) schema: String,
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// The newest version of the tables that this program knows.
    pub(super) known: i64,
    /// No ledger is made where there is none.
    pub(super) existing: bool,
}

impl PostgresConfig {
    /// From a URL (`postgresql://user:password@host/database?sslmode=verify-full`) or `key=value` words, as libpq takes them.
    /// With `sslmode=require` or `verify-full` the connection is encrypted and the server's certificate and name are verified, by
    /// the system's certificates or those of the file `sslrootcert`. With `disable`, or to this machine where nothing is
    /// said, it is in the clear. Nothing else is taken.
    /// The ledger is in the schema `tollgate`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`PostgresError::Tls`], [`TlsMode`](PostgresError::TlsMode), [`Certificates`](PostgresError::Certificates), and
    /// [`PostgresError::Url`]; it does not repeat what was given, since that may hold a password.
    pub fn new(url: &str) -> Result<Self, PostgresError> {
        let (rest, mode) = tls::read(url.trim())?;
        let mut server = tokio_postgres::Config::from_str(&rest).map_err(|_| PostgresError::Url)?;
        if server.get_hosts().is_empty() || server.get_dbname().is_none() {
            return Err(PostgresError::Url);
        }
        let near = |host: &Host| match host {
            Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        let (ssl, tls) = match mode {
            Mode::Verified(root) => (SslMode::Require, Some(tls::connector(root.as_deref())?)),
            Mode::Clear => (SslMode::Disable, None),
            Mode::Unsaid if server.get_hosts().iter().all(near) => (SslMode::Disable, None),
            // What libpq makes of it would send the password and the books in the clear where the server has no TLS,
            // without a word.
            Mode::Unsaid => return Err(PostgresError::Tls),
        };
        server.ssl_mode(ssl);
        if server.get_application_name().is_none() {
            server.application_name("tollgate");
        }
        server
            .connect_timeout(Duration::from_secs(5))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10));
        Ok(Self {
            server,
            tls,
            schema: "tollgate".into(),
            clock: None,
            known: SCHEMA,
            existing: false,
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

    /// Only a ledger that is there: where there is none, none is made.
    #[must_use]
    pub fn existing(self) -> Self {
        Self {
            existing: true,
            ..self
        }
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
