//! Foreign clients pay the real binary: what crosses crates, languages and makers.
//!
//! Each cell of the matrix is one gateway with a fresh ledger over a fresh chain, and one Node.js program that drives
//! a published client as its documentation shows, at the version that its lock file names.

mod book;
mod cell;
mod chain;
mod facilitator;
mod gateway;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::npm;
use crate::shell::{Cmd, root, target_dir};
use cell::{CELLS, Cell, Chain, EXPRESS};
use facilitator::Facilitator;
use gateway::Gateway;

pub(crate) use chain::OnAnvil;

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Conformance {
    /// Print the names of the cells instead
    #[arg(long)]
    list: bool,
    /// Use the binary as the tests build it, with all features, so that it is not built twice
    #[arg(long)]
    as_tested: bool,
    /// Use this binary instead of building one
    #[arg(long, value_name = "PATH", conflicts_with = "as_tested")]
    binary: Option<PathBuf>,
    /// Run only the cells whose names contain one of these
    filter: Vec<String>,
}

/// How long a cell may take.
const PATIENCE: Duration = Duration::from_secs(300);

impl Conformance {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let chosen = |cell: &&Cell| {
            self.filter.is_empty() || self.filter.iter().any(|part| cell.name().contains(part))
        };
        let cells: Vec<&Cell> = CELLS.iter().filter(chosen).collect();
        ensure!(
            !cells.is_empty(),
            "no cell has such a name: see `cargo xtask conformance --list`"
        );
        if self.list {
            cells.iter().for_each(|cell| println!("{}", cell.name()));
            return Ok(());
        }
        npm::check_node()?;
        for cell in &cells {
            npm::install(&projects().join(cell.client))?;
            if cell.chain == Chain::Anvil {
                npm::install(&chain::project())?;
            }
        }
        let binary = self.binary()?;
        for cell in &cells {
            println!("    {}", cell.name());
            let start = Instant::now();
            let log = target_dir().join("conformance").join(cell.name());
            run(cell, &binary, &log).with_context(|| {
                format!(
                    "cell {name} (logs in {log}); to repeat it: cargo xtask conformance {name}",
                    name = cell.name(),
                    log = log.display()
                )
            })?;
            println!(
                "    {} ok, {:.1} s",
                cell.name(),
                start.elapsed().as_secs_f64()
            );
        }
        println!("conformance: {} cells hold", cells.len());
        Ok(())
    }

    fn binary(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.binary {
            return path
                .canonicalize()
                .with_context(|| format!("no binary {}", path.display()));
        }
        let build = if self.as_tested {
            "cargo build --quiet --workspace --all-features --all-targets"
        } else {
            "cargo build --quiet --package tollgate"
        };
        Cmd::new(build).run()?;
        Ok(target_dir().join("debug/tollgate"))
    }
}

/// Where the npm projects of the clients are.
fn projects() -> PathBuf {
    root().join("xtask/conformance")
}

fn run(cell: &Cell, binary: &Path, directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    if cell.client == EXPRESS {
        let facilitator = Facilitator::start(cell, binary, directory)?;
        let paid = drive(cell, &facilitator.description(cell));
        if paid.is_err() {
            facilitator.show_log();
        }
        return paid.and(facilitator.stop());
    }
    let gateway = Gateway::start(cell, binary, directory)?;
    let description = json!({
        "name": cell.name(),
        "mode": cell.mode.name(),
        "gateway": gateway.url,
        "rpc": gateway.rpc,
    });
    let paid = drive(cell, &description).and_then(|()| book::run(cell, &gateway, directory));
    if paid.is_err() {
        gateway.show_log();
    }
    // drained even after a failure, and that is a check of its own: SIGTERM ends it well
    paid.and(gateway.stop())
}

/// Runs the client's program.
fn drive(cell: &Cell, description: &Value) -> anyhow::Result<()> {
    let client = Cmd::new("node client.mjs")
        .dir(projects().join(cell.client))
        .env("TOLLGATE_CELL", description.to_string());
    process::run(&client, PATIENCE)
}
