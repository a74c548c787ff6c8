//! What a speaker does, as a line to read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use bgp_speaker::speaker::{
    Close, ConnId, Event, LimitEvent, Output, PathView, PeerStatus, StateName, TtlOption,
};
use bgp_speaker::types::{Asn, AsnWidth, Family, Prefix, SessionKind};
use bgp_speaker::wire::attrs::{AsPath, AsSegment, NextHop};
use bgp_speaker::wire::capability::{
    Capability, Forwarding, GracefulRestart, NotificationSupport, RestartState,
};
use bgp_speaker::wire::route_refresh::{Rules, Subtype};
use bgp_speaker::wire::update::{self, FirstAs};
use bgp_speaker::wire::{Context, Frame, MessageType, Notification, Open, RouteRefresh};

use crate::Line;

/// One line, or one per message of a buffer.
pub(crate) fn output(output: &Output, lines: &mut BTreeMap<ConnId, Line>) -> Vec<String> {
    vec![match output {
        Output::Listen { instance, port, keys } => {
            let keys: Vec<String> = keys.iter().map(|key| format!(" key for {}", key.from)).collect();
            format!("listen {instance} {port}{}", keys.concat())
        }
        Output::Unlisten { instance } => format!("unlisten {instance}"),
        Output::Dial { conn: id, to } => {
            lines.insert(*id, Line::new(to.remote));
            let mut text = format!("dial {} to {}{}", conn(*id), to.remote, ttl(to.ttl));
            if let Some(local) = to.local {
                write!(text, " from {local}").unwrap();
            }
            if let Some(interface) = &to.interface {
                write!(text, " through {interface}").unwrap();
            }
            if to.md5.is_some() {
                text.push_str(" with md5");
            }
            text
        }
        Output::SetTtl {
            conn: id,
            ttl: option,
        } => {
            format!("set {}{}", conn(*id), ttl(*option))
        }
        Output::Send { conn: id, bytes } => {
            let Some(line) = lines.get_mut(id) else {
                return vec![format!("send {} AFTER IT WAS CLOSED", conn(*id))];
            };
            line.framer.push(bytes.clone());
            let mut shown = Vec::new();
            while let Some(frame) = line.framer.next().expect("what a speaker sends is well-formed") {
                shown.push(format!("send {} {}", conn(*id), message(&frame, line)));
            }
            return shown;
        }
        Output::Close { conn: id, how } => match how {
            Close::Flush => format!("close {}", conn(*id)),
            Close::Abort => format!("abort {}", conn(*id)),
        },
        Output::Tell(event) => match told(event) {
            Some(text) => text,
            None => return Vec::new(),
        },
    }]
}

pub(crate) fn conn(conn: ConnId) -> String {
    match conn {
        ConnId::Dialled(number) => format!("d{number}"),
        ConnId::Accepted(number) => format!("a{number}"),
    }
}

pub(crate) fn peer(peer: &PeerStatus, now: Instant) -> String {
    let mut text = format!("{}/{} {}", peer.instance, peer.name, state(peer.state));
    if let Some(since) = peer.established_since {
        write!(text, " for {:.0}s", (now - since).as_secs_f64()).unwrap();
    }
    if let Some(asn) = peer.remote_asn {
        write!(text, " AS{asn}").unwrap();
    }
    if let (Some(hold), Some(keepalive)) = (peer.applied_hold, peer.applied_keepalive) {
        write!(text, " hold {hold}s keepalive {}s", keepalive.as_secs_f64()).unwrap();
    }
    write!(text, " times {}", peer.times_established).unwrap();
    for family in &peer.families {
        if !family.negotiated && family.stale == 0 {
            continue;
        }
        write!(
            text,
            "; {} received {} accepted {} advertised {}",
            short(family.family),
            family.received,
            family.accepted,
            family.advertised
        )
        .unwrap();
        if family.stale > 0 {
            write!(text, " stale {}", family.stale).unwrap();
        }
    }
    if let (Some((_, why)), None) = (&peer.last_down, peer.established_since) {
        write!(text, "; {why}").unwrap();
    }
    text
}

pub(crate) fn path(path: &PathView) -> String {
    let mut text = format!("{} nh={}", path.prefix, next_hop(&path.attrs.next_hop));
    write!(text, " path={}", as_path(&path.attrs.as_path)).unwrap();
    match &path.peer {
        Some((name, _)) => write!(text, " {name}").unwrap(),
        None => text.push_str(" here"),
    }
    if path.best {
        text.push_str(" best");
    }
    if path.stale {
        text.push_str(" stale");
    }
    if let Some(reason) = &path.reason {
        write!(text, " ({reason})").unwrap();
    }
    text
}

fn ttl(ttl: TtlOption) -> String {
    let mut text = String::new();
    if let Some(send) = ttl.send {
        write!(text, " ttl={send}").unwrap();
    }
    if let Some(minimum) = ttl.minimum {
        write!(text, " minimum-ttl={minimum}").unwrap();
    }
    text
}

fn message(frame: &Frame, line: &mut Line) -> String {
    match frame.kind {
        MessageType::Open => {
            let open = Open::decode(&frame.body).expect("our OPEN");
            line.ours = Some((open.asn.get(), open.four_octet_asn()));
            let caps: Vec<String> = open.capabilities.iter().map(capability).collect();
            format!(
                "OPEN as={} hold={} id={} caps={}",
                open.asn,
                open.hold_time.seconds(),
                open.router_id,
                caps.join(",")
            )
        }
        MessageType::Update => update_text(frame, line),
        MessageType::Keepalive => "KEEPALIVE".into(),
        MessageType::Notification => {
            let heard = Notification::decode(&frame.body).expect("our NOTIFICATION");
            format!("NOTIFICATION {}/{} {heard}", heard.code, heard.subcode)
        }
        MessageType::RouteRefresh => {
            let refresh = RouteRefresh::decode(&frame.body, Rules::Enhanced).expect("our ROUTE-REFRESH");
            let what = match refresh.subtype {
                Subtype::Request => "request",
                Subtype::Begin => "begin",
                Subtype::End => "end",
                Subtype::Unknown(_) => "unknown",
            };
            format!("ROUTE-REFRESH {} {what}", short(refresh.family))
        }
    }
}

