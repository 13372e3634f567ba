//! `tollgate chat` at sellers whose answers are not whole, or whose charge is not told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
};

use serde_json::Value;
use tollgate_x402::{
    AssetTransferMethod, ChainId, Network, PaymentRequired, PaymentRequirements, ResourceInfo,
    Scheme, header::PAYMENT_REQUIRED,
};

/// Development account 1. Everybody has this key.
const PAYER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

const TEXT: &str = "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"half\"}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The end of a stream, with its reason, and the charge if it is told.
fn finish(reason: &str, charge: bool) -> String {
    let metadata = if charge {
        ",\"messageMetadata\":{\"realPriceWei\":\"5000\"}"
    } else {
        ""
    };
    format!("data: {{\"type\":\"finish\",\"finishReason\":\"{reason}\"{metadata}}}\n\n{DONE}")
}

/// An offer of a once payment, which needs nothing of a chain to be signed.
fn offer() -> String {
    let mut entry = PaymentRequirements::new(
        Scheme::Upto,
        Network::Eip155(ChainId::DEV),
        "990000000000000000".parse().unwrap(),
        "0x8d0D000Ee44948FC98c9B98A4FA4921476f08B0d"
            .parse()
            .unwrap(),
        "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
            .parse()
            .unwrap(),
        86_400,
    );
    entry.extra.name = Some("World Liberty Financial USD".into());
    entry.extra.version = Some("1".into());
    entry.extra.min_amount_required = Some("10000000000000000".parse().unwrap());
    entry.extra.asset_transfer_method = Some(AssetTransferMethod::Permit2);
    entry.extra.facilitator_address = Some(
        "0x00000000000000000000000000000000000fac17"
            .parse()
            .unwrap(),
    );
    let resource = ResourceInfo::new("http://127.0.0.1/x402/v1");
    PaymentRequired::new(resource, vec![entry]).to_header_v2()
}

/// Reads one request: whether it has a payment.
fn read(stream: &TcpStream) -> Option<bool> {
    let mut reader = BufReader::new(stream);
    let (mut paid, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        paid |= line.starts_with("payment-signature:");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(paid)
}

/// Asks a seller that gives this stream for a payment and closes the connection behind it, as a killed one does.
fn ask(stream: &str, arguments: &[&str]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    let stream = stream.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut connection, _)) = listener.accept() {
            let Some(paid) = read(&connection) else {
                continue;
            };
            let (head, body) = if paid {
                let head = "200 OK\r\ncontent-type: text/event-stream".to_owned();
                (head, stream.as_str())
            } else {
                let offer = offer();
                let head = format!("402 Payment Required\r\n{PAYMENT_REQUIRED}: {offer}");
                (head, "")
            };
            let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).unwrap();
        }
    });
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["chat", "Hello", "--gateway", &gateway])
        .args(arguments)
        .env("TOLLGATE_KEY", PAYER)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_answer_that_is_whole_and_whose_charge_is_told_is_a_success() {
    let output = ask(&format!("{TEXT}{}", finish("stop", true)), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(output.stdout, b"half\n");
    assert!(stderr(&output).contains("paid $"), "{}", stderr(&output));
}

#[test]
fn an_answer_without_its_end_is_a_failure_after_what_came() {
    let cut = ask(TEXT, &[]);
    assert_eq!(cut.status.code(), Some(1));
    assert_eq!(cut.stdout, b"half\n");
    let said = stderr(&cut);
    assert!(said.contains("broke off"), "{said}");
    assert!(said.contains("asking again is a new payment"), "{said}");

    let report = ask(TEXT, &["--json"]);
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["text"], "half");
    assert!(report["error"].as_str().unwrap().contains("broke off"));

    // Ended, but not by a finish.
    let unfinished = ask(&format!("{TEXT}{DONE}"), &[]);
    assert_eq!(unfinished.status.code(), Some(1));
    let said = stderr(&unfinished);
    assert!(said.contains("without its end"), "{said}");
}

#[test]
fn an_answer_that_ends_with_an_error_is_a_failure() {
    let output = ask(&format!("{TEXT}{}", finish("error", true)), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("ended with an error"), "{said}");
    assert!(said.contains("paid $"), "{said}");
}

#[test]
fn a_paid_answer_whose_charge_is_not_told_is_a_failure() {
    let output = ask(&format!("{TEXT}{}", finish("stop", false)), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("does not say what it charged"), "{said}");
}

#[test]
fn what_is_refused_before_an_answer_is_one_object_of_json_too() {
    let whole = format!("{TEXT}{}", finish("stop", true));
    let output = ask(&whole, &["--json", "--max-usd", "0.005"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["text"], "");
    assert_eq!(report["charged"], Value::Null);
    let said = report["error"].as_str().unwrap();
    assert!(said.contains("--max-usd"), "{said}");
    assert!(stderr(&output).contains("--max-usd"), "{}", stderr(&output));
}
