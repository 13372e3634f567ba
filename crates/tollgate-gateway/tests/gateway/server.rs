//! The server over real sockets: versions of HTTP, silent peers, and the end.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tollgate_gateway::{Drained, ServeConfig, serve};
use tollgate_price::BillableUsage;

use crate::{
    mock::{Do, Mock, delta, done, finish, usage},
    shop::{Shop, cents, rates},
};

pub(crate) const STORY: &str = r#"{"messages":[{"role":"user","content":"Tell me a story"}]}"#;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) ended: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(shop: &Shop, config: ServeConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let gateway = shop.gateway.clone();
        let ended = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            serve(listener, gateway, config, shutdown).await
        });
        Self {
            address,
            stop: Some(stop),
            ended,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

pub(crate) fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

#[tokio::test]
async fn an_address_has_no_more_connections_at_once_than_it_may() {
    let mock = Mock::new([done()]).await;
    let shop = Shop::new(&mock);
    let mut config = ServeConfig::default();
    config.connections_per_address = Some(2);
    let mut server = Server::start(&shop, config).await;
    let request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        connection.write_all(request).await.unwrap();
        assert_ne!(connection.read(&mut [0; 64]).await.unwrap(), 0);
        open.push(connection);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let answer = third.read(&mut [0; 64]).await;
    assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
    // Whoever leaves makes room.
    drop(open.pop());
    let served = async {
        loop {
            let mut connection = TcpStream::connect(server.address).await.unwrap();
            let asked = connection.write_all(request).await;
            if asked.is_ok() && matches!(connection.read(&mut [0; 64]).await, Ok(1..)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served)
        .await
        .unwrap();
    drop(open);
    server.stop();
    server.ended.await.unwrap();
}

#[tokio::test]
async fn both_versions_of_http_are_served_on_one_port() {
    let mock = Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await;
    let shop = Shop::new(&mock);
    let mut server = Server::start(&shop, ServeConfig::default()).await;
    let (name, value) = shop.payment(STORY, cents(99)).await;
    for client in [client(), client().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        let unpaid = client
            .post(server.url("/x402/v1"))
            .body(STORY)
            .send()
            .await
            .unwrap();
        assert_eq!(unpaid.status(), 402);
        let paid = client
            .post(server.url("/x402/v1"))
            .header(name, &value)
            .body(STORY)
            .send()
            .await
            .unwrap();
        assert_eq!(paid.status(), 200);
        let text = paid.text().await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let head = client.head(server.url("/x402/v1")).send().await.unwrap();
        assert_eq!(head.status(), 402);
    }
    server.stop();
    let drained = server.ended.await.unwrap();
    assert_eq!((drained.open, drained.cut), (0, 0));
    assert_eq!(shop.settled().await.len(), 2);
}

/// Reads until the peer closes.
async fn read_all(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is a close too.
    let _ = socket.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn what_is_not_streamed_is_answered_with_its_length() {
    let mock = Mock::new([delta("Once"), finish("stop"), usage(20, 4), done()]).await;
    let shop = Shop::new(&mock);
    let server = Server::start(&shop, ServeConfig::default()).await;
    let plain = STORY.replacen('{', r#"{"stream":false,"#, 1);
    let (name, value) = shop.payment(&plain, cents(99)).await;
    let paid = format!("{name}: {value}\r\n");
    for (line, headers, body, status) in [
        ("POST /x402/v1", "", STORY, "402"),
        ("POST /x402/v1", "", "no json", "400"),
        ("GET /v1/models", "", "", "200"),
        ("GET /healthz", "", "", "200"),
        ("GET /nothing", "", "", "404"),
        ("POST /x402/v1", &paid, &plain, "200"),
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let length = body.len();
        let asked = format!(
            "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        socket.write_all(asked.as_bytes()).await.unwrap();
        let answer = read_all(&mut socket).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = format!("\r\ncontent-length: {}", body.len());
        assert!(head.contains(&length), "{line}: {head}");
        assert!(!body.is_empty() && !head.contains("transfer-encoding"));
    }
}

#[tokio::test]
async fn silent_peers_are_let_go_of() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let mut config = ServeConfig::default();
    config.first_byte = Duration::from_millis(50);
    config.head = Duration::from_millis(100);
    let server = Server::start(&shop, config).await;
    for said in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET",
        "POST /x402/v1 HTTP/1.1\r\nhost: a\r\nx-slow: ",
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        let answer = read_all(&mut socket).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{said:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_let_go_of() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let mut config = ServeConfig::default();
    config.write = Duration::from_millis(200);
    let server = Server::start(&shop, config).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let asked = "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
    // Until nothing is taken any more, and then until the peer has gone.
    let told = async { while socket.write_all(asked.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), told)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_head_above_the_limit_is_refused() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let server = Server::start(&shop, ServeConfig::default()).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n",
        "a".repeat(40_000)
    );
    let _ = socket.write_all(head.as_bytes()).await;
    let answer = read_all(&mut socket).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );

    // A payment of 16 KiB fits.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-payment: {}\r\n\r\n",
        "a".repeat(16_384)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(read_all(&mut socket).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_above_the_bound_wait_for_a_place() {
    let mock = Mock::idle().await;
    let shop = Shop::new(&mock);
    let mut config = ServeConfig::default();
    config.connections = 1;
    let server = Server::start(&shop, config).await;
    let get = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(get.as_bytes()).await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(get.as_bytes()).await.unwrap();
    drop(first);
    second.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"H");
}

#[tokio::test]
async fn at_a_shutdown_streams_are_cut_with_a_last_event_and_charged() {
    let mock = Mock::new([delta("Once"), delta(" upon"), Do::Hang]).await;
    let shop = Shop::new(&mock);
    let mut config = ServeConfig::default();
    config.drain = Duration::from_millis(100);
    let mut server = Server::start(&shop, config).await;
    let client = client().build().unwrap();
    let (name, value) = shop.payment(STORY, cents(99)).await;
    let mut answer = client
        .post(server.url("/x402/v1"))
        .header(name, &value)
        .body(STORY)
        .send()
        .await
        .unwrap();
    let mut text = String::new();
    while !text.contains(" upon") {
        text.push_str(str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    }
    server.stop();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.push_str(str::from_utf8(&chunk).unwrap());
    }
    assert!(text.contains("server_draining"), "{text}");
    assert!(text.contains(r#""finishReason":"error""#), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let drained = server.ended.await.unwrap();
    assert_eq!((drained.open, drained.cut), (1, 0));
    assert_eq!(
        shop.only_payment().await.charge,
        Some(rates().cost(BillableUsage::new(4, 2)))
    );
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn at_a_shutdown_streams_may_finish_and_new_payments_are_refused() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mock = Mock::new([
        delta("Once"),
        Do::Gate(gate.clone()),
        delta(" upon"),
        finish("stop"),
        usage(20, 4),
        done(),
    ])
    .await;
    let shop = Shop::new(&mock);
    let mut server = Server::start(&shop, ServeConfig::default()).await;
    let (name, value) = shop.payment(STORY, cents(99)).await;
    // A second connection, open before the shutdown.
    let other = client().build().unwrap();
    assert_eq!(
        other
            .get(server.url("/readyz"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let client = client().build().unwrap();
    let answer = client
        .post(server.url("/x402/v1"))
        .header(name, &value)
        .body(STORY)
        .send()
        .await
        .unwrap();
    server.stop();
    // The listener closes when the shutdown has begun.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let ready = other.get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    ready.bytes().await.unwrap();
    let refused = other
        .post(server.url("/x402/v1"))
        .header(name, &value)
        .body(STORY)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("draining"));
    gate.add_permits(1);
    let text = answer.text().await.unwrap();
    assert!(text.contains(r#""finishReason":"stop""#), "{text}");
    let drained = server.ended.await.unwrap();
    assert_eq!((drained.open, drained.cut), (1, 0));
    assert_eq!(
        shop.only_payment().await.charge,
        Some(rates().cost(BillableUsage::new(20, 4)))
    );
}
