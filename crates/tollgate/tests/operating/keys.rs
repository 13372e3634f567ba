//! The account that settles is replaced.

use serde_json::Value;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_x402::{Address, Bytes};

use crate::world::{ADMIN, OPERATOR, World};

/// Account 6 becomes the operator.
const SUCCESSOR: usize = 6;

#[test]
fn an_operators_key_is_rotated_step_by_step_and_the_old_one_is_worth_nothing() {
    let world = World::new("allowances = \"at-once\"");
    let new = DEV_ACCOUNTS[SUCCESSOR].address.to_string();
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "with the old key");
    world.wait_until_paid(1);
    let look = || world.json(&["keys", "rotate", "--new", &new]);
    let done = |facts: &Value| -> Vec<bool> {
        let steps = facts["steps"].as_array().unwrap();
        steps.iter().map(|step| step["done"] == true).collect()
    };

    let (complete, facts) = look();
    assert!(!complete);
    assert_eq!(
        done(&facts),
        [true, false, false, false, false],
        "{facts:#}"
    );
    let admins = |facts: &Value, step: usize| {
        let transaction = &facts["steps"][step]["transaction"];
        assert_eq!(
            transaction["from"]
                .as_str()
                .unwrap()
                .parse::<Address>()
                .unwrap(),
            DEV_ACCOUNTS[ADMIN].address
        );
        let to: Address = transaction["to"].as_str().unwrap().parse().unwrap();
        let data: Bytes = transaction["data"].as_str().unwrap().parse().unwrap();
        world.send(ADMIN, to, data);
    };
    admins(&facts, 1);
    let (_, facts) = look();
    assert_eq!(done(&facts), [true, true, false, false, false], "{facts:#}");

    gateway.stop();
    let gateway = world.serve(SUCCESSOR);
    gateway.sell(1, "with the new key");
    world.wait_until_paid(1);
    let (_, facts) = look();
    assert_eq!(done(&facts), [true, true, true, true, false], "{facts:#}");
    admins(&facts, 4);
    let (complete, facts) = look();
    assert!(complete, "{facts:#}");

    gateway.sell(1, "and without the old one");
    world.wait_until_paid(1);
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain", "--from-block", "0"]);
    assert!(good, "{audit:#}");
    assert_eq!(world.booked(), world.received());
}
