//! Crash loops: real sellers are killed at every step that matters, and their books held against the chain.

use std::io::Write;
use std::thread;

use anyhow::{Context, ensure};

use crate::conformance;
use crate::shell::{Cmd, target_dir};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Crash {
    /// Only ledgers of this kind; both, one beside the other, if none is named
    #[arg(long, value_parser = ["sqlite", "postgres"])]
    store: Option<String>,
    /// Only this crash point (may be given several times)
    #[arg(long, value_name = "N")]
    point: Vec<u8>,
    /// Only this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// So many seeds of each point
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Only the program itself, killed at random moments
    #[arg(long, conflicts_with = "point")]
    binary: bool,
    /// Go on after a failure, and tell all of them at the end
    #[arg(long)]
    keep_going: bool,
    /// Use the program as the tests build it, with all features, so that it is not built twice
    #[arg(long)]
    as_tested: bool,
}

impl Crash {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // Asked for before the build, which may put another file in its place.
        let this = std::env::current_exe().context("the path of this program")?;
        let this = this.to_str().context("a path that is not UTF-8")?;
        let build = if self.as_tested {
            "cargo build --quiet --workspace --all-features --all-targets"
        } else {
            "cargo build --quiet --package tollgate-crash --package tollgate"
        };
        Cmd::new(build).run()?;
        conformance::OnAnvil::install()?;
        match &self.store {
            Some(store) => self.command(this, store)?.run(),
            None => self.both(this),
        }
    }

    /// What runs the histories of one kind of ledger, over a chain and a database of their own.
    fn command(&self, this: &str, store: &str) -> anyhow::Result<Cmd> {
        let program = target_dir().join("debug").join("tollgate-crash");
        let program = program.to_str().context("a path that is not UTF-8")?;
        let mut words = match store {
            "postgres" => vec!["postgres", "--", this, "anvil", "--", program],
            _ => vec!["anvil", "--", program],
        };
        words.extend(["--store", store]);
        let mut command = Cmd::program(this).args(words);
        for point in &self.point {
            command = command.args(["--point".to_owned(), point.to_string()]);
        }
        if let Some(seed) = self.seed {
            command = command.args(["--seed".to_owned(), seed.to_string()]);
        }
        command = command.args(["--seeds".to_owned(), self.seeds.to_string()]);
        if self.binary {
            command = command.arg("--binary");
        }
        Ok(if self.keep_going {
            command.arg("--keep-going")
        } else {
            command
        })
    }

    /// Both kinds at once, and what each said when it is done.
    fn both(&self, this: &str) -> anyhow::Result<()> {
        let running = ["sqlite", "postgres"].map(|store| {
            let command = self.command(this, store).map(|command| command.command());
            thread::spawn(move || anyhow::Ok(command?.output()?))
        });
        let mut failed = false;
        for running in running {
            let output = running.join().ok().context("a thread panicked")??;
            std::io::stdout().write_all(&output.stdout)?;
            if !output.status.success() {
                std::io::stderr().write_all(&output.stderr)?;
                failed = true;
            }
        }
        ensure!(!failed, "histories failed");
        Ok(())
    }
}
