//! HTTP/2 connections that are of no use to anyone, spoken by hand: what every library does well, this does badly.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tollgate_gateway::ServeConfig;

use crate::{
    mock::{Do, Mock, delta, done, finish},
    server::{STORY, Server, client},
    shop::{Shop, cents},
};

const LONG: Duration = Duration::from_secs(30);
/// Types of frames (RFC 9113 §6).
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// A peer that answers pings and settings, and does nothing else by itself.
struct Peer(TcpStream);

impl Peer {
    /// With streams whose window is so wide at first.
    async fn new(server: &Server, window: u32) -> Self {
        let mut peer = Self(TcpStream::connect(server.address).await.unwrap());
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        peer.0.write_all(preface).await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE is 4.
        let mut settings = vec![0, 4];
        settings.extend(window.to_be_bytes());
        peer.send(SETTINGS, 0, 0, &settings).await;
        peer
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        frame.extend(payload);
        // Whether it has gone is seen when it is read.
        let _ = self.0.write_all(&frame).await;
    }

    async fn get(&mut self, stream: u8, path: &str) {
        // HPACK (RFC 7541): `GET`, `http`, and an authority and a path that are written out.
        let mut head = vec![0x82, 0x86, 0x01, 1, b'a', 0x04];
        head.push(u8::try_from(path.len()).unwrap());
        head.extend(path.as_bytes());
        // HEADERS, with END_HEADERS and END_STREAM.
        self.send(1, 0x05, stream, &head).await;
    }

    /// The kind of the next frame, if the connection is still there.
    async fn next(&mut self) -> Option<u8> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if [SETTINGS, PING].contains(&kind) && flags & ACK == 0 {
            let echo = if kind == PING { &payload[..] } else { &[] };
            self.send(kind, ACK, 0, echo).await;
        }
        Some(kind)
    }

    /// The kinds of frames that come before the server has gone.
    async fn until_gone(&mut self) -> Vec<u8> {
        let gone = async {
            let mut kinds = Vec::new();
            while let Some(kind) = self.next().await {
                kinds.push(kind);
            }
            kinds
        };
        timeout(LONG, gone).await.unwrap()
    }
}

fn quick() -> ServeConfig {
    let mut config = ServeConfig::default();
    config.head = Duration::from_millis(200);
    config.write = Duration::from_millis(300);
    config
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_let_go_of_though_it_answers_pings() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let server = Server::start(&shop, quick()).await;
    let mut peer = Peer::new(&server, 65_535).await;
    let kinds = peer.until_gone().await;
    // It was not taken for dead.
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn a_peer_whose_window_is_shut_is_let_go_of_though_it_answers_pings() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let server = Server::start(&shop, quick()).await;
    // The second lets one byte of the answer through, and leaves the rest with the server.
    for window in [0, 1] {
        let mut peer = Peer::new(&server, window).await;
        peer.get(1, "/v1/models").await;
        let kinds = peer.until_gone().await;
        assert!(kinds.contains(&PING), "{kinds:?}");
    }
}

#[tokio::test]
async fn an_answer_that_takes_long_is_given_to_its_end_and_its_connection_is_used_again() {
    let gate = Arc::new(Semaphore::new(0));
    let mock = Mock::new([
        delta("Once"),
        Do::Gate(Arc::clone(&gate)),
        finish("stop"),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let mut config = quick();
    // One that were opened beside it would wait for its place.
    config.connections = 1;
    config.head = Duration::from_millis(500);
    let server = Server::start(&shop, config).await;
    let (name, value) = shop.payment(STORY, cents(99)).await;
    let client = client().http2_prior_knowledge().build().unwrap();
    let paid = client
        .post(server.url("/x402/v1"))
        .header(name, &value)
        .body(STORY)
        .send()
        .await
        .unwrap();
    let mut text = Box::pin(paid.text());
    let early = timeout(Duration::from_millis(1_500), text.as_mut()).await;
    assert!(early.is_err(), "it waits for its model");
    // Longer than an idle connection stays: the one that there is takes another request.
    let other = client.get(server.url("/healthz")).send();
    let other = timeout(LONG, other).await.unwrap().unwrap();
    assert_eq!(other.status(), 200);
    gate.add_permits(1);
    let text = text.await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}
