//! Rules about the crates: what they depend on and what they must have.

use cargo_metadata::{DependencyKind, Package};

use super::house::{BINARY, HOUSE, is_library, room};
use super::{Finding, Repo};
use crate::shell::Cmd;

/// Packages that reach the world, or wait for it.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "reqwest",
    "hyper",
    "rusqlite",
    "async-std",
    "smol",
];

/// A crate depends on what its row of the house names, and on nothing else of ours; its tests may use anything.
pub(super) fn only_allowed_crates(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(repo
        .crates()
        .filter(|package| package.name.as_str() != BINARY)
        .flat_map(|package| {
            let ours: Vec<&str> = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.as_str())
                .filter(|name| name.starts_with("tollgate"))
                .collect();
            strangers(&package.name, &ours)
        })
        .collect())
}

fn strangers(name: &str, ours: &[&str]) -> Vec<Finding> {
    let Some(room) = room(name) else {
        return vec![Finding::new(
            name,
            "is not in the table of the house: add its row to docs/architecture.md and xtask/src/tidy/house.rs",
        )];
    };
    ours.iter()
        .filter(|used| !room.may_use.iter().any(|allowed| **used == format!("tollgate-{allowed}")))
        .map(|used| {
            Finding::new(
                name,
                format!("may not depend on {used}: take it through a port (docs/architecture.md), or argue for a new row"),
            )
        })
        .collect()
}

/// The vocabulary and the pure logic have no runtime, socket or database anywhere below them, whatever the features.
pub(super) fn pure_crates_stay_pure(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for room in HOUSE
        .iter()
        .filter(|room| room.pure && repo.crates().any(|package| package.name == room.name))
    {
        let tree = Cmd::new(
            "cargo tree --all-features --edges normal --prefix none --format {p} --package",
        )
        .arg(room.name)
        .output()?;
        found.extend(impurities(&tree).map(|name| {
            Finding::new(
                room.name,
                format!(
                    "is pure, yet {name} is below it: see `cargo tree -p {} -i {name} -e normal`",
                    room.name
                ),
            )
        }));
    }
    Ok(found)
}

fn impurities(tree: &str) -> impl Iterator<Item = &'static str> {
    IMPURE.iter().copied().filter(|name| {
        tree.lines()
            .any(|line| line.split(' ').next() == Some(name))
    })
}

/// The lock files name what the manifests ask for, so that everybody builds the same.
pub(super) fn lock_files_are_current(_: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let check = Cmd::new("cargo metadata --locked --quiet --format-version 1 --manifest-path")
            .arg(manifest);
        if check.output().is_err() {
            found.push(Finding::new(
                manifest,
                format!("asks for other packages than its Cargo.lock names: run `cargo metadata --manifest-path {manifest}` and commit the lock file"),
            ));
        }
    }
    Ok(found)
}

/// The page about the house names every crate of it.
pub(super) fn architecture_names_every_crate(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    const PAGE: &str = "docs/architecture.md";
    let text = repo
        .files
        .iter()
        .find(|file| file.path == PAGE)
        .map_or("", |file| file.text.as_str());
    Ok(repo
        .crates()
        .filter(|package| !text.contains(&format!("`{}`", package.name)))
        .map(|package| {
            Finding::new(
                PAGE,
                format!(
                    "does not name `{}`: say what it holds and may use",
                    package.name
                ),
            )
        })
        .collect())
}

/// A crate stands by itself: version, description, README, changelog, the workspace's lints.
pub(super) fn every_crate_is_complete(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for package in repo.crates() {
        let directory = format!("crates/{}", package.name);
        for file in ["README.md", "CHANGELOG.md"] {
            if !repo.files.iter().any(|other| {
                other.path == format!("{directory}/{file}") && !other.text.trim().is_empty()
            }) {
                found.push(Finding::new(
                    &directory,
                    format!("has no {file}: write it for who uses this crate alone"),
                ));
            }
        }
        if !described(package) {
            found.push(Finding::new(
                &directory,
                "has no description: say in Cargo.toml in one sentence what it is for",
            ));
        }
        if package.version.to_string() == "0.0.0" {
            found.push(Finding::new(
                &directory,
                "has no version of its own: give it one in Cargo.toml",
            ));
        }
        if package.license.is_none() {
            found.push(Finding::new(
                &directory,
                "has no licence: `license.workspace = true`",
            ));
        }
        let manifest = repo
            .files
            .iter()
            .find(|file| file.path == format!("{directory}/Cargo.toml"));
        if !manifest.is_some_and(|file| file.text.contains("[lints]\nworkspace = true")) {
            found.push(Finding::new(
                &directory,
                "does not take the workspace's lints: `[lints] workspace = true`",
            ));
        }
        let readme_is_tested = repo
            .sources(&package.name)
            .any(|file| file.text.contains("include_str!(\"../README.md\")"));
        if is_library(package) && !readme_is_tested {
            found.push(Finding::new(
                &directory,
                "does not test its README: `#![doc = include_str!(\"../README.md\")]` in lib.rs",
            ));
        }
    }
    Ok(found)
}

fn described(package: &Package) -> bool {
    package
        .description
        .as_ref()
        .is_some_and(|text| text.split(' ').count() > 2)
}

/// Every dependency is named once, in the workspace's table.
pub(super) fn dependencies_come_from_the_workspace(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    let members = |path: &str| path.starts_with("crates/") || path.starts_with("xtask/");
    for file in repo
        .files
        .iter()
        .filter(|file| members(&file.path) && file.path.ends_with("Cargo.toml"))
    {
        let manifest: toml::Table = file.text.parse()?;
        found.extend(own_versions(&manifest).into_iter().map(|name| {
            Finding::new(
                &file.path,
                format!("names {name} by itself: put it into [workspace.dependencies] and write `{name}.workspace = true`"),
            )
        }));
    }
    Ok(found)
}

fn own_versions(manifest: &toml::Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    targets
        .into_iter()
        .flat_map(|targets| targets.values().filter_map(toml::Value::as_table))
        .chain([manifest])
        .flat_map(|scope| {
            tables
                .iter()
                .filter_map(|table| scope.get(*table)?.as_table())
        })
        .flatten()
        .filter(|(_, value)| value.get("workspace").and_then(toml::Value::as_bool) != Some(true))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_admits_what_it_names_and_nothing_else() {
        assert_eq!(strangers("tollgate-chat", &["tollgate-sse"]), []);
        let found = strangers("tollgate-server", &["tollgate-x402", "tollgate-gateway"]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .to_string()
                .contains("may not depend on tollgate-gateway")
        );
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(strangers("tollgate-misc", &[]).len(), 1);
    }

    #[test]
    fn a_runtime_below_a_pure_crate_is_found_by_its_whole_name() {
        let tree = "tollgate-x402 v0.1.0\nserde v1.0.0\ntokio-util v0.7.0";
        assert_eq!(impurities(tree).count(), 0);
        assert_eq!(
            impurities("a v1\ntokio v1.54.1 (*)").collect::<Vec<_>>(),
            ["tokio"]
        );
    }

    #[test]
    fn a_dependency_with_a_version_of_its_own_is_found_in_every_table() {
        let manifest = "[dependencies]\na.workspace = true\nb = '1'\n[dev-dependencies]\nc = { version = '1' }\n\
                        [target.'cfg(unix)'.dependencies]\nd = '1'";
        let mut found = own_versions(&manifest.parse().unwrap());
        found.sort();
        assert_eq!(found, ["b", "c", "d"]);
    }
}
