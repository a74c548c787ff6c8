//! The connection to the API server.
//!
//! One for everything that a client asks (HTTP/2): as many watches as there are kinds are streams of it. With HTTP/1.1,
//! which kube's own client speaks, each watch has a connection of its own, and a cluster of a thousand nodes costs its API
//! server fourteen thousand TLS handshakes and as many connections when it comes back. Where a proxy in between speaks
//! nothing newer, it is HTTP/1.1 here too.
//!
//! A server that is gone without a word (its power, a firewall that forgot) is noticed: who says nothing for a while is
//! pinged, and who does not answer that is left.

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// How long the API server may take to take a connection, with all that is said on it before the first request.
const CONNECT: Duration = Duration::from_secs(10);
/// After so long a silence it is asked whether it is there. Go's client has the same two.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(15);
/// How often the kernel asks in HTTP/1.1, which has no ping.
const PROBES: u32 = 3;

/// A client that tries nothing twice by itself. Nothing is connected yet.
pub(super) fn client(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        let mut config = config;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(PONG / PROBES));
    tcp.set_keepalive_retries(Some(PROBES));
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    let connector = ServiceBuilder::new()
        .map_future(Box::pin)
        .timeout(CONNECT)
        .service(tls);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(SILENCE)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
