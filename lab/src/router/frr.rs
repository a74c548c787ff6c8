//! FRR's zebra and bgpd. Commands go through `vtysh`, answers come as JSON.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use serde_json::{Deserializer, Value};

use super::{
    DIR, Dials, Ext, Families, Origination, Router, START_LIMIT, Seen, Session, TtlSecurity, family_of, seen,
};
use crate::{Error, until};

/// Where Debian's package puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// What FRR calls the well-known communities.
const WELL_KNOWN: [(&str, u16); 11] = [
    ("graceful-shutdown", 0),
    ("accept-own", 1),
    ("llgr-stale", 6),
    ("no-llgr", 7),
    ("accept-own-nexthop", 8),
    ("blackhole", 666),
    ("no-export", 65281),
    ("no-advertise", 65282),
    ("local-AS", 65283),
    ("no-peer", 65284),
    ("internet", 0),
];

/// Where bgpd finds zebra.
const ZEBRA: &str = "/run/router/zserv.api";

pub(super) fn run(router: &mut Router) -> Result<(), Error> {
    router.write("zebra.conf", "frr defaults traditional\n")?;
    router.write("frr.conf", &render(router))?;
    let zebra = format!("{DAEMONS}/zebra");
    let bgpd = format!("{DAEMONS}/bgpd");
    let sockets = [
        "-u",
        "frr",
        "-g",
        "frr",
        "-z",
        ZEBRA,
        "--vty_socket",
        DIR,
        "-A",
        "127.0.0.1",
        "-P",
        "0",
        "--log",
        "stdout",
    ];
    let own = |name: &str| {
        [
            "-f".to_owned(),
            format!("{DIR}/{name}.conf"),
            "-i".to_owned(),
            format!("{DIR}/{name}.pid"),
        ]
    };
    let zebra_own = own("zebra");
    let mut argv = vec![zebra.as_str()];
    argv.extend(zebra_own.iter().map(String::as_str));
    argv.extend(sockets);
    // One that a killed zebra left tells nothing.
    router.node.sh(&format!("rm -f {ZEBRA}"))?;
    router.spawn(&argv)?;
    // A bgpd that comes before zebra tries again after 10 s. Until then it knows no interface, and refuses routes whose
    // next hop has a link-local address beside it.
    until(START_LIMIT, "zebra to listen", || {
        let look = router.node.sh(&format!("test -S {ZEBRA}"));
        look.map_err(|error| format!("{error}\n{}", router.log()))
    })?;
    let bgpd_own = own("frr");
    // `-n`: routes stay out of the kernel.
    let mut argv = vec![bgpd.as_str(), "-n"];
    argv.extend(bgpd_own.iter().map(String::as_str));
    argv.extend(sockets);
    router.spawn(&argv)
}

fn render(router: &Router) -> String {
    let config = &router.config;
    let mut text = format!(
        "frr defaults traditional
router bgp {}
 bgp router-id {}
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 coalesce-time 0
",
        config.asn, config.router_id
    );
    if let Some(time) = config.neighbors.iter().find_map(|n| n.graceful_restart) {
        text += &format!(
            " bgp graceful-restart\n bgp graceful-restart restart-time {time}\n bgp graceful-restart preserve-fw-state\n"
        );
    }
    for n in &config.neighbors {
        let peer = format!(" neighbor {}", n.address);
        text += &format!("{peer} remote-as {}\n", n.asn);
        text += &format!("{peer} update-source {}\n", n.local);
        text += &format!("{peer} timers {} {}\n", n.hold / 3, n.hold);
        text += &format!("{peer} timers connect 1\n");
        if n.graceful_restart.is_none() {
            text += &format!("{peer} graceful-restart-disable\n");
        }
        match n.dials {
            Dials::Yes => {}
            Dials::Never => text += &format!("{peer} passive\n"),
        }
        if let Some(password) = &n.password {
            text += &format!("{peer} password {password}\n");
        }
        match n.ttl_security {
            TtlSecurity::Off => {}
            TtlSecurity::On => text += &format!("{peer} ttl-security hops 1\n"),
        }
        if n.families == Families::Ipv4OverIpv6 {
            text += &format!("{peer} capability extended-nexthop\n");
        }
    }
    for (family, wanted) in [
        ("ipv4", Families::has_ipv4 as fn(Families) -> bool),
        ("ipv6", Families::has_ipv6),
    ] {
        text += &format!(" address-family {family} unicast\n");
        for n in config.neighbors.iter().filter(|n| wanted(n.families)) {
            text += &format!("  neighbor {} activate\n", n.address);
            if let Some(IpAddr::V6(_)) = n.ipv6_next_hop.filter(|_| family == "ipv6") {
                text += &format!("  neighbor {} route-map next-hop-6 out\n", n.address);
            }
        }
        for route in router
            .originated
            .values()
            .filter(|r| family_of(r.prefix) == family)
        {
            text += &format!("  network {} route-map {}\n", route.prefix, map_name(route));
        }
        text += " exit-address-family\n";
    }
    text += "exit\n";
    if let Some(IpAddr::V6(next_hop)) = config.neighbors.iter().find_map(|n| n.ipv6_next_hop) {
        text += &format!("route-map next-hop-6 permit 10\n set ipv6 next-hop global {next_hop}\nexit\n");
    }
    for route in router.originated.values() {
        text += &route_map(route);
    }
    text
}

