//! The tasks of the repository, one command each.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task speaks to the terminal")]

mod contracts;

use clap::Parser;

/// The tasks of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", about)]
enum Task {
    /// Compile the Solidity of crates/tollgate-contracts; with --check, only compare with what is committed
    Contracts(contracts::Contracts),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Contracts(task) => task.run(),
    }
}
