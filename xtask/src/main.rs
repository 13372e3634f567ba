//! The tasks of the repository, one command each.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task speaks to the terminal"
)]

mod bench;
mod ci;
mod conformance;
mod contracts;
mod crash;
mod fuzz;
mod npm;
mod postgres;
mod shell;
mod simulate;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// The tasks of the repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
enum Task {
    /// Everything that must hold before a push, step by step; stops at the first failure
    Ci(ci::Ci),
    /// Check that the machine has what the project does not install by itself
    Tools,
    /// Check the rules of the repository that no compiler checks; with --build, each library crate alone
    Tidy(tidy::Tidy),
    /// Have published foreign clients pay the real binary, over our chain and over anvil
    Conformance(conformance::Conformance),
    /// Run a command against a fresh anvil with the real Permit2 and our contracts, told by TOLLGATE_ANVIL_RPC,
    /// TOLLGATE_ANVIL_SETTLER and TOLLGATE_ANVIL_LEDGER_ID
    Anvil(conformance::OnAnvil),
    /// Run a command against a fresh PostgreSQL, told by TOLLGATE_POSTGRES_URL
    Postgres(postgres::OnPostgres),
    /// Live the gateway's money through seeded histories of crashes, faults and hostile payers (docs/simulator.md)
    Simulate(simulate::Simulate),
    /// Measure the gateway beside what it stands in front of (docs/benchmarks.md)
    Bench(bench::Bench),
    /// Kill real sellers at every step that matters, and hold their books against the chain (docs/crashes.md)
    Crash(crash::Crash),
    /// Run the fuzz targets for a while, beginning with their corpora
    Fuzz(fuzz::Fuzz),
    /// Compile the Solidity of crates/tollgate-contracts; with --check, only compare with what is committed
    Contracts(contracts::Contracts),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Ci(task) => task.run(),
        Task::Tools => ci::check_tools(),
        Task::Tidy(task) => task.run(),
        Task::Conformance(task) => task.run(),
        Task::Anvil(task) => task.run(),
        Task::Postgres(task) => task.run(),
        Task::Simulate(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Crash(task) => task.run(),
        Task::Fuzz(task) => task.run(),
        Task::Contracts(task) => task.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // causes without a backtrace: what failed is a command, not this program
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
