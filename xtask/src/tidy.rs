//! The rules of the repository that no compiler checks. Each is a small function; what it finds says what to do.

mod crates;
mod files;
mod house;
mod promises;
mod source;

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand, Package};

use crate::shell::{Cmd, root};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Tidy {
    /// Instead, build each library crate alone, with no default features
    #[arg(long)]
    build: bool,
}

impl Tidy {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.build { build() } else { check() }
    }
}

/// A rule, by the name under which its findings are shown.
type Rule = (&'static str, fn(&Repo) -> anyhow::Result<Vec<Finding>>);

const RULES: &[Rule] = &[
    ("house", crates::only_allowed_crates),
    ("purity", crates::pure_crates_stay_pure),
    ("complete", crates::every_crate_is_complete),
    ("architecture", crates::architecture_names_every_crate),
    ("locked", crates::lock_files_are_current),
    ("one-table", crates::dependencies_come_from_the_workspace),
    ("pure-source", source::pure_source),
    ("no-float", source::no_float_near_money),
    ("money", source::money_denies_panics),
    ("no-allow", source::no_allow),
    ("no-print", source::no_print_in_libraries),
    ("length", source::files_are_short),
    ("place", files::nothing_names_this_place),
    ("locks", files::locks_hold_no_addresses),
    ("links", files::links_lead_somewhere),
    ("top", files::top_level_is_small),
    ("promises", promises::named_tests_exist),
    ("counts", promises::counts_are_true),
];

/// What the rules look at.
struct Repo {
    root: PathBuf,
    metadata: Metadata,
    /// Files that git tracks or would track.
    files: Vec<File>,
}

struct File {
    /// From the root, with `/`.
    path: String,
    /// Empty for what is not UTF-8.
    text: String,
}

/// A rule that does not hold somewhere.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    /// What is wrong and what to do.
    text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }

    fn at(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl Repo {
    fn load() -> anyhow::Result<Self> {
        let root = root();
        let metadata = MetadataCommand::new().current_dir(&root).no_deps().exec()?;
        let listed = Cmd::new("git ls-files --cached --others --exclude-standard -z").output()?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // a file that git knows and that is deleted in the tree is no longer ours to judge
            if let Ok(bytes) = fs::read(root.join(path)) {
                files.push(File {
                    path: path.to_owned(),
                    text: String::from_utf8(bytes).unwrap_or_default(),
                });
            }
        }
        Ok(Self {
            root,
            metadata,
            files,
        })
    }

    /// The crates under `crates/`: the house. Tasks that are packages of their own are none of them.
    fn crates(&self) -> impl Iterator<Item = &Package> {
        let house = self.root.join("crates");
        self.metadata
            .packages
            .iter()
            .filter(move |package| package.manifest_path.as_std_path().starts_with(&house))
    }

    /// Rust files of `crates/<name>/src`.
    fn sources<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a File> {
        self.rust()
            .filter(move |file| file.path.starts_with(&format!("crates/{name}/src/")))
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }
}

/// Runs every rule and shows all that they find.
fn check() -> anyhow::Result<()> {
    let repo = Repo::load()?;
    let mut count = 0;
    for (name, rule) in RULES {
        for finding in rule(&repo).with_context(|| format!("tidy rule `{name}`"))? {
            eprintln!("tidy[{name}] {finding}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("tidy: {count} findings");
    }
    println!(
        "tidy: {} rules hold in {} files",
        RULES.len(),
        repo.files.len()
    );
    Ok(())
}

/// Each library crate must build with nothing but what it names itself: in a workspace, features that another crate
/// turns on would hide what is missing.
fn build() -> anyhow::Result<()> {
    let repo = Repo::load()?;
    for package in repo.crates().filter(|package| house::is_library(package)) {
        Cmd::new("cargo check --quiet --no-default-features --package")
            .arg(package.name.as_str())
            .run()?;
        println!("    {} builds alone", package.name);
    }
    Ok(())
}
