//! The gateway on a real socket, and what is written to it byte by byte.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tollgate_gateway::{Drained, ServeConfig};

use super::world::World;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The gateway's server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl World {
    pub(crate) async fn serve(&self, config: ServeConfig) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let gateway = self.gateway.clone();
        let task = tokio::spawn(tollgate_gateway::serve(
            listener,
            gateway,
            config,
            async move {
                let _ = stopped.await;
            },
        ));
        Server {
            address,
            stop,
            task,
        }
    }
}

impl Server {
    pub(crate) async fn connect(&self) -> TcpStream {
        let connect = TcpStream::connect(self.address);
        timeout(PATIENCE, connect).await.unwrap().unwrap()
    }

    /// Sends a request and reads until the connection is closed: the status and everything after it. 0 stands for a
    /// connection that was closed without an answer.
    pub(crate) async fn exchange(&self, raw: &Raw) -> (u16, String) {
        let mut socket = self.connect().await;
        // It may be closed before all is written.
        let _ = socket.write_all(&raw.bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut answer))
            .await
            .expect("the connection stays open");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split_whitespace()
            .nth(1)
            .map_or(0, |status| status.parse().unwrap());
        (status, answer)
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// A request of HTTP/1.1, line by line.
#[derive(Clone)]
pub(crate) struct Raw {
    /// Method and target.
    pub(crate) line: String,
    /// The headers beside `Host`, `Connection` and `Content-Length`, as they stand there.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) fn post(body: &str) -> Self {
        Self {
            line: "POST /x402/v1".to_owned(),
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn line(self, line: &str) -> Self {
        Self {
            line: line.to_owned(),
            ..self
        }
    }

    pub(crate) fn header(mut self, header: impl Into<String>) -> Self {
        self.headers.push(header.into());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} HTTP/1.1\r\nHost: seller.example\r\n", self.line);
        for header in &self.headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str(&format!(
            "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        ));
        text.into_bytes()
    }
}
