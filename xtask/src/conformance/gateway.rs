//! The gateway of a cell: the real binary, with a ledger of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::cell::{Cell, Chain};
use super::chain::{Anvil, CHAIN_ID, LEDGER_ID};
use super::process::{Program, free_port};
use crate::shell::Cmd;

/// How long it may take to be ready, and to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Development account 7, which the Settler of development takes settlements from. Everybody has this key.
pub(super) const OPERATOR_KEY: &str =
    "0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356";

/// A gateway, and its chain if that is a program of its own.
pub(super) struct Gateway {
    program: Program,
    anvil: Option<Anvil>,
    pub(super) url: String,
    pub(super) rpc: String,
}

impl Gateway {
    /// Starts what the cell needs; returns when it serves.
    pub(super) fn start(cell: &Cell, binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let binary = Cmd::program(binary.to_string_lossy()).dir(directory);
        match cell.chain {
            Chain::Devchain => Self::development(binary, directory),
            Chain::Anvil => Self::configured(binary, directory, Anvil::start(directory)?),
        }
    }

    /// `serve --dev`: with a chain inside.
    fn development(binary: Cmd, directory: &Path) -> anyhow::Result<Self> {
        let cmd = binary.args([
            "serve",
            "--dev",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--rpc-listen",
            "127.0.0.1:0",
        ]);
        let (program, line) =
            Program::start(&cmd, &directory.join("gateway.log"), is_json, PATIENCE)?;
        Ok(Self {
            url: address(&line, "gateway")?,
            rpc: address(&line, "rpc")?,
            program,
            anvil: None,
        })
    }

    /// `serve --config`: over a chain that is not ours.
    fn configured(binary: Cmd, directory: &Path, anvil: Anvil) -> anyhow::Result<Self> {
        let file = directory.join("tollgate.toml");
        fs::write(&file, configuration(free_port()?, &anvil, directory))?;
        let cmd = binary
            .args(["serve", "--json", "--config"])
            .arg(file.to_string_lossy())
            .env("TOLLGATE_OPERATOR_KEY", OPERATOR_KEY);
        let (program, line) =
            Program::start(&cmd, &directory.join("gateway.log"), is_json, PATIENCE)?;
        Ok(Self {
            url: address(&line, "gateway")?,
            rpc: anvil.rpc.clone(),
            program,
            anvil: Some(anvil),
        })
    }

    pub(super) fn show_log(&self) {
        self.program.show_log();
    }

    /// Drains it, then ends its chain.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.program.stop(PATIENCE)?;
        self.anvil.map_or(Ok(()), Anvil::stop)
    }
}

/// The line by which the gateway says that it is ready is one object.
pub(super) fn is_json(line: &str) -> bool {
    line.starts_with('{')
}

/// An address in the line of JSON by which the gateway says that it is ready.
pub(super) fn address(line: &str, key: &str) -> anyhow::Result<String> {
    let value: Value =
        serde_json::from_str(line).with_context(|| format!("not a line of JSON: {line}"))?;
    let address = value[key]
        .as_str()
        .with_context(|| format!("no `{key}` in {line}"))?;
    Ok(address.trim_end_matches('/').to_owned())
}

/// As an operator writes it, with settlements as soon as there is something to settle.
fn configuration(port: u16, anvil: &Anvil, directory: &Path) -> String {
    format!(
        r#"listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"

[chain]
id = {CHAIN_ID}
rpc = ["{rpc}"]

[seller]
operator_key = "$TOLLGATE_OPERATOR_KEY"
settler = "{settler}"

[[token]]
symbol = "USD1"

[settlement]
allowances = "at-once"

[ledger]
id = "{LEDGER_ID}"
path = "{ledger}"

[[model]]
name = "tollgate/echo"
upstream = "echo"
input_usd_per_million = "5"
output_usd_per_million = "25"
# two worst cases at once must fit what a payer is lent who has paid nothing yet
max_output_tokens = 1024
"#,
        rpc = anvil.rpc,
        settler = anvil.settler,
        ledger = directory.join("ledger.db").display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_addresses() {
        let line = "{\"gateway\":\"http://127.0.0.1:8402/\",\"rpc\":\"http://127.0.0.1:8545\"}\n";
        assert_eq!(address(line, "gateway").unwrap(), "http://127.0.0.1:8402");
        assert!(address(line, "chain").is_err());
    }
}
