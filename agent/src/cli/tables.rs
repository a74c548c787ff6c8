//! Tables of our own commands. Headings say the unit; empty is `-`; the reason comes last, in full.

use std::fmt::Write as _;
use std::time::Duration;

use crate::api::view::{
    Entry, Peer, PlanDiff, Policy, PolicyStatement, PrefixEffect, Problem, Route, SessionEffect, Status,
    Verdict, Vip, VipState, Why,
};
use crate::render::{duration, tabwriter};

const NONE: &str = "-";
/// `stentor status` names so many causes, and lists so many addresses.
const CAUSES: usize = 10;
const ADDRESSES: usize = 30;

/// `stentor bgp peers`.
#[must_use]
pub fn peers(peers: &[Peer]) -> String {
    let mut text =
        String::from("INSTANCE\tPEER\tADDRESS\tAS\tSTATE\tSINCE\tFAMILY\tRECEIVED\tADVERTISED\tLAST DOWN\n");
    for peer in peers {
        let _ = write!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t",
            peer.instance,
            peer.name,
            address(peer),
            or_none(peer.remote_asn.as_ref()),
            peer.state,
            or_none(peer.uptime_seconds.map(time).as_ref()),
        );
        let last = last_down(peer);
        if peer.families.is_empty() {
            let _ = writeln!(text, "{NONE}\t{NONE}\t{NONE}\t{last}");
        }
        for (n, family) in peer.families.iter().enumerate() {
            let stale = if family.stale > 0 {
                format!(" ({} stale)", family.stale)
            } else {
                String::new()
            };
            let (indent, last) = if n == 0 {
                ("", last.as_str())
            } else {
                ("\t\t\t\t\t\t", "")
            };
            let _ = writeln!(
                text,
                "{indent}{}\t{}{stale}\t{}\t{last}",
                family.family, family.received, family.advertised,
            );
        }
    }
    if peers.is_empty() {
        return "No BGP peers are configured for this node.\n".to_owned();
    }
    layout(&text)
}

/// `stentor bgp routes`.
#[must_use]
pub fn routes(routes: &[Route]) -> String {
    if routes.is_empty() {
        return "No routes.\n".to_owned();
    }
    let mut text = String::from("INSTANCE\tPREFIX\tPEER\tNEXT HOP\tAGE\tBEST\tAS PATH\tATTRIBUTES\n");
    for route in routes {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            route.instance,
            route.prefix,
            route.peer.as_deref().unwrap_or("(local)"),
            route.next_hop,
            time(route.age_seconds),
            if route.best { "yes" } else { "no" },
            or_none(Some(&route.as_path).filter(|path| !path.is_empty())),
            attributes(route),
        );
    }
    layout(&text)
}

fn attributes(route: &Route) -> String {
    let mut parts = vec![format!("origin {}", route.origin)];
    let mut number = |name: &str, value: Option<u32>| {
        if let Some(value) = value {
            parts.push(format!("{name} {value}"));
        }
    };
    number("med", route.med);
    number("local-preference", route.local_preference);
    for (name, list) in [
        ("communities", &route.communities),
        ("large", &route.large_communities),
        ("extended", &route.extended_communities),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name} {}", list.join(",")));
        }
    }
    if route.stale {
        parts.push("stale".to_owned());
    }
    if let Some(reason) = &route.reason {
        parts.push(format!("({reason})"));
    }
    parts.join(" ")
}

/// `stentor bgp policies`.
#[must_use]
pub fn policies(policies: &[Policy]) -> String {
    if policies.is_empty() {
        return "No route policies.\n".to_owned();
    }
    let mut text = String::from("LOCAL AS\tPOLICY\tTYPE\tPEERS\tPREFIXES\tATTRIBUTES SET\n");
    for policy in policies {
        let _ = write!(
            text,
            "{}\t{}\t{}\t",
            policy.router_asn, policy.name, policy.r#type
        );
        for (n, statement) in policy.statements.iter().enumerate() {
            let indent = if n == 0 { "" } else { "\t\t\t" };
            let _ = writeln!(
                text,
                "{indent}{}\t{}\t{}",
                listed(&statement.peers, "every peer"),
                listed(&statement.prefixes, "every prefix"),
                attributes_set(statement),
            );
        }
        if policy.statements.is_empty() {
            text.push('\n');
        }
    }
    layout(&text)
}

fn listed(list: &[String], none: &str) -> String {
    if list.is_empty() {
        none.to_owned()
    } else {
        list.join(", ")
    }
}

fn attributes_set(statement: &PolicyStatement) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("communities", &statement.communities),
        ("large", &statement.large_communities),
        ("extended", &statement.extended_communities),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name} {}", list.join(",")));
        }
    }
    let prepend = statement.as_path_prepend.map(u32::from);
    for (name, value) in [
        ("local-preference", statement.local_preference),
        ("med", statement.med),
        ("prepend", prepend),
    ] {
        if let Some(value) = value {
            parts.push(format!("{name} {value}"));
        }
    }
    listed(&parts, NONE).replace(", ", " ")
}