fn update_text(frame: &Frame, line: &Line) -> String {
    let (ours, theirs) = (line.ours.unwrap_or((1, true)), line.theirs.unwrap_or((1, true)));
    let context = Context {
        asn_width: if ours.1 && theirs.1 {
            AsnWidth::Four
        } else {
            AsnWidth::Two
        },
        session: if ours.0 == theirs.0 {
            SessionKind::Internal
        } else {
            SessionKind::External
        },
        peer_asn: Asn::new(ours.0).expect("an AS"),
        first_as: FirstAs::Any,
        local_address: None,
        families: vec![Family::IPV4_UNICAST, Family::IPV6_UNICAST],
        ipv6_next_hop: vec![Family::IPV4_UNICAST],
    };
    let update = update::decode(&frame.body, &context).expect("our UPDATE");
    assert!(update.errors.is_empty(), "{:?}", update.errors);
    let mut text = String::from("UPDATE");
    if let Some(family) = update.end_of_rib {
        write!(text, " end-of-rib {}", short(family)).unwrap();
    }
    if !update.withdrawn.is_empty() {
        write!(text, " withdraw {}", prefixes(&update.withdrawn)).unwrap();
    }
    for announced in &update.announced {
        write!(
            text,
            " announce {} path={} nh={}",
            prefixes(&announced.prefixes),
            as_path(&announced.attrs.as_path),
            next_hop(&announced.attrs.next_hop)
        )
        .unwrap();
        if let Some(pref) = announced.attrs.local_pref {
            write!(text, " pref={pref}").unwrap();
        }
    }
    text
}

fn told(event: &Event) -> Option<String> {
    Some(match event {
        Event::State {
            peer, from, to, why, ..
        } => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{peer} {} -> {}{why}", state(*from), state(*to))
        }
        Event::EndOfRib { peer, family, .. } => format!("{peer} end-of-rib {}", short(*family)),
        Event::MaxPrefixes {
            peer,
            count,
            limit,
            what,
            ..
        } => {
            let what = match what {
                LimitEvent::Warning => "warning",
                LimitEvent::Refusing => "refusing",
                LimitEvent::TornDown => "torn down",
            };
            format!("{peer} {what}: {count} of {limit} prefixes")
        }
        Event::Malformed { peer, what, .. } => format!("{peer} malformed: {what}"),
        Event::Refused { remote, why, .. } => format!("refused {}: {why}", remote.ip()),
        Event::ListenFailed {
            instance,
            port,
            error,
        } => format!("{instance} cannot listen on {port}: {error}"),
        // Says only that a status may want a new look.
        Event::Changed { .. } => return None,
    })
}

fn state(state: StateName) -> &'static str {
    match state {
        StateName::Idle => "Idle",
        StateName::Connect => "Connect",
        StateName::Active => "Active",
        StateName::OpenSent => "OpenSent",
        StateName::OpenConfirm => "OpenConfirm",
        StateName::Established => "Established",
    }
}

fn short(family: Family) -> String {
    family.to_string().trim_end_matches("/unicast").to_owned()
}

fn prefixes(prefixes: &[Prefix]) -> String {
    match prefixes {
        [one] => one.to_string(),
        [first, .., last] if prefixes.len() > 4 => format!("{first}..{last} ({})", prefixes.len()),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn as_path(path: &AsPath) -> String {
    let mut text = Vec::new();
    for segment in &path.0 {
        match segment {
            AsSegment::Sequence(asns) => text.extend(asns.iter().map(ToString::to_string)),
            AsSegment::Set(asns) | AsSegment::ConfedSequence(asns) | AsSegment::ConfedSet(asns) => {
                text.push(format!("{asns:?}"));
            }
        }
    }
    text.join(",")
}

fn next_hop(next_hop: &NextHop) -> String {
    match next_hop {
        NextHop::Ip(address) => address.to_string(),
        NextHop::V6WithLinkLocal(global, link) => format!("{global}%{link}"),
    }
}

fn capability(capability: &Capability) -> String {
    match capability {
        Capability::Multiprotocol(family) => short(*family),
        Capability::RouteRefresh => "rr".into(),
        Capability::ExtendedNextHop(_) => "v6nh".into(),
        Capability::ExtendedMessage => "ext".into(),
        Capability::GracefulRestart(restart) => graceful(restart),
        Capability::FourOctetAsn(_) => "as4".into(),
        Capability::EnhancedRouteRefresh => "err".into(),
        Capability::Fqdn { .. } => "fqdn".into(),
        Capability::SoftwareVersion(_) => "version".into(),
        Capability::Unknown { code, .. } => code.to_string(),
    }
}

fn graceful(restart: &GracefulRestart) -> String {
    let mut text = String::from("gr");
    if restart.state == RestartState::Restarted {
        text.push_str(":R");
    }
    if restart.notification == NotificationSupport::Yes {
        text.push_str(":N");
    }
    write!(text, ":{}", restart.restart_time).unwrap();
    for (family, forwarding) in &restart.families {
        let sign = match forwarding {
            Forwarding::Preserved => '+',
            Forwarding::Lost => '-',
        };
        write!(text, ":{}{sign}", short(*family)).unwrap();
    }
    text
}