/// A route map is named after what it sets: to change one in place, bgpd 8.4 must not be using it.
fn map_name(route: &Origination) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{route:?}").hash(&mut hasher);
    format!("set-{:016x}", hasher.finish())
}

fn route_map(route: &Origination) -> String {
    let mut text = format!("route-map {} permit 10\n", map_name(route));
    if !route.communities.is_empty() {
        text += " set community";
        for (high, low) in &route.communities {
            let name = WELL_KNOWN
                .iter()
                .find(|(_, number)| *high == 65535 && number == low);
            match name {
                Some((name, _)) => text += &format!(" {name}"),
                None => text += &format!(" {high}:{low}"),
            }
        }
        text += "\n";
    }
    if !route.large.is_empty() {
        text += " set large-community";
        for (global, one, two) in &route.large {
            text += &format!(" {global}:{one}:{two}");
        }
        text += "\n";
    }
    let (mut targets, mut origins) = (String::new(), String::new());
    for ext in &route.ext {
        match ext {
            Ext::RouteTarget { asn, number } => _ = write!(targets, " {asn}:{number}"),
            Ext::RouteOrigin { asn, number } => _ = write!(origins, " {asn}:{number}"),
            // FRR counts megabits, and fills in its own AS.
            Ext::LinkBandwidth { bytes_per_second, .. } => {
                text += &format!(
                    " set extcommunity bandwidth {} non-transitive\n",
                    bytes_per_second / 125_000
                )
            }
            Ext::TransitiveLinkBandwidth { bytes_per_second, .. } => {
                text += &format!(" set extcommunity bandwidth {}\n", bytes_per_second / 125_000)
            }
            // FRR 8.4 has no words for them.
            Ext::Other(_) => {}
        }
    }
    for (kind, list) in [("rt", targets), ("soo", origins)] {
        if !list.is_empty() {
            text += &format!(" set extcommunity {kind}{list}\n");
        }
    }
    if let Some(med) = route.med {
        text += &format!(" set metric {med}\n");
    }
    text + "exit\n"
}

fn vtysh(router: &Router, commands: &[&str]) -> Result<String, Error> {
    let mut argv = vec!["vtysh", "--vty_socket", DIR];
    for command in commands {
        argv.extend(["-c", command]);
    }
    router.node.exec(&argv)
}

pub(super) fn ready(router: &Router) -> Result<(), Error> {
    // bgpd opens its socket before it has read its configuration.
    let config = vtysh(router, &["show running-config bgpd"])?;
    match router
        .config
        .neighbors
        .iter()
        .all(|n| config.contains(&format!("neighbor {} activate", n.address)))
    {
        true => Ok(()),
        false => Err(router.strange(config)),
    }
}

pub(super) fn session(router: &Router, neighbor: IpAddr) -> Result<Session, Error> {
    let answer = vtysh(router, &[&format!("show bgp neighbors {neighbor} json")])?;
    let value: Value = serde_json::from_str(&answer).map_err(|_| router.strange(answer.as_str()))?;
    match value[neighbor.to_string()]["bgpState"].as_str() {
        Some("Established") => Ok(Session::Established),
        Some(state) => Ok(Session::Down(state.to_owned())),
        None => Err(router.strange(answer)),
    }
}