/// `stentor vip list`.
#[must_use]
pub fn vips(vips: &[Vip]) -> String {
    if vips.is_empty() {
        return "No Service has or wants an address.\n".to_owned();
    }
    let mut text = String::from("SERVICE\tADDRESS\tTYPE\tSTATE\tANNOUNCED TO\tWHY NOT\n");
    for vip in vips {
        let to: Vec<&str> = vip.announced.iter().map(|a| a.peer.as_str()).collect();
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}",
            vip.service,
            vip.address.as_deref().unwrap_or(NONE),
            vip.kind,
            vip_state(vip.state),
            if to.is_empty() {
                NONE.to_owned()
            } else {
                to.join(",")
            },
            why_not(vip),
        );
    }
    let mut text = layout(&text);
    for vip in vips {
        if let (Some(address), Some(pool)) = (&vip.address, &vip.retained) {
            let service = &vip.service;
            let _ = writeln!(
                text,
                "{service} keeps {address}: pool {pool} retains it, its block is gone."
            );
        }
    }
    text
}

fn vip_state(state: VipState) -> &'static str {
    match state {
        VipState::Announced => "announced",
        VipState::Partly => "partly",
        VipState::NotAnnounced => "NOT ANNOUNCED",
        VipState::NotWanted => "not wanted here",
    }
}

fn why_not(vip: &Vip) -> String {
    let mut parts: Vec<String> = vip.reasons.iter().map(|why| sentence("", why)).collect();
    parts.extend(
        vip.missing
            .iter()
            .map(|missing| sentence(&format!("{}: ", missing.announcement.peer), &missing.why)),
    );
    parts.join("; ")
}

/// `who: message [reason]`
fn sentence(who: &str, why: &Why) -> String {
    format!("{who}{} [{}]", why.message, why.reason)
}

/// `1 error, 2 warnings`
#[must_use]
pub fn errors_and_warnings(errors: usize, warnings: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    format!(
        "{errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    )
}

/// `stentor check`, and the list at the end of `stentor status`.
#[must_use]
pub fn problems(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        if let Some(file) = &problem.file {
            let _ = write!(text, "{file}:");
            if problem.line > 0 {
                let _ = write!(text, "{}:", problem.line);
            }
            text.push(' ');
        }
        let _ = write!(text, "{}: ", problem.severity);
        if let Some(object) = &problem.object {
            let _ = write!(text, "{object}: ");
        }
        if !problem.field.is_empty() {
            let _ = write!(text, "{}: ", problem.field);
        }
        let _ = writeln!(text, "{}", sentence("", &problem.why));
    }
    text
}

/// `stentor bgp plan`.
#[must_use]
pub fn plan(diff: &PlanDiff) -> String {
    let mut text = String::new();
    let sessions = |effect| diff.sessions.iter().filter(|s| s.effect == effect).count();
    let count = |effect| diff.prefixes.iter().filter(|p| p.effect == effect).count();
    let _ = writeln!(
        text,
        "Sessions: {} reset, {} added, {} removed; prefixes: {} added, {} changed, {} withdrawn; Services with \
         other addresses: {}.",
        sessions(SessionEffect::HardReset),
        sessions(SessionEffect::Added),
        sessions(SessionEffect::Removed),
        count(PrefixEffect::Added),
        count(PrefixEffect::Changed),
        count(PrefixEffect::Withdrawn),
        diff.vips.len(),
    );
    if !diff.sessions.is_empty() {
        let mut table = String::from("\nSESSION\tEFFECT\tBECAUSE OF\n");
        for session in &diff.sessions {
            let effect = match session.effect {
                SessionEffect::Added => "added",
                SessionEffect::PolicyRefresh => "stays (policy evaluated again)",
                SessionEffect::SoftReset => "stays (routes exchanged again)",
                SessionEffect::HardReset => "RESET",
                SessionEffect::Removed => "REMOVED",
            };
            let because = session.because.join(", ");
            let _ = writeln!(
                table,
                "{}/{}\t{effect}\t{because}",
                session.instance, session.peer
            );
        }
        text.push_str(&layout(&table));
    }
    if !diff.prefixes.is_empty() {
        let mut table = String::from("\nPEER\tPREFIX\tEFFECT\tDETAIL\n");
        for change in &diff.prefixes {
            let effect = match change.effect {
                PrefixEffect::Added => "added",
                PrefixEffect::Changed => "changed",
                PrefixEffect::Withdrawn => "WITHDRAWN",
            };
            let detail = change.detail.as_deref().unwrap_or_default();
            let _ = writeln!(
                table,
                "{}/{}\t{}\t{effect}\t{detail}",
                change.instance, change.peer, change.prefix
            );
        }
        text.push_str(&layout(&table));
    }
    if !diff.vips.is_empty() {
        let mut table = String::from("\nSERVICE\tADDRESS NOW\tADDRESS THEN\n");
        for change in &diff.vips {
            let list = |addresses: &[String]| {
                if addresses.is_empty() {
                    NONE.to_owned()
                } else {
                    addresses.join(",")
                }
            };
            let _ = writeln!(
                table,
                "{}\t{}\t{}",
                change.service,
                list(&change.before),
                list(&change.after)
            );
        }
        text.push_str(&layout(&table));
    }
    if !diff.problems.is_empty() {
        let _ = write!(text, "\nProblems in the folder:\n{}", problems(&diff.problems));
    }
    text
}

