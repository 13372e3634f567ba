//! One connection: its first bytes tell HTTP/1 from HTTP/2, within a time.

use core::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    task::{Context, Poll},
};
use std::{io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tollgate_payment::port::Till;
use tower_service::Service;

use crate::{Gateway, Receipts, ServeConfig, Upstream, asked::Asked, serve::Phase};

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) async fn run<T, R, U>(
    mut socket: TcpStream,
    gateway: Gateway<T, R, U>,
    config: &ServeConfig,
    mut phase: watch::Receiver<Phase>,
) where
    T: Till,
    R: Receipts,
    U: Upstream,
{
    let first = tokio::select! {
        first = timeout(config.first_byte, first_bytes(&mut socket)) => first,
        () = reached(&mut phase, Phase::Closing) => return,
    };
    let Ok(Ok((first, is_http2))) = first else {
        return;
    };
    let mut io = TimeoutStream::new(Rewound { first, socket });
    io.set_write_timeout(Some(config.write));
    let io = TokioIo::new(Box::pin(io));
    let asked = Asked::new();
    let requests = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        let entered = requests.enter();
        let answer = gateway.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await?.map(|body| entered.answer(body))) }
    });
    let ended = if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.streams)
            .max_header_list_size(config.head_bytes)
            .keep_alive_interval(config.head)
            .keep_alive_timeout(config.head);
        let served = drive(
            builder.serve_connection(io, service),
            asked.unused(config.head),
            // What was answered to the end may still wait for its peer.
            asked.unused(config.write),
            phase,
            |connection| connection.graceful_shutdown(),
        );
        tokio::select! {
            ended = served => ended,
            () = asked.untaken(config.write) => Ok(()),
        }
    } else {
        let head_bytes = usize::try_from(config.head_bytes).unwrap_or(usize::MAX);
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(config.head)
            // The least that it takes.
            .max_buf_size(head_bytes.max(8192));
        // The time for a head is that for the next one too.
        drive(
            builder.serve_connection(io, service),
            pending(),
            pending(),
            phase,
            |connection| connection.graceful_shutdown(),
        )
        .await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Serves until the connection ends, is of no use, or the server ends. It is told to end, and ended where it does not.
async fn drive<C, E>(
    connection: C,
    unused: impl Future<Output = ()>,
    still_unused: impl Future<Output = ()>,
    mut phase: watch::Receiver<Phase>,
    finish: impl FnOnce(Pin<&mut C>),
) -> Result<(), E>
where
    C: Future<Output = Result<(), E>>,
{
    let mut connection = core::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = unused => {
            finish(connection.as_mut());
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = still_unused => return Ok(()),
                () = reached(&mut phase, Phase::Closing) => {}
            }
        }
        () = reached(&mut phase, Phase::Closing) => finish(connection.as_mut()),
    }
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = reached(&mut phase, Phase::Gone) => Ok(()),
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, least: Phase) {
    // A sender that is gone ends its connections.
    let _ = phase.wait_for(|phase| *phase >= least).await;
}

/// Reads until it is clear which version is spoken.
async fn first_bytes(socket: &mut TcpStream) -> io::Result<(Bytes, bool)> {
    let mut first = BytesMut::with_capacity(1024);
    loop {
        if socket.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first.starts_with(PREFACE) {
            return Ok((first.freeze(), true));
        }
        if !PREFACE.starts_with(&first) {
            return Ok((first.freeze(), false));
        }
    }
}

/// A socket of which the first bytes were read already.
struct Rewound {
    first: Bytes,
    socket: TcpStream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let now = self.first.remaining().min(buf.remaining());
            buf.put_slice(&self.first.split_to(now));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
