//! A chain that is not ours: anvil, with the real Permit2 and our contracts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::process::{Program, free_port};
use crate::npm;
use crate::shell::{Cmd, root, target_dir};

/// The chain id: a signature for it is good nowhere else.
pub(super) const CHAIN_ID: u64 = 31337;
/// The id of the ledger for which the Settler is deployed.
pub(super) const LEDGER_ID: &str =
    "0x0000000000000000000000000000000000000000000000000000000000000000";

/// Arguments of the task `anvil`.
#[derive(clap::Args)]
pub(crate) struct OnAnvil {
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<String>,
}

impl OnAnvil {
    /// Installs what it needs.
    pub(crate) fn install() -> anyhow::Result<()> {
        npm::check_node()?;
        npm::install(&project()).map(drop)
    }

    /// Runs the command with the addresses of a fresh anvil in its environment.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Self::install()?;
        let directory = target_dir().join("conformance/anvil");
        fs::create_dir_all(&directory)?;
        let anvil = Anvil::start(&directory)?;
        let [program, arguments @ ..] = self.command.as_slice() else {
            bail!("no command");
        };
        let done = Cmd::program(program)
            .args(arguments)
            .env("TOLLGATE_ANVIL_RPC", &anvil.rpc)
            .env("TOLLGATE_ANVIL_SETTLER", &anvil.settler)
            .env("TOLLGATE_ANVIL_LEDGER_ID", LEDGER_ID)
            .run();
        done.and(anvil.stop())
    }
}

/// An anvil with our contracts.
pub(super) struct Anvil {
    program: Program,
    pub(super) rpc: String,
    /// The address of the Settler.
    pub(super) settler: String,
}

/// Its npm project.
pub(super) fn project() -> PathBuf {
    super::projects().join("anvil")
}

impl Anvil {
    /// Starts it, with blocks and finality as fast as BSC's and no base fee.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Self> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            bail!(
                "the npm package of anvil is for Linux on x86-64: run the cells of the devchain on this machine"
            );
        }
        let port = free_port()?;
        let binary = project().join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        let cmd = Cmd::program(binary.to_string_lossy())
            .args([
                "--chain-id",
                &CHAIN_ID.to_string(),
                "--port",
                &port.to_string(),
            ])
            .args([
                "--block-time",
                "0.45",
                "--slots-in-an-epoch",
                "1",
                "--block-base-fee-per-gas",
                "0",
            ]);
        let (program, _) = Program::start(
            &cmd,
            &directory.join("anvil.log"),
            |line| line.starts_with("Listening on"),
            Duration::from_secs(30),
        )?;
        let rpc = format!("http://127.0.0.1:{port}");
        let prepared = Cmd::new("node prepare.mjs")
            .arg(&rpc)
            .arg(
                root()
                    .join("crates/tollgate-contracts/artifacts")
                    .to_string_lossy(),
            )
            .arg(LEDGER_ID)
            .dir(project())
            .output()
            .context("our contracts cannot be placed on anvil")?;
        let answer: Value = serde_json::from_str(&prepared).context("what prepare.mjs prints")?;
        let settler = answer["settler"]
            .as_str()
            .context("no Settler was deployed")?
            .to_owned();
        Ok(Self {
            program,
            rpc,
            settler,
        })
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.program.stop(Duration::from_secs(10))
    }
}
