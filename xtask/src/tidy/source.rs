//! Rules about the text of source files.

use super::house::{HOUSE, is_library};
use super::{File, Finding, Repo};

/// What a pure crate's source does not say.
const WORLD: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "std::net",
    "std::fs",
    "rand::",
    "thread::sleep",
    "std::env::var",
];

/// Files of money crates that may name a float, with the reason.
const FLOATS: &[(&str, &str)] = &[(
    "crates/tollgate-x402/src/json.rs",
    "foreign JSON is carried as it came, numbers too; amounts are read from strings only",
)];

/// The length at which a file wants a cut.
const MAX_LINES: usize = 600;

/// The vocabulary and the pure logic read no clock, file, socket or dice.
pub(super) fn pure_source(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(in_source(
        repo,
        |room| room.pure,
        |file| {
            words(
                file,
                |code| WORLD.iter().find(|word| code.contains(**word)).copied(),
                |word| format!("`{word}` in a pure crate: take the value as an argument"),
            )
        },
    ))
}

/// Amounts are integers, so crates that hold money have no use for floats.
pub(super) fn no_float_near_money(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(in_source(
        repo,
        |room| room.money,
        |file| {
            if FLOATS.iter().any(|(path, _)| *path == file.path) {
                return Vec::new();
            }
            words(
                file,
                |code| {
                    ["f32", "f64"]
                        .into_iter()
                        .find(|float| has_word(code, float))
                },
                |float| {
                    format!(
                        "`{float}` in a crate that holds money: use integers of atomic units, or name the file in FLOATS of xtask/src/tidy/source.rs with the reason"
                    )
                },
            )
        },
    ))
}

/// What may end a process or lose a number, which crates that hold money deny to themselves.
const DENIED: &[&str] = &[
    "unwrap_used",
    "expect_used",
    "panic",
    "indexing_slicing",
    "as_conversions",
    "arithmetic_side_effects",
];

/// Crates that hold money neither panic nor overflow, and the compiler is told so.
pub(super) fn money_denies_panics(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    Ok(HOUSE
        .iter()
        .filter(|room| room.money)
        .flat_map(|room| {
            let root = format!("crates/{}/src/lib.rs", room.name);
            repo.rust().filter(move |file| file.path == root)
        })
        .filter_map(undenied)
        .collect())
}

fn undenied(file: &File) -> Option<Finding> {
    let code: String = file.text.split_whitespace().collect();
    let denied = code
        .split_once("#![cfg_attr(not(test),deny(")
        .and_then(|(_, rest)| rest.split_once("))]"))
        .map_or("", |(lints, _)| lints);
    let left = DENIED
        .iter()
        .filter(|lint| {
            !denied
                .split(',')
                .any(|one| one == format!("clippy::{lint}"))
        })
        .copied()
        .collect::<Vec<_>>();
    (!left.is_empty()).then(|| {
        Finding::new(
            &file.path,
            format!(
                "holds money and does not deny {}: put `#![cfg_attr(not(test), deny(clippy::…))]` at its top, as the other crates have it",
                left.join(", ")
            ),
        )
    })
}

/// An exception is `#[expect(…, reason = "…")]`: it says why, and ends when its cause does.
pub(super) fn no_allow(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let forbidden = [
        concat!("#[allo", "w("),
        concat!("#![allo", "w("),
        concat!(", allo", "w("),
    ];
    Ok(repo
        .rust()
        .flat_map(|file| {
            words(
                file,
                |code| forbidden.into_iter().find(|text| code.contains(text)),
                |_| {
                    "say `#[expect(lint, reason = \"…\")]`, which ends when its cause does"
                        .to_owned()
                },
            )
        })
        .collect())
}

/// A library has no terminal.
pub(super) fn no_print_in_libraries(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let prints = ["println!", "eprintln!", "print!(", "dbg!("];
    let mut found = Vec::new();
    for package in repo
        .crates()
        .filter(|package| is_library(package) && package.name.as_str() != super::house::BINARY)
    {
        for file in repo.sources(&package.name) {
            found.extend(words(
                file,
                |code| prints.into_iter().find(|print| code.contains(print)),
                |print| {
                    format!("`{print}` in a library: return the value, or record it with tracing")
                },
            ));
        }
    }
    Ok(found)
}

