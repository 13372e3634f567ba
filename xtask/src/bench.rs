//! Measuring: the release builds of the gateway and of the program that measures it, and a run of it.

use anyhow::Context;

use crate::postgres::Postgres;
use crate::shell::{Cmd, target_dir};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to measure, and how: see `cargo xtask bench -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // One build of both: the features that they share are resolved once.
        Cmd::new("cargo build --release --quiet -p tollgate -p tollgate-bench").run()?;
        let program = target_dir().join("release").join("tollgate-bench");
        let program = program.to_str().context("a path that is not UTF-8")?;
        let ledger = |word: &String| word == "ledger";
        let everything = self.arguments.iter().all(|word| word.starts_with('-'));
        let measured = Cmd::program(program).args(&self.arguments);
        if !(everything || self.arguments.iter().any(ledger)) {
            return measured.run();
        }
        let server = Postgres::start()?;
        let done = measured.env("TOLLGATE_POSTGRES_URL", server.url()).run();
        done.and(server.stop())
    }
}
