//! ExaBGP. It has no tables: what it received is read from the events it writes, what it sends is commands.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{DIR, Dials, Ext, Families, Neighbor, Origination, Router, Seen, Session, TtlSecurity};
use crate::Error;

/// The program ExaBGP talks with: events go to a file, commands come from a FIFO that never ends.
const GO_BETWEEN: &str = "exec 3<&0 4<>/run/router/commands
cat <&3 >/run/router/events &
: >/run/router/listens
exec cat <&4
";

pub(super) fn run(router: &mut Router) -> Result<(), Error> {
    router.write("exabgp.conf", &render(router))?;
    router.write("go-between", GO_BETWEEN)?;
    router.node.sh(&format!(
        "cd {DIR}; rm -f commands listens; mkfifo commands; : >events; mkdir -p /run/exabgp"
    ))?;
    // Only accepting needs a listener; a dialling one would take the address of the other role's test.
    let bind = router.config.neighbors.iter().map(|n| n.local.to_string());
    let bind = format!("exabgp.tcp.bind={}", bind.collect::<Vec<_>>().join(" "));
    router.spawn(&[
        "env",
        "exabgp.daemon.user=root",
        "exabgp.daemon.drop=false",
        "exabgp.api.cli=false",
        "exabgp.log.level=DEBUG",
        "exabgp.tcp.port=179",
        &bind,
        "exabgp",
        "/run/router/exabgp.conf",
    ])
}

fn render(router: &Router) -> String {
    let mut text = "process lab {\n  run /bin/sh /run/router/go-between;\n  encoder json;\n}\n".to_owned();
    for neighbor in &router.config.neighbors {
        text += &render_neighbor(router, neighbor);
    }
    text
}

fn render_neighbor(router: &Router, n: &Neighbor) -> String {
    let mut text = format!(
        "neighbor {} {{\n  router-id {};\n  local-address {};\n  local-as {};\n  peer-as {};\n  hold-time {};\n",
        n.address, router.config.router_id, n.local, router.config.asn, n.asn, n.hold
    );
    match n.dials {
        Dials::Yes => {}
        Dials::Never => text += "  passive true;\n",
    }
    if let Some(password) = &n.password {
        text += &format!("  md5-password \"{password}\";\n");
    }
    match n.ttl_security {
        TtlSecurity::Off => {}
        TtlSecurity::On => text += "  outgoing-ttl 255;\n  incoming-ttl 255;\n",
    }
    text += "  family {";
    if n.families.has_ipv4() {
        text += " ipv4 unicast;";
    }
    // It offers IPv4 over IPv6 only together with IPv6.
    if n.families.has_ipv6() || n.families == Families::Ipv4OverIpv6 {
        text += " ipv6 unicast;";
    }
    text += " }\n  capability { asn4 enable; route-refresh enable;";
    if let Some(time) = n.graceful_restart {
        text += &format!(" graceful-restart {time};");
    }
    text += " }\n";
    match n.families {
        Families::Ipv4OverIpv6 => text += "  nexthop { ipv4 unicast ipv6; }\n",
        Families::Ipv4 | Families::Ipv6 | Families::Both => {}
    }
    text + "  api { processes [ lab ]; neighbor-changes; receive { parsed; update; refresh; } }\n}\n"
}

/// Writes a command to the FIFO. The go-between holds it open for reading and writing, so this does not block.
fn command(router: &Router, line: &str) -> Result<(), Error> {
    let script = format!("echo '{line}' 1<>{DIR}/commands");
    router.node.sh(&script).map(drop)
}

