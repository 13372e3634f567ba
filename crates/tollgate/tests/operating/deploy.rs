//! A Settler is deployed, and a gateway sells with it.

use std::process::Stdio;

use serde_json::Value;
use tollgate_devchain::{DEV_ACCOUNTS, DEV_SETTLER};
use tollgate_x402::B256;

use crate::world::{ADMIN, OPERATOR, TREASURY, World, key, text, tollgate};

/// Some account with BNB.
const DEPLOYER: usize = 5;

fn deploy(world: &World, more: &[&str]) -> std::process::Output {
    tollgate()
        .args(["settler", "deploy", "--config"])
        .arg(world.config())
        .args(["--treasury", &DEV_ACCOUNTS[TREASURY].address.to_string()])
        .args(["--admin", &DEV_ACCOUNTS[ADMIN].address.to_string()])
        .args(more)
        .env("OPERATOR_KEY", key(OPERATOR))
        .env("TOLLGATE_DEPLOYER_KEY", key(DEPLOYER))
        .output()
        .unwrap()
}

fn json(world: &World, more: &[&str]) -> Value {
    let mut all = more.to_vec();
    all.push("--json");
    let output = deploy(world, &all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_settler_is_deployed_where_the_dry_run_said_and_a_gateway_sells_with_it() {
    let world = World::new("allowances = \"at-once\"");
    let dry = json(&world, &[]);
    assert_eq!(dry["state"], "dry run");
    let address = dry["address"].as_str().unwrap().to_owned();
    assert_eq!(world.chain.nonce(DEV_ACCOUNTS[DEPLOYER].address), 0);
    assert_eq!(json(&world, &[])["address"], dry["address"]);

    let sent = json(&world, &["--send"]);
    assert_eq!(sent["state"], "deployed");
    assert_eq!(sent["address"], dry["address"]);
    assert_eq!(world.chain.nonce(DEV_ACCOUNTS[DEPLOYER].address), 1);
    // Again: it is found, and nothing is sent.
    let again = json(&world, &["--send"]);
    assert_eq!(again["state"], "deployed");
    assert_eq!(again["transaction"], Value::Null);
    assert_eq!(world.chain.nonce(DEV_ACCOUNTS[DEPLOYER].address), 1);

    let told = text(&deploy(&world, &[]).stdout);
    let lines: String = told.split("[seller]").nth(1).unwrap().to_owned();
    assert!(
        lines.contains(&format!("settler = \"{}\"", checksummed(&address))),
        "{told}"
    );
    let config = std::fs::read_to_string(world.config()).unwrap();
    let config = config.replace(&DEV_SETTLER.to_string(), &address);
    std::fs::write(world.config(), config).unwrap();
    let gateway = world.serve(OPERATOR);
    gateway.sell(1, "by the new Settler");
    world.wait_until_paid(1);
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert_eq!(world.booked(), world.received());
}

#[test]
fn a_settler_is_not_deployed_for_nobody_for_a_poor_account_or_for_an_unknown_ledger() {
    let world = World::new("");
    let refused = |world: &World, more: &[&str], why: &str| {
        let output = deploy(world, more);
        assert!(!output.status.success(), "{more:?}");
        let told = text(&output.stderr);
        assert!(told.contains(why), "{why:?} is not in {told:?}");
    };
    let admin = DEV_ACCOUNTS[ADMIN].address.to_string();
    refused(
        &world,
        &["--operator", &admin],
        "is to be admin and operator",
    );
    refused(
        &world,
        &["--key-env", "NO_SUCH_KEY", "--send"],
        "NO_SUCH_KEY",
    );
    let nobody = format!("0x{}", "00".repeat(20));
    refused(&world, &["--operator", &nobody], "nobody");
    let output = deploy(&world, &["--operator", "0x12"]);
    assert_eq!(output.status.code(), Some(2));

    // A key that has no BNB.
    let poor = tollgate()
        .args(["settler", "deploy", "--send", "--config"])
        .arg(world.config())
        .args(["--treasury", &DEV_ACCOUNTS[TREASURY].address.to_string()])
        .args(["--admin", &admin])
        .env("OPERATOR_KEY", key(OPERATOR))
        .env("TOLLGATE_DEPLOYER_KEY", format!("0x{}", "17".repeat(32)))
        .output()
        .unwrap();
    assert!(
        text(&poor.stderr).contains("send it BNB"),
        "{}",
        text(&poor.stderr)
    );

    // Without a ledger's id one is drawn, which a second run would not know.
    let config = std::fs::read_to_string(world.config()).unwrap();
    let lines: Vec<&str> = config
        .lines()
        .filter(|line| !line.starts_with("id = \"0x"))
        .collect();
    std::fs::write(world.config(), lines.join("\n")).unwrap();
    refused(&world, &["--send"], "ledger.id");
    assert!(text(&deploy(&world, &[]).stdout).contains("(random)"));
}

#[test]
fn a_gateway_whose_settler_counts_for_another_ledger_or_knows_another_operator_does_not_start() {
    let world = World::new("");
    let config = std::fs::read_to_string(world.config()).unwrap();
    let (ours, other) = (B256::repeat_byte(0x1d), B256::repeat_byte(0x2e));
    let (settler, plain) = (DEV_SETTLER, DEV_ACCOUNTS[DEPLOYER].address);
    for (changed, operator, why) in [
        (
            config.replace(&ours.to_string(), &other.to_string()),
            OPERATOR,
            "two ledgers cannot share a counter",
        ),
        (config.clone(), DEPLOYER, "may not settle"),
        (
            config.replace(&settler.to_string(), &plain.to_string()),
            OPERATOR,
            "is no Settler",
        ),
    ] {
        std::fs::write(world.config(), changed).unwrap();
        let _ = std::fs::remove_file(world.ledger());
        let mut child = tollgate()
            .args(["serve", "--config"])
            .arg(world.config())
            .env("OPERATOR_KEY", key(operator))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        world.wait(why, || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        let told = text(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{told}");
    }
    for account in [OPERATOR, DEPLOYER] {
        assert_eq!(world.chain.nonce(DEV_ACCOUNTS[account].address), 0);
    }
}

fn checksummed(address: &str) -> String {
    address
        .parse::<tollgate_x402::Address>()
        .unwrap()
        .to_string()
}
