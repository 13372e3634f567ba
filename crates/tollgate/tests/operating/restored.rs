//! An old backup is restored: nothing is sent, and nobody is charged twice.

use tollgate_devchain::{DEV_ACCOUNTS, Development};
use tollgate_x402::U256;

use crate::world::{OPERATOR, World, text};

#[test]
fn a_restored_backup_sends_nothing_until_it_is_reconciled_and_then_is_the_chain_to_the_unit() {
    let world = World::new("allowances = \"at-once\"");
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "before the backup");
    world.wait_until_paid(1);
    // One charge is due in the backup, and settled later.
    let block = world.chain.head().to_string();
    let copy = world.directory.path().join("backup.db");
    let to = copy.to_str().unwrap();
    assert!(
        world
            .run(&["ledger", "backup", "--to", to])
            .status
            .success()
    );
    gateway.sell(1, "after the backup");
    gateway.sell(1, "after the backup, too");
    gateway.sell(2, "a payer that the backup has never seen");
    world.wait_until_paid(1);
    world.wait_until_paid(2);
    gateway.stop();
    let received = world.received();
    assert_eq!(world.booked(), received);

    for ending in ["", "-wal", "-shm"] {
        let file = format!("{}{ending}", world.ledger().display());
        // SQLite removes the others at a clean end.
        let _ = std::fs::remove_file(file);
    }
    std::fs::copy(&copy, world.ledger()).unwrap();
    assert!(world.booked() < received, "the backup is behind the chain");
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(!good, "the audit sees it: {audit:#}");

    // A gateway on it sells nothing to whom it cannot account for, and sends nothing.
    let sent = world.chain.nonce(DEV_ACCOUNTS[OPERATOR].address);
    let gateway = world.serve(OPERATOR);
    assert!(!gateway.chat(1, "the counter is ahead").status.success());
    world.wait("the account is halted", || {
        text(&world.run(&["ledger", "stuck"]).stdout).contains("halted")
    });
    let busy = world.run(&["ledger", "reconcile", "--from-block", &block]);
    assert!(
        text(&busy.stderr).contains("stop it first"),
        "{}",
        text(&busy.stderr)
    );
    gateway.stop();
    assert_eq!(world.chain.nonce(DEV_ACCOUNTS[OPERATOR].address), sent);

    let tried = world.run(&["ledger", "reconcile", "--from-block", &block, "--dry-run"]);
    let told = text(&tried.stdout);
    assert!(tried.status.success(), "{told}{}", text(&tried.stderr));
    assert!(
        told.contains("unknown to this ledger") && told.contains("dry run"),
        "{told}"
    );
    assert!(world.booked() < received, "a dry run changes nothing");

    let (good, found) = world.json(&["ledger", "reconcile", "--from-block", &block]);
    assert!(good, "{found:#}");
    assert_eq!(found["audit"]["holds"], true);
    assert!(!found["unknown"].as_array().unwrap().is_empty());
    assert_eq!(found["nonce"].as_u64(), Some(sent));
    assert_eq!(world.booked(), received, "to the unit");
    let (good, again) = world.json(&["ledger", "reconcile", "--from-block", "0"]);
    assert!(good, "{again:#}");
    assert!(again["unknown"].as_array().unwrap().is_empty(), "{again:#}");
    assert_eq!(world.booked(), received, "everything is booked once");

    // Serving and settling go on.
    let gateway = world.serve(OPERATOR);
    for payer in [1, 2, 3] {
        gateway.sell(payer, "after it was reconciled");
        world.wait_until_paid(payer);
    }
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert!(world.received() > received);
    assert_eq!(world.booked(), world.received());
    let start = Development::default().tokens;
    let given: U256 = [1, 2, 3]
        .map(|payer| start - world.balance(DEV_ACCOUNTS[payer].address))
        .into_iter()
        .sum();
    assert_eq!(given, world.received(), "nobody was charged twice");
}

#[test]
fn a_ledger_that_was_lost_is_made_anew_from_the_chain() {
    let world = World::new("allowances = \"at-once\"");
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "all of this");
    gateway.sell(2, "will be lost");
    world.wait_until_paid(1);
    world.wait_until_paid(2);
    gateway.stop();
    let received = world.received();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", world.ledger().display()));
    }
    // A start makes an empty one, of the same id, and learns that its account was used.
    world.serve(OPERATOR).stop();
    assert_eq!(world.booked(), U256::ZERO);
    let (good, found) = world.json(&["ledger", "reconcile", "--from-block", "0"]);
    assert!(good, "{found:#}");
    assert_eq!(world.booked(), received);
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "and on it goes");
    world.wait_until_paid(1);
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert_eq!(world.booked(), world.received());
}
