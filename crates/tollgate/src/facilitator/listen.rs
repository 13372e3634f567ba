//! An accept loop with bounds on what a silent peer may hold, and an end that lets open calls finish.

use std::{future::Future, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

use super::open::Service;

/// How long the head of a request may take, and an idle connection stay open.
const HEAD: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes. hyper takes no less than 8 KiB.
const HEAD_BYTES: usize = 16 * 1024;

/// Serves until `shutdown` resolves; open calls then have `drain` to end.
pub(super) async fn serve(
    listener: TcpListener,
    service: Service,
    connections: usize,
    drain: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Without it an answer can wait for an acknowledgement.
            drop(socket.set_nodelay(true));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_BYTES);
            let service = TowerToHyperService::new(service.clone());
            let connection =
                graceful.watch(builder.serve_connection(TokioIo::new(socket), service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke");
                }
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    if timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("calls were open at the end; their settlements go on at the next start");
    }
}
