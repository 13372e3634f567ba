//! The simulator: the gateway's money, lived through seeded histories.

use anyhow::Context;

use crate::shell::{Cmd, target_dir};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Simulate {
    /// Which histories, or seeded bugs, and how many: see `cargo xtask simulate -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Simulate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // With the features of everything else, so that nothing is built twice.
        Cmd::new("cargo build --quiet -p tollgate-simulate --all-features").run()?;
        let program = target_dir().join("debug").join("tollgate-simulate");
        let program = program.to_str().context("a path that is not UTF-8")?;
        Cmd::program(program).args(self.arguments).run()
    }
}
