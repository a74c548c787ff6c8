use std::time::Duration;

use super::*;
use crate::config::{Connect, GracefulRestart, ReflectorClient, Timers, Ttl};
use crate::policy::{ExportPolicy, ImportPolicy, Statement, Verdict};
use crate::types::{HoldTime, Prefix, RouterId, Secret};

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn prefix(text: &str, len: u8) -> Prefix {
    Prefix::new(text.parse().unwrap(), len).unwrap()
}

fn base() -> PeerConfig {
    let address = PeerAddress::One("10.0.0.2".parse().unwrap());
    PeerConfig {
        families: vec![
            (Family::IPV4_UNICAST, FamilyConfig::default()),
            (Family::IPV6_UNICAST, FamilyConfig::default()),
        ],
        ..PeerConfig::new(address, RemoteAsn::Is(asn(65001)))
    }
}

/// The class of one edit of the base configuration, and the one field it may touch.
fn class_of(field: &'static str, live: Live, edit: impl FnOnce(&mut PeerConfig)) -> Class {
    from(base(), field, live, edit)
}

fn from(old: PeerConfig, field: &'static str, live: Live, edit: impl FnOnce(&mut PeerConfig)) -> Class {
    let mut new = old.clone();
    edit(&mut new);
    let change = peer(&old, &new, live);
    let fields: Vec<&str> = change.fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(fields, [field]);
    change.class
}

const DIALLED: Live = Live {
    opened: Opened::Here,
    remote_asn: None,
    local_address: None,
};
const ACCEPTED: Live = Live {
    opened: Opened::ByPeer,
    remote_asn: None,
    local_address: None,
};

#[test]
fn equal_configurations_cost_nothing() {
    assert_eq!(peer(&base(), &base(), DIALLED), Change::default());
}

#[test]
fn another_address_is_a_hard_reset() {
    let class = class_of("address", DIALLED, |p| {
        p.address = PeerAddress::One("10.0.0.3".parse().unwrap());
    });
    assert_eq!(class, Class::HardReset);
}

#[test]
fn a_wider_dynamic_prefix_or_another_limit_keeps_the_neighbours() {
    let dynamic = |text, len, limit| PeerAddress::Prefix {
        prefix: prefix(text, len),
        limit,
    };
    let old = PeerConfig {
        address: dynamic("10.0.0.0", 24, 5),
        ..base()
    };
    let edit = |to: PeerAddress| from(old.clone(), "address", ACCEPTED, |p| p.address = to);
    assert_eq!(edit(dynamic("10.0.0.0", 24, 9)), Class::NoOp);
    assert_eq!(edit(dynamic("10.0.0.0", 16, 5)), Class::NoOp);
    assert_eq!(edit(dynamic("10.0.1.0", 24, 5)), Class::HardReset);
}

#[test]
fn port_resets_only_a_dialled_session() {
    assert_eq!(class_of("port", DIALLED, |p| p.port = 1179), Class::HardReset);
    assert_eq!(
        class_of("port", Live::default(), |p| p.port = 1179),
        Class::HardReset
    );
    assert_eq!(class_of("port", ACCEPTED, |p| p.port = 1179), Class::NoOp);
}

#[test]
fn remote_asn_resets_only_where_the_peer_showed_another_one() {
    let to = |asn_wished, live| class_of("remote_asn", live, |p| p.remote_asn = asn_wished);
    assert_eq!(to(RemoteAsn::Is(asn(65002)), DIALLED), Class::HardReset);
    assert_eq!(to(RemoteAsn::Any, DIALLED), Class::NoOp);
    let old = PeerConfig {
        remote_asn: RemoteAsn::Any,
        ..base()
    };
    let learned = Live {
        remote_asn: Some(asn(65001)),
        ..DIALLED
    };
    let pin = |number| {
        from(old.clone(), "remote_asn", learned, |p| {
            p.remote_asn = RemoteAsn::Is(asn(number));
        })
    };
    assert_eq!(pin(65001), Class::NoOp);
    assert_eq!(pin(65002), Class::HardReset);
}

