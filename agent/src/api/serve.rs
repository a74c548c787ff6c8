//! The server: HTTP/1.1 over a unix socket (or TCP, for the metrics), one task a connection, all of them in
//! one set that ends with the server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use super::handle::Api;

/// Connections served at once; the next waits in the listen queue.
const CONNECTIONS: usize = 64;
/// A client that does not finish its header in this time is cut off.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `/v1/...`
    Everything,
    /// `/metrics` only.
    Metrics,
    /// `/healthz` only.
    Health,
}

/// Serves the API until it is dropped.
pub async fn unix(listener: UnixListener, api: Arc<Api>) {
    let mut open = JoinSet::new();
    loop {
        room(&mut open).await;
        match listener.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, Arc::clone(&api), Surface::Everything));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

/// Serves a part of it over TCP until it is dropped.
pub async fn tcp(listener: TcpListener, api: Arc<Api>, surface: Surface) {
    let mut open = JoinSet::new();
    loop {
        room(&mut open).await;
        match listener.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, Arc::clone(&api), surface));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

async fn room(open: &mut JoinSet<()>) {
    while open.try_join_next().is_some() {}
    while open.len() >= CONNECTIONS {
        open.join_next().await;
    }
}

async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "a connection to the API could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, api: Arc<Api>, surface: Surface) {
    let service = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<Response<Full<Bytes>>, Infallible>(api.answer(request, surface).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the API broke off");
    }
}
