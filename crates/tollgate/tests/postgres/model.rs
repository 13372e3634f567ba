//! A model server that counts what it is asked, and says always the same.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

/// A model server that counts what it is asked.
pub(crate) fn model() -> (Arc<AtomicUsize>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            std::thread::spawn(move || answer(stream, &count));
        }
    });
    (asked, url)
}

fn answer(mut stream: std::net::TcpStream, count: &AtomicUsize) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let Ok(length @ 1..) = stream.read(&mut part) else {
            return;
        };
        text.extend_from_slice(&part[..length]);
        let words = String::from_utf8_lossy(&text).to_ascii_lowercase();
        let Some((head, body)) = words.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().unwrap());
        if body.len() >= expected {
            break;
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let chunk = |delta: Value, reason: Value, usage: Value| {
        let data = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": usage});
        format!("data: {data}\n\n")
    };
    let events = [
        chunk(
            json!({"role": "assistant", "content": "Once upon a time "}),
            Value::Null,
            Value::Null,
        ),
        chunk(
            json!({"content": "there was a ledger."}),
            Value::Null,
            Value::Null,
        ),
        chunk(
            json!({}),
            json!("stop"),
            json!({"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}),
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes());
    for event in events {
        let _ = stream.write_all(event.as_bytes());
        let _ = stream.flush();
        std::thread::yield_now();
    }
}
