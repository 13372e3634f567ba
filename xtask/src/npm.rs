//! Packages of the npm registry, at the versions that a committed lock file names.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};

use crate::shell::{Cmd, target_dir};

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

/// Installs what `project`'s `package-lock.json` names and returns the project's copy below cargo's target
/// directory: nothing is written into the tree. Does nothing when that copy stands already.
pub(crate) fn install(project: &Path) -> anyhow::Result<PathBuf> {
    let name = project
        .file_name()
        .with_context(|| format!("{} is no npm project", project.display()))?;
    let copy = target_dir().join("npm").join(name);
    let lock = fs::read(project.join("package-lock.json")).with_context(|| {
        format!(
            "{} has no package-lock.json: run `npm install` there",
            project.display()
        )
    })?;
    let stamp = copy.join("installed.lock");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(copy);
    }
    fs::create_dir_all(&copy)?;
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(project.join(file), copy.join(file))
            .with_context(|| format!("{} has no {file}", project.display()))?;
    }
    let began = SystemTime::now();
    Cmd::new("npm ci --ignore-scripts --no-audit --no-fund --loglevel=error")
        .dir(&copy)
        .run()?;
    let seconds = began.elapsed().unwrap_or_default().as_secs_f64();
    println!("    npm ci in {} took {seconds:.1} s", copy.display());
    fs::write(stamp, lock)?;
    Ok(copy)
}
