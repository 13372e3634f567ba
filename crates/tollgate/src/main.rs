//! tollgate: pay-per-request AI inference, settled on BNB Smart Chain.

#[macro_use]
mod terminal;

mod admin;
mod chat;
mod clock;
mod config;
mod demo;
mod dev;
mod devchain;
mod doctor;
mod facilitator;
mod keys;
mod ledger;
mod opening;
mod ops;
mod payer;
mod plan;
mod remote;
mod run;
mod seller;
mod serve;
mod settler;
mod store;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Pay-per-request AI inference: every request carries its own x402 payment, settled on BNB Smart Chain.
///
/// Try it:              tollgate demo
/// Sell, for trying:    tollgate serve --dev
/// Pay it:              TOLLGATE_KEY=0x… tollgate chat "Hello" --gateway http://127.0.0.1:8402
/// Sell for real:       tollgate serve --config tollgate.toml
#[derive(Parser)]
#[command(name = "tollgate", version, about, long_about, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged, to standard error: error, warn, info, debug, or a filter such as "tollgate_engine=debug"
    #[arg(
        long,
        global = true,
        default_value = "warn",
        env = "TOLLGATE_LOG",
        value_name = "FILTER"
    )]
    log: String,
}

// What each is for stands with its own type: a text here would hide all but the first line of it.
#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Chat(chat::Chat),
    Facilitator(facilitator::Facilitator),
    Devchain(devchain::Devchain),
    Ledger(ledger::Ledger),
    Payer(payer::Payer),
    Keys(keys::Keys),
    Settler(settler::Settler),
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = log(&cli.log) {
        warn_person!("tollgate: --log: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            warn_person!("tollgate: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Demo(command) => command.run().await,
            Command::Serve(command) => command.run().await,
            Command::Chat(command) => command.run().await,
            Command::Facilitator(command) => command.run().await,
            Command::Devchain(command) => command.run().await,
            Command::Ledger(command) => command.run().await,
            Command::Payer(command) => command.run().await,
            Command::Keys(command) => command.run().await,
            Command::Settler(command) => command.run().await,
            Command::Doctor(command) => command.run().await,
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            warn_person!("tollgate: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, but for those that only say again what was said.
fn explain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.contains(&cause) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&cause);
    }
    said
}

/// Logs go to standard error: standard output is for answers.
fn log(filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .finish()
        .with(filter_fn(|event| !tells_all(event.target(), event.level())))
        .try_init()?;
    Ok(())
}

/// Whether a library writes there whole requests to nodes, with the signatures of payments that are not settled yet.
fn tells_all(target: &str, level: &tracing::Level) -> bool {
    *level == tracing::Level::TRACE && target.starts_with("alloy_")
}