/// The events so far. Those that are no JSON (4.2 writes `""ipv4""` in a refresh) are left out.
fn events(router: &Router) -> Result<Vec<Value>, Error> {
    let text = router.node.exec(&["cat", "/run/router/events"])?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// What is written to the FIFO before somebody holds it open is lost.
pub(super) fn ready(router: &Router) -> Result<(), Error> {
    router.node.exec(&["test", "-e", "/run/router/listens"]).map(drop)
}

pub(super) fn session(router: &Router, neighbor: IpAddr) -> Result<Session, Error> {
    let mut state = "nothing yet".to_owned();
    for event in from(&events(router)?, neighbor) {
        if let ("state", Some(word)) = (
            event["type"].as_str().unwrap_or_default(),
            event["neighbor"]["state"].as_str(),
        ) {
            state = word.to_owned();
        }
    }
    Ok(match state.as_str() {
        "up" => Session::Established,
        _ => Session::Down(state),
    })
}

fn from(events: &[Value], neighbor: IpAddr) -> impl Iterator<Item = &Value> {
    let name = neighbor.to_string();
    events
        .iter()
        .filter(move |event| event["neighbor"]["address"]["peer"].as_str() == Some(name.as_str()))
}

/// Plays the events: an Adj-RIB-In of our own making.
pub(super) fn received(router: &Router, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
    let mut table: BTreeMap<IpNet, Seen> = BTreeMap::new();
    for event in from(&events(router)?, neighbor) {
        match event["type"].as_str() {
            Some("state") => table.clear(),
            Some("update") => play(&mut table, &event["neighbor"]["message"]["update"]),
            _ => {}
        }
    }
    Ok(table.into_values().collect())
}

fn play(table: &mut BTreeMap<IpNet, Seen>, update: &Value) {
    let prefix = |nlri: &Value| nlri["nlri"].as_str().and_then(|prefix| prefix.parse().ok());
    for (_, withdrawn) in update["withdraw"].as_object().into_iter().flatten() {
        for nlri in withdrawn.as_array().into_iter().flatten() {
            prefix(nlri).and_then(|prefix: IpNet| table.remove(&prefix));
        }
    }
    for (_, by_hop) in update["announce"].as_object().into_iter().flatten() {
        for (hop, announced) in by_hop.as_object().into_iter().flatten() {
            let hop = hop.parse().ok().filter(is_global);
            let (Some(hop), Some(announced)) = (hop, announced.as_array()) else {
                continue;
            };
            for prefix in announced.iter().filter_map(prefix) {
                table.insert(prefix, parse(prefix, hop, &update["attribute"]));
            }
        }
    }
}

fn is_global(hop: &IpAddr) -> bool {
    match hop {
        IpAddr::V4(_) => true,
        IpAddr::V6(hop) => !hop.is_unicast_link_local(),
    }
}

fn parse(prefix: IpNet, hop: IpAddr, attrs: &Value) -> Seen {
    let lists = |key: &str| {
        let list = attrs[key].as_array().cloned().unwrap_or_default();
        list.into_iter().map(|item| {
            let parts = item.as_array().cloned().unwrap_or_default();
            parts.iter().filter_map(number).collect::<Vec<u32>>()
        })
    };
    let mut seen = Seen::new(prefix);
    seen.next_hop = Some(hop);
    seen.as_path = attrs["as-path"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(number)
        .collect();
    seen.communities = lists("community")
        .filter_map(|parts| match parts.as_slice() {
            [high, low] => Some((u16::try_from(*high).ok()?, u16::try_from(*low).ok()?)),
            _ => None,
        })
        .collect();
    seen.large = lists("large-community")
        .filter_map(|parts| match parts.as_slice() {
            [global, one, two] => Some((*global, *one, *two)),
            _ => None,
        })
        .collect();
    let ext = attrs["extended-community"].as_array().into_iter().flatten();
    seen.ext = ext
        .filter_map(|ext| ext["value"].as_u64())
        .map(|value| Ext::from_octets(value.to_be_bytes()))
        .collect();
    seen.med = number(&attrs["med"]);
    seen.local_pref = number(&attrs["local-preference"]);
    seen
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// `192.0.2.1/32 next-hop self`: what both announce and withdraw name.
fn head(router: &Router, prefix: IpNet) -> String {
    let own = |n: &Neighbor| match n.families {
        Families::Ipv4OverIpv6 => Some(n.local),
        Families::Ipv4 | Families::Ipv6 | Families::Both => None,
    };
    let mut neighbors = router.config.neighbors.iter();
    let hop = match prefix {
        IpNet::V4(_) => neighbors.find_map(own),
        IpNet::V6(_) => neighbors.find_map(|n| n.ipv6_next_hop),
    };
    let hop = hop.map_or("self".to_owned(), |hop| hop.to_string());
    format!("route {prefix} next-hop {hop}")
}

pub(super) fn announce(router: &Router, route: &Origination) -> Result<(), Error> {
    let mut line = format!("announce {}", head(router, route.prefix));
    let list = |items: Vec<String>| format!("[{}]", items.join(" "));
    if !route.communities.is_empty() {
        let items = route
            .communities
            .iter()
            .map(|(high, low)| format!("{high}:{low}"));
        line += &format!(" community {}", list(items.collect()));
    }
    if !route.large.is_empty() {
        let items = route.large.iter().map(|(a, b, c)| format!("{a}:{b}:{c}"));
        line += &format!(" large-community {}", list(items.collect()));
    }
    if !route.ext.is_empty() {
        let items = route
            .ext
            .iter()
            .map(|ext| format!("0x{:016x}", u64::from_be_bytes(ext.octets())));
        line += &format!(" extended-community {}", list(items.collect()));
    }
    if let Some(med) = route.med {
        line += &format!(" med {med}");
    }
    command(router, &line)
}

pub(super) fn withdraw(router: &Router, route: &Origination) -> Result<(), Error> {
    command(router, &format!("withdraw {}", head(router, route.prefix)))
}

pub(super) fn ask_refresh(router: &Router, neighbor: IpAddr) -> Result<(), Error> {
    for family in router.neighbor(neighbor)?.families.names() {
        command(
            router,
            &format!("neighbor {neighbor} announce route-refresh {family} unicast"),
        )?;
    }
    Ok(())
}
