//! Every daemon against another one: that the wrappers' commands work and their answers are read rightly. Needs
//! root and the daemons.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use lab::router::{
    Dials, Ext, Families, Feature, Kind, Neighbor, Origination, Router, RouterConfig, Seen, TtlSecurity,
};
use lab::{LinkEnd, Netns, until, veth};

const SOON: Duration = Duration::from_mins(1);

#[test]
fn frr_tells_and_is_told() {
    tells_and_is_told(Kind::Frr, Kind::Bird);
}

#[test]
fn bird_tells_and_is_told() {
    tells_and_is_told(Kind::Bird, Kind::Frr);
}

#[test]
fn gobgp_tells_and_is_told() {
    tells_and_is_told(Kind::GoBgp, Kind::Bird);
}

#[test]
fn openbgpd_tells_and_is_told() {
    tells_and_is_told(Kind::OpenBgpd, Kind::Bird);
}

#[test]
fn exabgp_tells_and_is_told() {
    tells_and_is_told(Kind::ExaBgp, Kind::Bird);
}

#[test]
fn every_daemon_dials_and_accepts_with_the_md5_and_ttl_security_it_has() {
    for kind in Kind::ALL {
        for (dials, md5, ttl) in [
            (Dials::Yes, Feature::Md5Dialled, Feature::TtlSecurityDialled),
            (Dials::Never, Feature::Md5Accepted, Feature::TtlSecurityAccepted),
        ] {
            let (md5, ttl) = (kind.lacks(md5).is_none(), kind.lacks(ttl).is_none());
            println!("{kind} {dials:?}, MD5: {md5}, GTSM: {ttl}");
            let (left, right) = cable();
            let (mut ours, mut theirs) = match dials {
                Dials::Yes => (
                    left.config(&right, Families::Ipv4, Dials::Yes),
                    right.config(&left, Families::Ipv4, Dials::Never),
                ),
                Dials::Never => (
                    left.config(&right, Families::Ipv4, Dials::Never),
                    right.config(&left, Families::Ipv4, Dials::Yes),
                ),
            };
            for config in [&mut ours, &mut theirs] {
                for neighbor in &mut config.neighbors {
                    neighbor.password = md5.then(|| "s3cret".into());
                    if ttl {
                        neighbor.ttl_security = TtlSecurity::On;
                    }
                }
            }
            let other = match kind {
                Kind::Bird => Kind::Frr,
                Kind::Frr | Kind::GoBgp | Kind::OpenBgpd | Kind::ExaBgp => Kind::Bird,
            };
            let a = Router::start(kind, &left.node, ours).unwrap();
            let _b = Router::start(other, &right.node, theirs).unwrap();
            a.established(right.v4, SOON).unwrap();
        }
    }
}