/// Out of the whole table: FRR's own list of one neighbour's routes is empty while that has no session, whatever
/// it keeps of it.
pub(super) fn received(router: &Router, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
    let name = neighbor.to_string();
    let mut details = Vec::new();
    for family in router.neighbor(neighbor)?.families.names() {
        let answer = vtysh(router, &[&format!("show bgp {family} unicast json")])?;
        let table: Value = serde_json::from_str(&answer).map_err(|_| router.strange(answer.as_str()))?;
        for (prefix, paths) in table["routes"].as_object().into_iter().flatten() {
            let mut peers = paths
                .as_array()
                .into_iter()
                .flatten()
                .map(|path| path["peerId"].as_str());
            if peers.any(|peer| peer == Some(&name)) {
                details.push(format!("show bgp {family} unicast {prefix} json"));
            }
        }
    }
    let details: Vec<_> = details.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    // Few at a time: the questions are words of one command line.
    for chunk in details.chunks(50) {
        for route in documents(&vtysh(router, chunk)?) {
            found.extend(parse(&route, &name));
        }
    }
    Ok(found)
}

/// The JSON documents of an answer, which vtysh prints one after another, up to the first that is none.
fn documents(answer: &str) -> Vec<Value> {
    let found = Deserializer::from_str(answer).into_iter();
    found.map_while(Result::ok).collect()
}

/// The path of a prefix that came from `neighbor`.
fn parse(route: &Value, neighbor: &str) -> Option<Seen> {
    let mut seen = Seen::new(route["prefix"].as_str()?.parse().ok()?);
    let from = |path: &&Value| path["peer"]["peerId"].as_str() == Some(neighbor);
    let path = route["paths"].as_array()?.iter().find(from)?;
    let words = |key: &str| {
        path[key]["string"]
            .as_str()
            .unwrap_or_default()
            .split_whitespace()
    };
    let hops = path["nexthops"].as_array().into_iter().flatten();
    seen.next_hop = hops
        .filter(|hop| hop["scope"].as_str() != Some("link-local"))
        .find_map(|hop| hop["ip"].as_str()?.parse().ok());
    let as_path = path["aspath"]["string"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace();
    seen.as_path = as_path.filter_map(|asn| asn.parse().ok()).collect();
    seen.communities = words("community")
        .filter_map(|word| {
            let name = WELL_KNOWN.iter().find(|(name, _)| *name == word);
            name.map(|(_, low)| (65535, *low))
                .or_else(|| seen::community(word))
        })
        .collect();
    seen.large = words("largeCommunity").filter_map(seen::large).collect();
    seen.ext = words("extendedCommunity").filter_map(ext).collect();
    seen.med = number(&path["metric"]);
    seen.local_pref = number(&path["locPrf"]);
    seen.stale = path["stale"].as_bool().unwrap_or(false);
    Some(seen)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// `RT:65010:5`, `SoO:...`, `LB:65010:1000000`; FRR does not show whether the last is transitive.
fn ext(word: &str) -> Option<Ext> {
    let (kind, rest) = word.split_once(':')?;
    let [asn, number] = seen::numbers(rest)?;
    let asn = u16::try_from(asn).ok()?;
    match kind {
        "RT" => Some(Ext::RouteTarget { asn, number }),
        "SoO" => Some(Ext::RouteOrigin { asn, number }),
        "LB" => Some(Ext::LinkBandwidth {
            asn,
            bytes_per_second: number,
        }),
        _ => None,
    }
}

pub(super) fn announce(router: &Router, route: &Origination) -> Result<(), Error> {
    let map = map_name(route);
    let mut script = format!("configure terminal\n{}", route_map(route));
    script += &format!(
        "router bgp {}\naddress-family {} unicast\nnetwork {} route-map {map}\nend\n",
        router.config.asn,
        family_of(route.prefix),
        route.prefix,
    );
    configure(router, &script)
}

pub(super) fn withdraw(router: &Router, route: &Origination) -> Result<(), Error> {
    let script = format!(
        "configure terminal\nrouter bgp {}\naddress-family {} unicast\nno network {} route-map {}\nend\n",
        router.config.asn,
        family_of(route.prefix),
        route.prefix,
        map_name(route),
    );
    configure(router, &script)
}

fn configure(router: &Router, script: &str) -> Result<(), Error> {
    let lines: Vec<_> = script.lines().map(str::trim).collect();
    vtysh(router, &lines).map(drop)
}

pub(super) fn ask_refresh(router: &Router, neighbor: IpAddr) -> Result<(), Error> {
    vtysh(router, &[&format!("clear bgp {neighbor} soft in")]).map(drop)
}
