//! Measures the gateway beside what it stands in front of. Times are measured here and only here: no test asserts one.
//!
//! What must be exact is checked all the same: a run in which charges and settlements differ fails.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task speaks to the terminal"
)]

mod client;
mod ledger;
mod machine;
mod mock;
mod payer;
mod process;
mod report;
mod rss;
mod settle;
mod sibling;
mod sse;
mod stats;
mod ttfb;
mod unpaid;
mod verify;
mod world;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    machine::{Disk, Machine},
    report::Report,
};

/// Measure the gateway beside what it stands in front of.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// What to measure; everything if nothing is named
    bench: Vec<Bench>,
    /// Seconds of load of ttfb
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    /// Payers of ttfb: each is looked up on the chain once in 3 s, by one of its requests
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    payers: u64,
    /// Paid requests of rss
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    requests: usize,
    /// Where ledgers are written, and so which disk is measured. Default: the system's directory for such files
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Instead, be the route beside which the gateway's 402 is measured, with answers of so many bytes
    #[arg(long, hide = true, value_name = "BYTES")]
    sibling: Option<usize>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Time to the first token of a paid stream, beside the same model server without the gateway; settlement
    Ttfb,
    /// Unpaid requests a second, beside a route that reads the same body
    Unpaid,
    /// CPU of checking a payment without the chain
    Verify,
    /// CPU of translating an event of a stream
    Sse,
    /// Durable reservations a second, beside the disk's fsync
    Ledger,
    /// Memory after many paid requests
    Rss,
    /// Gas of a settled request, beside a single settlement
    Settle,
}

/// What the measurements are given.
struct Options {
    /// The gateway.
    tollgate: PathBuf,
    directory: PathBuf,
    seconds: u64,
    payers: u64,
    requests: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(answer) = arguments.sibling {
        return sibling::serve(answer).await;
    }
    let program = std::env::current_exe()?.with_file_name("tollgate");
    ensure!(
        program.exists(),
        "there is no {}: build it in the same way as this program, or run `cargo xtask bench`",
        program.display()
    );
    let scratch = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    }
    .context("no directory for ledgers")?;
    let options = Options {
        tollgate: program,
        directory: scratch.path().to_owned(),
        seconds: arguments.seconds,
        payers: arguments.payers,
        requests: arguments.requests,
    };
    let (machine, disk) = (Machine::look(), Disk::measure(scratch.path())?);
    let mut rows = Vec::new();
    let all = Bench::value_variants();
    for bench in all {
        if !arguments.bench.is_empty() && !arguments.bench.contains(bench) {
            continue;
        }
        eprintln!("{bench:?} …");
        let measured = match bench {
            Bench::Ttfb => ttfb::run(&options).await,
            Bench::Unpaid => unpaid::run(&options).await,
            Bench::Verify => verify::run().await,
            Bench::Sse => sse::run(),
            Bench::Ledger => ledger::run(&options).await,
            Bench::Rss => rss::run(&options).await,
            Bench::Settle => settle::run().await,
        };
        rows.extend(measured.with_context(|| format!("{bench:?}"))?);
    }
    let report = Report {
        machine,
        disk,
        rows,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}
