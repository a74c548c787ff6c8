//! The words of the lab as the speaker's own, and back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bgp_speaker::config::{
    Auth, Connect, FamilyConfig, GracefulRestart, InstanceConfig, LocalRoute, PeerAddress, PeerConfig,
    ReflectorClient, RemoteAsn, SpeakerConfig, Timers, Ttl,
};
use bgp_speaker::policy::{
    ExportPolicy, ImportPolicy, PrefixMatch, SetAttrs, SetNextHop, Statement, Verdict,
};
use bgp_speaker::speaker::PathView;
use bgp_speaker::types::{Asn, Family, HoldTime, Name, Prefix, RouterId, Secret};
use bgp_speaker::wire::attrs::{AsSegment, Attrs, ExtCommunity, LargeCommunity, NextHop, Origin};
use ipnet::IpNet;
use lab::router::{Dials, Ext, Families, Neighbor, Origination, Seen, TtlSecurity};
use stentor_tests::subject::Wish;

use crate::INSTANCE;

const PORT: u16 = 179;

/// Short, so that a test does not wait for them.
const CONNECT_RETRY: Duration = Duration::from_secs(1);
const IDLE_HOLD: Duration = Duration::from_millis(200);

pub(crate) fn config(wish: &Wish) -> Result<SpeakerConfig> {
    let mut routes = BTreeMap::new();
    for route in &wish.routes {
        let prefix = prefix(route.prefix)?;
        routes.insert(prefix, local(prefix));
    }
    for n in 0..wish.many {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 0).to_bits() + n);
        let prefix = Prefix::host(IpAddr::V4(address));
        routes.insert(prefix, local(prefix));
    }
    let mut peers = BTreeMap::new();
    for neighbor in &wish.router.neighbors {
        peers.insert(
            Name::from(neighbor.address.to_string()),
            peer(neighbor, &wish.routes)?,
        );
    }
    let instance = InstanceConfig {
        asn: Asn::new(wish.router.asn)?,
        router_id: RouterId::new(wish.router.router_id)?,
        listen: Some(PORT),
        peers,
        routes: Arc::new(routes),
        maximum_paths: 1,
    };
    Ok(SpeakerConfig {
        instances: BTreeMap::from([(Name::from(INSTANCE), instance)]),
    })
}

fn prefix(net: IpNet) -> Result<Prefix> {
    Ok(Prefix::new(net.addr(), net.prefix_len())?)
}

