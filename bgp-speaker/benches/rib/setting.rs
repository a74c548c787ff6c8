//! A RIB with peers, and what they send.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bgp_speaker::config::{LocalRoute, ReflectorClient};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, PrefixMatch, SetAttrs, Statement, Verdict};
use bgp_speaker::rib::{
    EndOfRib, ExistingExternal, ExtendedNextHop, FamilyInfo, Options, PeerId, PeerInfo, Refresh, Rib,
};
use bgp_speaker::types::{Asn, AsnWidth, Family, Prefix, RouterId, SessionKind};
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};
use bgp_speaker::wire::framing::HEADER;
use bgp_speaker::wire::update::{self, Announce, Announced, Carrier, Context, FirstAs, Update};
use bytes::{Bytes, BytesMut};

/// Prefixes in a packed message.
const PACKED: usize = 800;

pub(crate) fn now() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

/// With so many external peers up.
pub(crate) fn rib(peers: u16) -> Rib {
    let options = Options {
        asn: Asn::new(65000).unwrap(),
        router_id: RouterId::new(Ipv4Addr::new(10, 0, 255, 254)).unwrap(),
        maximum_paths: 1,
        existing_external: ExistingExternal::Keep,
    };
    let mut rib = Rib::new(now(), 1, options);
    for n in 1..=peers {
        rib.peer_up(PeerId(n), info(n));
    }
    rib
}

pub(crate) fn info(n: u16) -> PeerInfo {
    let statements = vec![Statement {
        policy: "all".into(),
        prefixes: Vec::new(),
        verdict: Verdict::Accept(SetAttrs::default()),
    }];
    let family = FamilyInfo {
        export: Arc::new(ExportPolicy {
            statements: statements.clone(),
        }),
        import: Arc::new(ImportPolicy { statements }),
        max_prefixes: None,
        extended_next_hop: ExtendedNextHop::No,
    };
    let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n));
    PeerInfo {
        session: SessionKind::External,
        asn: Asn::new(u32::from(n)).unwrap(),
        router_id: RouterId::new(address).unwrap(),
        address: address.into(),
        local_address: IpAddr::from([10, 0, 255, 254]),
        local_ipv4: None,
        local_ipv6: None,
        asn_width: AsnWidth::Four,
        max_message: 4096,
        reflector_client: ReflectorClient::No,
        end_of_rib: EndOfRib::Send,
        refresh: Refresh::Enhanced,
        families: vec![(Family::IPV4_UNICAST, family)],
    }
}

/// One per prefix.
pub(crate) fn statements(count: u32) -> Arc<ExportPolicy> {
    let statement = |i| Statement {
        policy: "service".into(),
        prefixes: vec![PrefixMatch {
            prefix: numbered(i),
            min: 32,
            max: 32,
        }],
        verdict: Verdict::Accept(SetAttrs {
            communities: vec![i % 100],
            ..SetAttrs::default()
        }),
    };
    Arc::new(ExportPolicy {
        statements: (0..count).map(statement).collect(),
    })
}

pub(crate) fn attrs(n: u16, set: u32) -> Attrs {
    let asns = [u32::from(n), 65021].map(|asn| Asn::new(asn).unwrap());
    let next_hop = Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n));
    Attrs {
        as_path: AsPath(vec![AsSegment::Sequence(asns.to_vec())]),
        communities: vec![0xfde8_0000 + set],
        ..Attrs::originated(Origin::Igp, NextHop::Ip(next_hop.into()))
    }
}

pub(crate) fn numbered(i: u32) -> Prefix {
    Prefix::V4 {
        bits: 0x6400_0000 + i,
        len: 32,
    }
}

pub(crate) fn prefixes(count: u32) -> Vec<Prefix> {
    (0..count).map(numbered).collect()
}

/// What peer `n` says of `count` prefixes that have `sets` different attributes between them.
pub(crate) fn updates(n: u16, count: u32, sets: u32) -> Vec<Update> {
    let all = prefixes(count);
    let per_set = all.len().div_ceil(sets as usize);
    let mut updates = Vec::new();
    for (set, prefixes) in (0..).zip(all.chunks(per_set)) {
        for some in prefixes.chunks(PACKED) {
            updates.push(Update {
                announced: vec![Announced {
                    family: Family::IPV4_UNICAST,
                    attrs: attrs(n, if sets == 1 { count % 7 } else { set }),
                    prefixes: some.to_vec(),
                }],
                ..Update::default()
            });
        }
    }
    updates
}

/// The same as bodies of messages.
pub(crate) fn encoded(n: u16, count: u32, sets: u32) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut attributes = BytesMut::new();
    for Update { announced, .. } in updates(n, count, sets.min(count)) {
        let Announced {
            mut attrs, prefixes, ..
        } = announced.into_iter().next().unwrap();
        if sets > count {
            attrs.communities = vec![sets];
        }
        attributes.clear();
        let encoding = EncodeContext {
            asn_width: AsnWidth::Four,
            session: SessionKind::External,
            carrier: Carrier::Fields,
        };
        attr::encode(&attrs, &encoding, &mut attributes);
        let announce = Announce {
            family: Family::IPV4_UNICAST,
            attributes: &attributes,
            next_hop: &attrs.next_hop,
            max_message: 4096,
        };
        let mut message = BytesMut::new();
        let taken = update::encode_announce(&announce, &prefixes, &mut message).unwrap();
        assert_eq!(taken, prefixes.len());
        messages.push(message.freeze().slice(HEADER..));
    }
    messages
}

pub(crate) fn context(n: u16) -> Context {
    Context {
        asn_width: AsnWidth::Four,
        session: SessionKind::External,
        peer_asn: Asn::new(u32::from(n)).unwrap(),
        first_as: FirstAs::Peer,
        local_address: Some(IpAddr::from([10, 0, 255, 254])),
        families: vec![Family::IPV4_UNICAST],
        ipv6_next_hop: vec![],
    }
}

pub(crate) fn receive(rib: &mut Rib, n: u16, updates: Vec<Update>) {
    for update in updates {
        rib.received(PeerId(n), now(), update);
    }
}

pub(crate) fn originate(rib: &mut Rib, count: u32, sets: u32) {
    let routes: Vec<LocalRoute> = (0..sets)
        .map(|set| {
            let mut attrs = attrs(1, set);
            attrs.as_path = AsPath::default();
            attrs.next_hop = NextHop::Ip(Ipv4Addr::UNSPECIFIED.into());
            LocalRoute {
                attrs: Arc::new(attrs),
            }
        })
        .collect();
    let all = prefixes(count).into_iter().zip(routes.iter().cycle().cloned());
    rib.set_local(now(), &Arc::new(all.collect()));
}

pub(crate) fn drain(rib: &mut Rib, n: u16, out: &mut Vec<Bytes>) {
    while rib.pull(PeerId(n), 1 << 16, out).bytes > 0 {}
}

/// In turns, as sessions with equal credit do.
pub(crate) fn pull_all(rib: &mut Rib, peers: RangeInclusive<u16>, out: &mut Vec<Bytes>) {
    let mut busy = true;
    while busy {
        busy = false;
        for n in peers.clone() {
            busy |= rib.pull(PeerId(n), 1 << 16, out).bytes > 0;
        }
    }
}
