//! Who answers what: one function a path.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::net::{Ended, Handle, RouteQuery};
use bgp_speaker::speaker::{PathView, PeerStatus, Request as Order, Table};
use bgp_speaker::types::{Family, Name};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response};
use serde::Serialize;
use tokio::sync::watch;

use super::answer::{Answer, Error, json, read, respond};
use super::explain::{self, Wanted};
use super::journal::Journal;
use super::query::{self, Refusal};
use super::serve::Surface;
use super::snapshot::Snapshot;
use super::status::{self, Facts, Identity};
use super::view::{Bundle, Direction, Generation, Ordered, PeerOrder};
use super::{bgp, policy, preview, route, view};
use crate::config::BgpControlPlane;
use crate::metrics::Metrics;

/// How long a question for the next change may wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(100);

/// Everything the API answers from.
#[derive(Debug)]
pub struct Api {
    pub speaker: Handle,
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    pub generation: watch::Receiver<u64>,
    pub journal: Arc<Journal>,
    pub metrics: Arc<Metrics>,
    pub identity: Identity,
}

impl Api {
    /// Never fails: what goes wrong is an answer too.
    pub async fn answer(&self, request: Request<Incoming>, surface: Surface) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let path = parts.uri.path();
        let done = match (surface, path) {
            (Surface::Everything | Surface::Metrics, "/metrics") => return self.exposition().await,
            (Surface::Everything, _) => self.api(&parts.method, path, &query, body).await,
            (Surface::Health, "/healthz") => self.healthz().await,
            (Surface::Metrics | Surface::Health, _) => Err(Error::NotFound(path.to_owned())),
        };
        respond(done)
    }

    async fn api(&self, method: &Method, path: &str, query: &str, body: Incoming) -> Answer {
        let wanted = match path {
            "/v1/stentor/bgp/plan" | "/v1/stentor/bgp/reset" | "/v1/stentor/bgp/refresh" => "POST",
            _ => "GET",
        };
        let known = !matches!(self.find(path), Path::Unknown);
        if known && method.as_str() != wanted {
            return Err(Error::MethodNotAllowed(wanted));
        }
        match self.find(path) {
            Path::Healthz => self.healthz().await,
            Path::BgpPeers => self.bgp_peers().await,
            Path::BgpRoutes => self.bgp_routes(query).await,
            Path::BgpRoutePolicies => self.bgp_route_policies(query),
            Path::Status => json(&self.status().await?),
            Path::Problems => {
                let snapshot = self.snapshot();
                json(
                    &snapshot
                        .problems
                        .iter()
                        .map(view::Problem::from)
                        .collect::<Vec<_>>(),
                )
            }
            Path::Vips => self.with_facts(|facts| json(&status::vips(facts))).await,
            Path::Reasons => self.with_facts(reasons).await,
            Path::Explain => self.explain(query).await,
            Path::Events => json(&self.journal.read()),
            Path::Generation => self.generation(query).await,
            Path::Peers => {
                let peers = self.speaker.peers().await?;
                let snapshot = self.snapshot();
                json(&status::peers(Facts {
                    snapshot: &snapshot,
                    peers: &peers,
                    advertised: &[],
                    now: Instant::now(),
                }))
            }
            Path::Routes => self.routes(query).await,
            Path::Policies => self.policies(query),
            Path::Plan => self.plan(body).await,
            Path::Reset => self.reset(body).await,
            Path::Refresh => self.refresh(body).await,
            Path::Unknown => Err(Error::NotFound(path.to_owned())),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "reads as the other questions about a request do"
    )]
    fn find(&self, path: &str) -> Path {
        match path {
            "/v1/healthz" | "/v1/healthz/" | "/healthz" => Path::Healthz,
            "/v1/bgp/peers" => Path::BgpPeers,
            "/v1/bgp/routes" => Path::BgpRoutes,
            "/v1/bgp/route-policies" => Path::BgpRoutePolicies,
            "/v1/stentor/status" => Path::Status,
            "/v1/stentor/problems" => Path::Problems,
            "/v1/stentor/vips" => Path::Vips,
            "/v1/stentor/reasons" => Path::Reasons,
            "/v1/stentor/explain" => Path::Explain,
            "/v1/stentor/events" => Path::Events,
            "/v1/stentor/generation" => Path::Generation,
            "/v1/stentor/bgp/peers" => Path::Peers,
            "/v1/stentor/bgp/routes" => Path::Routes,
            "/v1/stentor/bgp/policies" => Path::Policies,
            "/v1/stentor/bgp/plan" => Path::Plan,
            "/v1/stentor/bgp/reset" => Path::Reset,
            "/v1/stentor/bgp/refresh" => Path::Refresh,
            _ => Path::Unknown,
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The snapshot, unless BGP is switched off.
    fn enabled(&self) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.snapshot();
        match snapshot.config.bgp {
            BgpControlPlane::Enabled => Ok(snapshot),
            BgpControlPlane::Disabled => Err(Error::Disabled),
        }
    }

    /// State of the agent as `cilium status` reads it.
    async fn healthz(&self) -> Answer {
        #[derive(Serialize)]
        struct Health {
            cilium: State,
        }
        #[derive(Serialize)]
        struct State {
            msg: String,
            state: &'static str,
        }
        let status = self.status().await?;
        let (state, msg) = match (status.verdict, status.because.first()) {
            (view::Verdict::Green, _) | (_, None) => ("Ok", String::new()),
            (view::Verdict::NotGreen, Some(why)) => ("Warning", why.message.clone()),
        };
        json(&Health {
            cilium: State { msg, state },
        })
    }

    async fn bgp_peers(&self) -> Answer {
        self.enabled()?;
        let failed = |error: Ended| Error::Failed(format!("failed to get peers: {error}"));
        let peers = self.speaker.peers().await.map_err(failed)?;
        json(&bgp::peers(&peers, Instant::now()))
    }

    async fn bgp_routes(&self, query: &str) -> Answer {
        let snapshot = self.enabled()?;
        let failed = |text: String| Error::Failed(format!("failed to get routes: {text}"));
        let asked = match query::routes(query) {
            Ok(asked) => asked,
            Err(query::Error::Invalid(invalid)) => return Err(Error::Invalid(invalid)),
            Err(query::Error::Refused(refusal)) => return Err(failed(refusal.to_string())),
        };
        let instances: Vec<&Name> = snapshot
            .desired
            .speaker
            .instances
            .iter()
            .filter(|(_, instance)| asked.router_asn.is_none_or(|asn| instance.asn.get() == asn))
            .map(|(name, _)| name)
            .collect();
        if let (Some(asn), true) = (asked.router_asn, instances.is_empty()) {
            return Err(failed(Refusal::UnknownRouter(i64::from(asn)).to_string()));
        }
        if asked.neighbor.is_some() && asked.router_asn.is_none() && instances.len() > 1 {
            return Err(failed(Refusal::ManyRouters.to_string()));
        }
        let mut paths = Vec::new();
        for instance in instances {
            let query = RouteQuery {
                instance: Some(instance.clone()),
                table: asked.table,
                family: asked.family,
                peer: asked.neighbor,
            };
            paths.extend(
                self.speaker
                    .routes(query)
                    .await
                    .map_err(|error| failed(error.to_string()))?,
            );
        }
        json(&bgp::routes(&paths, asked.table, Instant::now()))
    }

    fn bgp_route_policies(&self, query: &str) -> Answer {
        let snapshot = self.enabled()?;
        let failed = |text: String| Error::Failed(format!("failed to get route policies: {text}"));
        let asn = match query::router_asn(&query::parameters(query)) {
            Ok(asn) => asn,
            Err(query::Error::Invalid(invalid)) => return Err(Error::Invalid(invalid)),
            Err(query::Error::Refused(refusal)) => return Err(failed(refusal.to_string())),
        };
        let policies = &snapshot.desired.policies;
        if let Some(asn) = asn.filter(|asn| !policies.asns().any(|known| known == *asn)) {
            return Err(failed(Refusal::UnknownRouter(i64::from(asn)).to_string()));
        }
        json(&policies.view(asn).iter().map(policy::policy).collect::<Vec<_>>())
    }

    fn policies(&self, query: &str) -> Answer {
        let snapshot = self.snapshot();
        let parameters = query::parameters(query);
        let asn = query::one(&parameters, "asn")
            .map(|text| {
                text.parse::<u32>()
                    .map_err(|_| Error::BadRequest(format!("asn {text:?} is no number")))
            })
            .transpose()?;
        let policies = snapshot.desired.policies.view(asn);
        json(&policies.iter().map(policy::own_policy).collect::<Vec<_>>())
    }

    async fn status(&self) -> Result<view::Status, Error> {
        let snapshot = self.snapshot();
        let (peers, advertised) = self.live().await?;
        Ok(status::status(
            Facts {
                snapshot: &snapshot,
                peers: &peers,
                advertised: &advertised,
                now: Instant::now(),
            },
            &self.identity,
        ))
    }

    async fn with_facts(&self, answer: impl FnOnce(Facts<'_>) -> Answer) -> Answer {
        let snapshot = self.snapshot();
        let (peers, advertised) = self.live().await?;
        answer(Facts {
            snapshot: &snapshot,
            peers: &peers,
            advertised: &advertised,
            now: Instant::now(),
        })
    }

    async fn explain(&self, query: &str) -> Answer {
        let parameters = query::parameters(query);
        let address = query::one(&parameters, "address").map(|text| {
            let address = text.parse().map(Wanted::Address);
            address.map_err(|_| Error::BadRequest(format!("address {text:?} is no address")))
        });
        let service = query::one(&parameters, "service").map(|text| Ok(Wanted::Service(text.to_owned())));
        let wanted = address.or(service).unwrap_or_else(|| {
            Err(Error::BadRequest(
                "an address or a service is asked for".to_owned(),
            ))
        })?;
        self.with_facts(|facts| json(&explain::explain(facts, &wanted)))
            .await
    }

    /// Peers, and what is in their Adj-RIB-Out.
    async fn live(&self) -> Result<(Vec<PeerStatus>, Vec<PathView>), Error> {
        let peers = self.speaker.peers().await?;
        let mut advertised = Vec::new();
        for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
            advertised.extend(self.paths(Table::AdjRibOut, family, None, None).await?);
        }
        Ok((peers, advertised))
    }

    async fn paths(
        &self,
        table: Table,
        family: Family,
        instance: Option<Name>,
        peer: Option<IpAddr>,
    ) -> Result<Vec<PathView>, Error> {
        let query = RouteQuery {
            instance,
            table,
            family,
            peer,
        };
        self.speaker
            .routes(query)
            .await
            .map_err(|error| Error::BadRequest(error.to_string()))
    }

    async fn generation(&self, query: &str) -> Answer {
        let mut generation = self.generation.clone();
        let parameters = query::parameters(query);
        if let Some(after) = query::one(&parameters, "after").and_then(|text| text.parse::<u64>().ok()) {
            // Nothing new in this time is an answer too.
            let _ = tokio::time::timeout(PATIENCE, generation.wait_for(|now| *now > after)).await;
            tokio::time::sleep(GATHER).await;
        }
        let generation = *generation.borrow();
        json(&Generation { generation })
    }

    async fn routes(&self, query: &str) -> Answer {
        let parameters = query::parameters(query);
        let table = match query::one(&parameters, "table").unwrap_or("loc-rib") {
            "loc-rib" => Table::LocRib,
            "adj-rib-in" => Table::AdjRibIn,
            "adj-rib-out" => Table::AdjRibOut,
            other => {
                return Err(Error::BadRequest(format!(
                    "table {other:?} is none of loc-rib, adj-rib-in, adj-rib-out"
                )));
            }
        };
        let families = match query::one(&parameters, "family") {
            None => vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
            Some("ipv4") => vec![Family::IPV4_UNICAST],
            Some("ipv6") => vec![Family::IPV6_UNICAST],
            Some(other) => {
                return Err(Error::BadRequest(format!(
                    "family {other:?} is neither ipv4 nor ipv6"
                )));
            }
        };
        let instance = query::one(&parameters, "instance").map(Name::from);
        let peer = query::one(&parameters, "peer")
            .map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| Error::BadRequest(format!("peer {text:?} is no address")))
            })
            .transpose()?;
        let now = Instant::now();
        let mut routes = Vec::new();
        for family in families {
            let paths = self.paths(table, family, instance.clone(), peer).await?;
            routes.extend(paths.iter().map(|path| route::route(path, now)));
        }
        json(&routes)
    }

    /// What a folder would change. Planning takes a while for a large one, so it has a thread of its own.
    async fn plan(&self, body: Incoming) -> Answer {
        let bundle: Bundle = read(body).await?;
        let snapshot = self.snapshot();
        let peers = self.speaker.peers().await?;
        let node = self.identity.node.clone();
        let planned = tokio::task::spawn_blocking(move || preview::folder(&bundle, &node, &snapshot, &peers));
        let diff = planned
            .await
            .map_err(|error| Error::Failed(format!("planning failed: {error}")))?;
        json(&diff)
    }

    async fn reset(&self, body: Incoming) -> Answer {
        let order: PeerOrder = read(body).await?;
        let text: Arc<str> = order.text.as_str().into();
        self.order(&order, |instance, peer| {
            vec![Order::Reset {
                instance,
                peer: Some(peer),
                text: Arc::clone(&text),
            }]
        })
        .await
    }

    async fn refresh(&self, body: Incoming) -> Answer {
        let order: PeerOrder = read(body).await?;
        let direction = order.direction;
        self.order(&order, |instance, peer| {
            let into = Order::RefreshIn {
                instance: instance.clone(),
                peer: Some(peer.clone()),
            };
            let out = Order::RefreshOut {
                instance,
                peer: Some(peer),
            };
            match direction {
                Direction::In => vec![into],
                Direction::Out => vec![out],
                Direction::Both => vec![into, out],
            }
        })
        .await
    }

    async fn order(&self, order: &PeerOrder, orders: impl Fn(Name, Name) -> Vec<Order>) -> Answer {
        let peers = self.speaker.peers().await?;
        let meant: BTreeSet<(Name, Name)> = peers
            .iter()
            .filter(|peer| {
                order
                    .instance
                    .as_deref()
                    .is_none_or(|name| name == &*peer.instance)
            })
            .filter(|peer| {
                order
                    .peer
                    .as_deref()
                    .is_none_or(|wanted| wanted == &*peer.name || wanted.parse() == Ok(peer.address))
            })
            .map(|peer| (peer.instance.clone(), peer.name.clone()))
            .collect();
        if meant.is_empty() {
            return Err(Error::BadRequest(format!(
                "no session matches{}{}",
                order
                    .instance
                    .as_ref()
                    .map_or_else(String::new, |i| format!(" instance {i}")),
                order
                    .peer
                    .as_ref()
                    .map_or_else(String::new, |p| format!(" peer {p}")),
            )));
        }
        let mut done = Ordered::default();
        for (instance, peer) in meant {
            done.peers.push(format!("{instance}/{peer}"));
            for order in orders(instance, peer) {
                self.speaker.ask(order).await?;
            }
        }
        json(&done)
    }

    async fn exposition(&self) -> Response<Full<Bytes>> {
        let snapshot = self.snapshot();
        match self.live().await {
            Ok((peers, advertised)) => {
                let facts = Facts {
                    snapshot: &snapshot,
                    peers: &peers,
                    advertised: &advertised,
                    now: Instant::now(),
                };
                let text = self.metrics.exposition(facts, &self.identity);
                let mut response = Response::new(Full::from(text));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, crate::metrics::CONTENT_TYPE_VALUE);
                response
            }
            Err(error) => respond(Err(error)),
        }
    }
}

/// The paths there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Healthz,
    BgpPeers,
    BgpRoutes,
    BgpRoutePolicies,
    Status,
    Problems,
    Vips,
    Reasons,
    Explain,
    Events,
    Generation,
    Peers,
    Routes,
    Policies,
    Plan,
    Reset,
    Refresh,
    Unknown,
}

fn reasons(facts: Facts<'_>) -> Answer {
    let wanting: Vec<view::Vip> = status::vips(facts)
        .into_iter()
        .filter(|vip| vip.state != view::VipState::Announced)
        .collect();
    json(&wanting)
}
