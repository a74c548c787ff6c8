//! Peers around a RIB, each with a table filled from what it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{LocalRoute, ReflectorClient};
use crate::policy::{ExportPolicy, ImportPolicy, PrefixMatch, SetAttrs, Statement, Verdict};
use crate::rib::{
    EndOfRib, ExistingExternal, ExtendedNextHop, FamilyInfo, Options, PeerId, PeerInfo, Pulled, Received,
    Refresh, Rib, RouteView,
};
use crate::types::{Asn, AsnWidth, Family, Prefix, RouterId, SessionKind};
use crate::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};
use crate::wire::framing::HEADER;
use crate::wire::route_refresh::{RouteRefresh, Rules, Subtype};
use crate::wire::update::{self, Announced, Context, FirstAs, Update};

pub(super) const LOCAL_ASN: u32 = 65000;

pub(super) struct World {
    pub(super) rib: Rib,
    pub(super) now: Instant,
    pub(super) receivers: BTreeMap<PeerId, Receiver>,
}

/// What a peer has decoded.
#[derive(Debug, Default, Clone)]
pub(super) struct Receiver {
    pub(super) held: BTreeMap<Prefix, Attrs>,
    pub(super) ends_of_rib: Vec<Family>,
    pub(super) refreshes: Vec<(Family, Subtype)>,
    pub(super) longest: usize,
    pub(super) messages: u64,
    /// Between BoRR and EoRR: what was not sent again goes at EoRR.
    unseen: BTreeMap<Family, BTreeSet<Prefix>>,
    context: Option<Context>,
}

pub(super) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

pub(super) fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
}

pub(super) fn path(asns: &[u32]) -> AsPath {
    AsPath(vec![AsSegment::Sequence(asns.iter().map(|n| asn(*n)).collect())])
}

/// As an external peer would announce it.
pub(super) fn learned(asns: &[u32], next_hop: &str) -> Attrs {
    Attrs {
        as_path: path(asns),
        ..Attrs::originated(Origin::Igp, NextHop::Ip(next_hop.parse().unwrap()))
    }
}

pub(super) fn local(med: Option<u32>) -> LocalRoute {
    LocalRoute {
        attrs: Arc::new(Attrs {
            med,
            ..Attrs::originated(Origin::Igp, NextHop::Ip(Ipv4Addr::UNSPECIFIED.into()))
        }),
    }
}

pub(super) fn accept(prefixes: &[&str], set: SetAttrs) -> Statement {
    Statement {
        policy: "test".into(),
        prefixes: prefixes
            .iter()
            .map(|text| {
                let prefix = prefix(text);
                PrefixMatch {
                    prefix,
                    min: prefix.len(),
                    max: 128,
                }
            })
            .collect(),
        verdict: Verdict::Accept(set),
    }
}

pub(super) fn export_all() -> Arc<ExportPolicy> {
    export_with(SetAttrs::default())
}

pub(super) fn export_with(set: SetAttrs) -> Arc<ExportPolicy> {
    Arc::new(ExportPolicy {
        statements: vec![accept(&[], set)],
    })
}

pub(super) fn import_all() -> Arc<ImportPolicy> {
    Arc::new(ImportPolicy {
        statements: vec![accept(&[], SetAttrs::default())],
    })
}

/// Peer `n` is 10.0.0.n with AS 65000 + n (or ours); both families, everything accepted and announced.
pub(super) fn info(n: u16, session: SessionKind) -> PeerInfo {
    let family = FamilyInfo {
        export: export_all(),
        import: import_all(),
        max_prefixes: None,
        extended_next_hop: ExtendedNextHop::No,
    };
    PeerInfo {
        session,
        asn: match session {
            SessionKind::External => asn(LOCAL_ASN + u32::from(n)),
            SessionKind::Internal => asn(LOCAL_ASN),
        },
        router_id: RouterId::new(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n))).unwrap(),
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n))),
        local_address: "10.0.0.254".parse().unwrap(),
        local_ipv4: None,
        local_ipv6: None,
        asn_width: AsnWidth::Four,
        max_message: 4096,
        reflector_client: ReflectorClient::No,
        end_of_rib: EndOfRib::Send,
        refresh: Refresh::Enhanced,
        families: vec![
            (Family::IPV4_UNICAST, family.clone()),
            (Family::IPV6_UNICAST, family),
        ],
    }
}

pub(super) fn external(n: u16) -> PeerInfo {
    info(n, SessionKind::External)
}

pub(super) fn internal(n: u16) -> PeerInfo {
    info(n, SessionKind::Internal)
}

pub(super) fn options() -> Options {
    Options {
        asn: asn(LOCAL_ASN),
        router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, 254)).unwrap(),
        maximum_paths: 1,
        existing_external: ExistingExternal::Ignore,
    }
}

