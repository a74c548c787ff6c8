//! What the speaker says, as the models of `/v1/bgp/...`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bgp_speaker::config::Ttl;
use bgp_speaker::speaker::{FamilyStatus, PathView, PeerStatus, StateName, Table};
use bgp_speaker::types::{Family, Prefix};
use bgp_speaker::wire::attr;
use bgp_speaker::wire::nlri;
use bgp_speaker::wire::update::Carrier;
use bytes::BytesMut;

use super::model::{
    Base64, BgpCapability, BgpFamily, BgpGracefulRestart, BgpPath, BgpPeer, BgpPeerFamily, BgpRoute,
};

/// AS_PATH.
const AS_PATH: u8 = 2;

/// Every peer that has an address.
#[must_use]
pub fn peers(peers: &[PeerStatus], now: Instant) -> Vec<BgpPeer> {
    peers.iter().map(|status| peer(status, now)).collect()
}

/// Cilium counts the End-of-RIB marker as something advertised where graceful restart was negotiated, and tools
/// compare the number.
fn end_of_rib(status: &PeerStatus, family: &FamilyStatus) -> i64 {
    i64::from(status.graceful_restart.is_some() && family.end_of_rib_sent)
}

fn peer(status: &PeerStatus, now: Instant) -> BgpPeer {
    let established = status.state == StateName::Established;
    BgpPeer {
        applied_hold_time_seconds: status.applied_hold.map_or(0, i64::from),
        applied_keep_alive_time_seconds: status.applied_keepalive.map_or(0, seconds),
        configured_hold_time_seconds: i64::from(status.configured_hold),
        configured_keep_alive_time_seconds: seconds(status.configured_keepalive),
        connect_retry_time_seconds: seconds(status.connect_retry),
        ebgp_multihop_ttl: match status.ttl {
            Ttl::Direct | Ttl::Security { .. } => 1,
            Ttl::Multihop(ttl) => i64::from(ttl),
        },
        families: status
            .families
            .iter()
            .map(|family| {
                let (afi, safi) = words(family.family);
                BgpPeerFamily {
                    accepted: i64::from(family.accepted),
                    advertised: i64::from(family.advertised) + end_of_rib(status, family),
                    afi,
                    received: i64::from(family.received),
                    safi,
                }
            })
            .collect(),
        graceful_restart: Some(BgpGracefulRestart {
            enabled: status.graceful_restart.is_some(),
            restart_time_seconds: status.graceful_restart.map_or(0, i64::from),
        }),
        local_asn: i64::from(status.local_asn.get()),
        local_capabilities: capabilities(&status.local_capabilities),
        peer_address: status.address.to_string(),
        peer_asn: status.remote_asn.map_or(0, |asn| i64::from(asn.get())),
        peer_port: i64::from(status.port),
        remote_capabilities: capabilities(&status.remote_capabilities),
        session_state: state(status.state).to_owned(),
        tcp_password_enabled: status.md5,
        uptime_nanoseconds: status
            .established_since
            .filter(|_| established)
            .map_or(0, |since| nanoseconds(now.saturating_duration_since(since))),
    }
}

/// Paths of one prefix and neighbour are one route.
#[must_use]
pub fn routes(paths: &[PathView], table: Table, now: Instant) -> Vec<BgpRoute> {
    let mut routes: BTreeMap<(&str, Option<IpAddr>, Prefix), BgpRoute> = BTreeMap::new();
    for path in paths {
        let neighbor = match table {
            Table::LocRib => None,
            Table::AdjRibIn | Table::AdjRibOut => path.peer.as_ref().map(|(_, address)| *address),
        };
        routes
            .entry((&path.instance, neighbor, path.prefix))
            .or_insert_with(|| BgpRoute {
                neighbor: neighbor.map_or_else(String::new, |address| address.to_string()),
                paths: Vec::new(),
                prefix: path.prefix.to_string(),
                router_asn: i64::from(path.local_asn.get()),
            })
            .paths
            .push(self::path(path, table, now));
    }
    routes.into_values().collect()
}

fn path(path: &PathView, table: Table, now: Instant) -> BgpPath {
    let family = path.prefix.family();
    let mut octets = BytesMut::new();
    nlri::encode(&path.prefix, &mut octets);
    let (afi, safi) = words(family);
    BgpPath {
        age_nanoseconds: nanoseconds(now.saturating_duration_since(path.since)),
        best: path.best,
        family: Some(BgpFamily { afi, safi }),
        nlri: Some(base64(&octets)),
        path_attributes: attributes(path, table).iter().map(|a| base64(a)).collect(),
        stale: path.stale,
    }
}

/// Each attribute as on the wire, in the order of their types.
#[must_use]
pub fn attributes(path: &PathView, table: Table) -> Vec<bytes::Bytes> {
    let family = path.prefix.family();
    let carrier = Carrier::of(family, &path.attrs.next_hop);
    let mut each = attr::encode_each(&path.attrs, carrier, family, &[path.prefix]);
    // A route that is originated here and not sent yet has no AS_PATH.
    if table == Table::LocRib && path.peer.is_none() && path.attrs.as_path.0.is_empty() {
        each.retain(|octets| octets.get(1) != Some(&AS_PATH));
    }
    each
}

/// The name of a state as this API writes it.
#[must_use]
pub fn state(state: StateName) -> &'static str {
    match state {
        StateName::Idle => "idle",
        StateName::Connect => "connect",
        StateName::Active => "active",
        StateName::OpenSent => "open_sent",
        StateName::OpenConfirm => "open_confirm",
        StateName::Established => "established",
    }
}

