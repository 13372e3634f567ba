//! The server: an accept loop of our own, with bounds on what a silent peer may hold and an end without loss.

use core::{future::Future, time::Duration};
use std::{io, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tollgate_payment::port::Till;

use crate::{Gateway, Receipts, Tokenizer, Upstream, callers::Callers, connection};

/// The bounds of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServeConfig {
    /// The most connections at once; more wait to be accepted. Default 4096.
    pub connections: usize,
    /// The most connections at once of one address (of IPv6: of one /64); those above are closed. `None`: as many as there
    /// are places, which is right behind a proxy, whose address all have. Default `None`.
    pub connections_per_address: Option<usize>,
    /// How long a new connection may be silent. Default 5 s.
    pub first_byte: Duration,
    /// How long the head of a request may take, and an idle connection stay open. Default 10 s.
    pub head: Duration,
    /// How long a peer may take nothing of what is written to it; of the answers of an HTTP/2 connection, whose peer may
    /// shut its flow-control window (RFC 9113 §5.2), twice so long at most. Default 60 s.
    pub write: Duration,
    /// The longest head of a request, in bytes. Default 32 KiB.
    pub head_bytes: u32,
    /// The most requests at once on one HTTP/2 connection. Default 100.
    pub streams: u32,
    /// How long, at a shutdown, connections are still accepted while `/readyz` says no, so that a balancer notices.
    /// Default 0 s.
    pub notice: Duration,
    /// How long, at a shutdown, streams may go on before they are cut and charged. Default 60 s.
    pub drain: Duration,
    /// How long, at a shutdown, the last bytes may take to be sent once everything is charged. Default 5 s.
    pub flush: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: None,
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            write: Duration::from_secs(60),
            head_bytes: 32 * 1024,
            streams: 100,
            notice: Duration::ZERO,
            drain: Duration::from_secs(60),
            flush: Duration::from_secs(5),
        }
    }
}

/// How a server ended. Every payment was charged or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Drained {
    /// Payments that were open at the shutdown.
    pub open: usize,
    /// Connections that were closed before their last bytes were sent.
    pub cut: usize,
}

/// How far the server's end is, for its connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Open,
    /// Answers in progress are finished, and nothing more is read.
    Closing,
    Gone,
}

/// Serves a gateway until `shutdown` resolves, and then drains it: new payments are answered 503, open streams go on
/// for [`ServeConfig::drain`] and are cut with a last event then, and every charge is committed before it returns.
///
/// The tokenizer is loaded in the background at the start. Must be called within a tokio runtime.
pub async fn serve<T, R, U>(
    listener: TcpListener,
    gateway: Gateway<T, R, U>,
    config: ServeConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained
where
    T: Till,
    R: Receipts,
    U: Upstream,
{
    tokio::spawn(Tokenizer::load());
    let drain = gateway.drain();
    let slots = Arc::new(Semaphore::new(
        config.connections.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let phase = watch::Sender::new(Phase::Open);
    let open = {
        let accepting = accept(&listener, &gateway, &config, &slots, &phase);
        let notice = async {
            shutdown.await;
            drain.begin();
            let open = drain.open();
            tracing::info!(open, "draining");
            if !config.notice.is_zero() {
                sleep(config.notice).await;
            }
            open
        };
        tokio::select! {
            open = notice => open,
            () = accepting => 0,
        }
    };
    drop(listener);
    // Connections stay open meanwhile: what is asked on them is answered 503.
    drain.finish(config.drain).await;
    // Everything is charged; the last bytes may still be on their way.
    phase.send_replace(Phase::Closing);
    let flushed = timeout(config.flush, phase.closed()).await;
    let cut = if flushed.is_ok() {
        0
    } else {
        phase.receiver_count()
    };
    phase.send_replace(Phase::Gone);
    phase.closed().await;
    tracing::info!(open, cut, "drained");
    Drained { open, cut }
}

/// Accepts for ever.
async fn accept<T, R, U>(
    listener: &TcpListener,
    gateway: &Gateway<T, R, U>,
    config: &ServeConfig,
    slots: &Arc<Semaphore>,
    phase: &watch::Sender<Phase>,
) where
    T: Till,
    R: Receipts,
    U: Upstream,
{
    let callers = config.connections_per_address.map(Callers::new);
    loop {
        // It fails only when the semaphore is closed, which nobody does.
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            return;
        };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let place = match &callers {
            None => None,
            Some(callers) => match callers.enter(peer.ip()) {
                Some(place) => Some(place),
                None => {
                    tracing::debug!(%peer, "an address has as many connections as it may");
                    continue;
                }
            },
        };
        // Without it the first token of a stream waits for the client's acknowledgement of the head.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a connection broke while it was accepted");
            continue;
        }
        let (gateway, config, phase) = (gateway.clone(), config.clone(), phase.subscribe());
        tokio::spawn(async move {
            connection::run(socket, gateway, &config, phase).await;
            drop((slot, place));
        });
    }
}

/// An error of one connection is passed over; when the process is out of descriptors, others must end first.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    tracing::error!(%error, "no connection can be accepted");
    sleep(Duration::from_millis(100)).await;
}