pub(super) fn routes(all: &[(&str, LocalRoute)]) -> Arc<BTreeMap<Prefix, LocalRoute>> {
    Arc::new(all.iter().map(|(p, r)| (prefix(p), r.clone())).collect())
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(options())
    }

    pub(super) fn with(options: Options) -> Self {
        let now = Instant::now();
        Self {
            rib: Rib::new(now, 42, options),
            now,
            receivers: BTreeMap::new(),
        }
    }

    pub(super) fn up(&mut self, n: u16, info: PeerInfo) -> PeerId {
        let peer = PeerId(n);
        let context = Context {
            asn_width: info.asn_width,
            session: info.session,
            peer_asn: asn(LOCAL_ASN),
            first_as: FirstAs::Peer,
            local_address: Some(info.address),
            families: info.families.iter().map(|(f, _)| *f).collect(),
            ipv6_next_hop: vec![Family::IPV4_UNICAST],
        };
        let receiver = Receiver {
            context: Some(context),
            ..Receiver::default()
        };
        self.receivers.insert(peer, receiver);
        self.rib.peer_up(peer, info);
        peer
    }

    pub(super) fn announce(&mut self, peer: PeerId, attrs: &Attrs, prefixes: &[&str]) -> Received {
        let prefixes: Vec<Prefix> = prefixes.iter().map(|p| prefix(p)).collect();
        self.announce_all(peer, attrs, prefixes)
    }

    pub(super) fn announce_all(&mut self, peer: PeerId, attrs: &Attrs, prefixes: Vec<Prefix>) -> Received {
        self.now += Duration::from_secs(1);
        let update = Update {
            announced: vec![Announced {
                family: prefixes[0].family(),
                attrs: attrs.clone(),
                prefixes,
            }],
            ..Update::default()
        };
        self.rib.received(peer, self.now, update)
    }

    pub(super) fn withdraw(&mut self, peer: PeerId, prefixes: &[&str]) {
        let update = Update {
            withdrawn: prefixes.iter().map(|p| prefix(p)).collect(),
            ..Update::default()
        };
        self.rib.received(peer, self.now, update);
    }

    pub(super) fn set_local(&mut self, all: &[(&str, LocalRoute)]) {
        self.rib.set_local(self.now, &routes(all));
    }

    /// One pull; the receiver decodes what came.
    pub(super) fn pull(&mut self, peer: PeerId, budget: usize) -> Pulled {
        let mut out = Vec::new();
        let pulled = self.rib.pull(peer, budget, &mut out);
        assert_eq!(pulled.bytes, out.iter().map(Bytes::len).sum::<usize>());
        let receiver = self.receivers.get_mut(&peer).unwrap();
        let before = receiver.messages;
        for buffer in &out {
            receiver.take(buffer);
        }
        assert_eq!(receiver.messages - before, pulled.messages);
        pulled
    }

    /// Pulls until nothing is left, and gives how much came.
    pub(super) fn drain(&mut self, peer: PeerId) -> Pulled {
        let mut all = Pulled::default();
        loop {
            let pulled = self.pull(peer, 1 << 20);
            all.bytes += pulled.bytes;
            all.messages += pulled.messages;
            if pulled.bytes == 0 {
                assert!(!self.rib.has_pending(peer));
                return all;
            }
        }
    }

    pub(super) fn held(&self, peer: PeerId) -> &BTreeMap<Prefix, Attrs> {
        &self.receivers[&peer].held
    }

    pub(super) fn holds(&self, peer: PeerId) -> Vec<String> {
        self.held(peer).keys().map(Prefix::to_string).collect()
    }

    /// The one route the peer holds of a prefix.
    pub(super) fn got(&mut self, peer: PeerId, text: &str) -> Option<Attrs> {
        self.drain(peer);
        self.held(peer).get(&prefix(text)).cloned()
    }

    pub(super) fn loc_rib(&self) -> Vec<RouteView> {
        let mut all = self.rib.loc_rib(Family::IPV4_UNICAST);
        all.extend(self.rib.loc_rib(Family::IPV6_UNICAST));
        all
    }

    pub(super) fn adj_out(&self, peer: PeerId) -> BTreeMap<Prefix, Attrs> {
        [Family::IPV4_UNICAST, Family::IPV6_UNICAST]
            .into_iter()
            .flat_map(|family| self.rib.adj_out(peer, family))
            .map(|view| (view.prefix, view.attrs.as_ref().clone()))
            .collect()
    }
}

impl Receiver {
    pub(super) fn take(&mut self, buffer: &Bytes) {
        let mut rest = buffer.clone();
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
            let message = rest.split_to(length);
            self.longest = self.longest.max(length);
            self.messages += 1;
            let body = message.slice(HEADER..);
            match message[18] {
                2 => self.update(&body),
                5 => self.refresh(RouteRefresh::decode(&body, Rules::Enhanced).unwrap()),
                other => panic!("message type {other}"),
            }
        }
    }

    fn update(&mut self, body: &Bytes) {
        let update = update::decode(body, self.context.as_ref().unwrap()).unwrap();
        assert_eq!(update.errors, []);
        self.ends_of_rib.extend(update.end_of_rib);
        for prefix in update.withdrawn {
            self.seen(&prefix);
            self.held.remove(&prefix);
        }
        for announced in update.announced {
            for prefix in announced.prefixes {
                assert_eq!(prefix.family(), announced.family);
                self.seen(&prefix);
                self.held.insert(prefix, announced.attrs.clone());
            }
        }
    }

    fn refresh(&mut self, refresh: RouteRefresh) {
        let RouteRefresh { family, subtype } = refresh;
        self.refreshes.push((family, subtype));
        match subtype {
            Subtype::Begin => {
                let all = self.held.keys().filter(|p| p.family() == family);
                self.unseen.insert(family, all.copied().collect());
            }
            Subtype::End => {
                let gone = self.unseen.remove(&family).expect("BoRR before EoRR");
                self.held.retain(|prefix, _| !gone.contains(prefix));
            }
            Subtype::Request | Subtype::Unknown(_) => panic!("{subtype:?}"),
        }
    }

    fn seen(&mut self, prefix: &Prefix) {
        if let Some(unseen) = self.unseen.get_mut(&prefix.family()) {
            unseen.remove(prefix);
        }
    }
}
