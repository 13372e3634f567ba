//! The books of a facilitator: its configuration is as good for every command as a gateway's.

use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_x402::{Address, U256};

use crate::{
    facilitator::{FACILITATOR, Facilitator, Kind, approve, configured, free_port, payment},
    world::{World, text},
};

const ONE_SELLER: Address = Address::repeat_byte(0x5e);
const OTHER_SELLER: Address = Address::repeat_byte(0x5f);

/// A chain, and a configuration of a facilitator for anybody's payees in place of a gateway's.
fn world() -> World {
    let world = World::new("");
    let config = configured(&world, free_port(), "any", "ledger.db");
    std::fs::write(world.config(), config).unwrap();
    for payer in [1, 2] {
        approve(&world, payer);
    }
    world
}

fn earned(world: &World) -> U256 {
    world.balance(ONE_SELLER) + world.balance(OTHER_SELLER)
}

fn sent(world: &World) -> u64 {
    world.chain.nonce(DEV_ACCOUNTS[FACILITATOR].address)
}

#[test]
fn a_facilitators_restored_backup_sends_nothing_until_it_is_reconciled_and_then_settles() {
    let world = world();
    let facilitator = Facilitator::start(&world.config());
    let before = payment(Kind::Once, 1, ONE_SELLER, 3, 1, 60);
    let (status, known) = facilitator.settle(&before);
    assert_eq!((status, &known["success"]), (200, &true.into()), "{known}");

    // One settlement is under way in the backup, and final later.
    world.chain.freeze_finality(true);
    let mut under_way = payment(Kind::Once, 2, OTHER_SELLER, 5, 2, 1);
    let (status, pending) = facilitator.settle(&under_way);
    assert_eq!(status, 202, "{pending}");
    let block = world.chain.head().to_string();
    let copy = world.directory.path().join("backup.db");
    let to = copy.to_str().unwrap();
    let backup = world.run(&["ledger", "backup", "--to", to]);
    assert!(backup.status.success(), "{}", text(&backup.stderr));
    world.chain.freeze_finality(false);
    under_way.requirements.max_timeout_seconds = 60;

    let missed = [
        payment(Kind::Once, 1, OTHER_SELLER, 7, 3, 60),
        payment(Kind::Permit2Exact, 2, ONE_SELLER, 11, 4, 60),
        payment(Kind::Transfer, 1, ONE_SELLER, 13, 5, 60),
    ];
    let mut answers = Vec::new();
    for request in [&under_way].into_iter().chain(&missed) {
        let (status, answer) = facilitator.settle(request);
        assert_eq!(
            (status, &answer["success"]),
            (200, &true.into()),
            "{answer}"
        );
        answers.push(answer);
    }
    let doctor = world.run(&["doctor"]);
    assert!(doctor.status.success(), "{}", text(&doctor.stdout));
    let (good, stuck) = world.json(&["ledger", "stuck"]);
    assert!(good, "{stuck:#}");
    facilitator.stop();
    let paid = earned(&world);
    assert_eq!(world.booked(), paid, "to the unit");
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");

    for ending in ["", "-wal", "-shm"] {
        // SQLite removes the others at a clean end.
        let _ = std::fs::remove_file(format!("{}{ending}", world.ledger().display()));
    }
    std::fs::copy(&copy, world.ledger()).unwrap();
    assert!(world.booked() < paid, "the backup is behind the chain");

    // It claims nothing, sends nothing, and still tells what it knows.
    let count = sent(&world);
    let facilitator = Facilitator::start(&world.config());
    let (status, told) = facilitator.health();
    assert_eq!(status, 503, "{told}");
    assert!(told.to_string().contains("stopped"), "{told}");
    let fresh = payment(Kind::Once, 2, ONE_SELLER, 17, 6, 60);
    for request in missed.iter().chain([&fresh]) {
        let (status, told) = facilitator.settle(request);
        assert_eq!(status, 503, "{told}");
        assert!(told.to_string().contains("stopped"), "{told}");
    }
    assert_eq!(facilitator.settle(&before), (200, known.clone()));
    // What the backup had sent is followed to its end.
    assert_eq!(facilitator.settle(&under_way), (200, answers[0].clone()));
    assert!(text(&world.run(&["ledger", "stuck"]).stdout).contains("halted"));
    let busy = world.run(&["ledger", "reconcile", "--from-block", &block]);
    let busy = text(&busy.stderr);
    assert!(busy.contains("a facilitator has the ledger open"), "{busy}");
    facilitator.stop();
    assert_eq!(sent(&world), count);
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(!good, "the audit sees it: {audit:#}");

    let tried = world.run(&["ledger", "reconcile", "--from-block", &block, "--dry-run"]);
    let told = text(&tried.stdout);
    assert!(tried.status.success(), "{told}{}", text(&tried.stderr));
    assert!(world.booked() < paid, "a dry run changes nothing");
    let (good, found) = world.json(&["ledger", "reconcile", "--from-block", &block]);
    assert!(good, "{found:#}");
    assert_eq!(found["audit"]["holds"], true);
    assert_eq!(found["unknown"].as_array().unwrap().len(), 3, "{found:#}");
    assert_eq!(found["nonce"].as_u64(), Some(count));
    assert_eq!(world.booked(), paid, "to the unit");
    let (good, again) = world.json(&["ledger", "reconcile", "--from-block", "0"]);
    assert!(good, "{again:#}");
    assert!(again["unknown"].as_array().unwrap().is_empty(), "{again:#}");

    // It settles again; what was settled before is answered as it was, and is paid once.
    let facilitator = Facilitator::start(&world.config());
    assert_eq!(facilitator.health().0, 200);
    for (request, answer) in [&under_way].into_iter().chain(&missed).zip(&answers) {
        assert_eq!(facilitator.settle(request), (200, answer.clone()));
    }
    assert_eq!((sent(&world), earned(&world)), (count, paid));
    let (status, answer) = facilitator.settle(&fresh);
    assert_eq!(
        (status, &answer["success"]),
        (200, &true.into()),
        "{answer}"
    );
    facilitator.stop();
    assert!(earned(&world) > paid);
    assert_eq!(sent(&world), count + 1);
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert_eq!(world.booked(), earned(&world));
}

