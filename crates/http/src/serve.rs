//! Accepting connections.
//!
//! Bounded in every direction a stranger can push: connections at once, bytes of headers, the
//! time that headers may take, and the time a peer may take nothing. When the server stops,
//! requests that are being answered get a few seconds to finish.
//!
//! A connection ends in two steps ("lingering close"): the server says that it has said
//! everything, and goes on reading for a moment. Closing at once while a refused body still
//! arrives would make the peer's machine throw away the answer that says why.

mod impatient;
mod linger;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use self::impatient::Impatient;
use self::linger::linger;

/// Connections at once.
const MAX_CONNECTIONS: usize = 4096;

/// Bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// How long headers may take to arrive, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take nothing of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection that is over goes on taking what its peer still sends.
const LINGER: Duration = Duration::from_secs(10);

/// How long requests may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The pause after the machine refused another connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `closing` becomes true or its sender is gone.
pub async fn serve(listener: TcpListener, router: Router, mut closing: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closed(&mut closing) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(&listener, &slots) => match accepted {
                Some((stream, slot)) => {
                    let connection = connection(stream, router.clone(), closing.clone(), slot);
                    connections.spawn(connection);
                }
                None => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, drained).await.is_err() {
        tracing::info!(left = connections.len(), "connections are cut off");
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone closes, too.
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut closing: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let stream = TokioIo::new(Impatient::new(stream, PATIENCE));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(stream, TowerToHyperService::new(router));
    let ended = tokio::select! {
        outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(outcome),
        () = closed(&mut closing) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
    linger(connection.into_parts().io.into_inner(), LINGER).await;
}