/// A file that needs scrolling to understand wants a cut.
pub(super) fn files_are_short(repo: &Repo) -> anyhow::Result<Vec<Finding>> {
    let code = [".rs", ".sol", ".mjs"];
    let mut found = Vec::new();
    for file in repo
        .files
        .iter()
        .filter(|file| code.iter().any(|end| file.path.ends_with(end)))
    {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            found.push(Finding::new(
                &file.path,
                format!("has {lines} lines, more than {MAX_LINES}: cut it by its ideas"),
            ));
        }
    }
    for (path, _) in FLOATS {
        if !repo.files.iter().any(|file| file.path == *path) {
            found.push(Finding::new(
                *path,
                "is excepted in xtask/src/tidy/source.rs but is gone: remove the exception",
            ));
        }
    }
    Ok(found)
}

fn in_source(
    repo: &Repo,
    wanted: impl Fn(&super::house::Room) -> bool,
    rule: impl Fn(&File) -> Vec<Finding>,
) -> Vec<Finding> {
    HOUSE
        .iter()
        .filter(|room| wanted(room))
        .flat_map(|room| repo.sources(room.name).flat_map(&rule).collect::<Vec<_>>())
        .collect()
}

fn words<'w>(
    file: &File,
    find: impl Fn(&str) -> Option<&'w str>,
    say: impl Fn(&str) -> String,
) -> Vec<Finding> {
    if is_test(&file.path) {
        return Vec::new();
    }
    code(&file.text)
        .filter_map(|(number, line)| {
            find(line).map(|word| Finding::at(&file.path, number, say(word)))
        })
        .collect()
}

/// `src/…/tests.rs` and `src/…/tests/…` are test modules.
fn is_test(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

/// Numbered lines without comments, up to the module of unit tests, which comes last in a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, without_comment(line)))
}

fn without_comment(line: &str) -> &str {
    let comment = line
        .match_indices("//")
        .find(|(at, _)| *at == 0 || line[..*at].ends_with([' ', '\t']));
    comment.map_or(line, |(at, _)| &line[..at])
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !code[..at].ends_with(part_of_name) && !code[at + word.len()..].starts_with(part_of_name)
    })
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

    fn lines_with(text: &str, word: &str) -> Vec<usize> {
        code(text)
            .filter(|(_, line)| line.contains(word))
            .map(|(number, _)| number)
            .collect()
    }

    #[test]
    fn comments_and_unit_tests_are_not_code() {
        let text = "//! Instant::now\nlet a = 1; // Instant::now\nInstant::now()\n#[cfg(test)]\nmod tests {\nInstant::now()\n}";
        assert_eq!(lines_with(text, "Instant::now"), [3]);
    }

    #[test]
    fn an_address_in_a_string_is_not_a_comment() {
        assert_eq!(
            without_comment("let a = \"https://a\"; // b"),
            "let a = \"https://a\"; "
        );
    }

    #[test]
    fn a_float_is_found_as_a_word_only() {
        assert!(has_word("x as f64;", "f64"));
        assert!(has_word("Vec<f32>", "f32"));
        assert!(!has_word("self.buf64", "f64"));
        assert!(!has_word("0xf64a", "f64"));
    }

    #[test]
    fn a_finding_names_its_line() {
        let found = words(
            &file("crates/a/src/lib.rs", "\nf()"),
            |code| code.contains("f()").then_some("f()"),
            |word| format!("no {word}"),
        );
        assert_eq!(found[0].to_string(), "crates/a/src/lib.rs:2: no f()");
    }

    #[test]
    fn a_lint_that_a_money_crate_does_not_deny_is_named() {
        let all = DENIED
            .iter()
            .map(|lint| format!("clippy::{lint}"))
            .collect::<Vec<_>>()
            .join(",\n        ");
        let whole =
            format!("#![cfg_attr(\n    not(test),\n    deny(\n        {all}\n    )\n)]\nmod a;");
        assert_eq!(undenied(&file("crates/a/src/lib.rs", &whole)), None);
        let part = whole.replace("clippy::panic,", "");
        let found = undenied(&file("crates/a/src/lib.rs", &part)).unwrap();
        assert!(found.text.contains("does not deny panic:"), "{found}");
        let found = undenied(&file("crates/a/src/lib.rs", "mod a;")).unwrap();
        assert!(found.text.contains("arithmetic_side_effects"), "{found}");
    }

    #[test]
    fn modules_of_tests_are_left_alone() {
        assert!(is_test("crates/a/src/machine/tests.rs"));
        assert!(!is_test("crates/a/src/machine.rs"));
    }
}
