//! Everything that must hold before a push, in the order in which a mistake is found soonest.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::npm;
use crate::shell::Cmd;

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Ci {
    /// Run only this step (may be given several times)
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
    /// Leave this step out (may be given several times)
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    skip: Vec<String>,
}

/// A step is a command: what CI runs and what a person repeats are the same words.
struct Step {
    name: &'static str,
    line: &'static str,
    env: Option<(&'static str, &'static str)>,
}

impl Step {
    const fn new(name: &'static str, line: &'static str) -> Self {
        Self {
            name,
            line,
            env: None,
        }
    }
}

/// One feature set for everything that compiles the workspace (all features, all targets), so that nothing is
/// built twice; only the step `alone` builds otherwise, on purpose.
const STEPS: &[Step] = &[
    Step::new("tools", "cargo xtask tools"),
    Step::new("fmt", "cargo fmt --all --check -- -l"),
    Step::new("tidy", "cargo xtask tidy"),
    Step::new(
        "clippy",
        "cargo clippy --workspace --all-targets --all-features -- -D warnings",
    ),
    Step {
        name: "doc",
        line: "cargo doc --workspace --all-features --no-deps",
        env: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    Step::new("alone", "cargo xtask tidy --build"),
    Step::new("test", "cargo test --workspace --all-features"),
    // the same settlement tests as in `test`, on a chain that is not ours
    Step::new(
        "settlement",
        "cargo xtask anvil -- cargo test --workspace --all-features --test settlement -- --ignored",
    ),
    // every promise of the store, on a PostgreSQL that is started for it
    Step::new(
        "postgres",
        "cargo xtask postgres -- cargo test --workspace --all-features --test postgres --test idempotency -- --ignored",
    ),
    Step::new(
        "simulate",
        "cargo xtask simulate --histories 5000 --threads 2",
    ),
    // the simulator's teeth: every seeded bug is caught
    Step::new(
        "mutants",
        "cargo xtask simulate --mutants --histories 2000 --threads 2",
    ),
    // the attacks of `test`, on a chain that is not ours
    Step::new(
        "attacks",
        "cargo xtask anvil -- cargo test --workspace --all-features --test attacks",
    ),
    Step::new("contracts", "cargo xtask contracts --check"),
    // our own tests of the proxies and the Settler, over the Permit2 that is on BSC
    Step::new("permit2", "cargo xtask contracts --permit2"),
    Step::new("conformance", "cargo xtask conformance --as-tested"),
    Step::new("crash", "cargo xtask crash --as-tested"),
    Step::new("fuzz", "cargo xtask fuzz --seconds 20"),
];

impl Ci {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let chosen: Vec<&Step> = STEPS
            .iter()
            .filter(|step| self.only.is_empty() || self.only.iter().any(|name| name == step.name))
            .filter(|step| !self.skip.iter().any(|name| name == step.name))
            .collect();
        ensure!(!chosen.is_empty(), "no step is left to run");
        // Asked for once: a step that builds the workspace puts another file in its place, and the system then calls
        // the one that runs deleted.
        let program = std::env::current_exe().context("the path of this program")?;
        let began = Instant::now();
        for (index, step) in chosen.iter().enumerate() {
            println!(
                "==> {}/{} {}: {}",
                index + 1,
                chosen.len(),
                step.name,
                step.command()
            );
            let start = Instant::now();
            if let Err(error) = step.run(&program) {
                println!("{index} passed, 1 failed");
                return Err(error.context(format!(
                    "step `{}` failed; to repeat it: {}",
                    step.name,
                    step.command()
                )));
            }
            println!(
                "    {} ok, {} (since the start {})",
                step.name,
                time(start.elapsed()),
                time(began.elapsed())
            );
        }
        println!("{} passed, 0 failed", chosen.len());
        Ok(())
    }
}

impl Step {
    /// As a person types it.
    fn command(&self) -> Cmd {
        let cmd = Cmd::new(self.line);
        match self.env {
            Some((name, value)) => cmd.env(name, value),
            None => cmd,
        }
    }

    fn run(&self, program: &Path) -> anyhow::Result<()> {
        match self.line.strip_prefix("cargo xtask ") {
            // this very program: going through cargo would only look for changes again
            Some(task) => {
                let status = Cmd::new(task).command_of(program).status()?;
                ensure!(status.success(), "{status}");
                Ok(())
            }
            None => self.command().run(),
        }
    }
}

/// The names of all steps, in their order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|step| step.name)
}

fn step_names() -> clap::builder::PossibleValuesParser {
    names().collect::<Vec<_>>().into()
}

/// What the machine must bring: everything else is installed from lock files.
pub(crate) fn check_tools() -> anyhow::Result<()> {
    let needed = [
        ("git --version", "git (Debian: apt-get install git)"),
        (
            "cargo fmt --version",
            "rustfmt: rustup component add rustfmt",
        ),
        (
            "cargo clippy --version",
            "clippy: rustup component add clippy",
        ),
        (
            "cc --version",
            "a C compiler, for secp256k1 and SQLite (Debian: apt-get install gcc libc6-dev)",
        ),
        (
            "c++ --version",
            "a C++ compiler, for the fuzzer (Debian: apt-get install g++)",
        ),
    ];
    for (command, what) in needed {
        Cmd::new(command)
            .output()
            .with_context(|| format!("missing: {what}"))?;
    }
    npm::check_node()?;
    crate::postgres::check()
}

fn time(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_printed_with_its_environment() {
        let doc = STEPS.iter().find(|step| step.name == "doc").unwrap();
        assert_eq!(
            doc.command().to_string(),
            "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --all-features --no-deps"
        );
    }

    #[test]
    fn no_two_steps_share_a_name() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
