//! The payment machine under random interleavings: gateways, a settlement worker, a chain with reorgs, crashes
//! and hostile payers. After each step every invariant must hold, and when the faults end every charge must.

mod chain;
mod invariants;
mod world;

use proptest::{collection::vec, prelude::*};

use world::{Step, World};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec((0u8..100, any::<[u8; 4]>()), 1..220)
}

/// `TOLLGATE_CASES` sets how many histories of each kind (48).
fn config() -> ProptestConfig {
    let cases = std::env::var("TOLLGATE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(48),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hostile_payers_and_crashes_never_break_the_books_of_a_settler(steps in steps()) {
        let mut world = World::new(true, true);
        world.run(&steps);
        world.drain();
    }

    #[test]
    fn hostile_payers_and_crashes_never_break_the_books_of_a_plain_account(steps in steps()) {
        let mut world = World::new(false, true);
        world.run(&steps);
        world.drain();
    }

    #[test]
    fn what_honest_payers_owe_a_settler_is_paid_to_the_last_unit(steps in steps()) {
        let mut world = World::new(true, false);
        world.run(&steps);
        world.drain();
        world.nothing_is_lost();
    }

    #[test]
    fn what_honest_payers_owe_a_plain_account_is_paid_to_the_last_unit(steps in steps()) {
        let mut world = World::new(false, false);
        world.run(&steps);
        world.drain();
        world.nothing_is_lost();
    }

    #[test]
    fn a_permit_that_a_stranger_submits_early_costs_an_honest_payer_nothing(steps in steps()) {
        let mut world = World::new(true, false);
        world.early = true;
        world.run(&steps);
        world.drain();
        world.nothing_is_lost();
    }

    #[test]
    fn a_permit_that_a_stranger_submits_early_costs_a_plain_accounts_payer_nothing(steps in steps()) {
        let mut world = World::new(false, false);
        world.early = true;
        world.run(&steps);
        world.drain();
        world.nothing_is_lost();
    }
}
