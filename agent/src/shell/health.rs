//! Health checks as kube-proxy answers them: whether this node has an endpoint of a Service, at the Service's
//! `healthCheckNodePort`, and whether the load balancer is well, at `/healthz`. Load balancers in front ask there. Programs that
//! want to know how Services are served ask for `/proxyMode`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::k8s_openapi::jiff::Timestamp;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::http::{self, Limits};
use crate::plan::HealthCheck;

/// Of each port.
const LIMITS: Limits = Limits {
    connections: 16,
    time: Duration::from_secs(5),
};
/// A port that is taken is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub proxy: Proxy,
    pub services: BTreeMap<u16, HealthCheck>,
    /// Where `/healthz` is served.
    pub healthz: Option<SocketAddr>,
    /// Where `/proxyMode` is served.
    pub proxy_mode: Option<SocketAddr>,
}

/// How the load balancer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proxy {
    #[default]
    Unwell,
    Well,
}

/// A port that can not be listened on, and why.
pub type Refused = BTreeMap<SocketAddr, String>;

/// Runs until the sender of `wish` is gone. Tells which ports are refused, whenever that changes.
pub async fn run(mut wish: watch::Receiver<Arc<Health>>, refused: mpsc::Sender<Refused>) {
    let mut server = Server::default();
    loop {
        let health = Arc::clone(&wish.borrow_and_update());
        let before = server.refused.clone();
        server.listen(&health, &wish).await;
        if server.refused != before && refused.send(server.refused.clone()).await.is_err() {
            return;
        }
        let retry = async {
            if server.refused.is_empty() {
                std::future::pending().await
            } else {
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            changed = wish.changed() => if changed.is_err() { return },
            () = retry => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    Service(u16),
    Healthz(SocketAddr),
    ProxyMode(SocketAddr),
}

#[derive(Debug, Default)]
struct Server {
    tasks: JoinSet<()>,
    open: BTreeMap<Question, AbortHandle>,
    refused: Refused,
}

impl Server {
    async fn listen(&mut self, health: &Health, wish: &watch::Receiver<Arc<Health>>) {
        let services = health.services.keys().map(|port| Question::Service(*port));
        let own = [
            health.healthz.map(Question::Healthz),
            health.proxy_mode.map(Question::ProxyMode),
        ];
        let wanted: BTreeSet<Question> = services.chain(own.into_iter().flatten()).collect();
        self.open.retain(|question, task| {
            let keep = wanted.contains(question);
            if !keep {
                task.abort();
            }
            keep
        });
        // What was closed leaves its port when it is gone.
        while self.tasks.try_join_next().is_some() {}
        self.refused.clear();
        for question in wanted {
            if self.open.contains_key(&question) {
                continue;
            }
            match bind(question).await {
                Ok(listener) => {
                    let task = self.tasks.spawn(serve(listener, question, wish.clone()));
                    self.open.insert(question, task);
                }
                Err((address, error)) => {
                    self.refused.insert(address, error.to_string());
                }
            }
        }
    }
}

/// At all addresses of both families, or of IPv4 where there is no IPv6.
async fn bind(question: Question) -> Result<TcpListener, (SocketAddr, std::io::Error)> {
    let (first, second) = match question {
        Question::Healthz(address) | Question::ProxyMode(address) => (address, None),
        Question::Service(port) => (
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        ),
    };
    match (TcpListener::bind(first).await, second) {
        (Ok(listener), _) => Ok(listener),
        (Err(error), None) => Err((first, error)),
        (Err(_), Some(second)) => TcpListener::bind(second).await.map_err(|error| (second, error)),
    }
}

async fn serve(listener: TcpListener, question: Question, health: watch::Receiver<Arc<Health>>) {
    let answer = move |asked: &Request<Incoming>| answer(question, asked.uri().path(), &health.borrow());
    http::serve(listener, LIMITS, answer).await;
}

fn answer(question: Question, path: &str, health: &Health) -> Response<Full<Bytes>> {
    let mut form = "application/json";
    let (status, weight, body) = match question {
        Question::Service(port) => match health.services.get(&port) {
            Some(check) => {
                let well = health.proxy == Proxy::Well;
                let status = status(well && check.local_endpoints > 0);
                (status, Some(check.local_endpoints), of_service(check, well))
            }
            None => (StatusCode::SERVICE_UNAVAILABLE, Some(0), "{}".to_owned()),
        },
        Question::Healthz(_) => {
            let well = health.proxy == Proxy::Well;
            let now = Timestamp::now();
            let body = format!(
                "{{\"lastUpdated\": \"{now}\",\"currentTime\": \"{now}\", \"nodeEligible\": {well}}}"
            );
            (status(well), None, body)
        }
        Question::ProxyMode(_) => {
            form = "text/plain; charset=utf-8";
            match path {
                "/proxyMode" => (StatusCode::OK, None, "ebpf".to_owned()),
                _ => (StatusCode::NOT_FOUND, None, "404 page not found\n".to_owned()),
            }
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header("Content-Type", form)
        .header("X-Content-Type-Options", "nosniff");
    if let Some(weight) = weight {
        response = response.header("X-Load-Balancing-Endpoint-Weight", weight.to_string());
    }
    response.body(Full::new(Bytes::from(body))).unwrap_or_default()
}

fn status(well: bool) -> StatusCode {
    if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Byte for byte as kube-proxy.
fn of_service(check: &HealthCheck, well: bool) -> String {
    format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {},\n\t\
         \"serviceProxyHealthy\": {well}\n}}",
        check.service.namespace, check.service.name, check.local_endpoints
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ServiceRef;

    fn health(local_endpoints: usize, proxy: Proxy) -> Health {
        let service = ServiceRef {
            namespace: "a".into(),
            name: "web".into(),
        };
        Health {
            proxy,
            services: BTreeMap::from([(
                30001,
                HealthCheck {
                    service,
                    local_endpoints,
                },
            )]),
            ..Health::default()
        }
    }

    #[test]
    fn a_node_with_endpoints_is_told_as_kube_proxy_tells_it() {
        let health = health(2, Proxy::Well);
        let told = answer(Question::Service(30001), "/", &health);
        assert_eq!(told.status(), StatusCode::OK);
        assert_eq!(told.headers()["X-Load-Balancing-Endpoint-Weight"], "2");
        let body = of_service(&health.services[&30001], true);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "service": {"namespace": "a", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true,
            })
        );
        assert!(body.starts_with("{\n\t\"service\": {\n\t\t\"namespace\""));
    }

    #[test]
    fn a_node_without_endpoints_or_without_load_balancer_is_unavailable() {
        for health in [health(0, Proxy::Well), health(1, Proxy::Unwell)] {
            let told = answer(Question::Service(30001), "/", &health);
            assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        let address = "127.0.0.1:10256".parse().unwrap();
        assert_eq!(
            answer(Question::Healthz(address), "/healthz", &health(1, Proxy::Well)).status(),
            StatusCode::OK
        );
    }

    #[test]
    fn who_asks_how_services_are_served_is_told() {
        let ask = |path| {
            let address = "127.0.0.1:10249".parse().unwrap();
            answer(Question::ProxyMode(address), path, &health(1, Proxy::Well))
        };
        let told = ask("/proxyMode");
        assert_eq!(
            (told.status(), &told.headers()["Content-Type"]),
            (StatusCode::OK, &"text/plain; charset=utf-8".parse().unwrap())
        );
        assert_eq!(ask("/metrics").status(), StatusCode::NOT_FOUND);
    }
}