#[test]
fn local_address_resets_unless_the_session_uses_it_already() {
    let wished: IpAddr = "10.0.0.1".parse().unwrap();
    let live = Live {
        local_address: Some(wished),
        ..DIALLED
    };
    let to = |live| class_of("local_address", live, |p| p.local_address = Some(wished));
    assert_eq!(to(DIALLED), Class::HardReset);
    assert_eq!(to(live), Class::NoOp);
}

#[test]
fn interface_resets_only_a_dialled_session() {
    let to = |live| class_of("interface", live, |p| p.interface = Some("eth0".into()));
    assert_eq!(to(DIALLED), Class::HardReset);
    assert_eq!(to(ACCEPTED), Class::NoOp);
}

#[test]
fn passive_is_a_matter_of_the_next_attempt() {
    assert_eq!(
        class_of("connect", DIALLED, |p| p.connect = Connect::Passive),
        Class::NoOp
    );
}

#[test]
fn another_key_is_a_hard_reset_another_reason_for_none_is_not() {
    let key = |text: &str| Auth::Md5(Secret::new(text.as_bytes()).unwrap());
    let missing = |text: &str| Auth::Missing { reason: text.into() };
    let edit = |old, new| {
        let old = PeerConfig { auth: old, ..base() };
        from(old, "auth", DIALLED, |p| p.auth = new)
    };
    assert_eq!(edit(Auth::None, key("a")), Class::HardReset);
    assert_eq!(edit(key("a"), key("b")), Class::HardReset);
    assert_eq!(edit(key("a"), missing("gone")), Class::HardReset);
    assert_eq!(edit(missing("gone"), missing("empty")), Class::NoOp);
}

#[test]
fn ttl_is_set_on_the_open_connection() {
    assert_eq!(
        class_of("ttl", DIALLED, |p| p.ttl = Ttl::Multihop(3)),
        Class::NoOp
    );
}

#[test]
fn of_the_timers_only_the_hold_time_was_negotiated() {
    let ten = Duration::from_secs(10);
    let edit =
        |field, edit: fn(&mut Timers, Duration)| class_of(field, DIALLED, |p| edit(&mut p.timers, ten));
    assert_eq!(
        edit("timers.connect_retry", |t, d| t.connect_retry = d),
        Class::NoOp
    );
    assert_eq!(edit("timers.keepalive", |t, d| t.keepalive = d), Class::NoOp);
    assert_eq!(edit("timers.idle_hold", |t, d| t.idle_hold = d), Class::NoOp);
    let hold = |t: &mut Timers, _| t.hold = HoldTime::new(9).unwrap();
    assert_eq!(edit("timers.hold", hold), Class::HardReset);
}

#[test]
fn graceful_restart_was_negotiated() {
    let class = class_of("graceful_restart", DIALLED, |p| {
        p.graceful_restart = Some(GracefulRestart { restart_time: 120 });
    });
    assert_eq!(class, Class::HardReset);
}

#[test]
fn the_set_of_families_was_negotiated_their_order_was_not() {
    assert_eq!(
        class_of("families", DIALLED, |p| {
            p.families.pop();
        }),
        Class::HardReset
    );
    assert_eq!(
        class_of("families", DIALLED, |p| p.families.reverse()),
        Class::NoOp
    );
}

#[test]
fn policies_are_judged_again_without_the_peer() {
    let statements = vec![Statement {
        policy: "all".into(),
        prefixes: vec![],
        verdict: Verdict::Reject,
    }];
    let export = Arc::new(ExportPolicy {
        statements: statements.clone(),
    });
    let import = Arc::new(ImportPolicy { statements });
    assert_eq!(
        class_of("families.export", DIALLED, |p| p.families[0].1.export = export),
        Class::PolicyRefresh
    );
    assert_eq!(
        class_of("families.import", DIALLED, |p| p.families[1].1.import = import),
        Class::PolicyRefresh
    );
}

