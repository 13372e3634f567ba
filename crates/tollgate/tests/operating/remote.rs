//! A seller without a key: a facilitator somewhere else settles, and the chain is asked.

use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_x402::U256;

use crate::{
    facilitator::{FACILITATOR, Facilitator, SHOP_KEY, approve, configured, free_port},
    world::{TREASURY, World, text, tollgate},
};

/// A facilitator for the seller's account alone.
fn start(world: &World, port: u16) -> Facilitator {
    let file = world.directory.path().join("facilitator.toml");
    let pay_to = DEV_ACCOUNTS[TREASURY].address.to_string();
    std::fs::write(&file, configured(world, port, &pay_to, "facilitator.db")).unwrap();
    Facilitator::start(&file)
}

/// A seller whose charges the facilitator at this port settles.
fn world(port: u16, more: &str) -> World {
    let world = World::new("");
    let section = format!(
        "[seller.facilitator]\nurl = \"http://127.0.0.1:{port}\"\nkey = \"$SHOP_KEY\"\npay_to = \"{}\"\n{more}",
        DEV_ACCOUNTS[TREASURY].address
    );
    let config = std::fs::read_to_string(world.config()).unwrap();
    let (before, rest) = config.split_once("[seller]").unwrap();
    let (_, after) = rest.split_once("[[token]]").unwrap();
    std::fs::write(
        world.config(),
        format!("{before}{section}\n[[token]]{after}"),
    )
    .unwrap();
    world
}

#[test]
fn a_seller_without_a_key_is_paid_by_a_facilitator_and_its_books_are_the_chains() {
    let port = free_port();
    let world = world(port, "");
    let facilitator = start(&world, port);
    for payer in [1, 2] {
        approve(&world, payer);
    }
    let gateway = world.serve_with(&[SHOP_KEY]);
    gateway.sell(1, "one");
    gateway.sell(1, "two");
    // Who settles has the key that could sign a receipt; nothing is wrong with there being none.
    let unsigned = gateway.chat(2, "three");
    assert!(unsigned.status.success(), "{}", text(&unsigned.stderr));
    let report: serde_json::Value = serde_json::from_slice(&unsigned.stdout).unwrap();
    assert!(report["paymentId"].is_string(), "{report:#}");
    assert!(report["receipt"].is_null(), "{report:#}");
    world.wait_until_paid(1);
    world.wait_until_paid(2);

    // While it is away selling goes on, and what is due waits.
    drop(facilitator);
    let before = world.received();
    assert!(before > U256::ZERO);
    gateway.sell(2, "four");
    let facilitator = start(&world, port);
    world.wait_until_paid(2);
    assert!(world.received() > before);

    let doctor = world.run(&["doctor"]);
    assert!(doctor.status.success());
    assert!(text(&doctor.stdout).contains("seller.facilitator.key"));
    let rotate = world.run(&[
        "keys",
        "rotate",
        "--new",
        &DEV_ACCOUNTS[3].address.to_string(),
    ]);
    assert!(text(&rotate.stderr).contains("no key of yours settles"));
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    let (good, stuck) = world.json(&["ledger", "stuck"]);
    assert!(good, "{stuck:#}");
    assert_eq!(world.booked(), world.received());
    // Its own gas was the facilitator's, and the seller's account has sent nothing.
    assert_eq!(world.chain.nonce(DEV_ACCOUNTS[TREASURY].address), 0);
    assert!(world.chain.nonce(DEV_ACCOUNTS[FACILITATOR].address) >= 4);
    drop(facilitator);
}

#[test]
fn nothing_is_sold_where_the_facilitator_is_not_the_one_that_was_meant() {
    let port = free_port();
    let refused = |world: &World, why: &str| {
        let output = tollgate()
            .args(["serve", "--config"])
            .arg(world.config())
            .envs([SHOP_KEY])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let told = text(&output.stderr);
        assert!(told.contains(why), "{why:?} is not in {told:?}");
        assert!(!told.contains(SHOP_KEY.1), "a key was shown");
    };
    let world_of_another = world(
        port,
        "account = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"",
    );
    let nobody = world(free_port(), "");
    refused(&nobody, "seller.facilitator.account");
    let facilitator = start(&world_of_another, port);
    refused(&world_of_another, "seller.facilitator.account names");
    drop(facilitator);
}
