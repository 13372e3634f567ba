//! The table of the README names tests that exist, and every test of the suite.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_table_names_every_test_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut named = BTreeSet::new();
    for row in readme
        .lines()
        .filter(|line| line.starts_with("| P") || line.starts_with("| R"))
    {
        let test = row.split(" | ").nth(2).unwrap().trim_matches('`');
        if let Some(reason) = test.strip_prefix("not applicable: ") {
            assert!(!reason.is_empty());
        } else if test.starts_with("crates/") {
            let (file, name) = test.split_once("::").expect("a test of its file");
            let text = fs::read_to_string(root.join("../../..").join(file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
            let there =
                text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<"));
            assert!(there, "{test} is not there");
        } else {
            assert!(named.insert(test.to_owned()), "{test} stands twice");
        }
    }
    let mut there = BTreeSet::new();
    for file in fs::read_dir(root.join("tests/attacks")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() || module == "main" || module == "table" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut marked = false;
        for line in text.lines() {
            if line.starts_with("#[tokio::test") || line.starts_with("#[test]") {
                marked = true;
            } else if let (true, Some(rest)) = (marked, line.split("fn ").nth(1)) {
                let name = rest.split('(').next().unwrap();
                there.insert(format!("{module}::{name}"));
                marked = false;
            }
        }
    }
    assert!(there.len() > 50, "the suite is read: {}", there.len());
    assert_eq!(named, there);
}
