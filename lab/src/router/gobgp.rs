//! GoBGP. Routes are added and read over its API with the `gobgp` command.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::Value;

use super::{
    Dials, Ext, Families, Neighbor, Origination, Router, Seen, Session, Start, TtlSecurity, family_of,
};
use crate::Error;

const SOCKET: &str = "unix:///run/router/gobgp.sock";

pub(super) fn run(router: &mut Router) -> Result<(), Error> {
    router.write("gobgpd.toml", &render(router))?;
    // A socket left by one that was killed would be "in use".
    router.node.exec(&["rm", "-f", "/run/router/gobgp.sock"])?;
    let mut argv = vec![
        "gobgpd",
        "-f",
        "/run/router/gobgpd.toml",
        "-l",
        "debug",
        "--log-plain",
        "--pprof-disable",
        "--api-hosts",
        SOCKET,
    ];
    match router.start {
        Start::First => {}
        Start::Again => argv.push("--graceful-restart"),
    }
    router.spawn(&argv)
}

fn render(router: &Router) -> String {
    let config = &router.config;
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\n",
        config.asn, config.router_id
    );
    for n in &config.neighbors {
        text += &render_neighbor(n);
    }
    text
}

fn render_neighbor(n: &Neighbor) -> String {
    let mut text = format!(
        "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n",
        n.address, n.asn
    );
    if let Some(password) = &n.password {
        text += &format!("auth-password = \"{password}\"\n");
    }
    text += &format!("[neighbors.transport.config]\nlocal-address = \"{}\"\n", n.local);
    match n.dials {
        Dials::Yes => {}
        Dials::Never => text += "passive-mode = true\n",
    }
    match n.ttl_security {
        TtlSecurity::Off => {}
        TtlSecurity::On => text += "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n",
    }
    text += &format!(
        "[neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\nhold-time = {}\nkeepalive-interval = {}\n",
        n.hold,
        n.hold / 3
    );
    if let Some(time) = n.graceful_restart {
        text += &format!(
            "[neighbors.graceful-restart.config]\nenabled = true\nnotification-enabled = true\nrestart-time = {time}\ndeferral-time = 5\n"
        );
    }
    for family in n.families.names() {
        text += &format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"\n"
        );
        if n.graceful_restart.is_some() {
            text += "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n";
        }
    }
    text
}

fn gobgp(router: &Router, args: &[&str]) -> Result<String, Error> {
    let mut argv = vec!["gobgp", "--target", SOCKET];
    argv.extend(args);
    router.node.exec(&argv)
}

fn json(router: &Router, args: &[&str]) -> Result<Value, Error> {
    let mut argv = vec!["-j"];
    argv.extend(args);
    let answer = gobgp(router, &argv)?;
    serde_json::from_str(&answer).map_err(|_| router.strange(answer))
}

pub(super) fn session(router: &Router, neighbor: IpAddr) -> Result<Session, Error> {
    let answer = json(router, &["neighbor", &neighbor.to_string()])?;
    // As in its API: 1 = idle ... 6 = established.
    match answer["state"]["session_state"].as_u64() {
        Some(6) => Ok(Session::Established),
        Some(state) => Ok(Session::Down(format!("state {state}"))),
        None => Err(router.strange(answer.to_string())),
    }
}

pub(super) fn received(router: &Router, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
    let mut found = Vec::new();
    let name = neighbor.to_string();
    for family in router.neighbor(neighbor)?.families.names() {
        let table = json(router, &["neighbor", &name, "adj-in", "-a", family])?;
        let routes = table.as_object().into_iter().flatten();
        found.extend(routes.filter_map(|(prefix, paths)| parse(prefix, &paths[0])));
    }
    Ok(found)
}

