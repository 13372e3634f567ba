//! The fuzz targets of `fuzz/`, with libFuzzer, on the stable toolchain and without `cargo fuzz`.
//!
//! What `cargo fuzz --sanitizer none` does: code is built with coverage counters, and libFuzzer's C++, which the
//! crate `libfuzzer-sys` brings, mutates inputs towards new ones. Memory errors are not looked for: the crates
//! forbid unsafe code. What it learns goes below cargo's target directory; the committed corpora are only read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::shell::{Cmd, root, target_dir};

/// Arguments of the task.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// How long to run each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Run one input once instead, for instance one that a crash left
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Print the names of the targets
    #[arg(long)]
    list: bool,
    /// The target to run; all of them without it
    target: Option<String>,
}

/// One instruction counter an edge, a table of their places, and what comparisons compare: what libFuzzer needs to
/// know where an input led.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// An input that takes longer than this is a finding, in seconds.
const SLOW: u32 = 10;
/// A target that takes more memory than this is a finding, in MiB.
const FAT: u32 = 1024;

impl Fuzz {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let known = targets()?;
        if self.list {
            known.iter().for_each(|target| println!("{target}"));
            return Ok(());
        }
        let chosen = match &self.target {
            Some(target) => {
                ensure!(
                    known.contains(target),
                    "no target `{target}`: there are {}",
                    known.join(", ")
                );
                vec![target.clone()]
            }
            None => known,
        };
        let binaries = build(&chosen)?;
        if let (Some(input), [target]) = (&self.input, chosen.as_slice()) {
            let input =
                fs::canonicalize(input).with_context(|| format!("no input {}", input.display()))?;
            return Cmd::program(binaries.join(target).to_string_lossy())
                .arg(input.to_string_lossy())
                .run();
        }
        for target in &chosen {
            fuzz(&binaries.join(target), target, self.seconds)?;
        }
        Ok(())
    }
}

/// The targets are the files of `fuzz/fuzz_targets`.
pub(crate) fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|end| end == "rs"))
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the targets and returns the directory of their binaries.
fn build(targets: &[String]) -> anyhow::Result<PathBuf> {
    // with a target named, the flags are not applied to build scripts and procedural macros
    let version = Cmd::new("rustc -vV").output()?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    let directory = target_dir().join("fuzz");
    Cmd::new("cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml")
        .args(["--target", host, "--target-dir"])
        .arg(directory.to_string_lossy())
        .args(targets.iter().flat_map(|target| ["--bin", target]))
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .run()
        .context(
            "the fuzz targets do not build (if only their lock file is behind: \
             `cargo metadata --manifest-path fuzz/Cargo.toml` mends it)",
        )?;
    Ok(directory.join(host).join("release"))
}

fn fuzz(binary: &Path, target: &str, seconds: u32) -> anyhow::Result<()> {
    let directory = target_dir().join("fuzz");
    let learned = directory.join("corpus").join(target);
    let crashes = directory.join("crashes").join(target);
    fs::create_dir_all(&learned)?;
    fs::create_dir_all(&crashes)?;
    let log = directory.join(format!("{target}.log"));
    let before = files(&crashes)?;

    let start = Instant::now();
    let status = Cmd::program(binary.to_string_lossy())
        // learns into the first directory, only reads the second
        .args([learned.to_string_lossy(), root().join("fuzz/corpus").join(target).to_string_lossy()])
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOW}"))
        .arg(format!("-rss_limit_mb={FAT}"))
        .args(["-max_len=32768", "-print_final_stats=1"])
        .command()
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?)
        .status()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if status.success() {
        println!(
            "    {target}: {} in {:.0} s",
            summary(&said),
            start.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    let tail: Vec<&str> = said.lines().rev().take(40).collect();
    tail.iter().rev().for_each(|line| eprintln!("    | {line}"));
    let new: Vec<PathBuf> = files(&crashes)?
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    match new.first() {
        Some(input) => bail!(
            "fuzz target {target} failed with the input {input}\n\
             to repeat it: cargo xtask fuzz {target} --input {input}\n\
             when it is mended: copy the input to fuzz/corpus/{target}/, where every test run reads it",
            input = input.display()
        ),
        None => bail!(
            "fuzz target {target} failed ({status}); its output is {}",
            log.display()
        ),
    }
}

fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// How much was tried and reached, from what libFuzzer prints.
fn summary(log: &str) -> String {
    let runs = log
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .unwrap_or("?")
        .trim();
    let edges = log
        .lines()
        .rev()
        .find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next())
        .unwrap_or("?");
    format!("{runs} inputs, {edges} edges")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus() {
        for target in targets().unwrap() {
            let corpus = root().join("fuzz/corpus").join(&target);
            assert!(
                !files(&corpus).unwrap_or_default().is_empty(),
                "{} is empty",
                corpus.display()
            );
        }
    }

    #[test]
    fn the_summary_is_read_from_what_the_fuzzer_prints() {
        let log = "#2\tINITED cov: 10 ft: 12 corp: 1/1b\n#99\tDONE   cov: 345 ft: 900 corp: 20/1Kb\n\
                   stat::number_of_executed_units: 99\n";
        assert_eq!(summary(log), "99 inputs, 345 edges");
    }
}
