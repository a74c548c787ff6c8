//! OpenBGPD. A change of routes is a new configuration file and `bgpctl reload`; answers are JSON.

use std::net::IpAddr;

use serde_json::Value;

use super::{Dials, Ext, Neighbor, Origination, Router, START_LIMIT, Seen, Session, TtlSecurity, seen};
use crate::{Error, until};

const SOCKET: &str = "/run/router/bgpd.sock";

/// What OpenBGPD calls the well-known communities.
const WELL_KNOWN: [(&str, u16); 6] = [
    ("GRACEFUL_SHUTDOWN", 0),
    ("BLACKHOLE", 666),
    ("NO_EXPORT", 65281),
    ("NO_ADVERTISE", 65282),
    ("NO_EXPORT_SUBCONFED", 65283),
    ("NO_PEER", 65284),
];

pub(super) fn run(router: &mut Router) -> Result<(), Error> {
    save(router)?;
    // Its chroot.
    router.node.exec(&["mkdir", "-p", "/run/openbgpd"])?;
    router.spawn(&["bgpd", "-d", "-f", "/run/router/openbgpd.conf"])
}

fn save(router: &Router) -> Result<(), Error> {
    router.write("openbgpd.conf", &render(router))?;
    // It refuses a file that others may read.
    router
        .node
        .exec(&["chmod", "600", "/run/router/openbgpd.conf"])
        .map(drop)
}

fn render(router: &Router) -> String {
    let config = &router.config;
    let mut text = format!(
        "AS {}\nrouter-id {}\nfib-update no\nconnect-retry 1\nsocket \"{SOCKET}\"\n",
        config.asn, config.router_id
    );
    for n in &config.neighbors {
        text += &format!("listen on {}\n", n.local);
    }
    let next_hop = config.neighbors.iter().find_map(|n| n.ipv6_next_hop);
    for route in router.originated.values() {
        text += &render_route(route);
    }
    for n in &config.neighbors {
        text += &render_neighbor(n);
    }
    text += "allow from any\nallow to any\n";
    if let Some(hop) = next_hop {
        // By itself it would send the address of some interface.
        for set in [format!("nexthop {hop}"), "nexthop no-modify".into()] {
            text += &format!("match to any prefix ::/0 prefixlen >= 0 set {{ {set} }}\n");
        }
    }
    text
}

fn render_route(route: &Origination) -> String {
    let mut set = Vec::new();
    set.extend(
        route
            .communities
            .iter()
            .map(|(high, low)| format!("community {high}:{low}")),
    );
    set.extend(
        route
            .large
            .iter()
            .map(|(a, b, c)| format!("large-community {a}:{b}:{c}")),
    );
    for ext in &route.ext {
        match ext {
            Ext::RouteTarget { asn, number } => set.push(format!("ext-community rt {asn}:{number}")),
            Ext::RouteOrigin { asn, number } => set.push(format!("ext-community soo {asn}:{number}")),
            // OpenBGPD 7.7 has no words for them.
            Ext::LinkBandwidth { .. } | Ext::TransitiveLinkBandwidth { .. } | Ext::Other(_) => {}
        }
    }
    set.extend(route.med.map(|med| format!("med {med}")));
    match set.is_empty() {
        true => format!("network {}\n", route.prefix),
        false => format!("network {} set {{ {} }}\n", route.prefix, set.join(" ")),
    }
}

fn render_neighbor(n: &Neighbor) -> String {
    let mut text = format!(
        "neighbor {} {{\n remote-as {}\n local-address {}\n holdtime {}\n",
        n.address, n.asn, n.local, n.hold
    );
    // A family that is not named is on by default where the session's addresses are of it.
    for (family, wanted) in [("IPv4", n.families.has_ipv4()), ("IPv6", n.families.has_ipv6())] {
        text += &format!(" announce {family} {}\n", if wanted { "unicast" } else { "none" });
    }
    if n.ipv6_next_hop.is_some() {
        // Only then is `nexthop no-modify` heeded.
        text += " multihop 2\n";
    }
    match n.dials {
        Dials::Yes => {}
        Dials::Never => text += " passive\n",
    }
    if let Some(password) = &n.password {
        text += &format!(" tcp md5sig password {password}\n");
    }
    match n.ttl_security {
        TtlSecurity::Off => {}
        TtlSecurity::On => text += " ttl-security yes\n",
    }
    if n.graceful_restart.is_none() {
        text += " announce restart no\n";
    }
    text + "}\n"
}

