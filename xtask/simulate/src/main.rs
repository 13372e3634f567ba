//! `cargo xtask simulate`.
#![expect(clippy::print_stdout, reason = "a program that tells what it found")]

use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use tollgate_simulate::{Bug, Ended, Kind, Mutant, Violation, live};

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
    /// Switch on one seeded bug after the other, and tell how many histories it takes to catch it; then the same histories
    /// without it have to hold
    #[arg(long)]
    mutants: bool,
    /// Only this seeded bug, by its name
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
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

impl Arguments {
    fn seeds(&self) -> Range<u64> {
        self.seed..self.seed.saturating_add(self.histories)
    }
}

/// As many histories as it took to catch a bug are lived without it, and so many more.
const CONTROLS: u64 = 100;

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
    if arguments.trace {
        let kind = arguments.kind.unwrap_or(Kind::Allowance);
        let bug = arguments.mutant.map_or(Bug::None, Bug::On);
        for line in live(arguments.seed, kind, bug, true).trace {
            println!("{line}");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.mutants || arguments.mutant.is_some() {
        return mutants(&arguments);
    }
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| arguments.kind.is_none_or(|only| only == *kind));
    for kind in kinds {
        let start = Instant::now();
        let (sums, failed) = search(&arguments, arguments.seeds(), kind, Bug::None);
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

/// Histories of these seeds, until one fails.
fn search(arguments: &Arguments, seeds: Range<u64>, kind: Kind, bug: Bug) -> (Sums, Failed) {
    let next = AtomicU64::new(seeds.start);
    let end = seeds.end;
    let found: Mutex<(Sums, Failed)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let ended = live(seed, kind, bug, false);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    add(&mut found, seed, ended);
                    if found.1.is_some() {
                        next.store(end, Ordering::Relaxed);
                    }
                    let histories = found.0.histories;
                    if bug == Bug::None && histories.is_multiple_of(arguments.progress) {
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
    let trace = live(seed, kind, Bug::None, true).trace;
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
    let (mut survivors, mut held) = (0, 0);
    let some = |mutant: &&Mutant| arguments.mutant.is_none_or(|only| only == **mutant);
    for mutant in Mutant::ALL.iter().filter(some) {
        let kind = arguments.kind.unwrap_or(mutant.kind());
        let (_, failed) = search(arguments, arguments.seeds(), kind, Bug::On(*mutant));
        let mut seeds = arguments.seeds();
        let (histories, by) = match failed {
            Some((seed, violation)) => {
                if arguments.mutant.is_some() {
                    println!("{violation}");
                }
                let histories = seed.saturating_sub(arguments.seed).saturating_add(1);
                seeds.end = seed.saturating_add(CONTROLS).min(seeds.end);
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
        // What catches a bug may be what makes it likely: that alone must break nothing.
        let (sums, failed) = search(arguments, seeds, kind, Bug::Tempted(*mutant));
        if let Some((seed, violation)) = failed {
            let name = mutant.name();
            println!("without `{name}` the history of seed {seed} does not hold: {violation}");
            println!("again: cargo xtask simulate --mutant {name} --seed {seed} --histories 1");
            return ExitCode::FAILURE;
        }
        held += sums.histories;
    }
    if survivors > 0 {
        println!("{survivors} seeded bugs were not caught: the model has a hole");
        return ExitCode::FAILURE;
    }
    println!("without the bugs the same histories hold: {held}, 0 violations");
    ExitCode::SUCCESS
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let known = |bug: &&Mutant| bug.name() == name;
    Mutant::ALL.iter().find(known).copied().ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|bug| bug.name()).collect();
        format!(
            "no seeded bug has this name; there are {}",
            names.join(", ")
        )
    })
}
