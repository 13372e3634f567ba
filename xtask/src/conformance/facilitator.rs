//! The facilitator of a cell: the real binary, with a ledger of its own. The seller is a foreign server, in the
//! client's program.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::cell::{Cell, Chain};
use super::chain::{Anvil, CHAIN_ID};
use super::gateway::{OPERATOR_KEY, PATIENCE, address, is_json};
use super::process::{Program, free_port};
use crate::shell::Cmd;

/// The seller's key on anvil; on the development chain anybody is served.
const SELLERS_KEY: &str = "a-key-of-the-conformance-run";
/// Development account 9, which the foreign server is paid to.
const PAY_TO: &str = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720";

/// A facilitator, and its chain if that is a program of its own.
pub(super) struct Facilitator {
    program: Program,
    anvil: Option<Anvil>,
    url: String,
    rpc: String,
}

impl Facilitator {
    /// Starts what the cell needs; returns when it serves.
    pub(super) fn start(cell: &Cell, binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let cmd = Cmd::program(binary.to_string_lossy())
            .dir(directory)
            .args(["facilitator", "--json"]);
        let (cmd, anvil) = match cell.chain {
            Chain::Devchain => {
                let flags = [
                    "--dev",
                    "--listen",
                    "127.0.0.1:0",
                    "--rpc-listen",
                    "127.0.0.1:0",
                ];
                (cmd.args(flags), None)
            }
            Chain::Anvil => {
                let anvil = Anvil::start(directory)?;
                let file = directory.join("facilitator.toml");
                fs::write(&file, configuration(free_port()?, &anvil, directory))?;
                let cmd = cmd
                    .arg("--config")
                    .arg(file.to_string_lossy())
                    .env("TOLLGATE_OPERATOR_KEY", OPERATOR_KEY)
                    .env("TOLLGATE_SELLERS_KEY", SELLERS_KEY);
                (cmd, Some(anvil))
            }
        };
        let log = directory.join("facilitator.log");
        let (program, line) = Program::start(&cmd, &log, is_json, PATIENCE)?;
        Ok(Self {
            url: address(&line, "facilitator")?,
            rpc: match &anvil {
                Some(anvil) => anvil.rpc.clone(),
                None => address(&line, "rpc")?,
            },
            program,
            anvil,
        })
    }

    /// What the client's program is told.
    pub(super) fn description(&self, cell: &Cell) -> Value {
        let mut told = json!({
            "name": cell.name(),
            "kind": cell.kind.name(),
            "mode": cell.mode.name(),
            "facilitator": self.url,
            "rpc": self.rpc,
            "payTo": PAY_TO,
        });
        if self.anvil.is_some() {
            told["key"] = SELLERS_KEY.into();
        }
        told
    }

    pub(super) fn show_log(&self) {
        self.program.show_log();
    }

    /// Ends it, then its chain.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.program.stop(PATIENCE)?;
        self.anvil.map_or(Ok(()), Anvil::stop)
    }
}

/// As an operator writes it.
fn configuration(port: u16, anvil: &Anvil, directory: &Path) -> String {
    format!(
        r#"listen = "127.0.0.1:{port}"
operator_key = "$TOLLGATE_OPERATOR_KEY"

[chain]
id = {CHAIN_ID}
rpc = ["{rpc}"]

[[token]]
symbol = "USD1"

[[caller]]
name = "express"
key = "$TOLLGATE_SELLERS_KEY"
pay_to = ["{PAY_TO}"]
gas_per_day = 30_000_000

[ledger]
path = "{ledger}"
"#,
        rpc = anvil.rpc,
        ledger = directory.join("facilitator.db").display(),
    )
}
