//! A payer makes a charge unpayable, and pays it later.

use alloy_sol_types::SolCall;
use tollgate_contracts::{abi::IErc20, tokens::USD1};
use tollgate_devchain::DEV_ACCOUNTS;
use tollgate_x402::{Address, U256};

use crate::world::{OPERATOR, TREASURY, World, text};

#[test]
fn a_payer_in_debt_is_served_again_when_it_is_forgiven_or_has_paid() {
    // Nothing is settled for four seconds: time enough to take the money away.
    let world = World::new("max_age_seconds = 4\nmax_unsettled_usd = \"0.50\"");
    let gateway = world.serve(OPERATOR);
    let thief = DEV_ACCOUNTS[1].address;
    let name = thief.to_string();
    let transfer = |from: usize, to: Address, amount: U256| {
        let input = IErc20::transferCall { to, value: amount }.abi_encode();
        world.send(from, USD1, input.into())
    };
    gateway.sell(1, "served");
    let all = world.balance(thief);
    transfer(1, DEV_ACCOUNTS[5].address, all);
    world.wait_for_payer(1, "the charge is lost", |row| {
        row["due"] == "0" && row["lost"] != "0"
    });
    assert!(!gateway.chat(1, "not served").status.success());
    let stuck = world.run(&["ledger", "stuck"]);
    assert!(
        text(&stuck.stdout).contains("debt"),
        "{}",
        text(&stuck.stdout)
    );

    transfer(5, thief, all);
    let (_, shown) = world.json(&["payer", "show", &name]);
    let lost: U256 = shown["tokens"][0]["lost"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    // It pays half of it, then is forgiven the rest.
    let half = lost / U256::from(2);
    let hash = transfer(1, DEV_ACCOUNTS[TREASURY].address, half).to_string();
    let other = world.run(&[
        "payer",
        "forgive",
        &DEV_ACCOUNTS[2].address.to_string(),
        "--paid-by",
        &hash,
    ]);
    assert!(
        text(&other.stderr).contains("moves nothing from"),
        "{}",
        text(&other.stderr)
    );
    let paid = world.run(&["payer", "forgive", &name, "--paid-by", &hash]);
    assert!(paid.status.success(), "{}", text(&paid.stderr));
    assert!(
        text(&paid.stdout).contains("are left"),
        "{}",
        text(&paid.stdout)
    );
    let twice = world.run(&["payer", "forgive", &name, "--paid-by", &hash]);
    assert!(
        text(&twice.stderr).contains("booked already"),
        "{}",
        text(&twice.stderr)
    );
    assert!(!gateway.chat(1, "still in debt").status.success());

    let forgiven = world.run(&["payer", "forgive", &name]);
    assert!(forgiven.status.success(), "{}", text(&forgiven.stderr));
    assert!(text(&forgiven.stdout).contains("nothing is left"));
    assert!(!world.run(&["payer", "forgive", &name]).status.success());
    gateway.sell(1, "served again");
    world.wait_until_paid(1);
    gateway.stop();
    let (good, audit) = world.json(&["ledger", "audit", "--chain"]);
    assert!(good, "{audit:#}");
    assert_eq!(world.booked(), world.received());
}