fn parse(prefix: &str, path: &Value) -> Option<Seen> {
    let mut seen = Seen::new(prefix.parse().ok()?);
    seen.stale = path["stale"].as_bool().unwrap_or(false);
    for attr in path["attrs"].as_array().into_iter().flatten() {
        let items = |key: &str| attr[key].as_array().cloned().unwrap_or_default();
        // The codes of the attributes (IANA).
        match attr["type"].as_u64()? {
            2 => {
                let segments = items("as_paths");
                let asns = segments
                    .iter()
                    .flat_map(|s| s["asns"].as_array().into_iter().flatten());
                seen.as_path = asns.filter_map(number).collect();
            }
            3 | 14 => seen.next_hop = attr["nexthop"].as_str()?.parse().ok(),
            4 => seen.med = number(&attr["metric"]),
            5 => seen.local_pref = number(&attr["value"]),
            8 => {
                let both = items("communities")
                    .iter()
                    .filter_map(number)
                    .map(halves)
                    .collect();
                seen.communities = both;
            }
            16 => seen.ext = items("value").iter().filter_map(ext).collect(),
            32 => {
                let three = |c: &Value| {
                    Some((
                        number(&c["ASN"])?,
                        number(&c["LocalData1"])?,
                        number(&c["LocalData2"])?,
                    ))
                };
                seen.large = items("value").iter().filter_map(three).collect();
            }
            _ => {}
        }
    }
    Some(seen)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn halves(community: u32) -> (u16, u16) {
    let [a, b, c, d] = community.to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// `{"type": 0, "subtype": 2, "value": "65010:5"}`, `{"type": 64, "subtype": 4, "asn": 65010, "bandwidth": 1000}`.
fn ext(value: &Value) -> Option<Ext> {
    let numbers = value["value"].as_str().and_then(super::seen::numbers::<2>);
    let (kind, subtype) = (value["type"].as_u64()?, value["subtype"].as_u64()?);
    match (kind, subtype, numbers) {
        (0, 2, Some([asn, number])) => Some(Ext::RouteTarget {
            asn: u16::try_from(asn).ok()?,
            number,
        }),
        (0, 3, Some([asn, number])) => Some(Ext::RouteOrigin {
            asn: u16::try_from(asn).ok()?,
            number,
        }),
        (64, 4, None) => Some(Ext::LinkBandwidth {
            asn: u16::try_from(value["asn"].as_u64()?).ok()?,
            bytes_per_second: number(&value["bandwidth"])?,
        }),
        _ => None,
    }
}

pub(super) fn announce(router: &Router, route: &Origination) -> Result<(), Error> {
    let prefix = route.prefix.to_string();
    let mut args: Vec<String> = ["global", "rib", "add", &prefix, "-a", family_of(route.prefix)]
        .map(str::to_owned)
        .to_vec();
    if let Some(hop) = next_hop(router, route.prefix) {
        args.extend(["nexthop".into(), hop.to_string()]);
    }
    let join = |list: Vec<String>| list.join(",");
    if !route.communities.is_empty() {
        let list = route
            .communities
            .iter()
            .map(|(high, low)| format!("{high}:{low}"));
        args.extend(["community".into(), join(list.collect())]);
    }
    if !route.large.is_empty() {
        let list = route.large.iter().map(|(a, b, c)| format!("{a}:{b}:{c}"));
        args.extend(["large-community".into(), join(list.collect())]);
    }
    for ext in &route.ext {
        match ext {
            Ext::RouteTarget { asn, number } => args.extend(["rt".into(), format!("{asn}:{number}")]),
            // GoBGP 3.10 has no words for them.
            Ext::RouteOrigin { .. }
            | Ext::LinkBandwidth { .. }
            | Ext::TransitiveLinkBandwidth { .. }
            | Ext::Other(_) => {}
        }
    }
    if let Some(med) = route.med {
        args.extend(["med".into(), med.to_string()]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    gobgp(router, &args).map(drop)
}

/// GoBGP fills in its own address when the route's is unspecified, but for IPv6 over an IPv4 session that would
/// be an IPv4-mapped one.
fn next_hop(router: &Router, prefix: IpNet) -> Option<IpAddr> {
    let over_ipv6 = |n: &Neighbor| n.families == Families::Ipv4OverIpv6;
    match prefix {
        IpNet::V4(_) if router.config.neighbors.iter().any(over_ipv6) => None,
        IpNet::V4(_) => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpNet::V6(_) => router.config.neighbors.iter().find_map(|n| n.ipv6_next_hop),
    }
}

pub(super) fn withdraw(router: &Router, prefix: IpNet) -> Result<(), Error> {
    gobgp(
        router,
        &[
            "global",
            "rib",
            "del",
            &prefix.to_string(),
            "-a",
            family_of(prefix),
        ],
    )
    .map(drop)
}

pub(super) fn ask_refresh(router: &Router, neighbor: IpAddr) -> Result<(), Error> {
    gobgp(router, &["neighbor", &neighbor.to_string(), "softresetin"]).map(drop)
}
