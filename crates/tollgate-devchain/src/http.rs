//! JSON-RPC over HTTP.

use std::{io, net::SocketAddr, sync::Weak};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt as _,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    node::Node,
    rpc::{self, Reply, RpcError},
};

/// The largest request body: a batch of contract creations fits.
const MAX_BODY: usize = 16 << 20;

/// Listens and serves until `stop` says so or its sender is gone. The server
/// keeps no chain alive.
pub(crate) async fn serve(
    node: Weak<Node>,
    listen: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> io::Result<SocketAddr> {
    // TCP_NODELAY: without it small answers wait for the peer's delayed
    // acknowledgement, 40 ms each.
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let app = Router::new()
        .route("/", post(answer).options(preflight).get(hello))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(node);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    // The port is free as soon as it stops; open connections end with the call
    // they are in.
    let server = axum::serve(listener, app).with_graceful_shutdown(stopped);
    tokio::spawn(server.into_future());
    Ok(address)
}

async fn hello() -> impl IntoResponse {
    (cors(), "tollgate-devchain: POST JSON-RPC here\n")
}

async fn preflight() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, cors())
}

/// Pages in a browser may use a development chain: it holds nothing of value.
fn cors() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS");
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, "*");
    headers
}

async fn answer(State(node): State<Weak<Node>>, body: Bytes) -> Response {
    let Some(node) = node.upgrade() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let reply = match serde_json::from_slice::<Value>(&body) {
        Ok(request) => rpc::serve(&node, request).await,
        Err(error) => {
            let error = RpcError::new(-32700, format!("parse error: {error}"));
            Reply::Json(rpc::failure(Value::Null, error))
        }
    };
    let (document, whole) = match reply {
        Reply::Json(document) => (document, true),
        Reply::Truncated(document) => (document, false),
        Reply::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            return (status, cors()).into_response();
        }
    };
    let mut text = document.to_string();
    if !whole {
        text.truncate(text.len() / 2);
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    (cors(), json, text).into_response()
}
