//! A route that reads the same body as the gateway's, by the same decoder behind the same server, and answers 200
//! with as many bytes.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tollgate_chat::{Dialect, dialect::RequestConfig};
use tollgate_gateway::ServeConfig;

/// Serves for ever, after printing its address.
pub(crate) async fn serve(answer: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let answer = Bytes::from(vec![b' '; answer]);
    let config = ServeConfig::default();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (answer, head): (Bytes, Duration) = (answer.clone(), config.head);
        let service = service_fn(move |request| read(request, answer.clone()));
        let head_bytes = usize::try_from(config.head_bytes)?;
        tokio::spawn(async move {
            // A connection that breaks is its client's matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head)
                .max_buf_size(head_bytes)
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn read(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let chat = Dialect::DGrid.decode_request(&body, &RequestConfig::default());
    let mut response = match chat {
        Ok(chat) if !chat.messages.is_empty() => Response::new(Full::new(answer)),
        _ => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    };
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