/// `stentor events`.
#[must_use]
pub fn events(entries: &[Entry], now: u64) -> String {
    if entries.is_empty() {
        return "Nothing happened yet.\n".to_owned();
    }
    let mut text = String::from("AGO\tKIND\tPEER\tWHAT\n");
    for entry in entries {
        let peer = match (&entry.instance, &entry.peer) {
            (Some(instance), Some(peer)) => format!("{instance}/{peer}"),
            (Some(instance), None) => instance.clone(),
            (None, _) => NONE.to_owned(),
        };
        let ago = time(now.saturating_sub(entry.at));
        let _ = writeln!(text, "{ago}\t{}\t{peer}\t{}", entry.kind, entry.message);
    }
    layout(&text)
}

/// `stentor status`.
#[must_use]
pub fn status(status: &Status) -> String {
    let counts = &status.counts;
    let verdict = match status.verdict {
        Verdict::Green => "GREEN",
        Verdict::NotGreen => "NOT GREEN",
    };
    let mut text = format!(
        "{verdict}: {}/{} sessions established, {}/{} addresses announced, {}\n",
        counts.peers_established,
        counts.peers,
        counts.vips_announced,
        counts.vips_desired,
        errors_and_warnings(counts.problems_error, counts.problems_warning),
    );
    for why in status.because.iter().take(CAUSES) {
        let _ = writeln!(text, "  {}", sentence("", why));
    }
    if status.because.len() > CAUSES {
        let _ = writeln!(text, "  ... and {} more", status.because.len() - CAUSES);
    }
    let _ = writeln!(
        text,
        "\nNode {}, Stentor {}, process {}, up {}, {} objects read",
        status.node,
        status.version,
        status.pid,
        time(status.uptime_seconds),
        counts.objects,
    );
    let _ = writeln!(text, "BGP {}", bgp(status));
    for instance in &status.bgp.instances {
        let listen = match (instance.listen_port, &instance.listen_error) {
            (None, _) => "does not listen".to_owned(),
            (Some(port), None) => format!("listens on port {port}"),
            (Some(port), Some(error)) => format!("CAN NOT listen on port {port}: {error}"),
        };
        let _ = writeln!(
            text,
            "  instance {}: AS {}, router ID {}, {listen}, routes of this node: {}",
            instance.name, instance.asn, instance.router_id, instance.local_routes
        );
    }
    text.push_str(&super::datapath_table::lines(status.datapath.as_ref()));
    for feature in &status.features {
        let state = if feature.available {
            "available"
        } else {
            "not available"
        };
        let note = feature
            .note
            .as_ref()
            .map_or_else(String::new, |note| format!(" ({note})"));
        let _ = writeln!(text, "Kernel: {} {state}{note}", feature.name);
    }
    if !status.peers.is_empty() {
        let _ = write!(text, "\n{}", peers(&status.peers));
    }
    text.push_str(&status_vips(&status.vips));
    if !status.problems.is_empty() {
        let _ = write!(text, "\nProblems:\n{}", problems(&status.problems));
    }
    text
}

/// All of them while they are few; of many those that need attention.
fn status_vips(all: &[Vip]) -> String {
    if all.is_empty() {
        return String::new();
    }
    if all.len() <= ADDRESSES {
        return format!("\n{}", vips(all));
    }
    let bad = |vip: &&Vip| matches!(vip.state, VipState::NotAnnounced | VipState::Partly);
    let shown: Vec<Vip> = all.iter().filter(bad).take(ADDRESSES).cloned().collect();
    let rest = all.len() - shown.len();
    let table = if shown.is_empty() {
        String::new()
    } else {
        vips(&shown)
    };
    format!("\n{table}{rest} more addresses: see `stentor vip list`\n")
}

fn bgp(status: &Status) -> String {
    if status.bgp.enabled {
        format!("configured by {}", status.bgp.origin)
    } else {
        "is disabled (enable-bgp-control-plane: false)".to_owned()
    }
}

fn address(peer: &Peer) -> String {
    match (&peer.address, peer.port) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.clone(),
        (None, _) => NONE.to_owned(),
    }
}

fn last_down(peer: &Peer) -> String {
    let Some(last) = &peer.last_down else {
        return NONE.to_owned();
    };
    let ago = last
        .seconds_ago
        .map_or_else(String::new, |s| format!("{} ago: ", time(s)));
    format!("{ago}{}", sentence("", &last.why))
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn time(seconds: u64) -> String {
    duration::go(Duration::from_secs(seconds))
}

pub(super) fn layout(text: &str) -> String {
    // No line ends in blanks: a column that is empty at the end is not padded.
    let laid_out = tabwriter::align(text, 0, 3);
    laid_out
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