#[test]
fn a_settlement_that_a_kill_interrupts_is_the_same_transaction_after_the_restart_and_paid_once() {
    let world = world();
    let facilitator = Facilitator::start(&world.config());
    // What is sent is in no final block before the kill.
    world.chain.freeze_finality(true);
    let mut request = payment(Kind::Once, 1, ONE_SELLER, 3, 1, 1);
    let (status, pending) = facilitator.settle(&request);
    assert_eq!(status, 202, "{pending}");
    let hash = &pending["transaction"];
    assert!(
        hash.as_str().is_some_and(|hash| hash.len() == 66),
        "{pending}"
    );
    facilitator.kill();
    world.chain.freeze_finality(false);
    request.requirements.max_timeout_seconds = 60;
    let facilitator = Facilitator::start(&world.config());
    let (status, settled) = facilitator.settle(&request);
    assert_eq!(
        (status, &settled["success"]),
        (200, &true.into()),
        "{settled}"
    );
    assert_eq!(&settled["transaction"], hash);
    assert_eq!(facilitator.settle(&request), (200, settled));
    facilitator.stop();
    assert_eq!(sent(&world), 1);
    assert_eq!(earned(&world), U256::from(30_000_000_000_000_000_u64));
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
}

#[test]
fn a_facilitators_key_is_not_rotated_by_a_settler() {
    let world = world();
    let new = DEV_ACCOUNTS[3].address.to_string();
    let told = world.run(&["keys", "rotate", "--new", &new]);
    assert!(!told.status.success());
    let told = text(&told.stderr);
    assert!(told.contains("GET /supported"), "{told}");
}
