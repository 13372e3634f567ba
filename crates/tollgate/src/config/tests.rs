//! `docs/configuration.md` is the reference of people who never see this code: it is held to it here.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use crate::plan::Plan;

const PAGE: &str = include_str!("../../../../docs/configuration.md");
const FACILITATOR: &str = include_str!("../../../../docs/facilitator.md");
const CODE: &str = include_str!("../config.rs");

/// The structs of the file and their tables in the page.
const TABLES: [(&str, &str); 9] = [
    ("ChainSection", "### `[chain]`"),
    ("SellerSection", "### `[seller]`"),
    ("TokenSection", "### `[[token]]`"),
    ("CreditSection", "### `[credit]`"),
    ("SettlementSection", "### `[settlement]`"),
    ("LedgerSection", "### `[ledger]`"),
    ("UpstreamSection", "### `[[upstream]]`"),
    ("ModelSection", "### `[[model]]`"),
    ("LimitsSection", "### `[limits]`"),
];

/// What has no default, in the order of `TABLES` and with the top level before it.
const REQUIRED: [(&str, &str); 10] = [
    ("", "public_url = \"https://api.example.com\""),
    ("[chain]", "id = 56\nrpc = [\"http://127.0.0.1:1\"]"),
    ("[seller]", "operator_key = \"$KEY\""),
    ("[[token]]", "symbol = \"USD1\""),
    ("[credit]", ""),
    ("[settlement]", ""),
    ("[ledger]", ""),
    (
        "[[upstream]]",
        "name = \"local\"\nurl = \"http://127.0.0.1:8000/v1\"",
    ),
    (
        "[[model]]",
        "name = \"m\"\nupstream = \"local\"\ninput_usd_per_million = \"1\"\noutput_usd_per_million = \"2\"",
    ),
    ("[limits]", ""),
];

fn plan(text: &str) -> String {
    let source = Source::new("docs/configuration.md", text);
    let key = format!("0x{}", "11".repeat(32));
    let environment: BTreeMap<_, _> = [
        "KEY",
        "TOLLGATE_OPERATOR_KEY",
        "MODEL_SERVER_KEY",
        "FACILITATOR_KEY",
    ]
    .map(|name| (name.to_owned(), key.clone()))
    .into();
    let config = source.parse().unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::of(config, &source, &environment).unwrap_or_else(|error| panic!("{error}"));
    let shown = format!("{plan:?}");
    assert!(!shown.contains(&key[2..]), "a secret is shown");
    shown
}

/// The examples that are marked as complete.
fn examples(page: &'static str) -> Vec<&'static str> {
    page.split("<!-- complete -->\n```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// The keys of a table of the page, with the default where it names a value.
fn table(heading: &str) -> BTreeMap<&'static str, Option<&'static str>> {
    let section = PAGE.split(&format!("{heading}\n")).nth(1).unwrap();
    let section = section.split("\n##").next().unwrap();
    section
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split(" | ").collect();
            let key = cells.first()?.strip_prefix("| `")?.strip_suffix('`')?;
            let value = cells[2]
                .strip_prefix('`')
                .and_then(|value| value.strip_suffix('`'));
            Some((key, value))
        })
        .collect()
}

/// The fields of a struct of the code that are values.
fn fields(name: &str) -> BTreeSet<&'static str> {
    let body = CODE.split(&format!("struct {name} {{\n")).nth(1).unwrap();
    let body = body.split("\n}").next().unwrap();
    body.lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) "))
        .filter(|field| !field.contains("Section"))
        .filter_map(|field| field.split(':').next())
        .collect()
}

#[test]
fn the_complete_examples_of_the_page_are_good() {
    assert_eq!(examples(PAGE).len(), 2);
    for example in examples(PAGE) {
        plan(example);
    }
    let [seller] = examples(FACILITATOR)[..] else {
        panic!("one example is a seller's");
    };
    assert!(plan(seller).contains("Remote("));
}

#[test]
fn the_large_example_shows_every_key() {
    let example = examples(PAGE)[1];
    for (name, _) in TABLES.into_iter().chain([("Config", "")]) {
        for field in fields(name) {
            let shown = example.lines().any(|line| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{field} = "))
            });
            assert!(shown, "{name}: {field} is not in the example");
        }
    }
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let others = [
        ("Config", "### Top level"),
        ("RemoteSection", "### `[seller.facilitator]`"),
        ("PostgresSection", "### `[ledger.postgres]`"),
    ];
    for (name, heading) in TABLES.into_iter().chain(others) {
        let keys: BTreeSet<_> = table(heading).into_keys().collect();
        assert_eq!(keys, fields(name), "{heading}");
    }
}

#[test]
fn the_defaults_of_the_page_are_those_of_the_code() {
    let headings = ["### Top level"]
        .into_iter()
        .chain(TABLES.map(|(_, heading)| heading));
    let (mut without, mut with, mut count) = (String::new(), String::new(), 0);
    for ((header, required), heading) in REQUIRED.into_iter().zip(headings) {
        without += &format!("{header}\n{required}\n");
        with += &format!("{header}\n{required}\n");
        for (key, value) in table(heading) {
            if let Some(value) = value {
                with += &format!("{key} = {value}\n");
                count += 1;
            }
        }
    }
    assert!(count > 20, "the page was not read:\n{with}");
    assert_eq!(plan(&with), plan(&without));
}

#[test]
fn a_value_of_another_type_is_told_by_its_key_and_not_shown() {
    let good = REQUIRED.map(|(header, keys)| format!("{header}\n{keys}\n"));
    let good = good.concat();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let seller = "[seller]\noperator_key = \"$KEY\"\n";
    let cases = [
        (
            "chain.rpc",
            with(
                "rpc = [\"http://127.0.0.1:1\"]",
                "rpc = \"https://node.example/hush\"",
            ),
        ),
        (
            "ledger.postgres",
            with(
                "[ledger]\n",
                "[ledger]\npostgres = \"postgres://user:hush@host/db\"\n",
            ),
        ),
        (
            "limits.drain_seconds",
            with(
                "[limits]\n",
                "[limits]\ndrain_seconds = \"hush, \\\", expected hush\"\n",
            ),
        ),
        (
            "seller",
            format!("seller = \"0xhush\"\n{}", with(seller, "")),
        ),
        ("chain", with("id = 56\n", "")),
    ];
    for (key, text) in cases {
        let error = Source::new("tollgate.toml", text).parse().unwrap_err();
        let told = error.to_string();
        assert!(!told.contains("hush"), "{told}");
        assert!(told.contains(&format!(": {key}: ")), "{told}");
    }
}
