//! `/healthz` and `/metrics` over TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::metrics;
use super::run::State;
use crate::shell::http::{self, Limits};

const LIMITS: Limits = Limits {
    connections: 32,
    time: Duration::from_secs(10),
};
/// The loop gives a sign of life every few seconds. One that gives none for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    Health,
    Metrics,
}

/// Listens at once, so that a port in use is found out before anything else happens.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, surface: Surface, state: watch::Receiver<Arc<State>>) {
    let answer = move |request: &Request<Incoming>| {
        answer(surface, request.uri().path(), &state.borrow(), Instant::now())
    };
    http::serve(listener, LIMITS, answer).await;
}

fn answer(surface: Surface, path: &str, state: &State, now: Instant) -> Response<Full<Bytes>> {
    let (code, text) = match (surface, path) {
        (Surface::Health, "/healthz") => {
            let silent = now.saturating_duration_since(state.alive);
            if silent < STUCK {
                (StatusCode::OK, "ok\n".to_owned())
            } else {
                let text = format!("no sign of life for {} s\n", silent.as_secs());
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
        }
        (Surface::Metrics, "/metrics") => (StatusCode::OK, metrics::page(state)),
        (Surface::Health | Surface::Metrics, _) => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    let kind = match surface {
        Surface::Health => HeaderValue::from_static("text/plain; charset=utf-8"),
        Surface::Metrics => crate::metrics::CONTENT_TYPE_VALUE,
    };
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_without_a_sign_of_life_is_unwell() {
        let now = Instant::now();
        let state = State::new(now);
        let code = |at, path| answer(Surface::Health, path, &state, at).status();
        assert_eq!(code(now, "/healthz"), StatusCode::OK);
        assert_eq!(code(now + STUCK, "/healthz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(code(now, "/metrics"), StatusCode::NOT_FOUND);
        assert_eq!(
            answer(Surface::Metrics, "/metrics", &state, now).status(),
            StatusCode::OK
        );
    }
}
