//! What the documents say is tested, is.

use std::collections::BTreeSet;

use super::{Finding, Repo};
use crate::{ci, fuzz};

/// A name with so many underscores in a document is a test's: tests are named by the promise that they hold. Codes on
/// the wire are as long, and stand in the source in quotes or as a field.
const LONG_NAME: usize = 4;

/// Every test that a document names exists.
pub(super) fn named_tests_exist(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let functions: BTreeSet<&str> = repo.rust().flat_map(|file| functions(&file.text)).collect();
    let documents = repo.files.iter().filter(|file| file.path.ends_with(".md"));
    let mut found = Vec::new();
    for document in documents {
        for (line, name) in named(&document.text) {
            if !functions.contains(name) && !is_word_of_the_wire(repo, name) {
                found.push(Finding::at(
                    &document.path,
                    line,
                    format!("names the test `{name}`, which is not there"),
                ));
            }
        }
    }
    Ok(found)
}

/// The steps of CI, the counts of them, and the fuzz targets that the book names are those that there are.
pub(super) fn counts_are_true(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let steps: Vec<&str> = ci::names().collect();
    let targets = fuzz::targets()?;
    Ok(repo
        .files
        .iter()
        .flat_map(|file| match file.path.as_str() {
            "README.md" => untrue_steps(&file.text, &steps),
            "docs/testing.md" => unnamed(&file.text, &steps, &targets),
            _ => Vec::new(),
        })
        .map(|(place, text)| Finding::at(place.0, place.1, text))
        .collect())
}

/// A place in a page, and what is wrong there.
type Wrong = ((&'static str, usize), String);

/// In the README's sample of a run: `==> 2/17 fmt: …` and `17 passed, 0 failed`.
fn untrue_steps(text: &str, steps: &[&str]) -> Vec<Wrong> {
    let count = steps.len();
    let is_true = |line: &str| {
        if let Some(step) = line.strip_prefix("==> ") {
            return steps
                .iter()
                .enumerate()
                .any(|(index, name)| step.starts_with(&format!("{}/{count} {name}: ", index + 1)));
        }
        !line.ends_with(" passed, 0 failed") || line == format!("{count} passed, 0 failed")
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !is_true(line))
        .map(|(index, _)| {
            let text = format!("shows another run than `cargo xtask ci` gives: it has {count} steps, in the order of xtask/src/ci.rs");
            (("README.md", index + 1), text)
        })
        .collect()
}

/// The page about tests has each step in the first column of its table, and counts and names each target.
fn unnamed(text: &str, steps: &[&str], targets: &[String]) -> Vec<Wrong> {
    const PAGE: &str = "docs/testing.md";
    let rows: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .collect();
    let mut wrong: Vec<Wrong> = steps
        .iter()
        .filter(|step| !rows.contains(step))
        .map(|step| {
            (
                (PAGE, 1),
                format!("has no row for the step {step} of `cargo xtask ci`"),
            )
        })
        .collect();
    let section = text.split("\n## Fuzzing\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    wrong.extend(
        targets
            .iter()
            .filter(|target| !section.contains(&format!("`{target}`")))
            .map(|target| ((PAGE, 1), format!("does not name the fuzz target {target}"))),
    );
    let words = ["Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"];
    let word = targets.len().checked_sub(4).and_then(|at| words.get(at));
    let counted =
        word.is_some_and(|word| section.trim_start().starts_with(&format!("{word} targets")));
    if !counted {
        let text = format!(
            "does not begin its section on fuzzing with the count of targets, {}",
            targets.len()
        );
        wrong.push(((PAGE, 1), text));
    }
    wrong
}

fn is_word_of_the_wire(repo: &Repo, name: &str) -> bool {
    let (quoted, field) = (format!("\"{name}\""), format!("{name}: "));
    repo.rust()
        .any(|file| file.text.contains(&quoted) || file.text.contains(&field))
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The names of functions in Rust, those that a macro defines included.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ")
        .skip(1)
        .filter_map(|rest| rest.split(|c| !is_name(c)).next())
}

/// Code spans that are one long name, with their lines.
fn named(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(
                spans
                    .filter(|span| span.chars().all(is_name))
                    .filter(|span| span.matches('_').count() >= LONG_NAME)
                    .map(|span| (index + 1, span)),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_with_another_count_or_order_of_steps_is_found() {
        let sample = "==> 1/2 tools: cargo xtask tools\n==> 2/2 fmt: cargo fmt\n2 passed, 0 failed";
        assert_eq!(untrue_steps(sample, &["tools", "fmt"]), []);
        assert_eq!(untrue_steps(sample, &["tools", "fmt", "tidy"]).len(), 3);
        assert_eq!(untrue_steps(sample, &["fmt", "tools"]).len(), 2);
    }

    #[test]
    fn a_step_or_a_target_that_the_page_leaves_out_is_found() {
        let page = "| step |\n|---|\n| clippy, doc | `x` |\n\n## Fuzzing\n\nFour targets: `a`, `b`, `c`,\n`d`.\n\n## Else\n`e`";
        let targets = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(unnamed(page, &["clippy", "doc"], &targets), []);
        assert_eq!(unnamed(page, &["clippy", "test"], &targets).len(), 1);
        let more = ["a", "b", "c", "d", "e"].map(str::to_owned);
        // It is not named, and not counted.
        assert_eq!(unnamed(page, &["doc"], &more).len(), 2);
    }

    #[test]
    fn a_long_name_in_a_code_span_is_a_tests() {
        let text =
            "`a_b_c_d_e` and `invalid_payment_requirements`, `A_B_C_D_E`\n```\n`a_b_c_d_f`\n```\n";
        assert_eq!(named(text), [(1, "a_b_c_d_e")]);
        let functions: Vec<_> = functions("pub async fn a_b() {}\nfn c<T>()").collect();
        assert_eq!(functions, ["a_b", "c"]);
    }
}
