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
    let (mut reader, mut writer) = socket.split();
    let mut said = Vec::new();
    let dribble = async {
        loop {
            if writer.write_all(b"a").await.is_err() {
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
