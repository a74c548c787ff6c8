//! How one session is run, and which advertisements each of its families selects: from a `CiliumBGPPeerConfig`, a
//! legacy neighbour, or the built-in defaults.

use std::net::IpAddr;
use std::time::Duration;

use bgp_speaker::config::{
    Auth, Connect, GracefulRestart, MaxPrefixes, MaxPrefixesAction, RemoteAsn, Timers, Ttl,
};
use bgp_speaker::types::{Asn, Family, HoldTime, Name};
use crds::bgp::family::{Afi, Safi};
use crds::bgp::peer_config::{self, MaxPrefixAction, PeerConfigSpec, Transport};
use crds::text::parse_address;

use super::advertise::Offers;
use super::auth;
use super::legacy;
use super::node_config::{Peer, Settings};
use super::reasons::Reason;
use crate::problem::Problem;

/// A session's settings, wherever they come from.
pub(crate) struct Session {
    pub(crate) port: u16,
    pub(crate) connect: Connect,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) interface: Option<Name>,
    pub(crate) auth: Auth,
    pub(crate) ttl: Ttl,
    pub(crate) timers: Timers,
    pub(crate) graceful_restart: Option<GracefulRestart>,
    pub(crate) max_prefixes: Option<MaxPrefixes>,
    /// Families in OPEN order with the entries selected for each.
    pub(crate) families: Vec<(Family, Vec<usize>)>,
}

pub(crate) fn session(
    peer: &Peer<'_>,
    remote_asn: RemoteAsn,
    local_asn: Asn,
    offers: &mut Offers<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Session, Reason> {
    let built_in = PeerConfigSpec::default();
    let (spec, parsed) = match peer.settings {
        Settings::Default => (&built_in, None),
        Settings::PeerConfig(name) => {
            let found = offers.ground().world.objects.peer_config(name);
            let found = found.ok_or_else(|| Reason::PeerConfigMissing(name.to_owned()))?;
            (&found.object.spec, Some(found.parsed))
        }
        Settings::Legacy(neighbor) => {
            return Ok(legacy_session(neighbor, remote_asn, local_asn, offers, problems));
        }
    };
    let transport = spec.transport.clone().unwrap_or_default();
    let place = parsed.map(|parsed| (&**parsed, "spec.authSecretRef"));
    let auth = auth::auth(spec.auth_secret_ref.as_deref(), offers.ground(), place, problems);
    let ttl = match spec.ttl_security {
        Some(security) => Ttl::Security { hops: security.hops },
        None => ttl(spec.ebgp_multihop, remote_asn, local_asn),
    };
    Ok(Session {
        port: transport.peer_port,
        connect: if transport.passive {
            Connect::Passive
        } else {
            Connect::ActiveAndPassive
        },
        local_address: local_address(peer, &transport),
        interface: transport.interface.as_deref().map(Name::from),
        auth,
        ttl,
        timers: timers(spec.timers.unwrap_or_default()),
        graceful_restart: graceful_restart(spec.graceful_restart),
        max_prefixes: spec.max_prefixes.map(max_prefixes),
        families: families(spec, offers),
    })
}

fn legacy_session(
    legacy: legacy::Neighbor<'_>,
    remote_asn: RemoteAsn,
    local_asn: Asn,
    offers: &mut Offers<'_>,
    problems: &mut Vec<Problem>,
) -> Session {
    let neighbor = legacy.neighbor;
    let entries = legacy::entries(legacy, &offers.ground().world.objects);
    let chosen = offers.add(entries);
    let families = if neighbor.families.is_empty() {
        vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST]
    } else {
        neighbor.families.iter().map(|f| family(f.afi, f.safi)).collect()
    };
    Session {
        port: neighbor.peer_port,
        connect: Connect::ActiveAndPassive,
        local_address: None,
        interface: None,
        auth: auth::auth(
            neighbor.auth_secret_ref.as_deref(),
            offers.ground(),
            None,
            problems,
        ),
        ttl: ttl(neighbor.ebgp_multihop_ttl, remote_asn, local_asn),
        timers: timers(peer_config::Timers {
            connect_retry_time_seconds: neighbor.connect_retry_time_seconds,
            hold_time_seconds: neighbor.hold_time_seconds,
            keep_alive_time_seconds: neighbor.keep_alive_time_seconds,
        }),
        graceful_restart: graceful_restart(neighbor.graceful_restart),
        max_prefixes: None,
        families: families
            .into_iter()
            .map(|family| (family, chosen.clone()))
            .collect(),
    }
}

