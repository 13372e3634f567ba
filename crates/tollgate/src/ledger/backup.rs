//! `tollgate ledger backup`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use tollgate_ledger::SqliteStore;

use crate::ops::{Setup, Where};

/// Copy the ledger as it is now into a new file, also while a gateway has it open.
///
/// Never sell with a copy while the original sells: both would spend the same money. A copy that is restored later is
/// behind the chain: run `tollgate ledger reconcile` before selling with it.
#[derive(clap::Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    at: Where,
    /// The new file
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let setup = Setup::read(&self.at.config)?;
        if setup.ledger.shared.is_some() {
            bail!("the ledger is in a database: back it up with pg_dump or your host's tools");
        }
        if self.to.exists() {
            bail!(
                "{} exists: name a new file, nothing is overwritten",
                self.to.display()
            );
        }
        SqliteStore::copy(&setup.ledger.path, &self.to)?;
        let bytes = std::fs::metadata(&self.to)?.len();
        if self.at.json {
            say!(
                "{}",
                serde_json::json!({"file": self.to.display().to_string(), "bytes": bytes})
            );
        } else {
            say!(
                "{} has the ledger as it is now: {bytes} bytes.",
                self.to.display()
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
