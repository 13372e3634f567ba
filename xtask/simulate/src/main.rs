//! `cargo xtask simulate`.
#![expect(clippy::print_stdout, reason = "a program that tells what it found")]

use std::process::ExitCode;

use clap::Parser;
use tollgate_simulate::{Kind, live};

/// Lives seeded histories of the gateway's money.
#[derive(Parser)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many histories of each kind
    #[arg(long, default_value_t = 100)]
    histories: u64,
    /// Only this kind
    #[arg(long)]
    kind: Option<Kind>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for kind in Kind::ALL {
        if arguments.kind.is_some_and(|only| only != kind) {
            continue;
        }
        let start = std::time::Instant::now();
        let (mut payments, mut ends, mut events, mut lasted) = (0, (0, 0, 0), 0, 0);
        for seed in arguments.seed..arguments.seed + arguments.histories {
            let ended = live(seed, kind, None, false);
            payments += ended.payments;
            events += ended.events;
            lasted += ended.lasted;
            ends.0 += ended.ends.0;
            ends.1 += ended.ends.1;
            ends.2 += ended.ends.2;
            if let Some(violation) = ended.violation {
                let again = live(seed, kind, None, true);
                let from = again.trace.len().saturating_sub(150);
                for line in &again.trace[from..] {
                    println!("{line}");
                }
                println!("{kind}, seed {seed}: {violation}");
                println!("again: cargo xtask simulate --kind {kind} --seed {seed} --histories 1");
                return ExitCode::FAILURE;
            }
        }
        println!(
            "{kind}: {} histories, {payments} payments {ends:?}, {events} events, {lasted} ms virtual, {:?}",
            arguments.histories,
            start.elapsed()
        );
    }
    ExitCode::SUCCESS
}
