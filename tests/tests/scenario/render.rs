//! A plan as text: one fact per line, so that a difference shows what changed.

use std::fmt::Write as _;

use bgp_speaker::config::{Auth, Connect, InstanceConfig, PeerAddress, PeerConfig, RemoteAsn, Ttl};
use bgp_speaker::policy::{PrefixMatch, SetAttrs, SetNextHop, Verdict};
use bgp_speaker::wire::attrs::{NextHop, Origin};
use stentor::plan::{AddressReport, ConfigOrigin, Desired, PolicyKind, RoutePolicy, ServiceReport};
use stentor::problem::Problem;

pub(crate) fn render(desired: &Desired, source_problems: &[Problem]) -> String {
    let mut out = String::new();
    let from = match &desired.origin {
        ConfigOrigin::None => "nothing".to_owned(),
        ConfigOrigin::ClusterConfig(name) => format!("CiliumBGPClusterConfig/{name}"),
        ConfigOrigin::NodeConfig => "CiliumBGPNodeConfig".to_owned(),
        ConfigOrigin::PeeringPolicy(name) => format!("CiliumBGPPeeringPolicy/{name}"),
    };
    line(&mut out, 0, &format!("configured by {from}"));
    for (name, config) in &desired.speaker.instances {
        instance(&mut out, name, config);
    }
    for report in desired.peers.iter().filter(|report| report.not_run.is_some()) {
        let why = report
            .not_run
            .as_ref()
            .map(|why| format!("{} ({why})", why.name()))
            .unwrap_or_default();
        line(
            &mut out,
            0,
            &format!("not run {}/{}: {why}", report.instance, report.peer),
        );
    }
    for policy in desired.policies.view(None) {
        route_policy(&mut out, &policy);
    }
    for prefix in &desired.discard_routes {
        line(&mut out, 0, &format!("discard {prefix}"));
    }
    for (service, addresses) in desired.vips.iter() {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        line(&mut out, 0, &format!("vips {service} {}", addresses.join(" ")));
    }
    for report in desired.services.values() {
        service(&mut out, report);
    }
    for problem in source_problems.iter().chain(&desired.problems) {
        line(&mut out, 0, &problem.to_string());
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    writeln!(out, "{:indent$}{}", "", text.trim_end(), indent = depth * 2).unwrap();
}

fn instance(out: &mut String, name: &str, config: &InstanceConfig) {
    let InstanceConfig {
        asn,
        router_id,
        listen,
        peers,
        routes,
        maximum_paths,
    } = config;
    let mut head = format!("instance {name} as {asn} router-id {router_id}");
    if let Some(port) = listen {
        write!(head, " listen {port}").unwrap();
    }
    if *maximum_paths != 1 {
        write!(head, " maximum-paths {maximum_paths}").unwrap();
    }
    line(out, 0, &head);
    for (name, config) in peers {
        peer(out, name, config);
    }
    for (prefix, route) in &**routes {
        let origin = match route.attrs.origin {
            Origin::Igp => "",
            Origin::Egp => " origin egp",
            Origin::Incomplete => " origin incomplete",
        };
        line(out, 1, &format!("route {prefix}{origin}"));
    }
}

fn peer(out: &mut String, name: &str, config: &PeerConfig) {
    let address = match &config.address {
        PeerAddress::One(address) => address.to_string(),
        PeerAddress::Prefix { prefix, limit } => format!("{prefix} limit {limit}"),
    };
    let asn = match config.remote_asn {
        RemoteAsn::Any => "any".to_owned(),
        RemoteAsn::Is(asn) => asn.to_string(),
    };
    let mut head = format!("peer {name} {address} port {} as {asn}", config.port);
    if let Some(local) = config.local_address {
        write!(head, " from {local}").unwrap();
    }
    if let Some(interface) = &config.interface {
        write!(head, " by {interface}").unwrap();
    }
    match config.connect {
        Connect::ActiveAndPassive => {}
        Connect::Passive => head.push_str(" passive"),
    }
    match &config.auth {
        Auth::None => {}
        Auth::Md5(_) => head.push_str(" md5"),
        Auth::Missing { reason } => write!(head, " DOWN ({reason})").unwrap(),
    }
    match config.ttl {
        Ttl::Direct => {}
        Ttl::Multihop(ttl) => write!(head, " multihop {ttl}").unwrap(),
        Ttl::Security { hops } => write!(head, " ttl-security {hops}").unwrap(),
    }
    let (retry, hold) = (
        config.timers.connect_retry.as_secs(),
        config.timers.hold.seconds(),
    );
    write!(
        head,
        " timers {retry}/{hold}/{}",
        config.timers.keepalive.as_secs()
    )
    .unwrap();
    if let Some(restart) = config.graceful_restart {
        write!(head, " graceful-restart {}", restart.restart_time).unwrap();
    }
    line(out, 1, &head);
    for (family, config) in &config.families {
        let limit = config
            .max_prefixes
            .map(|m| format!(" max {} at {}% {:?}", m.limit, m.warning_percent, m.action));
        line(out, 2, &format!("{family}{}", limit.unwrap_or_default()));
        for statement in &config.export.statements {
            let set = match &statement.verdict {
                Verdict::Accept(set) => attributes(set),
                Verdict::Reject => " reject".to_owned(),
            };
            line(
                out,
                3,
                &format!("{} ({}){set}", matches(&statement.prefixes), statement.policy),
            );
        }
    }
}

fn matches(prefixes: &[PrefixMatch]) -> String {
    let texts = prefixes.iter().map(|m| match (m.min, m.max) {
        (min, max) if min == m.prefix.len() && max == min => m.prefix.to_string(),
        (min, max) => format!("{}({min}..{max})", m.prefix),
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn attributes(set: &SetAttrs) -> String {
    let mut out = String::new();
    for value in &set.communities {
        write!(out, " community {}:{}", value >> 16, value & 0xffff).unwrap();
    }
    for value in &set.large_communities {
        write!(out, " large {}:{}:{}", value.0, value.1, value.2).unwrap();
    }
    for value in &set.ext_communities {
        write!(out, " extended {:016x}", u64::from_be_bytes(value.0)).unwrap();
    }
    if let Some(value) = set.local_pref {
        write!(out, " local-pref {value}").unwrap();
    }
    if let Some(value) = set.med {
        write!(out, " med {value}").unwrap();
    }
    if set.as_path_prepend != 0 {
        write!(out, " prepend {}", set.as_path_prepend).unwrap();
    }
    match set.next_hop {
        SetNextHop::Default => {}
        SetNextHop::Is(NextHop::Ip(address)) => write!(out, " next-hop {address}").unwrap(),
        SetNextHop::Local | SetNextHop::Unchanged | SetNextHop::Is(NextHop::V6WithLinkLocal(..)) => {
            write!(out, " next-hop {:?}", set.next_hop).unwrap();
        }
    }
    out
}

fn route_policy(out: &mut String, policy: &RoutePolicy) {
    let kind = match policy.kind {
        PolicyKind::Export => "export",
        PolicyKind::Import => "import",
    };
    let mut head = format!("policy {} {} {kind}", policy.router_asn, policy.name);
    for statement in &policy.statements {
        write!(
            head,
            " [{} {}",
            statement.match_neighbors.join(" "),
            matches(&statement.match_prefixes)
        )
        .unwrap();
        for community in statement
            .add_communities
            .iter()
            .chain(&statement.add_large_communities)
        {
            write!(head, " {community}").unwrap();
        }
        if let Some(value) = statement.set_local_preference {
            write!(head, " local-pref {value}").unwrap();
        }
        head.push(']');
    }
    line(out, 0, &head);
}

fn service(out: &mut String, report: &ServiceReport) {
    let reasons: Vec<String> = report
        .reasons
        .iter()
        .map(|r| format!(" {} ({r})", r.name()))
        .collect();
    line(out, 0, &format!("service {}{}", report.service, reasons.join("")));
    for AddressReport {
        address,
        kind,
        announced,
        reasons,
    } in &report.addresses
    {
        let mut text = format!("{} {address}", kind.as_str());
        for told in announced {
            write!(text, " {}>{}/{}", told.prefix, told.instance, told.peer).unwrap();
        }
        for reason in reasons {
            write!(text, " {}", reason.name()).unwrap();
        }
        line(out, 1, &text);
    }
}
