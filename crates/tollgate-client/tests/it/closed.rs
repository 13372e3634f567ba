//! Connections that are closed in the middle of an answer without a length, as they are when a gateway is killed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

use tollgate_client::{ChatPart, PayError};
use tollgate_x402::ChainId;

use crate::{
    ready::client,
    seller::{Counting, once, required},
};

const TEXT: &str = "data: {\"type\":\"text-delta\",\"id\":\"0\",\"delta\":\"half\"}\n\n";
const END: &str = "data: {\"type\":\"finish\",\"finishReason\":\"stop\"}\n\ndata: [DONE]\n\n";

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

/// A seller of once payments that closes the connection behind each answer. The first is cut.
fn serve(kind: &'static str, first: String, then: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut entry = once();
    entry.network = ChainId::DEV.into();
    let offer = required(vec![entry], "Payment required").to_header_v2();
    std::thread::spawn(move || {
        let mut answers = [first, then].into_iter();
        while let Ok((mut stream, _)) = listener.accept() {
            let Some(paid) = read(&stream) else { continue };
            let (head, body) = if paid {
                let Some(body) = answers.next() else { return };
                (format!("200 OK\r\ncontent-type: {kind}"), body)
            } else {
                let head = format!("402 Payment Required\r\npayment-required: {offer}");
                (head, String::new())
            };
            let answer = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}/x402/v1")
}

#[tokio::test]
async fn a_chat_that_is_cut_off_is_broken_after_what_came_and_asked_again_it_is_not_paid_twice() {
    let url = serve("text/event-stream", TEXT.into(), format!("{TEXT}{END}"));
    let wallet = Counting::development();
    let client = client(&wallet);
    let mut cut = client.chat(&url, "{}").await.unwrap();
    let half = ChatPart::Text("half".into());
    assert_eq!(cut.next().await.unwrap().unwrap(), half);
    let error = cut.next().await.unwrap().unwrap_err();
    assert!(matches!(error, PayError::Broken(_)), "{error}");
    assert!(cut.next().await.is_none());

    let mut whole = client.chat(&url, "{}").await.unwrap();
    assert_eq!(whole.next().await.unwrap().unwrap(), half);
    let finish = ChatPart::Finish(Some("stop".into()));
    assert_eq!(whole.next().await.unwrap().unwrap(), finish);
    assert!(whole.next().await.is_none());
    assert!(whole.paid().unwrap().reused);
    assert_eq!(wallet.count(), 1);
}

#[tokio::test]
async fn a_text_that_is_cut_off_is_no_answer() {
    let json = r#"{"choices":[{"message":{"content":"plain"},"finish_reason":"stop"}]}"#;
    let url = serve("application/json", json[..30].into(), json.into());
    let wallet = Counting::development();
    let client = client(&wallet);
    let error = client.post_json(&url, "{}").await.unwrap_err();
    assert!(matches!(error, PayError::Broken(_)), "{error}");
    let answer = client.post_json(&url, "{}").await.unwrap();
    assert_eq!(answer.body, json);
    assert_eq!(wallet.count(), 1);
}
