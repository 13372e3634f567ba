//! Measuring: the release builds of the gateway and of the program that measures it, and a run of it.

use anyhow::Context;

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
        Cmd::program(program).args(self.arguments).run()
    }
}