#[test]
fn a_router_that_keeps_routes_of_a_lost_neighbour_shows_them_as_stale() {
    for kind in [Kind::Frr, Kind::Bird, Kind::GoBgp] {
        println!("{kind}");
        let (left, right) = cable();
        let (mut ours, mut theirs) = (
            left.config(&right, Families::Both, Dials::Yes),
            right.config(&left, Families::Both, Dials::Never),
        );
        for config in [&mut ours, &mut theirs] {
            config.neighbors[0].graceful_restart = Some(60);
        }
        let mut restarts = Router::start(Kind::Bird, &left.node, ours).unwrap();
        let keeps = Router::start(kind, &right.node, theirs).unwrap();
        for prefix in ["192.0.2.1/32", "2001:db8::1/128"] {
            restarts
                .announce(Origination::plain(prefix.parse().unwrap()))
                .unwrap();
        }
        wait_for(&keeps, left.v4, 2);
        restarts.kill();
        until(SOON, "the loss", || match keeps.session(left.v4) {
            Ok(lab::router::Session::Down(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
        let seen = keeps.received(left.v4).unwrap();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen.iter().all(|route| route.stale), "{seen:?}");
    }
}

/// One side of a cable.
struct Side {
    node: Arc<Netns>,
    v4: IpAddr,
    v6: IpAddr,
    asn: u32,
}

impl Side {
    fn config(&self, other: &Self, families: Families, dials: Dials) -> RouterConfig {
        let pick = |side: &Self| match families {
            Families::Ipv4 | Families::Both => side.v4,
            Families::Ipv6 | Families::Ipv4OverIpv6 => side.v6,
        };
        RouterConfig {
            asn: self.asn,
            router_id: self.v4.to_string().parse().unwrap(),
            neighbors: vec![Neighbor {
                address: pick(other),
                local: pick(self),
                asn: other.asn,
                families,
                dials,
                password: None,
                ttl_security: TtlSecurity::Off,
                hold: 9,
                graceful_restart: None,
                ipv6_next_hop: (families == Families::Both).then_some(self.v6),
            }],
        }
    }
}

fn cable() -> (Side, Side) {
    let side = |name, host, asn| Side {
        node: Arc::new(Netns::new(name).unwrap()),
        v4: format!("10.9.0.{host}").parse().unwrap(),
        v6: format!("fd09::{host}").parse().unwrap(),
        asn,
    };
    // One ASN that needs four octets.
    let (left, right) = (side("left", 1, 65010), side("right", 2, 4_200_000_001));
    let addresses = |side: &Side| [format!("{}/24", side.v4), format!("{}/64", side.v6)];
    let (l, r) = (addresses(&left), addresses(&right));
    veth(
        LinkEnd::new(&left.node, "eth0", &l.each_ref().map(String::as_str)),
        LinkEnd::new(&right.node, "eth0", &r.each_ref().map(String::as_str)),
        None,
    )
    .unwrap();
    (left, right)
}

fn tells_and_is_told(kind: Kind, other: Kind) {
    for families in [
        Families::Ipv4,
        Families::Ipv6,
        Families::Both,
        Families::Ipv4OverIpv6,
    ] {
        if families == Families::Ipv4OverIpv6 && kind.lacks(Feature::Ipv4OverIpv6).is_some() {
            continue;
        }
        println!("{kind} and {other}, {families:?}");
        let (left, right) = cable();
        // The other way round would wait for GoBGP, which dials after 5 to 10 s.
        let passive = left.config(&right, families, Dials::Never);
        let active = right.config(&left, families, Dials::Yes);
        let from = passive.neighbors[0].local;
        let to = active.neighbors[0].local;
        let mut a = Router::start(kind, &left.node, passive).unwrap();
        let mut b = Router::start(other, &right.node, active).unwrap();
        a.established(to, SOON).unwrap();
        b.established(from, SOON).unwrap();
        exchange(&mut a, from, &mut b, families);
        exchange(&mut b, to, &mut a, families);
        a.ask_refresh(to).unwrap();

        a.freeze().unwrap();
        a.thaw().unwrap();
        a.kill();
        until(SOON, "the loss", || match b.session(from) {
            Ok(lab::router::Session::Down(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
        a.run().unwrap();
        a.established(to, SOON).unwrap();
        a.stop().unwrap();
    }
}

/// `from` announces, `to` sees it with all that it carries, and sees it go.
fn exchange(from: &mut Router, from_address: IpAddr, to: &mut Router, families: Families) {
    let mut prefixes: Vec<IpNet> = Vec::new();
    if families.has_ipv4() {
        prefixes.push("192.0.2.1/32".parse().unwrap());
    }
    if families.has_ipv6() {
        prefixes.push("2001:db8::1/128".parse().unwrap());
    }
    let target = Ext::RouteTarget {
        asn: 65010,
        number: 7,
    };
    for prefix in &prefixes {
        from.announce(Origination {
            communities: vec![(65010, 1), (65535, 0)],
            large: vec![(4_200_000_001, 2, 3)],
            ext: vec![target],
            med: Some(77),
            ..Origination::plain(*prefix)
        })
        .unwrap();
    }
    let seen = wait_for(to, from_address, prefixes.len());
    for (prefix, seen) in prefixes.iter().zip(&seen) {
        assert_eq!(seen.prefix, *prefix);
        let over_ipv6 = families == Families::Ipv4OverIpv6 || prefix.addr().is_ipv6();
        let hop = seen.next_hop.unwrap();
        assert_eq!(hop.is_ipv6(), over_ipv6, "{seen:?}");
        assert_eq!(seen.as_path, [from.config().asn], "{seen:?}");
        assert_eq!(
            seen.communities,
            BTreeSet::from([(65010, 1), (65535, 0)]),
            "{seen:?}"
        );
        assert_eq!(seen.large, BTreeSet::from([(4_200_000_001, 2, 3)]), "{seen:?}");
        assert_eq!(seen.ext, BTreeSet::from([target]), "{seen:?}");
        assert_eq!(seen.med, Some(77), "{seen:?}");
        assert!(!seen.stale);
    }
    for prefix in prefixes {
        from.withdraw(prefix).unwrap();
    }
    wait_for(to, from_address, 0);
}

fn wait_for(at: &Router, from: IpAddr, count: usize) -> Vec<Seen> {
    until(SOON, format!("{count} routes at {}", at.kind()), || {
        let seen = at.received(from).map_err(|error| error.to_string())?;
        match seen.len() == count {
            true => Ok(seen),
            false => Err(format!("{seen:?}\n{}", at.log())),
        }
    })
    .unwrap()
}
