//! Kills real sellers at every step that matters, starts them again, and holds their books against the chain.
//!
//! The sellers are processes of their own: the real till, paywall, ledger and worker over an anvil with the real Permit2.
//! Nothing of the product knows of it: the places at which a process dies are between its ports.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task speaks to the terminal"
)]

mod anvil;
mod binary;
mod books;
mod buyer;
mod caller;
mod dice;
mod history;
mod journal;
mod ordeal;
mod place;
mod ports;
mod process;
mod seller;
mod shop;
mod site;
mod trigger;
mod work;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, ensure};
use clap::Parser;

use crate::{
    anvil::Anvil,
    books::Tally,
    history::World,
    site::{POINTS, Point},
};

/// Kill sellers at every step that matters, and hold their books against the chain.
#[derive(Parser)]
#[command(name = "cargo xtask crash", bin_name = "cargo xtask crash")]
struct Arguments {
    /// Only this crash point (may be given several times)
    #[arg(long, value_name = "N")]
    point: Vec<u8>,
    /// Only this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many seeds of each point
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Where the ledgers are
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// Only the program itself, killed at random moments
    #[arg(long, conflicts_with = "point")]
    binary: bool,
    /// Go on after a failure, and tell all of them at the end
    #[arg(long)]
    keep_going: bool,
    /// Where ledgers, journals and logs are written. Default: the system's directory for such files
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// A kind of ledger.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// A file each.
    Sqlite,
    /// A database each, on the server that TOLLGATE_POSTGRES_URL names.
    Postgres,
}

fn main() -> ExitCode {
    let done = if std::env::var_os(seller::LIFE).is_some() {
        seller::live()
    } else {
        Arguments::parse().run()
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn run(self) -> anyhow::Result<()> {
        let points: Vec<&Point> = POINTS
            .iter()
            .filter(|_| !self.binary)
            .filter(|point| self.point.is_empty() || self.point.contains(&point.number))
            // A server's disk is the server's.
            .filter(|point| self.store == Store::Sqlite || point.number != 16)
            .collect();
        ensure!(
            self.binary || !points.is_empty(),
            "there is no such crash point"
        );
        let directory = match &self.directory {
            Some(directory) => directory.clone(),
            None => tempfile::Builder::new()
                .prefix("tollgate-crash")
                .tempdir()?
                .keep(),
        };
        let postgres = match self.store {
            Store::Sqlite => None,
            Store::Postgres => Some(
                std::env::var("TOLLGATE_POSTGRES_URL")
                    .context("TOLLGATE_POSTGRES_URL is not set: see `cargo xtask postgres`")?
                    .replace(" dbname=postgres", ""),
            ),
        };
        let name = match self.store {
            Store::Sqlite => "sqlite",
            Store::Postgres => "postgres",
        };
        let world = World {
            anvil: Anvil::prepared()?,
            postgres,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            directory: directory.clone(),
        };
        let seeds = match self.seed {
            Some(seed) => seed..seed + 1,
            None => 0..self.seeds,
        };
        header();
        let (mut all, mut failed) = (Tally::default(), Vec::new());
        for point in points {
            let began = Instant::now();
            let mut tally = Tally::default();
            for seed in seeds.clone() {
                match history::run(&world, point, seed) {
                    Ok(one) => tally.add(one),
                    Err(error) if self.keep_going => failed.push(format!("{error:#}")),
                    Err(error) => {
                        let log = directory.join(format!("{}-{seed}/log", point.number));
                        eprintln!("{}", history::tail(&log));
                        return Err(error);
                    }
                }
            }
            row(&point.title(), name, &tally, began);
            all.add(tally);
        }
        if self.binary || (self.point.is_empty() && self.seed.is_none()) {
            // It takes its time: one seed of it, unless it is asked for.
            let seeds = if self.binary { seeds } else { 0..1 };
            for seed in seeds {
                let began = Instant::now();
                match binary::run(&world, seed) {
                    Ok((one, heard)) => {
                        program_row(name, &one, &heard, began);
                        all.add(one);
                    }
                    Err(error) if self.keep_going => failed.push(format!("{error:#}")),
                    Err(error) => {
                        eprintln!(
                            "{}",
                            history::tail(&directory.join(format!("0-{seed}/log")))
                        );
                        return Err(error);
                    }
                }
            }
        }
        if all.blocks > 0 {
            println!(
                "    committed before a kill -9: on the chain {} block(s) after the next start was ready, at most",
                all.blocks
            );
        }
        ensure!(
            failed.is_empty(),
            "{} histories failed:\n{}",
            failed.len(),
            failed.join("\n")
        );
        ensure!(
            all.lost == 0 && all.double == 0,
            "the books are not the chain: {all:?}"
        );
        println!(
            "crash on {name}: {} histories, {} crashes, {} charges: 0 lost, 0 double, books = chain",
            all.histories, all.crashes, all.charges
        );
        std::fs::remove_dir_all(&directory).context("the directory cannot be removed")
    }
}

fn header() {
    println!(
        "    {:<32} {:>5} {:>7} {:>7} {:>8} {:>4} {:>6} {:>6} {:>13} {:>6}",
        "point",
        "seeds",
        "crashes",
        "charges",
        "released",
        "lost",
        "double",
        "unpaid",
        "books = chain",
        "s"
    );
}

fn program_row(store: &str, tally: &Tally, heard: &str, began: Instant) {
    println!(
        "    tollgate serve, kill -9 at random {store:<8} {} times: {heard}; {} payments charged, {} released, {} lost, {} double, {:.1} s",
        tally.crashes,
        tally.charges,
        tally.released,
        tally.lost,
        tally.double,
        began.elapsed().as_secs_f32()
    );
}

fn row(title: &str, store: &str, tally: &Tally, began: Instant) {
    let equal = if tally.lost == 0 && tally.double == 0 {
        "yes"
    } else {
        "NO"
    };
    println!(
        "    {:<32} {:<8} {:>5} {:>7} {:>7} {:>8} {:>4} {:>6} {:>6} {:>13} {:>6.1}",
        title,
        store,
        tally.histories,
        tally.crashes,
        tally.charges,
        tally.released,
        tally.lost,
        tally.double,
        tally.unpaid,
        equal,
        began.elapsed().as_secs_f32()
    );
}