#[test]
fn a_raised_limit_asks_the_peer_for_what_was_refused() {
    let limit = |limit, action| {
        Some(MaxPrefixes {
            limit,
            warning_percent: 75,
            action,
        })
    };
    let edit = |old, new| {
        let mut config = base();
        config.families[0].1.max_prefixes = old;
        from(config, "families.max_prefixes", DIALLED, |p| {
            p.families[0].1.max_prefixes = new;
        })
    };
    let refuse = MaxPrefixesAction::Refuse;
    assert_eq!(edit(limit(10, refuse), limit(20, refuse)), Class::SoftReset);
    assert_eq!(edit(limit(10, refuse), None), Class::SoftReset);
    assert_eq!(edit(limit(10, refuse), limit(5, refuse)), Class::PolicyRefresh);
    assert_eq!(
        edit(
            limit(10, MaxPrefixesAction::Warn),
            limit(20, MaxPrefixesAction::Warn)
        ),
        Class::PolicyRefresh
    );
    assert_eq!(edit(None, limit(20, refuse)), Class::PolicyRefresh);
}

#[test]
fn shutdown_ends_the_session_its_text_does_not() {
    let class = class_of("shutdown", DIALLED, |p| p.shutdown = Some("maintenance".into()));
    assert_eq!(class, Class::HardReset);
    let down = PeerConfig {
        shutdown: Some("maintenance".into()),
        ..base()
    };
    assert_eq!(
        from(down.clone(), "shutdown", DIALLED, |p| p.shutdown = None),
        Class::NoOp
    );
    assert_eq!(
        from(down, "shutdown", DIALLED, |p| p.shutdown = Some("longer".into())),
        Class::NoOp
    );
}

#[test]
fn reflector_client_sends_everything_again() {
    let class = class_of("reflector_client", DIALLED, |p| {
        p.reflector_client = ReflectorClient::Yes;
    });
    assert_eq!(class, Class::SoftReset);
}

#[test]
fn several_changes_cost_what_the_dearest_costs_and_name_it() {
    let mut new = base();
    new.port = 1179;
    new.ttl = Ttl::Multihop(2);
    new.timers.hold = HoldTime::new(30).unwrap();
    let change = peer(&base(), &new, DIALLED);
    assert_eq!(change.class, Class::HardReset);
    assert_eq!(change.because(), "port, timers.hold");
}

fn instance_base() -> InstanceConfig {
    InstanceConfig {
        asn: asn(65000),
        router_id: RouterId::new("10.0.0.1".parse().unwrap()).unwrap(),
        listen: None,
        peers: BTreeMap::from([("a".into(), base()), ("b".into(), base())]),
        routes: Arc::default(),
        maximum_paths: 1,
    }
}

#[test]
fn identity_of_an_instance_resets_its_peers_the_rest_does_not() {
    let class = |edit: fn(&mut InstanceConfig)| {
        let mut new = instance_base();
        edit(&mut new);
        instance(&instance_base(), &new, |_| Live::default()).own.class
    };
    assert_eq!(class(|i| i.asn = asn(65009)), Class::HardReset);
    assert_eq!(
        class(|i| i.router_id = RouterId::new("10.0.0.9".parse().unwrap()).unwrap()),
        Class::HardReset
    );
    assert_eq!(class(|i| i.listen = Some(179)), Class::NoOp);
    assert_eq!(class(|i| i.maximum_paths = 4), Class::PolicyRefresh);
    assert_eq!(class(|_| ()), Class::NoOp);
}

#[test]
fn peers_and_instances_that_come_go_and_change_are_told_apart() {
    let mut new = instance_base();
    new.peers.remove("a");
    new.peers.insert("c".into(), base());
    new.peers.get_mut("b").unwrap().port = 1;
    let change = instance(&instance_base(), &new, |_| DIALLED);
    assert_eq!(change.added, [Name::from("c")]);
    assert_eq!(change.removed, [Name::from("a")]);
    assert_eq!(change.changed.len(), 1);
    assert_eq!(change.changed["b"].class, Class::HardReset);

    let of = |names: &[&str]| SpeakerConfig {
        instances: names.iter().map(|n| ((*n).into(), instance_base())).collect(),
    };
    let change = speaker(&of(&["x", "y"]), &of(&["y", "z"]), |_, _| Live::default());
    assert_eq!(change.added, [Name::from("z")]);
    assert_eq!(change.removed, [Name::from("x")]);
    assert!(change.changed.is_empty());
}
