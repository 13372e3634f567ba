//! Compiles the Solidity of `tollgate-contracts` with npm's `solc`.

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Contracts {
    /// Compare with the committed output instead of writing it
    #[arg(long)]
    check: bool,
}

impl Contracts {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        anyhow::bail!("not yet (check: {})", self.check)
    }
}
