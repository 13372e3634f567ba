//! Packages of the npm registry, at the versions that a committed lock file names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::shell::Cmd;

/// The oldest Node.js that the scripts run on.
const NODE_MAJOR: u32 = 20;

/// Node.js is there and new enough, and so is npm; otherwise says how to get them.
pub(crate) fn check_node() -> anyhow::Result<()> {
    const HOW: &str = "install Node.js 20 or newer with npm (Debian: apt-get install nodejs npm)";
    let version = Cmd::new("node --version")
        .output()
        .with_context(|| format!("no Node.js: {HOW}"))?;
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        bail!("Node.js is {version}: {HOW}");
    }
    Cmd::new("npm --version")
        .output()
        .with_context(|| format!("no npm: {HOW}"))?;
    Ok(())
}

/// Installs what `project`'s `package-lock.json` names into its `node_modules`, which git ignores, and
/// returns the directory that holds it. Does nothing when that was done already.
pub(crate) fn install(project: &Path) -> anyhow::Result<PathBuf> {
    let lock = fs::read(project.join("package-lock.json")).with_context(|| {
        format!(
            "{} has no package-lock.json: run `npm install` there",
            project.display()
        )
    })?;
    let stamp = project.join("node_modules/.installed-lock");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(project.to_owned());
    }
    let start = Instant::now();
    Cmd::new("npm ci --ignore-scripts --no-audit --no-fund --loglevel=error")
        .dir(project)
        .run()?;
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "    npm ci in {name} took {:.1} s",
        start.elapsed().as_secs_f64()
    );
    fs::write(stamp, lock)?;
    Ok(project.to_owned())
}
