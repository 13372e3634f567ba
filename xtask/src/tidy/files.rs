//! Rules about files of every kind.

use super::{File, Finding, Repo};

/// Files that must name what they forbid.
const RULES_THEMSELVES: &[&str] = &["xtask/src/tidy/files.rs"];

/// Paths of somebody's machine, and places beside a clone.
const MACHINES: &[&str] = &["/work/", "/root/", "/home/", "../shared", "/Users/"];

/// Hosts of package registries: a lock file names versions and hashes, a client knows where it gets them.
const REGISTRIES: &[&str] = &[
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "static.crates.io",
    "index.crates.io",
    "pypi.org",
    "files.pythonhosted.org",
    "deb.debian.org",
    "proxy.golang.org",
];

/// What cargo writes into each lock file, whichever registry it asked.
const CARGO_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// What the top level holds beside dot files.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "crates",
    "docs",
    "fuzz",
    "rustfmt.toml",
    "xtask",
];

/// A clone stands alone, wherever it is.
pub(super) fn nothing_names_this_place(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(repo
        .files
        .iter()
        .filter(|file| !RULES_THEMSELVES.contains(&file.path.as_str()))
        .flat_map(places)
        .collect())
}

fn places(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if let Some(path) = MACHINES.iter().find(|path| names_path(line, path)) {
            found.push(Finding::at(
                &file.path,
                index + 1,
                format!("names `{path}`: a clone stands alone, wherever it is"),
            ));
        }
        if let Some(host) = REGISTRIES.iter().find(|host| line.contains(**host)) {
            found.push(Finding::at(
                &file.path,
                index + 1,
                format!("names the registry {host}: name the package, its client knows the host"),
            ));
        }
    }
    found
}

/// `path` begins at a word's beginning: `a/work/b` is no machine's path.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.}/$".contains(c))
            || path.starts_with("..")
    })
}

/// Lock files hold versions and hashes; the registry is the reader's choice.
pub(super) fn locks_hold_no_addresses(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(repo.files.iter().flat_map(addresses).collect())
}

fn addresses(file: &File) -> Vec<Finding> {
    let lines = || file.text.lines().enumerate();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    match name {
        "package-lock.json" => lines()
            .filter(|(_, line)| line.trim_start().starts_with("\"resolved\": \"") && !line.contains("\"resolved\": \"file:"))
            .map(|(index, _)| {
                Finding::at(
                    &file.path,
                    index + 1,
                    "names where a package came from: put `omit-lockfile-registry-resolved=true` into .npmrc beside it and run `npm install` again",
                )
            })
            .collect(),
        "Cargo.lock" => lines()
            .filter(|(_, line)| line.starts_with("source = ") && *line != CARGO_SOURCE)
            .map(|(index, _)| Finding::at(&file.path, index + 1, "takes a crate from elsewhere than the registry"))
            .collect(),
        ".npmrc" | "package.json" => lines()
            .filter(|(_, line)| line.contains("registry=") || line.contains("registry ="))
            .map(|(index, _)| Finding::at(&file.path, index + 1, "chooses a registry: that is the reader's choice"))
            .collect(),
        _ => Vec::new(),
    }
}

/// A link of the documentation to a file of ours leads to a file.
pub(super) fn links_lead_somewhere(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|file| file.path.ends_with(".md")) {
        let directory = file
            .path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        for (number, target) in local_links(&file.text) {
            if !repo.root.join(directory).join(target).exists() {
                found.push(Finding::at(
                    &file.path,
                    number,
                    format!("links to `{target}`, which is not there"),
                ));
            }
        }
    }
    Ok(found)
}

/// Targets of `[…](target)` that are paths, with their lines; code is left out.
fn local_links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (_, rest) in line
            .match_indices("](")
            .map(|(at, _)| line.split_at(at + 2))
        {
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            // what has a scheme is elsewhere, what has `::` is an item of Rust
            if !path.is_empty() && !path.contains(':') && !in_code(line, rest) {
                found.push((index + 1, path));
            }
        }
    }
    found
}

/// `rest` begins within a code span of `line`.
fn in_code(line: &str, rest: &str) -> bool {
    let before = &line[..line.len() - rest.len()];
    before.matches('`').count() % 2 == 1
}

/// The top level is what a visitor sees first.
pub(super) fn top_level_is_small(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let mut names: Vec<&str> = repo
        .files
        .iter()
        .filter_map(|file| file.path.split('/').next())
        .collect();
    names.dedup();
    Ok(names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP.contains(name))
        .map(|name| {
            Finding::new(
                name,
                "does not belong at the top level: find its place below crates/, xtask/ or docs/",
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_path_of_a_machine_is_found_and_a_part_of_a_longer_path_is_not() {
        assert_eq!(places(&file("a.md", "see /home/me/x")).len(), 1);
        assert_eq!(places(&file("a.md", "see `../shared/DESIGN.md`")).len(), 1);
        assert_eq!(places(&file("a.md", "GET /v1/work/1 and $ROOT/home/")), []);
    }

    #[test]
    fn a_registry_is_found() {
        assert_eq!(
            places(&file("a.js", "https://registry.npmjs.org/a")).len(),
            1
        );
    }

    #[test]
    fn a_lock_file_with_an_address_is_found() {
        let lock =
            "{\n  \"resolved\": \"https://somewhere/a.tgz\",\n  \"integrity\": \"sha512-\"\n}";
        assert_eq!(addresses(&file("x/package-lock.json", lock)).len(), 1);
        assert_eq!(addresses(&file("Cargo.lock", CARGO_SOURCE)), []);
        assert_eq!(
            addresses(&file("Cargo.lock", "source = \"git+https://a/b\"")).len(),
            1
        );
    }

    #[test]
    fn links_are_found_outside_code() {
        let text = "[a](docs/a.md#b) [b](https://c) [c](#d) [d](crate::E) `[e](f)`\n```\n[g](h)\n```\n[i](../j)";
        assert_eq!(local_links(text), [(1, "docs/a.md"), (5, "../j")]);
    }
}
