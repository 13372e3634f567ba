//! The program as a person runs it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// Development account 1. Everybody has this key.
const PAYER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
/// Development account 9. Everybody has this key.
const SETTLER: &str = "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6";
/// A key that is no development key, and protects nothing.
const STRANGER: &str = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";

fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .env_remove("TOLLGATE_KEY")
        .env_remove("TOLLGATE_LOG")
        .stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_demo_adds_up_to_the_last_atomic_unit() {
    let output = tollgate()
        .args(["demo", "--json", "Count to three."])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(facts["addsUp"], true, "{facts:#}");
    assert_eq!(facts["charged"], facts["settled"]);
    assert!(
        facts["answer"]
            .as_str()
            .unwrap()
            .ends_with("Count to three.")
    );
    let checks = facts["checks"].as_array().unwrap();
    assert!(
        checks.len() >= 10 && checks.iter().all(|check| check["ok"] == true),
        "{facts:#}"
    );
    assert_eq!(facts["receipt"]["payload"]["amount"], facts["charged"]);
    let number = |key: &str| facts[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(number("charged") > 0);
    assert_eq!(
        number("payerBefore") - number("payerAfter"),
        number("charged")
    );
    assert_eq!(
        number("treasuryAfter") - number("treasuryBefore"),
        number("charged")
    );
}

#[test]
fn the_demo_shows_the_conversation_to_a_person() {
    let output = tollgate().arg("demo").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let shown = stdout(&output);
    for part in [
        "HTTP 402",
        "payment-signature",
        "echo engine",
        "final in 0x",
        "Everything adds up.",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

/// A gateway over a chain of its own, killed when it is dropped.
struct Gateway {
    child: Child,
    url: String,
    rpc: String,
}

impl Gateway {
    fn start() -> Self {
        let mut child = tollgate()
            .args([
                "serve",
                "--dev",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--rpc-listen",
                "127.0.0.1:0",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["chainId"], 31337);
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            child,
            url: text("gateway"),
            rpc: text("rpc"),
        }
    }

    fn chat(&self, key: &str, arguments: &[&str]) -> Output {
        let gateway = [
            "--gateway",
            &self.url,
            "--rpc",
            &self.rpc,
            "--chain-id",
            "31337",
        ];
        tollgate()
            .arg("chat")
            .args(gateway)
            .args(arguments)
            .env("TOLLGATE_KEY", key)
            .output()
            .unwrap()
    }

    #[cfg(unix)]
    fn terminate(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_development_gateway_is_paid_by_chat_and_ends_on_sigterm() {
    let gateway = Gateway::start();
    let streamed = gateway.chat(PAYER, &["Hello"]);
    assert!(streamed.status.success(), "{}", stderr(&streamed));
    assert!(stdout(&streamed).trim_end().ends_with("You said: Hello"));
    assert!(
        stderr(&streamed).contains("paid $"),
        "{}",
        stderr(&streamed)
    );

    let plain = gateway.chat(PAYER, &["Hello", "--no-stream", "--json"]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let report: Value = serde_json::from_slice(&plain.stdout).unwrap();
    assert!(report["charged"].as_str().unwrap().parse::<u128>().unwrap() > 0);
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);
    assert_eq!(report["transaction"], Value::Null, "it was not waited for");
    let receipt = &report["receipt"];
    assert_eq!(receipt["format"], "eip712", "{report:#}");
    assert_eq!(receipt["payload"]["amount"], report["charged"]);
    assert_eq!(receipt["payload"]["payTo"], report["payTo"]);
    assert!(gateway.terminate().success());
}

#[test]
fn chat_waits_for_a_block_if_it_is_asked_to_and_prints_the_transaction() {
    let gateway = Gateway::start();
    let waited = gateway.chat(PAYER, &["Hello", "--no-stream", "--wait", "30"]);
    assert!(waited.status.success(), "{}", stderr(&waited));
    assert!(stdout(&waited).trim_end().ends_with("You said: Hello"));
    let said = stderr(&waited);
    assert!(said.contains(" · transaction 0x"), "{said}");

    let report = gateway.chat(PAYER, &["Hello", "--no-stream", "--wait", "30", "--json"]);
    assert!(report.status.success(), "{}", stderr(&report));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let hash = report["transaction"].as_str().unwrap();
    assert!(hash.starts_with("0x") && hash.len() == 66, "{hash}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);

    // A stream has begun before anything is settled.
    let stream = gateway.chat(PAYER, &["Hello", "--wait", "30"]);
    assert!(!stream.status.success());
    assert!(
        stderr(&stream).contains("--no-stream"),
        "{}",
        stderr(&stream)
    );
}

#[test]
fn chat_signs_nothing_above_its_limit_and_nothing_with_a_real_key_for_a_development_gateway() {
    let gateway = Gateway::start();
    let limited = gateway.chat(PAYER, &["Hello", "--max-usd", "0.00001"]);
    assert!(!limited.status.success());
    assert!(
        stderr(&limited).contains("--max-usd"),
        "{}",
        stderr(&limited)
    );
    let stranger = gateway.chat(STRANGER, &["Hello"]);
    assert!(!stranger.status.success());
    assert!(
        stderr(&stranger).contains("development"),
        "{}",
        stderr(&stranger)
    );
    let keyless = tollgate()
        .args(["chat", "Hello", "--gateway", &gateway.url])
        .output()
        .unwrap();
    assert!(
        stderr(&keyless).contains("TOLLGATE_KEY"),
        "{}",
        stderr(&keyless)
    );
}

/// A configuration that is good but for what a test changes.
const GOOD: &str = r#"listen = "127.0.0.1:0"
public_url = "https://api.example.com"

[chain]
id = 56
rpc = ["http://127.0.0.1:1"]

[seller]
operator_key = "$TEST_OPERATOR_KEY"

[[token]]
symbol = "USD1"

[[model]]
name = "tollgate/echo"
upstream = "echo"
input_usd_per_million = "5"
output_usd_per_million = "25"
"#;

fn serve(directory: &Path, configuration: &str) -> Output {
    let file = directory.join("tollgate.toml");
    std::fs::write(&file, configuration).unwrap();
    tollgate()
        .args(["serve", "--config"])
        .arg(&file)
        .env("TEST_OPERATOR_KEY", STRANGER)
        .env("TEST_BROKEN_KEY", "sk-1\n")
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn a_configured_gateway_tells_the_port_that_it_got() {
    // Over the chain of another gateway, whose accounts have what settlements cost.
    let other = Gateway::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.toml");
    let configuration = GOOD
        .replace("id = 56", "id = 31337")
        .replace("http://127.0.0.1:1", &other.rpc);
    std::fs::write(&file, configuration).unwrap();
    let mut child = tollgate()
        .args(["serve", "--json", "--config"])
        .arg(&file)
        .env("TEST_OPERATOR_KEY", SETTLER)
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let heard = serde_json::from_str::<Value>(&line).map(|ready| {
        let listen = ready["listen"].as_str().unwrap().to_owned();
        (
            ready["gateway"].clone(),
            std::net::TcpStream::connect(listen).is_ok(),
        )
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (gateway, heard) = heard.unwrap();
    assert_eq!(gateway, "https://api.example.com");
    assert!(heard, "nobody listens where it says: {line}");
}

#[test]
fn every_mistake_in_a_configuration_is_told_with_its_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&str, &str, &[&str]); 37] = [
        ("id = 56", "id = 57", &[":5:", "chain.id"]),
        (
            "public_url = \"https://api.example.com\"\n",
            "",
            &["public_url"],
        ),
        (
            "https://api.example.com",
            "api.example.com",
            &[":2:", "public_url"],
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "listen = \"here\"",
            &[":1:", "listen"],
        ),
        ("listen = ", "lisen = ", &[":1:", "lisen"]),
        ("id = 56", "id = \"56\"", &[":5:", "chain.id", "a string"]),
        (
            "rpc = [\"http://127.0.0.1:1\"]",
            "rpc = [\"127.0.0.1\"]",
            &[":6:", "chain.rpc"],
        ),
        (
            "rpc = [\"http://127.0.0.1:1\"]",
            "rpc = [\"http://127.0.0.1:1\"]\nagreement = 2",
            &[":7:", "chain.agreement"],
        ),
        (
            "$TEST_OPERATOR_KEY",
            STRANGER,
            &[":9:", "seller.operator_key", "$NAME"],
        ),
        (
            "$TEST_OPERATOR_KEY",
            "$NO_SUCH_VARIABLE",
            &[":9:", "NO_SUCH_VARIABLE"],
        ),
        (
            "symbol = \"USD1\"",
            "symbol = \"DOGE\"",
            &[":12:", "token.symbol", "USD1"],
        ),
        (
            "symbol = \"USD1\"",
            "symbol = \"USD1\"\namount_usd = \"1\"",
            &[":13:", "token.amount_usd"],
        ),
        (
            "symbol = \"USD1\"",
            "symbol = \"USD1\"\namount_usd = \"0.1.2\"",
            &[":13:", "token.amount_usd"],
        ),
        (
            "upstream = \"echo\"",
            "upstream = \"nobody\"",
            &[":16:", "model.upstream"],
        ),
        (
            "input_usd_per_million = \"5\"",
            "input_usd_per_million = \"-5\"",
            &[":17:", "model.input_usd_per_million"],
        ),
        (
            "[[model]]",
            "[settlement]\nallowances = \"never\"\n[[model]]",
            &[":15:", "settlement.allowances"],
        ),
        (
            "[seller]",
            "[seller]\nsettler = \"0x12\"",
            &[":9:", "seller.settler"],
        ),
        (
            "operator_key = \"$TEST_OPERATOR_KEY\"\n",
            "",
            &[":8:", "seller.operator_key", "[seller.facilitator]"],
        ),
        (
            "\n[[token]]",
            "facilitator = { url = \"https://f.example\", pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\" }\n[[token]]",
            &[":9:", "seller.operator_key", "leave this key out"],
        ),
        (
            "operator_key = \"$TEST_OPERATOR_KEY\"\n",
            "[seller.facilitator]\nurl = \"f.example\"\npay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\n",
            &[":10:", "seller.facilitator.url", "https://"],
        ),
        (
            "operator_key = \"$TEST_OPERATOR_KEY\"\n",
            "[seller.facilitator]\nurl = \"https://f.example\"\npay_to = \"0x20\"\n",
            &[":11:", "seller.facilitator.pay_to", "40 hexadecimal"],
        ),
        (
            "operator_key = \"$TEST_OPERATOR_KEY\"\n",
            "[seller.facilitator]\nurl = \"https://f.example\"\npay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nkey = \"a key of mine\"\n",
            &[":12:", "seller.facilitator.key", "$NAME"],
        ),
        (
            "https://api.example.com",
            "https://a b",
            &[":2:", "public_url"],
        ),
        (
            "upstream = \"echo\"",
            "upstream = \"echo\"\naliases = [\"a\", \"a\"]",
            &[":17:", "model.aliases", "\"a\""],
        ),
        (
            "upstream = \"echo\"",
            "upstream = \"echo\"\naliases = [\"tollgate/echo\"]",
            &[":17:", "model.aliases"],
        ),
        (
            "input_usd_per_million = \"5\"\noutput_usd_per_million = \"25\"",
            "input_usd_per_million = \"0\"\noutput_usd_per_million = \"0\"",
            &[":18:", "model.output_usd_per_million", "costs something"],
        ),
        (
            "output_usd_per_million = \"25\"",
            "output_usd_per_million = \"25\"\nper_request_usd = \"1\"",
            &[":15:", "model.name", "token.amount_usd"],
        ),
        (
            "\n[[model]]",
            "\n[credit]\nin_flight = 0\n[[model]]",
            &[":15:", "credit.in_flight"],
        ),
        (
            "\n[[model]]",
            "\n[credit]\nfloor_usd = \"11\"\n[[model]]",
            &[":15:", "credit.floor_usd", "ceiling"],
        ),
        (
            "\n[[model]]",
            "\n[credit]\nceiling_usd = \"0.05\"\n[[model]]",
            &[":15:", "credit.ceiling_usd", "0.10"],
        ),
        (
            "\n[[model]]",
            "\n[credit]\nceiling_usd = \"ten\"\n[[model]]",
            &[":15:", "credit.ceiling_usd"],
        ),
        (
            "\n[[model]]",
            "\n[limits]\nbody_bytes = 0\n[[model]]",
            &[":15:", "limits.body_bytes"],
        ),
        (
            "\n[[model]]",
            "\n[limits]\nconnections = 0\n[[model]]",
            &[":15:", "limits.connections"],
        ),
        (
            "\n[[model]]",
            "\n[[upstream]]\nname = \"a\"\nurl = \"http://\"\n[[model]]",
            &[":16:", "upstream.url"],
        ),
        (
            "\n[[model]]",
            "\n[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nidle_timeout_seconds = 0\n[[model]]",
            &[":17:", "upstream.idle_timeout_seconds"],
        ),
        (
            "\n[[model]]",
            "\n[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nfirst_token_timeout_seconds = 0\n[[model]]",
            &[":17:", "upstream.first_token_timeout_seconds"],
        ),
        (
            "\n[[model]]",
            "\n[[upstream]]\nname = \"a\"\nurl = \"http://a\"\napi_key = \"$TEST_BROKEN_KEY\"\n[[model]]",
            &[":17:", "upstream.api_key", "line's end"],
        ),
    ];
    for (from, to, parts) in cases {
        assert!(GOOD.contains(from), "{from}");
        let output = serve(directory.path(), &GOOD.replacen(from, to, 1));
        assert!(!output.status.success(), "{to}");
        let told = stderr(&output);
        for part in parts {
            assert!(
                told.contains(part),
                "{part:?} is not in {told:?} for {to:?}"
            );
        }
        assert!(!told.contains(&STRANGER[2..]), "a key was shown");
    }
    let made: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(made, ["tollgate.toml"], "nothing is opened before");
}

#[test]
fn a_gateway_whose_chain_cannot_be_reached_says_so_and_sells_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = serve(directory.path(), GOOD);
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("chain 56 cannot be reached"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn help_teaches_every_command() {
    // Of each what stands after the first line and before the flags.
    let taught = [
        ("demo", "held against the chain to the last atomic unit"),
        ("serve", "SIGTERM and Ctrl-C end it gracefully"),
        ("chat", "never from the command line"),
        ("facilitator", "It holds nobody's money"),
        ("devchain", "Nothing on it is worth anything"),
        ("ledger", "All but `reconcile` only read"),
        ("ledger audit", "Exit code 1 if anything is violated"),
        ("ledger export", "an integer"),
        ("ledger stuck", "Debts and blocks are told"),
        ("ledger reconcile", "Stop the gateway first"),
        ("ledger backup", "Never sell with a copy"),
        ("payer", "--dry-run does it in a copy"),
        ("payer show", "Show what is known of a payer"),
        ("payer block", "What it owes is settled as ever"),
        ("payer unblock", "is forgiven or paid"),
        ("payer forgive", "from bad_debt to forgiven"),
        ("keys", "Change the account that settles"),
        ("keys rotate", "no key is asked for"),
        ("settler", "The contract that is paid"),
        ("settler deploy", "The contract is unaudited"),
        ("doctor", "Nothing is sent or changed"),
    ];
    for (command, phrase) in taught {
        let output = tollgate()
            .args(command.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        assert!(output.status.success());
        let help = stdout(&output);
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(phrase), "{command}: {help}");
    }
    let overview = stdout(&tollgate().arg("--help").output().unwrap());
    for (command, _) in taught {
        let command = command.split(' ').next().unwrap();
        assert!(overview.contains(&format!("\n  {command} ")), "{overview}");
    }
    assert!(overview.contains("tollgate demo"), "{overview}");
}
