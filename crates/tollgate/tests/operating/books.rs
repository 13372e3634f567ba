//! The books of a gateway that sells, while it sells.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_x402::U256;

use crate::world::{OPERATOR, World, text};

#[test]
fn the_books_of_a_gateway_are_audited_exported_and_watched_while_it_sells() {
    let world = World::new("allowances = \"at-once\"");
    let gateway = world.serve(OPERATOR);
    for prompt in ["one", "two", "three"] {
        gateway.sell(1, prompt);
    }
    gateway.sell(2, "another");
    world.wait_until_paid(1);
    world.wait_until_paid(2);
    world.wait("nothing is undecided", || {
        world.run(&["ledger", "stuck"]).status.success()
    });

    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert_eq!(audit["holds"], true);
    let invariants = audit["invariants"].as_array().unwrap();
    assert!(invariants.len() >= 16, "{audit:#}");
    for name in ["transfers", "revenue", "counters", "events", "intervals"] {
        let one = invariants.iter().find(|one| one["name"] == name).unwrap();
        assert!(one["checked"].as_u64().unwrap() > 0, "{one:#}");
        assert_eq!(one["skipped"], Value::Null);
    }
    let told = text(&world.run(&["ledger", "audit"]).stdout);
    assert!(
        told.contains("holds") && told.contains("invariants hold."),
        "{told}"
    );

    assert_eq!(world.booked(), world.received());
    assert!(world.received() > U256::ZERO);
    the_csv_adds_up(&world);

    let output = world.run(&["ledger", "stuck"]);
    assert_eq!(text(&output.stdout), "Nothing is stuck.\n");

    let payer = DEV_ACCOUNTS[1].address.to_string();
    let shown = text(&world.run(&["payer", "show", &payer]).stdout);
    for part in ["credit", "paid in 30 days", "allowance of", "final", "USD1"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    let copy = world.directory.path().join("backup.db");
    let backup = world.run(&["ledger", "backup", "--to", copy.to_str().unwrap()]);
    assert!(backup.status.success(), "{}", text(&backup.stderr));
    assert!(copy.exists());
    let again = world.run(&["ledger", "backup", "--to", copy.to_str().unwrap()]);
    assert!(!again.status.success(), "nothing is overwritten");

    let doctor = world.run(&["doctor"]);
    let seen = text(&doctor.stdout);
    assert!(doctor.status.success(), "{seen}");
    for part in [
        "finality",
        "clock",
        "token-separator",
        "settler-ledger",
        "gas-money",
        "sync-send",
        "0 failures",
    ] {
        assert!(seen.contains(part), "{part:?} is not in\n{seen}");
    }
    gateway.stop();
}

#[test]
fn an_endpoint_that_fails_is_called_by_its_own_number() {
    let world = World::new("");
    let rpc = world.chain.rpc_url().unwrap();
    let config = std::fs::read_to_string(world.config()).unwrap();
    let two = format!("rpc = [\"{rpc}\", \"http://127.0.0.1:1\"]");
    let config = config.replace(&format!("rpc = [\"{rpc}\"]"), &two);
    std::fs::write(world.config(), config).unwrap();
    let (_, seen) = world.json(&["doctor"]);
    let failed: Vec<&str> = seen["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["name"] == "endpoint" && check["outcome"] == "FAIL")
        .map(|check| check["detail"].as_str().unwrap())
        .collect();
    assert_eq!(failed.len(), 1, "{seen:#}");
    assert!(
        failed[0].starts_with("endpoint 2 (127.0.0.1:1) "),
        "{failed:?}"
    );
    assert!(!failed[0].contains("endpoint 1"), "{failed:?}");
}

/// Every line has as many fields as the head, and for each token what one account takes another gives.
fn the_csv_adds_up(world: &World) {
    let output = world.run(&["ledger", "export", "--format", "csv"]);
    assert!(output.status.success());
    let csv = text(&output.stdout);
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let mut accounts: BTreeMap<String, [U256; 2]> = BTreeMap::new();
    let mut paid = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), head.len(), "{line}");
        let atomic: U256 = fields[place("amount_atomic")].parse().unwrap();
        assert!(fields[place("amount")].starts_with("0."), "{line}");
        assert!(fields[place("at")].ends_with('Z'));
        accounts.entry(fields[place("debit")].into()).or_default()[0] += atomic;
        accounts.entry(fields[place("credit")].into()).or_default()[1] += atomic;
        paid += usize::from(
            fields[place("debit")] == "treasury" && fields[place("transaction")].len() == 66,
        );
    }
    assert_eq!(paid, 4, "each final payment has its transaction");
    let total = |side: usize| accounts.values().map(|sides| sides[side]).sum::<U256>();
    assert_eq!(total(0), total(1));
    let treasury = accounts["treasury"];
    assert_eq!(treasury[0] - treasury[1], world.received());
    let output = world.run(&["ledger", "export", "--format", "json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let atomic = |value: &Value| value.as_str().unwrap().parse::<U256>().unwrap();
    assert_eq!(
        object["entries"].as_array().unwrap().len(),
        csv.lines().count() - 1
    );
    let sums = object["sums"].as_array().unwrap();
    assert_eq!(sums.len(), accounts.len());
    for sum in sums {
        let sides = [atomic(&sum["debit"]), atomic(&sum["credit"])];
        assert_eq!(accounts[sum["account"].as_str().unwrap()], sides, "{sum}");
    }
    // Nothing of the future, and everything since the beginning.
    let later = world.run(&["ledger", "export", "--from", "2099-01-01"]);
    assert_eq!(text(&later.stdout).lines().count(), 1);
    let only = world.run(&["ledger", "export", "--to", "2099-01-01", "--token", "usd1"]);
    assert_eq!(text(&only.stdout), csv);
}

#[test]
fn a_payer_is_blocked_and_served_again_while_the_gateway_runs() {
    let world = World::new("allowances = \"at-once\"");
    let gateway = world.serve(OPERATOR);
    let payer = DEV_ACCOUNTS[1].address.to_string();
    gateway.sell(1, "hello");

    let tried = world.run(&["payer", "block", &payer, "--reason", "resells", "--dry-run"]);
    assert!(tried.status.success(), "{}", text(&tried.stderr));
    assert!(text(&tried.stdout).contains("dry run"));
    gateway.sell(1, "still served");

    let blocked = world.run(&["payer", "block", &payer, "--reason", "resells"]);
    assert!(blocked.status.success(), "{}", text(&blocked.stderr));
    assert!(!gateway.chat(1, "hello").status.success());
    gateway.sell(2, "others are served");
    let (_, shown) = world.json(&["payer", "show", &payer]);
    assert_eq!(shown["tokens"][0]["blocked"], "resells");
    let stuck = world.run(&["ledger", "stuck"]);
    assert!(text(&stuck.stdout).contains("blocked"));

    let unblocked = world.run(&["payer", "unblock", &payer]);
    assert!(unblocked.status.success(), "{}", text(&unblocked.stderr));
    gateway.sell(1, "served again");
    assert!(
        !world.run(&["payer", "unblock", &payer]).status.success(),
        "there was nothing to do"
    );
    let socket = world.directory.path().join("ledger.db.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else may decide");
    gateway.stop();
    assert!(!socket.exists());
    // Nobody runs: the ledger is changed itself.
    assert!(
        world
            .run(&["payer", "block", &payer, "--reason", "again"])
            .status
            .success()
    );
}

#[test]
fn every_command_of_the_book_runs() {
    let world = World::new("allowances = \"at-once\"");
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "hello");
    world.wait_until_paid(1);
    let page = include_str!("../../../../docs/operating.md");
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ tollgate "))
        .collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let said = command.split(" > ").next().unwrap();
        let said = said.replace("0x…", &format!("0x{}", "00".repeat(32)));
        let arguments: Vec<&str> = said
            .split(' ')
            .filter(|word| !["--config", "tollgate.toml"].contains(word))
            .collect();
        let output = world.run(&arguments);
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "{command}: {code:?} {}",
            text(&output.stderr)
        );
    }
    gateway.stop();
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let world = World::new("allowances = \"at-once\"");
    let payer = DEV_ACCOUNTS[1].address.to_string();
    let wrong = [
        (vec!["ledger", "audit"], Some(1), "there is no ledger at"),
        (
            vec!["ledger", "export", "--from", "yesterday"],
            Some(2),
            "is no date",
        ),
        (vec!["payer", "show", "0x12"], Some(2), "invalid value"),
        (
            vec!["payer", "show", &payer, "--token", "DOGE"],
            Some(1),
            "which has USD1",
        ),
        (vec!["payer", "block", &payer], Some(2), "--reason"),
        (vec!["ledger", "reconcile"], Some(2), "--from-block"),
        (vec!["keys", "rotate"], Some(2), "--new"),
    ];
    for (arguments, code, part) in wrong {
        let output = world.run(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), code, "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?} says\n{said}");
    }
    for command in [
        vec!["ledger", "--help"],
        vec!["ledger", "audit", "--help"],
        vec!["ledger", "export", "--help"],
        vec!["ledger", "stuck", "--help"],
        vec!["ledger", "reconcile", "--help"],
        vec!["payer", "--help"],
        vec!["payer", "forgive", "--help"],
        vec!["keys", "rotate", "--help"],
        vec!["doctor", "--help"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(&command)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}");
        assert!(
            output.stdout.len() > 300,
            "{command:?} says more than its name"
        );
    }
}
