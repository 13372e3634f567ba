//! What the simulator promises of itself. The histories that CI lives are in its step `simulate`.

use tollgate_simulate::{Bug, Kind, Mutant, live};

#[test]
fn the_same_seed_is_the_same_history() {
    for kind in Kind::ALL {
        for seed in 1..4 {
            let (first, second) = (
                live(seed, kind, Bug::None, false),
                live(seed, kind, Bug::None, true),
            );
            assert_eq!(first.digest, second.digest, "{kind} {seed}");
            assert_eq!(first.events, second.events, "{kind} {seed}");
            assert_eq!(first.ends, second.ends, "{kind} {seed}");
        }
    }
}

#[test]
fn two_seeds_are_two_histories() {
    let (first, second) = (
        live(1, Kind::Once, Bug::None, false),
        live(2, Kind::Once, Bug::None, false),
    );
    assert_ne!(first.digest, second.digest);
}

#[test]
fn histories_hold_and_payments_of_every_end_are_in_them() {
    let mut ends = (0, 0, 0);
    for kind in Kind::ALL {
        for seed in 1..20 {
            let ended = live(seed, kind, Bug::None, false);
            assert_eq!(ended.violation, None, "{kind} {seed}");
            ends.0 += ended.ends.0;
            ends.1 += ended.ends.1;
            ends.2 += ended.ends.2;
        }
    }
    assert!(ends.0 > 100 && ends.1 > 0 && ends.2 > 0, "{ends:?}");
}

#[test]
fn payments_are_lost_for_every_reason_that_there_is() {
    let reasons = [
        "Allowance",
        "Balance",
        "Deadline",
        "Frozen",
        "Nonce",
        "Refused",
    ];
    let mut missing = reasons.to_vec();
    for seed in 1..200 {
        let ended = live(seed, Kind::Once, Bug::None, false);
        missing.retain(|reason| !ended.losses.contains_key(*reason));
        if missing.is_empty() {
            return;
        }
    }
    panic!("nothing is lost by {missing:?}");
}

#[test]
fn every_seeded_bug_has_a_name_of_its_own_and_is_in_the_book() {
    let book = include_str!("../../../docs/simulator.md");
    let mut names: Vec<_> = Mutant::ALL.iter().map(|bug| bug.name()).collect();
    for name in &names {
        assert!(
            book.contains(&format!("| `{name}` |")),
            "{name} is not in the book"
        );
    }
    let told = book.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(
        told,
        names.len(),
        "the book tells of bugs that are not there"
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Mutant::ALL.len());
}
