//! How many unpaid requests are refused in a second, beside a route that reads the same body and refuses nothing.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::sleep,
};

use crate::{
    Options,
    mock::Pace,
    process::Program,
    report::{Row, Wanted},
    world::{Setup, World},
};

const BENCH: &str = "unpaid";
/// Connections, each with one request at a time.
const CONNECTIONS: usize = 16;
/// The two are asked in turns, so that whatever else runs on the machine meets both.
const TURNS: u32 = 6;
const TURN: Duration = Duration::from_millis(800);
/// In which the gateway loads its tokenizer.
const BEGINNING: Duration = Duration::from_secs(2);

pub(crate) async fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let setup = Setup {
        pace: Pace {
            first: Duration::ZERO,
            between: Duration::ZERO,
        },
        payers: 1,
        settlement: "",
    };
    let world = World::start(&setup, &options.tollgate, &options.directory).await?;
    let gateway = world.sale.trim_start_matches("http://");
    let gateway: SocketAddr = gateway.trim_end_matches("/x402/v1").parse()?;
    sleep(BEGINNING).await;
    let mut rows = Vec::new();
    for (name, size) in [("240-byte body", 240), ("4 KB body", 4096)] {
        let request = request(size);
        let refusal = exchange(gateway, &request).await?;
        let (open, route) = sibling(&options.directory, refusal.body).await?;
        let (mut refused, mut read) = (Turns::default(), Turns::default());
        for _ in 0..TURNS {
            refused
                .add(&world.gateway, gateway, &request, "402")
                .await?;
            read.add(&open, route, &request, "200").await?;
        }
        let row = Row::new(
            BENCH,
            format!("402 for a {name}"),
            refused.rate(),
            "a second",
        )
        .beside("same body read, 200", read.rate());
        rows.push(if size == 240 {
            row.wanted(Wanted::RatioAtLeast(0.5))
        } else {
            row
        });
        rows.push(
            Row::new(BENCH, "  CPU of the server each", refused.cpu_each(), "µs")
                .beside("200", read.cpu_each()),
        );
        open.stop().await?;
    }
    world.stop().await?;
    Ok(rows)
}

/// The route beside: this program again, in its other part.
async fn sibling(directory: &Path, answer: usize) -> anyhow::Result<(Program, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--sibling", &answer.to_string()]);
    let (program, line) = Program::start(command, &directory.join("sibling.log")).await?;
    Ok((program, line.trim().parse()?))
}

/// The turns of one server.
#[derive(Default)]
struct Turns {
    requests: u64,
    seconds: f64,
    cpu: f64,
}

impl Turns {
    async fn add(
        &mut self,
        server: &Program,
        address: SocketAddr,
        request: &[u8],
        status: &'static str,
    ) -> anyhow::Result<()> {
        let (cpu, begin) = (server.cpu()?, Instant::now());
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            connections.spawn(ask(address, request.to_vec(), status, begin + TURN));
        }
        for asked in connections.join_all().await {
            self.requests += asked?;
        }
        self.seconds += begin.elapsed().as_secs_f64();
        self.cpu += server.cpu()? - cpu;
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn cpu_each(&self) -> f64 {
        self.cpu * 1e6 / self.requests as f64
    }
}

/// One connection, one request after the other. How many were answered.
async fn ask(
    address: SocketAddr,
    request: Vec<u8>,
    status: &'static str,
    until: Instant,
) -> anyhow::Result<u64> {
    let mut line = Line::open(address).await?;
    let mut count = 0;
    while Instant::now() < until {
        let answer = line.exchange(&request).await?;
        ensure!(
            answer.status == status,
            "answered {} instead of {status}",
            answer.status
        );
        count += 1;
    }
    Ok(count)
}

async fn exchange(address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    Line::open(address).await?.exchange(request).await
}

/// A connection of HTTP/1.1 that costs next to nothing, so that the server is what is measured.
struct Line {
    socket: TcpStream,
    buffer: Vec<u8>,
}

struct Answer {
    status: String,
    /// Bytes of the body.
    body: usize,
}

impl Line {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.socket.write_all(request).await?;
        self.buffer.clear();
        let mut expected = None;
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed a connection");
            if expected.is_none() {
                expected = head(&self.buffer)?;
            }
            if let Some((head, body)) = expected
                && self.buffer.len() >= head + body
            {
                let status = self.buffer.get(9..12).context("a short answer")?;
                let status = String::from_utf8_lossy(status).into_owned();
                return Ok(Answer { status, body });
            }
        }
    }
}

/// The lengths of an answer's head and body, once the head is there.
fn head(buffer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..end])?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without a length")?;
    Ok(Some((end + 4, length.1.trim().parse()?)))
}

/// A chat in so many bytes of JSON, as it goes over the wire.
fn request(size: usize) -> Vec<u8> {
    let (before, after) = (
        r#"{"model":"mock","stream":true,"messages":[{"role":"user","content":""#,
        r#""}]}"#,
    );
    let words = "The quick brown fox jumps over the lazy dog. ";
    let content: String = words
        .chars()
        .cycle()
        .take(size - before.len() - after.len())
        .collect();
    format!(
        "POST /x402/v1 HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n\
         {before}{content}{after}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_it_says() {
        let request = request(240);
        let (head, body) = head(&request).unwrap().unwrap();
        assert_eq!((body, request.len()), (240, head + 240));
    }
}
