//! `cargo xtask simulate`.
#![expect(clippy::print_stdout, reason = "a program that tells what it found")]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use tollgate_simulate::{Ended, Kind, Mutant, Violation, live};

/// Lives the gateway's money through seeded histories, and checks after each step what must hold.
#[derive(Parser)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many histories of each kind; with --mutants, how many at most for each bug
    #[arg(long, default_value_t = 1_000)]
    histories: u64,
    /// Only this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Switch on one seeded bug after the other, and tell how many histories it takes to catch it
    #[arg(long)]
    mutants: bool,
    /// Only this seeded bug, by its name
    #[arg(long)]
    mutant: Option<String>,
    /// Threads, each with histories of its own
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print a trace of the first history
    #[arg(long)]
    trace: bool,
    /// Tell the progress after so many histories
    #[arg(long, default_value_t = 10_000)]
    progress: u64,
}

#[derive(Default)]
struct Sums {
    histories: u64,
    payments: u64,
    events: u64,
    ends: (u64, u64, u64),
    losses: BTreeMap<String, u64>,
}

/// The first failure, by seed.
type Failed = Option<(u64, Violation)>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mutant = arguments.mutant.as_deref();
    if arguments.trace {
        let kind = arguments.kind.unwrap_or(Kind::Allowance);
        let mutant = Mutant::ALL.iter().find(|bug| Some(bug.name()) == mutant);
        for line in live(arguments.seed, kind, mutant.copied(), true).trace {
            println!("{line}");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.mutants || mutant.is_some() {
        return mutants(&arguments);
    }
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.kind.is_none_or(|only| only == *kind));
    for kind in kinds {
        let start = Instant::now();
        let (sums, failed) = search(&arguments, kind, None);
        if let Some((seed, violation)) = failed {
            explain(kind, seed, &violation);
            return ExitCode::FAILURE;
        }
        println!(
            "{kind}: {} histories, {} payments ({} final, {} lost, {} released), {} events, 0 violations, {:.1} s",
            sums.histories,
            sums.payments,
            sums.ends.0,
            sums.ends.1,
            sums.ends.2,
            sums.events,
            start.elapsed().as_secs_f64()
        );
        println!("{kind}: lost by reason: {:?}", sums.losses);
    }
    ExitCode::SUCCESS
}

/// Histories from the first seed on, until one fails.
fn search(arguments: &Arguments, kind: Kind, mutant: Option<Mutant>) -> (Sums, Failed) {
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.histories);
    let found: Mutex<(Sums, Failed)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let ended = live(seed, kind, mutant, false);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    add(&mut found, seed, ended);
                    if found.1.is_some() {
                        next.store(end, Ordering::Relaxed);
                    }
                    let histories = found.0.histories;
                    if mutant.is_none() && histories.is_multiple_of(arguments.progress) {
                        println!("{kind}: {histories} histories, up to seed {seed}");
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn add(found: &mut (Sums, Failed), seed: u64, ended: Ended) {
    let (sums, failed) = found;
    sums.histories += 1;
    sums.payments += ended.payments;
    sums.events += ended.events;
    sums.ends.0 += ended.ends.0;
    sums.ends.1 += ended.ends.1;
    sums.ends.2 += ended.ends.2;
    for (reason, lost) in &ended.losses {
        *sums.losses.entry(reason.clone()).or_default() += lost;
    }
    if let Some(violation) = ended.violation
        && failed.as_ref().is_none_or(|(first, _)| seed < *first)
    {
        *failed = Some((seed, violation));
    }
}

/// The last steps of a history that failed.
fn explain(kind: Kind, seed: u64, violation: &Violation) {
    let trace = live(seed, kind, None, true).trace;
    for line in &trace[trace.len().saturating_sub(120)..] {
        println!("{line}");
    }
    println!("{kind}, seed {seed}: {violation}");
    println!("again: cargo xtask simulate --kind {kind} --seed {seed} --histories 1");
    println!("all of it: cargo xtask simulate --kind {kind} --seed {seed} --trace");
}

/// The table of seeded bugs.
fn mutants(arguments: &Arguments) -> ExitCode {
    println!("| bug | what is wrong | kind | histories until caught | by invariant |");
    println!("|---|---|---|---|---|");
    let mut survivors = 0;
    for mutant in Mutant::ALL {
        if arguments
            .mutant
            .as_deref()
            .is_some_and(|only| only != mutant.name())
        {
            continue;
        }
        let kind = arguments.kind.unwrap_or(mutant.kind());
        let (_, failed) = search(arguments, kind, Some(*mutant));
        let (histories, by) = match failed {
            Some((seed, violation)) => {
                if arguments.mutant.is_some() {
                    println!("{violation}");
                }
                let histories = seed.saturating_sub(arguments.seed).saturating_add(1);
                (histories.to_string(), violation.invariant.to_string())
            }
            None => {
                survivors += 1;
                (
                    format!("**not in {}**", arguments.histories),
                    "–".to_owned(),
                )
            }
        };
        println!(
            "| `{}` | {} | {kind} | {histories} | {by} |",
            mutant.name(),
            mutant.says()
        );
    }
    if survivors > 0 {
        println!("{survivors} seeded bugs were not caught: the model has a hole");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
