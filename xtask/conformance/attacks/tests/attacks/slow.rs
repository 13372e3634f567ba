//! Slow ones: silent sockets, heads and bodies that never end, and more connections than there is room for.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tollgate_gateway::ServeConfig;

use crate::kit::{PATIENCE, Raw, Setup, Untouched, World, chat};

fn short() -> ServeConfig {
    let mut config = ServeConfig::default();
    config.first_byte = Duration::from_millis(400);
    config.head = Duration::from_millis(400);
    config
}

/// Waits until the server has closed a connection; what it said before.
async fn closed(socket: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut said))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&said).into_owned()
}

/// Writes a byte now and then until the server has closed the connection.
async fn dribble(socket: &mut TcpStream) -> String {
    dribble_of(socket, b"a").await
}

/// Writes this now and then until the server has closed the connection.
async fn dribble_of(socket: &mut TcpStream, piece: &[u8]) -> String {
    let (mut reader, mut writer) = socket.split();
    let mut said = Vec::new();
    let dribble = async {
        loop {
            if writer.write_all(piece).await.is_err() {
                return std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = timeout(PATIENCE, reader.read_to_end(&mut said));
    tokio::select! {
        read = read => {
            let _ = read.expect("the connection stays open");
        }
        () = dribble => {}
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// RELIABILITY 72. 300 sockets that say nothing: others are answered meanwhile, and all are closed after the limit.
/// Lost: 0, with no call of the node and no write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_keep_nobody_out_and_are_closed() {
    let world = World::new().await;
    let server = world.serve(short()).await;
    let untouched = Untouched::begin(&world);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(server.connect().await);
    }
    for _ in 0..5 {
        let (status, answer) = server.exchange(&Raw::post(&chat(20))).await;
        assert_eq!(status, 402, "{answer}");
    }
    for socket in &mut silent {
        assert_eq!(closed(socket).await, "");
    }
    untouched.check("three hundred silent sockets");
    server.stop().await;
}

/// RELIABILITY 72. A head that comes byte by byte, and a connection that is idle after an answer, are closed after the
/// limit, however lively they are. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_is_cut() {
    let world = World::new().await;
    let server = world.serve(short()).await;
    let untouched = Untouched::begin(&world);
    for begin in [
        "P",
        "POST /x402/v1 HTTP/1.1\r\nHost: a\r\nX-PAYMENT: ",
        "PRI * HTT",
    ] {
        let mut socket = server.connect().await;
        socket.write_all(begin.as_bytes()).await.unwrap();
        let said = dribble(&mut socket).await;
        assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
    }
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(closed(&mut idle).await.starts_with("HTTP/1.1 200"));
    untouched.check("heads that never end");
    server.stop().await;
}

/// RELIABILITY 73. A body that never comes, or comes byte by byte, is given up after the limit. Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_never_ends_is_given_up() {
    let mut setup = Setup::default();
    setup.bounds.request_timeout = Duration::from_millis(400);
    let world = World::with(setup).await;
    let server = world.serve(short()).await;
    let untouched = Untouched::begin(&world);
    let head =
        "POST /x402/v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n{";
    let mut silent = server.connect().await;
    silent.write_all(head.as_bytes()).await.unwrap();
    let said = closed(&mut silent).await;
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    let mut lively = server.connect().await;
    lively.write_all(head.as_bytes()).await.unwrap();
    let said = dribble(&mut lively).await;
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    untouched.check("bodies that never end");
    server.stop().await;
}

/// RELIABILITY 72. There is room for 8 connections and 8 say nothing: the ninth waits for the limit, and is served.
/// Lost: 0.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_is_empty_again_after_the_limit() {
    let world = World::new().await;
    let mut config = short();
    config.connections = 8;
    let server = world.serve(config).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(server.connect().await);
    }
    let (status, answer) = server.exchange(&Raw::post(&chat(20))).await;
    assert_eq!(status, 402, "{answer}");
    drop(silent);
    server.stop().await;
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What it is, what a slow peer begins with, and what it says now and then.
type Attack = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// RELIABILITY 72, over HTTP/2: silence after the preface, a head whose end never comes, a head that comes byte by
/// byte, pings without a request, and a body that never comes or comes byte by byte. All are closed after the limit,
/// however lively they are, and others are answered meanwhile. Lost: 0, with no call of the node and no write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_ones_over_http2_keep_nobody_out_and_are_cut() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;
    let mut setup = Setup::default();
    setup.bounds.request_timeout = Duration::from_millis(400);
    let world = World::with(setup).await;
    let mut config = short();
    config.write = Duration::from_millis(400);
    let server = world.serve(config).await;
    let untouched = Untouched::begin(&world);
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend(frame(SETTINGS, 0, 0, &[]));
    // POST, http, /x402/v1, a (RFC 7541 appendix A).
    let head = b"\x83\x86\x44\x08/x402/v1\x41\x01a";
    let begin = |frames: &[Vec<u8>]| [preface.clone(), frames.concat()].concat();
    let ping = frame(PING, 0, 0, &[7; 8]);
    let slow: [Attack; 7] = [
        ("silence", begin(&[]), None),
        (
            "half a head",
            begin(&[frame(HEADERS, 0, 1, &head[..4])]),
            None,
        ),
        // A frame of a hundred bytes, of which one comes now and then.
        (
            "a head byte by byte",
            begin(&[b"\0\0\x64\x01\x04\0\0\0\x01".to_vec()]),
            Some(vec![0x83]),
        ),
        (
            "a head in pieces",
            begin(&[frame(HEADERS, 0, 1, head)]),
            Some(frame(CONTINUATION, 0, 1, &[])),
        ),
        ("pings", begin(&[]), Some(ping.clone())),
        (
            "no body, and pings",
            begin(&[frame(HEADERS, END_HEADERS, 1, head)]),
            Some(ping),
        ),
        (
            "a body byte by byte",
            begin(&[frame(HEADERS, END_HEADERS, 1, head)]),
            Some(frame(DATA, 0, 1, b" ")),
        ),
    ];
    let attacks = slow.into_iter().map(|(what, begin, piece)| {
        let server = &server;
        async move {
            let mut socket = server.connect().await;
            socket.write_all(&begin).await.unwrap();
            let ended = async {
                match &piece {
                    None => closed(&mut socket).await,
                    Some(piece) => dribble_of(&mut socket, piece).await,
                }
            };
            assert!(timeout(PATIENCE, ended).await.is_ok(), "{what} goes on");
        }
    });
    let others = async {
        for _ in 0..5 {
            let (status, answer) = server.exchange(&Raw::post(&chat(20))).await;
            assert_eq!(status, 402, "{answer}");
        }
    };
    tokio::join!(futures_util::future::join_all(attacks), others);
    untouched.check("slow ones over HTTP/2");
    server.stop().await;
}
