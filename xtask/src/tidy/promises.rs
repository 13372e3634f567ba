//! What the documents say is tested, is.

use std::collections::BTreeSet;

use super::{Finding, Repo};

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
    fn a_long_name_in_a_code_span_is_a_tests() {
        let text =
            "`a_b_c_d_e` and `invalid_payment_requirements`, `A_B_C_D_E`\n```\n`a_b_c_d_f`\n```\n";
        assert_eq!(named(text), [(1, "a_b_c_d_e")]);
        let functions: Vec<_> = functions("pub async fn a_b() {}\nfn c<T>()").collect();
        assert_eq!(functions, ["a_b", "c"]);
    }
}
