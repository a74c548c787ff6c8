//! BIRD. A change of routes is a new configuration file and `birdc configure`; answers are text.

use std::net::IpAddr;

use super::{
    Dials, Ext, Families, Neighbor, Origination, Router, Seen, Session, Start, TtlSecurity, family_of, seen,
};
use crate::Error;

pub(super) fn run(router: &mut Router) -> Result<(), Error> {
    router.write("bird.conf", &render(router))?;
    let mut argv = vec![
        "bird",
        "-f",
        "-c",
        "/run/router/bird.conf",
        "-s",
        "/run/router/bird.ctl",
        "-P",
        "/run/router/bird.pid",
    ];
    match router.start {
        Start::First => {}
        Start::Again => argv.push("-R"),
    }
    router.spawn(&argv)
}

/// The protocol's name in the configuration of the n-th neighbour.
fn protocol(router: &Router, neighbor: IpAddr) -> Result<String, Error> {
    let position = router.config.neighbors.iter().position(|n| n.address == neighbor);
    position
        .map(|n| format!("peer{n}"))
        .ok_or_else(|| router.strange(format!("{neighbor} is not a neighbour")))
}

fn render(router: &Router) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ }}\n",
        router.config.router_id
    );
    for family in ["ipv4", "ipv6"] {
        text += &format!("protocol static originated_{family} {{\n  {family};\n");
        for route in router
            .originated
            .values()
            .filter(|route| family_of(route.prefix) == family)
        {
            text += &render_route(route);
        }
        text += "}\n";
        text += &export_filter(router, family);
    }
    for (n, neighbor) in router.config.neighbors.iter().enumerate() {
        text += &format!("protocol bgp peer{n} {{\n");
        text += &render_neighbor(router.config.asn, neighbor);
        text += "}\n";
    }
    text
}

fn render_route(route: &Origination) -> String {
    let mut text = format!("  route {} blackhole {{", route.prefix);
    for (high, low) in &route.communities {
        text += &format!(" bgp_community.add(({high},{low}));");
    }
    for (global, one, two) in &route.large {
        text += &format!(" bgp_large_community.add(({global},{one},{two}));");
    }
    for ext in &route.ext {
        let [a, b, c, d, e, f, g, h] = ext.octets();
        let high = u32::from_be_bytes([a, b, c, d]);
        let low = u32::from_be_bytes([e, f, g, h]);
        text += &format!(" bgp_ext_community.add((generic,{high:#x},{low:#x}));");
    }
    text + " };\n"
}

/// BIRD drops the MED of a route towards external peers, unless it was set by the filter on the way out.
fn export_filter(router: &Router, family: &str) -> String {
    let mut text = format!("filter leave_{family} {{\n");
    for route in router
        .originated
        .values()
        .filter(|route| family_of(route.prefix) == family)
    {
        if let Some(med) = route.med {
            text += &format!("  if net = {} then bgp_med = {med};\n", route.prefix);
        }
    }
    text + "  accept;\n}\n"
}

fn render_neighbor(asn: u32, n: &Neighbor) -> String {
    let mut text = format!(
        "  local {} as {asn};\n  neighbor {} as {};\n  hold time {};\n",
        n.local, n.address, n.asn, n.hold
    );
    text += "  connect delay time 1;\n  connect retry time 1;\n  error wait time 1,2;\n";
    match n.dials {
        Dials::Yes => {}
        Dials::Never => text += "  passive on;\n",
    }
    if let Some(password) = &n.password {
        text += &format!("  password \"{password}\";\n");
    }
    match n.ttl_security {
        TtlSecurity::Off => {}
        TtlSecurity::On => text += "  ttl security on;\n",
    }
    match n.graceful_restart {
        Some(time) => {
            text += &format!("  graceful restart on;\n  graceful restart time {time};\n");
        }
        None => text += "  graceful restart off;\n",
    }
    if n.families.has_ipv4() {
        let extended = match n.families {
            Families::Ipv4OverIpv6 => " extended next hop on;",
            Families::Ipv4 | Families::Ipv6 | Families::Both => "",
        };
        text += &format!("  ipv4 {{ import all; export filter leave_ipv4;{extended} }};\n");
    }
    if n.families.has_ipv6() {
        let next_hop = n.ipv6_next_hop.map(|hop| format!(" next hop address {hop};"));
        let next_hop = next_hop.unwrap_or_default();
        text += &format!("  ipv6 {{ import all; export filter leave_ipv6;{next_hop} }};\n");
    }
    text
}

fn birdc(router: &Router, command: &str) -> Result<String, Error> {
    let mut argv = vec!["birdc", "-r", "-s", "/run/router/bird.ctl"];
    if command.starts_with("configure") || command.starts_with("reload") {
        argv.retain(|arg| *arg != "-r");
    }
    argv.extend(command.split(' '));
    router.node.exec(&argv)
}