/// A route that carries nothing; its next hop is the session's own address.
fn local(prefix: Prefix) -> LocalRoute {
    let unspecified = match prefix {
        Prefix::V4 { .. } => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Prefix::V6 { .. } => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    LocalRoute {
        attrs: Arc::new(Attrs::originated(Origin::Igp, NextHop::Ip(unspecified))),
    }
}

fn peer(neighbor: &Neighbor, routes: &[Origination]) -> Result<PeerConfig> {
    let hold = HoldTime::new(neighbor.hold)?;
    let families = match neighbor.families {
        Families::Ipv4 | Families::Ipv4OverIpv6 => vec![Family::IPV4_UNICAST],
        Families::Ipv6 => vec![Family::IPV6_UNICAST],
        Families::Both => vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
    };
    let mut configured = Vec::new();
    for family in families {
        configured.push((family, family_config(family, neighbor, routes)?));
    }
    Ok(PeerConfig {
        address: PeerAddress::One(neighbor.address),
        port: PORT,
        remote_asn: RemoteAsn::Is(Asn::new(neighbor.asn)?),
        local_address: Some(neighbor.local),
        interface: None,
        connect: match neighbor.dials {
            Dials::Yes => Connect::ActiveAndPassive,
            Dials::Never => Connect::Passive,
        },
        auth: match &neighbor.password {
            Some(password) => Auth::Md5(Secret::new(password.as_bytes())?),
            None => Auth::None,
        },
        ttl: match neighbor.ttl_security {
            TtlSecurity::Off => Ttl::Direct,
            TtlSecurity::On => Ttl::Security { hops: 1 },
        },
        timers: Timers {
            connect_retry: CONNECT_RETRY,
            hold,
            keepalive: Duration::from_secs(u64::from(neighbor.hold / 3)),
            idle_hold: IDLE_HOLD,
        },
        graceful_restart: neighbor
            .graceful_restart
            .map(|restart_time| GracefulRestart { restart_time }),
        families: configured,
        shutdown: None,
        reflector_client: ReflectorClient::No,
    })
}

/// Everything is imported. Each route leaves with what its origination says, the rest as it is.
fn family_config(family: Family, neighbor: &Neighbor, routes: &[Origination]) -> Result<FamilyConfig> {
    let name = Name::from("test");
    let next_hop = match neighbor.ipv6_next_hop {
        Some(hop) if family == Family::IPV6_UNICAST => SetNextHop::Is(NextHop::Ip(hop)),
        Some(_) | None => SetNextHop::Default,
    };
    let mut statements = Vec::new();
    for route in routes {
        let prefix = prefix(route.prefix)?;
        if prefix.family() != family {
            continue;
        }
        let exactly = PrefixMatch {
            prefix,
            min: prefix.len(),
            max: prefix.len(),
        };
        statements.push(Statement {
            policy: Arc::clone(&name),
            prefixes: vec![exactly],
            verdict: Verdict::Accept(attributes(route, next_hop)),
        });
    }
    let everything = |set: SetAttrs| Statement {
        policy: Arc::clone(&name),
        prefixes: Vec::new(),
        verdict: Verdict::Accept(set),
    };
    statements.push(everything(SetAttrs {
        next_hop,
        ..SetAttrs::default()
    }));
    Ok(FamilyConfig {
        export: Arc::new(ExportPolicy { statements }),
        import: Arc::new(ImportPolicy {
            statements: vec![everything(SetAttrs::default())],
        }),
        max_prefixes: None,
    })
}

fn attributes(route: &Origination, next_hop: SetNextHop) -> SetAttrs {
    let join = |(high, low): &(u16, u16)| (u32::from(*high) << 16) | u32::from(*low);
    SetAttrs {
        communities: route.communities.iter().map(join).collect(),
        large_communities: route
            .large
            .iter()
            .map(|(a, b, c)| LargeCommunity(*a, *b, *c))
            .collect(),
        ext_communities: route.ext.iter().map(|ext| ExtCommunity(ext.octets())).collect(),
        local_pref: None,
        med: route.med,
        as_path_prepend: 0,
        next_hop,
    }
}

pub(crate) fn seen(view: &PathView) -> Result<Seen> {
    let attrs = &view.attrs;
    let mut seen = Seen::new(IpNet::new(view.prefix.addr(), view.prefix.len())?);
    seen.next_hop = Some(match attrs.next_hop {
        NextHop::Ip(hop) => hop,
        NextHop::V6WithLinkLocal(global, _) => IpAddr::V6(global),
    });
    for segment in &attrs.as_path.0 {
        match segment {
            AsSegment::Sequence(asns)
            | AsSegment::Set(asns)
            | AsSegment::ConfedSequence(asns)
            | AsSegment::ConfedSet(asns) => seen.as_path.extend(asns.iter().map(|asn| asn.get())),
        }
    }
    for community in &attrs.communities {
        let [a, b, c, d] = community.to_be_bytes();
        seen.communities
            .insert((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    }
    seen.large = attrs.large_communities.iter().map(|l| (l.0, l.1, l.2)).collect();
    seen.ext = attrs
        .ext_communities
        .iter()
        .map(|e| Ext::from_octets(e.0))
        .collect();
    seen.med = attrs.med;
    seen.local_pref = attrs.local_pref;
    seen.stale = view.stale;
    Ok(seen)
}
