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
/// All but `reconcile` read a copy, so a gateway that has the ledger open goes on. Exit codes: 0 all is well; 1 something
/// is not (an invariant is violated, something is stuck) or the command failed; 2 the arguments are wrong.
#[derive(clap::Args)]
pub(crate) struct Ledger {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Recompute everything that must hold; with --chain, hold the books against the chain
    Audit(audit::Audit),
    /// Print the double-entry book as CSV or JSON
    Export(export::Export),
    /// Say what is not progressing, why, and what to do
    Stuck(stuck::Stuck),
    /// Learn from the chain what the ledger missed, after an old backup was restored. Sends nothing
    Reconcile(reconcile::Reconcile),
    /// Copy the ledger as it is now into a new file, also while a gateway has it open
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