pub(super) fn ready(router: &Router) -> Result<(), Error> {
    let answer = birdc(router, "show status")?;
    match answer.contains("Daemon is up and running") {
        true => Ok(()),
        false => Err(router.strange(answer)),
    }
}

pub(super) fn session(router: &Router, neighbor: IpAddr) -> Result<Session, Error> {
    let answer = birdc(
        router,
        &format!("show protocols all {}", protocol(router, neighbor)?),
    )?;
    let state = field(&answer, "BGP state:").ok_or_else(|| router.strange(answer.as_str()))?;
    match state {
        "Established" => Ok(Session::Established),
        other => Ok(Session::Down(format!(
            "{other} {}",
            field(&answer, "Last error:").unwrap_or_default()
        ))),
    }
}

/// What follows `name` on the first line that starts with it.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = answer.lines();
    lines
        .find_map(|line| line.trim().strip_prefix(name))
        .map(str::trim)
}

pub(super) fn received(router: &Router, neighbor: IpAddr) -> Result<Vec<Seen>, Error> {
    let name = protocol(router, neighbor)?;
    let answer = birdc(router, &format!("show route all protocol {name}"))?;
    // BIRD does not mark the routes, but says of the neighbour that it waits for it to come back.
    let status = birdc(router, &format!("show protocols all {name}"))?;
    let stale = status.contains("Neighbor graceful restart active");
    let mut found: Vec<Seen> = Vec::new();
    for line in answer.lines() {
        if !line.starts_with(char::is_whitespace) {
            let prefix = line.split_whitespace().next().and_then(|word| word.parse().ok());
            found.extend(prefix.map(|prefix| Seen {
                stale,
                ..Seen::new(prefix)
            }));
            continue;
        }
        let (Some(seen), Some((key, value))) = (found.last_mut(), line.trim().split_once(": ")) else {
            continue;
        };
        match key {
            "BGP.next_hop" => seen.next_hop = value.split(' ').next().and_then(|hop| hop.parse().ok()),
            "BGP.as_path" => seen.as_path = value.split(' ').filter_map(|asn| asn.parse().ok()).collect(),
            "BGP.med" => seen.med = value.parse().ok(),
            "BGP.local_pref" => seen.local_pref = value.parse().ok(),
            "BGP.community" => seen.communities = tuples(value).filter_map(|t| seen::community(&t)).collect(),
            "BGP.large_community" => seen.large = tuples(value).filter_map(|t| seen::large(&t)).collect(),
            "BGP.ext_community" => seen.ext = tuples(value).filter_map(|t| ext(&t)).collect(),
            _ => {}
        }
    }
    Ok(found)
}

/// `(65010,1) (65535,0)` as `65010:1`, `65535:0`.
fn tuples(value: &str) -> impl Iterator<Item = String> {
    let parts = value
        .split(['(', ')'])
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(|part| part.replace([' ', ','], ":").replace("::", ":"))
}

/// `rt:65010:5`, `ro:...`, or `unknown:0x4004:65010:1207182336`.
fn ext(text: &str) -> Option<Ext> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "rt" | "ro" => {
            let [asn, number] = seen::numbers(rest)?;
            let asn = u16::try_from(asn).ok()?;
            Some(match kind {
                "rt" => Ext::RouteTarget { asn, number },
                _ => Ext::RouteOrigin { asn, number },
            })
        }
        "unknown" => {
            let (code, rest) = rest.split_once(':')?;
            let code = u16::from_str_radix(code.strip_prefix("0x")?, 16).ok()?;
            let [asn, number] = seen::numbers(rest)?;
            let [a, b] = code.to_be_bytes();
            let [c, d] = u16::try_from(asn).ok()?.to_be_bytes();
            let [e, f, g, h] = number.to_be_bytes();
            Some(Ext::from_octets([a, b, c, d, e, f, g, h]))
        }
        _ => None,
    }
}

/// Puts the routes as they are now in force.
pub(super) fn reload(router: &Router) -> Result<(), Error> {
    router.write("bird.conf", &render(router))?;
    let answer = birdc(router, "configure")?;
    // Done, being done, or to be done after the one before.
    let good = [
        "Reconfigured",
        "Reconfiguration in progress",
        "queueing new config",
    ];
    match good.iter().any(|words| answer.contains(words)) {
        true => Ok(()),
        false => Err(router.strange(answer)),
    }
}

pub(super) fn ask_refresh(router: &Router, neighbor: IpAddr) -> Result<(), Error> {
    birdc(router, &format!("reload in {}", protocol(router, neighbor)?)).map(drop)
}
