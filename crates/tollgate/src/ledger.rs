//! `tollgate ledger`: the books of a gateway, for its operator.

mod audit;
mod backup;
mod export;
mod reconcile;
mod stuck;

use std::process::ExitCode;

use clap::Subcommand;

/// Look at the books: audit them, export them, find what is stuck, repair them after a restored backup.
///
/// All but `reconcile` only read, a file by a copy of it and a database in place, so a gateway that has the ledger open
/// goes on. Exit codes: 0 all is well; 1 something is not (an invariant is violated, something is stuck) or the command
/// failed; 2 the arguments are wrong.
#[derive(clap::Args)]
pub(crate) struct Ledger {
    #[command(subcommand)]
    command: Command,
}

// What each is for stands with its own type.
#[derive(Subcommand)]
enum Command {
    Audit(audit::Audit),
    Export(export::Export),
    Stuck(stuck::Stuck),
    Reconcile(reconcile::Reconcile),
    Backup(backup::Backup),
}

impl Ledger {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Audit(command) => command.run().await,
            Command::Export(command) => command.run().await,
            Command::Stuck(command) => command.run().await,
            Command::Reconcile(command) => command.run().await,
            Command::Backup(command) => command.run(),
        }
    }
}
