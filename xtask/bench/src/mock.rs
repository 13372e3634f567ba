//! A model server of our own: it says the same few tokens to everybody, at a given pace.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

/// The tokens of each answer.
pub(crate) const TOKENS: usize = 8;

/// When the tokens come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the request to the head and the first token, which come together.
    pub(crate) first: Duration,
    /// Between two tokens.
    pub(crate) between: Duration,
}

/// A token as an OpenAI-compatible server sends it.
pub(crate) fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn end() -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\
         \"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n\
         data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\
         \"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":{TOKENS},\"total_tokens\":{}}}}}\n\n\
         data: [DONE]\n\n",
        20 + TOKENS
    )
}

/// Serves on a free port of this host, in tasks of the runtime that it is called in.
pub(crate) async fn serve(pace: Pace) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if socket.set_nodelay(true).is_err() {
                continue;
            }
            let service = service_fn(move |request| answer(request, pace));
            tokio::spawn(async move {
                // A connection that breaks is its client's matter.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>, pace: Pace) -> Result<Response<Answer>, Infallible> {
    // Whatever was asked is read to its end, as a model server would.
    let _ = request.into_body().collect().await;
    sleep(pace.first).await;
    let (send, receive) = mpsc::channel(TOKENS + 1);
    tokio::spawn(async move {
        for number in 0..TOKENS {
            if number > 0 {
                sleep(pace.between).await;
            }
            if send.send(token(&format!(" word{number}"))).await.is_err() {
                return;
            }
        }
        // A caller that is gone hears no end.
        let _ = send.send(end()).await;
    });
    let mut response = Response::new(Answer { receive });
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The body: frames as they are said.
struct Answer {
    receive: mpsc::Receiver<String>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let said = self.receive.poll_recv(cx);
        said.map(|said| said.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// Exact to some 50 µs. The runtime's own timer counts whole milliseconds: a request that comes half a millisecond later
/// could be answered a whole one later.
async fn sleep(time: Duration) {
    if !time.is_zero() {
        // It fails only when the runtime ends.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(time)).await;
    }
}
