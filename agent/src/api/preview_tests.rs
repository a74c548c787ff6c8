use std::sync::Arc;

use bgp_speaker::config::{Auth, Connect, LocalRoute, PeerAddress, ReflectorClient, RemoteAsn, Timers, Ttl};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, Statement};
use bgp_speaker::types::{Asn, Family, HoldTime, RouterId};
use bgp_speaker::wire::attrs::{NextHop, Origin};

use super::*;

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix::new(addr.parse().unwrap(), len.parse().unwrap()).unwrap()
}

fn accept(prefixes: &[(&str, u8, u8)], communities: &[u32]) -> Statement {
    Statement {
        policy: "p".into(),
        prefixes: prefixes
            .iter()
            .map(|(p, min, max)| PrefixMatch {
                prefix: prefix(p),
                min: *min,
                max: *max,
            })
            .collect(),
        verdict: Verdict::Accept(SetAttrs {
            communities: communities.to_vec(),
            ..SetAttrs::default()
        }),
    }
}

fn config(routes: &[&str], statements: Vec<Statement>) -> SpeakerConfig {
    let attrs = Arc::new(Attrs::originated(
        Origin::Igp,
        NextHop::Ip("0.0.0.0".parse().unwrap()),
    ));
    let family = FamilyConfig {
        export: Arc::new(ExportPolicy { statements }),
        import: Arc::new(ImportPolicy::default()),
        max_prefixes: None,
    };
    let peer = PeerConfig {
        address: PeerAddress::One("10.0.0.9".parse().unwrap()),
        port: 179,
        remote_asn: RemoteAsn::Any,
        local_address: None,
        interface: None,
        connect: Connect::ActiveAndPassive,
        auth: Auth::None,
        ttl: Ttl::Direct,
        timers: Timers::default(),
        graceful_restart: None,
        families: vec![(Family::IPV4_UNICAST, family)],
        shutdown: None,
        reflector_client: ReflectorClient::No,
    };
    let instance = InstanceConfig {
        asn: Asn::new(65001).unwrap(),
        router_id: RouterId::new("10.0.0.1".parse().unwrap()).unwrap(),
        listen: None,
        peers: BTreeMap::from([("tor".into(), peer)]),
        routes: Arc::new(
            routes
                .iter()
                .map(|p| (prefix(p), LocalRoute { attrs: attrs.clone() }))
                .collect(),
        ),
        maximum_paths: 1,
    };
    SpeakerConfig {
        instances: BTreeMap::from([("main".into(), instance)]),
    }
}

fn shape(changes: &[PrefixChange]) -> Vec<(&str, PrefixEffect)> {
    changes.iter().map(|c| (c.prefix.as_str(), c.effect)).collect()
}

#[test]
fn equal_configurations_change_nothing() {
    let one = config(&["10.1.0.0/24"], vec![accept(&[], &[])]);
    assert!(sessions(&one, &one, |_, _| Live::default()).is_empty());
    assert!(prefixes(&one, &one).is_empty());
}

#[test]
fn prefixes_are_added_withdrawn_and_changed_per_peer() {
    let old = config(
        &["10.1.0.0/24", "10.2.0.0/24", "10.3.0.1/32"],
        vec![
            accept(&[("10.1.0.0/24", 24, 24), ("10.2.0.0/24", 24, 24)], &[]),
            accept(&[("10.3.0.0/16", 32, 32)], &[1]),
        ],
    );
    let new = config(
        &["10.1.0.0/24", "10.3.0.1/32", "10.3.0.2/32", "10.3.0.0/16"],
        vec![
            accept(&[("10.1.0.0/24", 24, 24), ("10.2.0.0/24", 24, 24)], &[]),
            accept(&[("10.3.0.0/16", 32, 32)], &[2]),
        ],
    );
    assert_eq!(
        shape(&prefixes(&old, &new)),
        [
            ("10.2.0.0/24", PrefixEffect::Withdrawn),
            ("10.3.0.1/32", PrefixEffect::Changed),
            ("10.3.0.2/32", PrefixEffect::Added),
        ]
    );
}

#[test]
fn first_statement_that_matches_decides() {
    let mut reject = accept(&[("10.1.0.0/24", 24, 24)], &[]);
    reject.verdict = Verdict::Reject;
    let old = config(&[], Vec::new());
    let new = config(&["10.1.0.0/24", "10.2.0.0/24"], vec![reject, accept(&[], &[])]);
    assert_eq!(
        shape(&prefixes(&old, &new)),
        [("10.2.0.0/24", PrefixEffect::Added)]
    );
}

#[test]
fn a_hold_time_costs_the_session_and_says_so() {
    let old = config(&[], Vec::new());
    let mut new = old.clone();
    for instance in new.instances.values_mut() {
        for peer in instance.peers.values_mut() {
            peer.timers.hold = HoldTime::new(9).unwrap();
            peer.remote_asn = RemoteAsn::Is(Asn::new(65009).unwrap());
        }
    }
    let changes = sessions(&old, &new, |_, _| Live::default());
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].effect, SessionEffect::HardReset);
    assert!(!changes[0].because.is_empty(), "{changes:?}");
}

#[test]
fn another_asn_of_the_instance_resets_every_session() {
    let old = config(&[], Vec::new());
    let mut new = old.clone();
    for instance in new.instances.values_mut() {
        instance.asn = Asn::new(65002).unwrap();
    }
    let changes = sessions(&old, &new, |_, _| Live::default());
    assert_eq!(changes[0].effect, SessionEffect::HardReset);
    assert_eq!(changes[0].because, ["instance asn"]);
}