/// Multihop is a matter of external sessions; internal ones use the system's TTL.
fn ttl(multihop: u8, remote: RemoteAsn, local: Asn) -> Ttl {
    match remote {
        RemoteAsn::Is(asn) if asn == local => Ttl::Direct,
        RemoteAsn::Is(_) | RemoteAsn::Any if multihop > 1 => Ttl::Multihop(multihop),
        RemoteAsn::Is(_) | RemoteAsn::Any => Ttl::Direct,
    }
}

fn local_address(peer: &Peer<'_>, transport: &Transport) -> Option<IpAddr> {
    let text = peer.local_address.or(transport.local_address.as_deref())?;
    parse_address(text).map(|written| written.address)
}

fn timers(written: peer_config::Timers) -> Timers {
    let default = Timers::default();
    Timers {
        connect_retry: Duration::from_secs(u64::from(written.connect_retry_time_seconds)),
        hold: HoldTime::new(written.hold_time_seconds).unwrap_or(default.hold),
        keepalive: Duration::from_secs(u64::from(written.keep_alive_time_seconds)),
        idle_hold: default.idle_hold,
    }
}

fn graceful_restart(written: Option<peer_config::GracefulRestart>) -> Option<GracefulRestart> {
    written
        .filter(|restart| restart.enabled)
        .map(|restart| GracefulRestart {
            restart_time: restart.restart_time_seconds,
        })
}

fn max_prefixes(written: peer_config::MaxPrefixes) -> MaxPrefixes {
    MaxPrefixes {
        limit: written.limit,
        warning_percent: written.warning_percent,
        action: match written.action {
            MaxPrefixAction::Warn => MaxPrefixesAction::Warn,
            MaxPrefixAction::Hold => MaxPrefixesAction::Refuse,
            MaxPrefixAction::Teardown => MaxPrefixesAction::Teardown {
                restart: written.restart_seconds.map(|s| Duration::from_secs(u64::from(s))),
            },
        },
    }
}

/// Families in the order written, each once; a family written twice selects what either selects. Without any, both
/// are negotiated, IPv6 first as Cilium does, and nothing is announced.
fn families(spec: &PeerConfigSpec, offers: &Offers<'_>) -> Vec<(Family, Vec<usize>)> {
    if spec.families.is_empty() {
        return vec![
            (Family::IPV6_UNICAST, Vec::new()),
            (Family::IPV4_UNICAST, Vec::new()),
        ];
    }
    let mut families: Vec<(Family, Vec<usize>)> = Vec::new();
    for written in &spec.families {
        let family = family(written.afi, written.safi);
        let entries = offers.entries().iter().enumerate();
        let selector = written.advertisements.as_ref();
        let chosen = entries
            .filter(|(_, entry)| selector.is_some_and(|selector| selector.matches(&entry.labels)))
            .map(|(number, _)| number);
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, known)) => known.extend(chosen),
            None => families.push((family, chosen.collect())),
        }
    }
    for (_, chosen) in &mut families {
        chosen.sort_unstable();
        chosen.dedup();
    }
    families
}

fn family(afi: Afi, safi: Safi) -> Family {
    Family {
        afi: match afi {
            Afi::Ipv4 => 1,
            Afi::Ipv6 => 2,
            Afi::L2vpn => 25,
            Afi::Ls => 16388,
            Afi::Opaque => 16397,
        },
        safi: match safi {
            Safi::Unicast => 1,
            Safi::Multicast => 2,
            Safi::MplsLabel => 4,
            Safi::Encapsulation => 7,
            Safi::Vpls => 65,
            Safi::Evpn => 70,
            Safi::Ls => 71,
            Safi::SrPolicy => 73,
            Safi::Mup => 85,
            Safi::MplsVpn => 128,
            Safi::MplsVpnMulticast => 129,
            Safi::RouteTargetConstraints => 132,
            Safi::FlowspecUnicast => 133,
            Safi::FlowspecVpn => 134,
            Safi::KeyValue => 241,
        },
    }
}