fn bgpctl(router: &Router, args: &[&str]) -> Result<String, Error> {
    let mut argv = vec!["bgpctl", "-s", SOCKET];
    argv.extend(args);
    router.node.exec(&argv)
}

fn json(router: &Router, args: &[&str]) -> Result<Value, Error> {
    let mut argv = vec!["-j"];
    argv.extend(args);
    let answer = bgpctl(router, &argv)?;
    serde_json::from_str(&answer).map_err(|_| router.strange(answer))
}

pub(super) fn session(router: &Router, neighbor: IpAddr) -> Result<Session, Error> {
    let answer = json(router, &["show", "neighbor", &neighbor.to_string()])?;
    match answer["neighbors"][0]["state"].as_str() {
        Some("Established") => Ok(Session::Established),
        Some(state) => Ok(Session::Down(state.to_owned())),
        None => Err(router.strange(answer.to_string())),
    }
}

pub(super) fn received(router: &Router, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
    let neighbor = neighbor.to_string();
    let table = json(router, &["show", "rib", "detail", "in", "neighbor", &neighbor])?;
    let routes = table["rib"].as_array().into_iter().flatten();
    Ok(routes.filter_map(parse).collect())
}

fn parse(route: &Value) -> Option<Seen> {
    let mut seen = Seen::new(route["prefix"].as_str()?.parse().ok()?);
    let words = |key: &str| {
        let list = route[key].as_array().cloned().unwrap_or_default();
        list.into_iter()
            .filter_map(|word| word.as_str().map(str::to_owned))
    };
    seen.next_hop = route["exit_nexthop"].as_str().and_then(|hop| hop.parse().ok());
    let as_path = route["aspath"].as_str().unwrap_or_default().split(' ');
    seen.as_path = as_path.filter_map(|asn| asn.parse().ok()).collect();
    seen.communities = words("communities")
        .filter_map(|word| {
            let name = WELL_KNOWN.iter().find(|(name, _)| *name == word);
            name.map(|(_, low)| (65535, *low))
                .or_else(|| seen::community(&word))
        })
        .collect();
    seen.large = words("large_communities")
        .filter_map(|word| seen::large(&word))
        .collect();
    seen.ext = words("extended_communities")
        .filter_map(|word| ext(&word))
        .collect();
    // It does not tell a MED of 0 from none.
    seen.med = route["metric"]
        .as_u64()
        .and_then(|med| u32::try_from(med).ok())
        .filter(|med| *med != 0);
    seen.local_pref = route["localpref"]
        .as_u64()
        .and_then(|pref| u32::try_from(pref).ok());
    seen.stale = route["stale"].as_bool().unwrap_or(false);
    Some(seen)
}

/// `rt 65010:5`.
fn ext(word: &str) -> Option<Ext> {
    let (kind, rest) = word.split_once(' ')?;
    let [asn, number] = seen::numbers(rest)?;
    let asn = u16::try_from(asn).ok()?;
    match kind {
        "rt" => Some(Ext::RouteTarget { asn, number }),
        "soo" => Some(Ext::RouteOrigin { asn, number }),
        _ => None,
    }
}

/// Puts the routes as they are now in force. It refuses for as long as it is at the reload before this one.
pub(super) fn reload(router: &Router) -> Result<(), Error> {
    save(router)?;
    until(START_LIMIT, "OpenBGPD to reload", || {
        match bgpctl(router, &["reload"]) {
            Ok(answer) if answer.contains("request processed") => Ok(()),
            Ok(answer) => Err(answer),
            Err(error) => Err(error.to_string()),
        }
    })?;
    Ok(())
}

pub(super) fn ask_refresh(router: &Router, neighbor: IpAddr) -> Result<(), Error> {
    bgpctl(router, &["neighbor", &neighbor.to_string(), "refresh"]).map(drop)
}