/// A family as its two words.
#[must_use]
pub fn words(family: Family) -> (String, String) {
    let text = family.to_string();
    match text.split_once('/') {
        Some((afi, safi)) => (afi.to_owned(), safi.to_owned()),
        None => (text, String::new()),
    }
}

fn capabilities(list: &[bytes::Bytes]) -> Vec<BgpCapability> {
    list.iter()
        .map(|octets| BgpCapability {
            capabilities: STANDARD.encode(octets),
        })
        .collect()
}

fn base64(octets: &[u8]) -> Base64 {
    Base64 {
        base64: STANDARD.encode(octets),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bgp_speaker::types::Asn;
    use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};

    use super::*;
    use crate::render::attrs as text;

    fn attrs(next_hop: &str) -> Attrs {
        Attrs::originated(Origin::Igp, NextHop::Ip(next_hop.parse().unwrap()))
    }

    fn view(prefix: (&str, u8), next_hop: &str, now: Instant) -> PathView {
        PathView {
            instance: "instance-65001".into(),
            local_asn: Asn::new(65001).unwrap(),
            peer: None,
            prefix: Prefix::new(prefix.0.parse().unwrap(), prefix.1).unwrap(),
            attrs: Arc::new(attrs(next_hop)),
            since: now,
            best: true,
            stale: false,
            reason: None,
        }
    }

    fn shown(view: &PathView, table: Table) -> String {
        text::list(attributes(view, table).iter().map(|octets| &octets[..]))
    }

    #[test]
    fn local_routes_read_as_documented() {
        let now = Instant::now();
        assert_eq!(
            shown(&view(("10.1.0.0", 24), "0.0.0.0", now), Table::LocRib),
            "[{Origin: i} {Nexthop: 0.0.0.0}]"
        );
        assert_eq!(
            shown(&view(("fd00:1::", 64), "::", now), Table::LocRib),
            "[{Origin: i} {MpReach(ipv6-unicast): {Nexthop: ::, NLRIs: [fd00:1::/64]}}]"
        );
        assert_eq!(
            shown(&view(("10.1.0.0", 24), "10.0.0.1", now), Table::AdjRibOut),
            "[{Origin: i} {AsPath: } {Nexthop: 10.0.0.1}]"
        );
    }

    #[test]
    fn paths_of_a_prefix_are_one_route_per_neighbor() {
        let now = Instant::now();
        let mut to_first = view(("10.1.0.0", 24), "10.0.0.1", now);
        to_first.peer = Some(("tor-1".into(), "10.0.0.101".parse().unwrap()));
        let mut to_second = to_first.clone();
        to_second.peer = Some(("tor-2".into(), "10.0.0.102".parse().unwrap()));
        let routes = routes(&[to_second, to_first.clone(), to_first], Table::AdjRibOut, now);
        let shape: Vec<(&str, usize)> = routes
            .iter()
            .map(|r| (r.neighbor.as_str(), r.paths.len()))
            .collect();
        assert_eq!(shape, [("10.0.0.101", 2), ("10.0.0.102", 1)]);
        let nlri = routes[0].paths[0].nlri.as_ref().unwrap();
        assert_eq!(STANDARD.decode(&nlri.base64).unwrap(), [24, 10, 1, 0]);
    }

    #[test]
    fn uptime_is_only_told_of_established_sessions() {
        let now = Instant::now();
        let mut status = PeerStatus {
            instance: "instance-65001".into(),
            name: "tor".into(),
            local_asn: Asn::new(65001).unwrap(),
            remote_asn: None,
            remote_router_id: None,
            address: "fd00::1".parse().unwrap(),
            port: 179,
            local_address: None,
            state: StateName::Established,
            established_since: now.checked_sub(Duration::from_secs(5)),
            times_established: 1,
            last_down: None,
            md5: true,
            ttl: Ttl::Multihop(7),
            graceful_restart: Some(120),
            connect_retry: Duration::from_secs(120),
            configured_hold: 90,
            applied_hold: Some(9),
            configured_keepalive: Duration::from_secs(30),
            applied_keepalive: Some(Duration::from_secs(3)),
            families: vec![FamilyStatus {
                family: Family::IPV6_UNICAST,
                negotiated: true,
                received: 1,
                accepted: 0,
                advertised: 2,
                stale: 0,
                end_of_rib_received: false,
                end_of_rib_sent: true,
            }],
            local_capabilities: Vec::new(),
            remote_capabilities: vec![bytes::Bytes::from_static(&[2, 0])],
            messages_received: 0,
            messages_sent: 0,
        };
        assert_eq!(
            serde_json::to_string(&peer(&status, now)).unwrap(),
            r#"{"applied-hold-time-seconds":9,"applied-keep-alive-time-seconds":3,"configured-hold-time-seconds":90,"configured-keep-alive-time-seconds":30,"connect-retry-time-seconds":120,"ebgp-multihop-ttl":7,"families":[{"advertised":3,"afi":"ipv6","received":1,"safi":"unicast"}],"graceful-restart":{"enabled":true,"restart-time-seconds":120},"local-asn":65001,"local-capabilities":null,"peer-address":"fd00::1","peer-port":179,"remote-capabilities":[{"capabilities":"AgA="}],"session-state":"established","tcp-password-enabled":true,"uptime-nanoseconds":5000000000}"#
        );
        status.state = StateName::Active;
        assert_eq!(peer(&status, now).uptime_nanoseconds, 0);
        assert_eq!(peer(&status, now).session_state, "active");
    }
}
