//! A model server of our own, which does what a test tells it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

/// What the server does next.
#[derive(Clone)]
pub(crate) enum Do {
    /// The status and content type of the answer; without it 200 and an event stream.
    Head(u16, &'static str),
    /// Sends bytes.
    Send(String),
    /// Waits until the test opens the gate once more.
    Gate(Arc<Semaphore>),
    /// Breaks the connection.
    Break,
    /// Says nothing more.
    Hang,
}

/// One event with a piece of text.
pub(crate) fn delta(text: &str) -> Do {
    Do::Send(format!(
        "data: {}\n\n",
        serde_json::json!({"id":"cmpl-1","model":"story-7b","choices":[{"index":0,"delta":{"content":text},"finish_reason":null}]})
    ))
}

pub(crate) fn finish(reason: &str) -> Do {
    Do::Send(format!(
        "data: {}\n\n",
        serde_json::json!({"id":"cmpl-1","choices":[{"index":0,"delta":{},"finish_reason":reason}]})
    ))
}

pub(crate) fn usage(input: u64, output: u64) -> Do {
    Do::Send(format!(
        "data: {}\n\n",
        serde_json::json!({"id":"cmpl-1","choices":[],"usage":{"prompt_tokens":input,"completion_tokens":output}})
    ))
}

pub(crate) fn done() -> Do {
    Do::Send("data: [DONE]\n\n".to_owned())
}

/// What the server was asked.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// Which of the server's connections it came by, from 1.
    pub(crate) connection: usize,
    /// Resolves when the connection is closed before the script's end; an error if the script came to its end.
    pub(crate) gone: oneshot::Receiver<()>,
}

pub(crate) struct Mock {
    port: u16,
    asked: tokio::sync::Mutex<mpsc::UnboundedReceiver<Asked>>,
}

impl Mock {
    /// A server that answers every request by this script.
    pub(crate) async fn new(script: impl IntoIterator<Item = Do>) -> Self {
        let script: Arc<Vec<Do>> = Arc::new(script.into_iter().collect());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for connection in 1.. {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (script, tell) = (Arc::clone(&script), tell.clone());
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&script), tell.clone(), connection)
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self {
            port,
            asked: tokio::sync::Mutex::new(asked),
        }
    }

    /// One that is not there.
    pub(crate) fn at(port: u16) -> Self {
        Self {
            port,
            asked: tokio::sync::Mutex::new(mpsc::unbounded_channel().1),
        }
    }

    /// One that nothing is asked.
    pub(crate) async fn idle() -> Self {
        Self::new([Do::Hang]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The next request that it got.
    pub(crate) async fn asked(&self) -> Asked {
        self.asked.lock().await.recv().await.unwrap()
    }

    /// Asserts that it got none.
    pub(crate) async fn nothing_was_asked(&self) {
        assert!(
            self.asked.lock().await.try_recv().is_err(),
            "the model server was asked"
        );
    }
}

type Frames = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

async fn answer(
    request: http::Request<Incoming>,
    script: Arc<Vec<Do>>,
    tell: mpsc::UnboundedSender<Asked>,
    connection: usize,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = std::io::Error>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (gone, see) = oneshot::channel();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let _ = tell.send(Asked {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap(),
        connection,
        gone: see,
    });
    let (mut status, mut kind) = (200, "text/event-stream");
    if let Some(Do::Head(s, k)) = script.first() {
        (status, kind) = (*s, *k);
    }
    if matches!(script.first(), Some(Do::Hang)) {
        // Not even a head.
        let _gone = gone;
        return core::future::pending().await;
    }
    let (frames, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = play(&script, &frames) => {}
            () = frames.closed() => {
                if let Some(gone) = gone.lock().unwrap().take() {
                    let _ = gone.send(());
                }
            }
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let response = Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(StreamBody::new(stream));
    Ok(response.unwrap())
}

async fn play(script: &[Do], frames: &Frames) {
    for step in script {
        let frame = match step {
            Do::Head(..) => continue,
            Do::Send(text) => Ok(Frame::data(Bytes::from(text.clone()))),
            Do::Gate(gate) => {
                gate.acquire().await.unwrap().forget();
                continue;
            }
            Do::Break => Err(std::io::Error::other("broken on purpose")),
            Do::Hang => core::future::pending().await,
        };
        if frames.send(frame).await.is_err() {
            // The other branch tells of it.
            return core::future::pending().await;
        }
    }
}
