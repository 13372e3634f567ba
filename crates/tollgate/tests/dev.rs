//! Development worlds as a person meets them: what is printed, typed in again as it stands.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use tollgate_devchain::DEV_SETTLER;

/// Development account 0. Everybody has this key.
const KNOWN: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

fn tollgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A world that runs until this is dropped, and what it said before it was ready.
struct Running {
    child: Child,
    said: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tollgate()
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let mut said = String::new();
        for line in lines.map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            if line.starts_with("Stop it") {
                break;
            }
        }
        Self { child, said }
    }

    /// A gateway over a chain of this id.
    fn gateway(chain: &str) -> Self {
        Self::start(&[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--rpc-listen",
            "127.0.0.1:0",
            "--chain-id",
            chain,
        ])
    }

    /// The word behind another.
    fn word(&self, before: &str) -> &str {
        let (_, rest) = self.said.split_once(before).unwrap();
        rest.split_whitespace().next().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_command_that_a_development_gateway_prints_pays_it() {
    for chain in ["31337", "56"] {
        let gateway = Running::gateway(chain);
        let (_, command) = gateway
            .said
            .split_once("Pay it from another terminal:\n")
            .unwrap();
        let (command, _) = command.split_once("Stop it").unwrap();
        let paid = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(paid.status.success(), "{command}\n{}", stderr(&paid));
        let text = String::from_utf8(paid.stdout.clone()).unwrap();
        assert!(text.contains("You said: Hello"), "{text}");
        assert!(stderr(&paid).contains("paid $"), "{}", stderr(&paid));
    }
}

#[test]
fn what_is_signed_for_a_gateway_of_another_chain_than_31337_pays_nobody_that_anyone_can_be() {
    let development = Running::gateway("31337");
    assert_eq!(development.word("paid to "), DEV_SETTLER.to_string());
    assert!(development.said.contains(KNOWN), "{}", development.said);
    let real = [Running::gateway("56"), Running::gateway("56")];
    let payees = real.each_ref().map(|gateway| gateway.word("paid to "));
    assert_ne!(payees[0], payees[1], "each is drawn for its run");
    for (gateway, payee) in real.iter().zip(payees) {
        assert_ne!(payee, DEV_SETTLER.to_string());
        assert!(!gateway.said.contains(KNOWN), "{}", gateway.said);
        assert!(gateway.said.contains("on chain 56"), "{}", gateway.said);
    }
}

#[test]
fn nobody_knows_the_keys_of_a_development_chain_with_another_id_than_31337() {
    for (id, known) in [("31337", true), ("56", false), ("137", false)] {
        let chain = Running::start(&["devchain", "--listen", "127.0.0.1:0", "--chain-id", id]);
        let said = &chain.said;
        assert_eq!(said.contains(KNOWN), known, "{said}");
        assert_eq!(said.contains("known to everybody"), known, "{said}");
        assert_eq!(said.contains("made for this run"), !known, "{said}");
    }
    let refused = tollgate()
        .args(["serve", "--dev", "--chain-id", "137"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("31337 and 56"),
        "{}",
        stderr(&refused)
    );
}
