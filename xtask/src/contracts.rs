//! Compiles the Solidity of `tollgate-contracts` with npm's `solc`, locked in `xtask/contracts`.
//!
//! What comes out is committed, one JSON file a contract, so that nobody needs Node to build the crates; `--check`
//! compiles again and says what differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{npm, shell};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Contracts {
    /// Compare with the committed output instead of writing it
    #[arg(long)]
    check: bool,
    /// Run the tests of the contracts with the real Permit2 in place of our equivalent, from an npm package
    #[arg(long, conflicts_with = "check")]
    permit2: bool,
}

/// Permit2's init code, within the package `hardhat-predeploy`.
const PERMIT2: &str =
    "node_modules/hardhat-predeploy/bin/0x000000000022D473030F116dDEE9F6B43aC78BA3.bytecode";

impl Contracts {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let root = shell::root();
        let compiler = root.join("xtask/contracts");
        let contracts = root.join("crates/tollgate-contracts");
        let artifacts = contracts.join("artifacts");

        let installed = npm::install(&compiler)?;
        if self.permit2 {
            return shell::Cmd::new("cargo test -p tollgate-contracts --test contracts")
                .env(
                    "TOLLGATE_PERMIT2_INIT_CODE",
                    installed.join(PERMIT2).display().to_string(),
                )
                .run();
        }
        let compiled = render(&compile(
            &compiler,
            &installed,
            &contracts.join("contracts"),
        )?)?;
        let committed = read(&artifacts)?;
        let differences = compare(&committed, &compiled);
        if differences.is_empty() {
            println!(
                "contracts: {} artifacts are what the sources give",
                compiled.len()
            );
            return Ok(());
        }
        for difference in &differences {
            eprintln!("contracts: {difference}");
        }
        if self.check {
            bail!(
                "{} differences: the committed artifacts are not what the sources give; run `cargo xtask contracts` and commit",
                differences.len()
            );
        }
        std::fs::create_dir_all(&artifacts)?;
        for name in committed
            .keys()
            .filter(|name| !compiled.contains_key(*name))
        {
            std::fs::remove_file(artifacts.join(name))?;
        }
        for (name, text) in &compiled {
            std::fs::write(artifacts.join(name), text)?;
        }
        Ok(())
    }
}

fn compile(compiler: &Path, installed: &Path, sources: &Path) -> anyhow::Result<Value> {
    let output = Command::new("node")
        .arg("compile.mjs")
        .arg(installed)
        .arg(sources)
        .current_dir(compiler)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("node could not be run")?;
    ensure!(
        output.status.success(),
        "the compiler reported errors or warnings"
    );
    serde_json::from_slice(&output.stdout).context("what compile.mjs wrote is not JSON")
}

/// The text of each file, by its name: one line an entry, so that a difference shows where it is.
fn render(compiled: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let compiler = compiled["compiler"]
        .as_str()
        .context("no version of the compiler")?;
    let contracts = compiled["contracts"].as_object().context("no contracts")?;
    let mut files = BTreeMap::new();
    for (name, contract) in contracts {
        let code = |key: &str| {
            contract[key]
                .as_str()
                .with_context(|| format!("{name} has no {key} code"))
        };
        let mut text = String::from("{\n");
        writeln!(text, "  \"contract\": {},", Value::from(name.as_str()))?;
        writeln!(text, "  \"source\": {},", contract["source"])?;
        writeln!(text, "  \"compiler\": {},", Value::from(compiler))?;
        writeln!(text, "  \"settings\": {},", settings(&compiled["settings"]))?;
        writeln!(text, "  \"storage\": {},", contract["storage"])?;
        writeln!(text, "  \"immutables\": {},", contract["immutables"])?;
        text.push_str("  \"abi\": [\n");
        let abi = contract["abi"]
            .as_array()
            .with_context(|| format!("{name} has no ABI"))?;
        for (index, entry) in abi.iter().enumerate() {
            writeln!(
                text,
                "    {entry}{}",
                if index + 1 < abi.len() { "," } else { "" }
            )?;
        }
        text.push_str("  ],\n");
        writeln!(text, "  \"creation\": \"{}\",", code("creation")?)?;
        writeln!(text, "  \"runtime\": \"{}\"\n}}", code("runtime")?)?;
        files.insert(format!("{name}.json"), text);
    }
    Ok(files)
}

/// The settings that make the code what it is, without the choice of what to put out.
fn settings(all: &Value) -> Value {
    let mut settings = all.clone();
    if let Some(map) = settings.as_object_mut() {
        map.remove("outputSelection");
    }
    settings
}

fn read(artifacts: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(artifacts) else {
        return Ok(files);
    };
    for entry in entries {
        let path: PathBuf = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .context("a file name that is not text")?;
        files.insert(name.to_owned(), std::fs::read_to_string(&path)?);
    }
    Ok(files)
}

/// One sentence for each part that differs.
fn compare(
    committed: &BTreeMap<String, String>,
    compiled: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for name in committed
        .keys()
        .filter(|name| !compiled.contains_key(*name))
    {
        differences.push(format!("{name} belongs to no contract"));
    }
    for (name, new) in compiled {
        let Some(old) = committed.get(name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        if old == new {
            continue;
        }
        let (Ok(old), Ok(new)) = (
            serde_json::from_str::<Value>(old),
            serde_json::from_str::<Value>(new),
        ) else {
            differences.push(format!("{name} is not JSON"));
            continue;
        };
        let keys: Vec<&str> = new
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .map(String::as_str)
            .filter(|key| old[*key] != new[*key])
            .collect();
        if keys.is_empty() {
            differences.push(format!("{name} is formatted otherwise"));
        }
        for key in keys {
            let size = |value: &Value| {
                value
                    .as_str()
                    .map_or(String::new(), |code| format!(" ({} bytes)", code.len() / 2))
            };
            match key {
                "creation" | "runtime" => differences.push(format!(
                    "{name}: {key} code differs, committed{} and compiled{}",
                    size(&old[key]),
                    size(&new[key])
                )),
                _ => differences.push(format!("{name}: {key} differs")),
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_difference_is_named_by_file_and_part() {
        let committed = files(&[
            ("Old.json", "{}"),
            ("A.json", r#"{"abi":[],"runtime":"00"}"#),
        ]);
        let compiled = files(&[
            ("New.json", "{}"),
            ("A.json", r#"{"abi":[],"runtime":"0001"}"#),
        ]);
        assert_eq!(
            compare(&committed, &compiled),
            [
                "Old.json belongs to no contract",
                "A.json: runtime code differs, committed (1 bytes) and compiled (2 bytes)",
                "New.json is missing",
            ]
        );
        assert!(compare(&compiled, &compiled).is_empty());
    }
}
