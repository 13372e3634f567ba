//! Crash loops: real sellers are killed at every step that matters, and their books held against the chain.

use anyhow::Context;

use crate::shell::{Cmd, target_dir};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Crash {
    /// What to kill, and how often: see `cargo xtask crash -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Crash {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Cmd::new("cargo build --quiet -p tollgate-crash --all-features").run()?;
        let program = target_dir().join("debug").join("tollgate-crash");
        let program = program.to_str().context("a path that is not UTF-8")?;
        let mut command = vec![program.to_owned()];
        command.extend(self.arguments);
        crate::conformance::OnAnvil::of(command).run()
    }
}
