//! What a new configuration would do to sessions and announcements, before it is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_speaker::config::change::{self, Class, Live, Opened};
use bgp_speaker::config::{FamilyConfig, InstanceConfig, PeerConfig, SpeakerConfig};
use bgp_speaker::policy::{PrefixMatch, SetAttrs, SetNextHop, Verdict};
use bgp_speaker::speaker::{PeerStatus, StateName};
use bgp_speaker::types::{Name, Prefix};
use bgp_speaker::wire::attrs::Attrs;

use super::snapshot::Snapshot;
use super::view::{
    self, Bundle, PlanDiff, PrefixChange, PrefixEffect, SessionChange, SessionEffect, VipChange,
};
use crate::datapath::Served;
use crate::plan::vip_changes;
use crate::problem::Problem;
use crate::render::attrs as text;
use crate::source::folder::{Folder, Found, Look};
use crate::world::World;

/// Everything a folder would change on this node, now that it looks as it does.
#[must_use]
pub fn folder(bundle: &Bundle, node: &str, snapshot: &Snapshot, peers: &[PeerStatus]) -> PlanDiff {
    let mut folder = Folder::new(std::path::PathBuf::new());
    let files = bundle
        .files
        .iter()
        .map(|file| {
            (
                file.path.as_str().into(),
                Found::Text(file.text.clone().into_bytes()),
            )
        })
        .collect();
    let mut world = World::new(node);
    world.take(folder.take(0, Look::Files(files)));
    world.observed = (*snapshot.observed).clone();
    // What is not in the kernel's maps yet will be.
    world.observed.served = Served::ByOthers;
    let desired = snapshot.config.plan(&world);
    let (old, new) = (&snapshot.desired, &desired);
    let live = |instance: &Name, peer: &Name| {
        let session = peers
            .iter()
            .find(|p| p.instance == *instance && p.name == *peer && p.state == StateName::Established);
        session.map_or_else(Live::default, |session| Live {
            opened: Opened::Unknown,
            remote_asn: session.remote_asn,
            local_address: session.local_address,
        })
    };
    let mut problems: Vec<Problem> = world
        .source_problems
        .iter()
        .chain(&desired.problems)
        .cloned()
        .collect();
    problems.sort();
    problems.dedup();
    let text = |list: &[IpAddr]| list.iter().map(IpAddr::to_string).collect();
    PlanDiff {
        sessions: sessions(&old.speaker, &new.speaker, live),
        prefixes: prefixes(&old.speaker, &new.speaker),
        vips: vip_changes(&old.vips, &new.vips)
            .into_iter()
            .map(|change| VipChange {
                service: change.service.to_string(),
                before: text(change.before),
                after: text(change.after),
            })
            .collect(),
        problems: problems.iter().map(view::Problem::from).collect(),
    }
}

/// Sessions that would not stay as they are, harmless first.
#[must_use]
pub fn sessions(
    old: &SpeakerConfig,
    new: &SpeakerConfig,
    live: impl FnMut(&Name, &Name) -> Live,
) -> Vec<SessionChange> {
    let change = change::speaker(old, new, live);
    let mut out = Vec::new();
    let mut add = |instance: &Name, peer: &Name, effect, because| {
        out.push(SessionChange {
            instance: instance.to_string(),
            peer: peer.to_string(),
            effect,
            because,
        });
    };
    for name in &change.added {
        for peer in peers(new, name) {
            add(
                name,
                peer,
                SessionEffect::Added,
                vec!["the instance is new".to_owned()],
            );
        }
    }
    for name in &change.removed {
        for peer in peers(old, name) {
            add(
                name,
                peer,
                SessionEffect::Removed,
                vec!["the instance is gone".to_owned()],
            );
        }
    }
    for (name, instance) in &change.changed {
        for peer in &instance.added {
            add(name, peer, SessionEffect::Added, Vec::new());
        }
        for peer in &instance.removed {
            add(name, peer, SessionEffect::Removed, Vec::new());
        }
        // A change of the instance's own identity resets every session it keeps.
        if instance.own.class == Class::HardReset {
            let gone: BTreeSet<&Name> = instance.removed.iter().chain(&instance.added).collect();
            for peer in peers(new, name).filter(|peer| !gone.contains(peer)) {
                add(
                    name,
                    peer,
                    SessionEffect::HardReset,
                    fields("instance ", &instance.own),
                );
            }
            continue;
        }
        for (peer, change) in &instance.changed {
            let effect = match change.class {
                Class::NoOp => continue,
                Class::PolicyRefresh => SessionEffect::PolicyRefresh,
                Class::SoftReset => SessionEffect::SoftReset,
                Class::HardReset => SessionEffect::HardReset,
            };
            add(name, peer, effect, fields("", change));
        }
    }
    out.sort_by(|a, b| (a.effect, &a.instance, &a.peer).cmp(&(b.effect, &b.instance, &b.peer)));
    out
}

fn peers<'a>(config: &'a SpeakerConfig, instance: &Name) -> impl Iterator<Item = &'a Name> {
    config
        .instances
        .get(instance)
        .into_iter()
        .flat_map(|i| i.peers.keys())
}

fn fields(of: &str, change: &change::Change) -> Vec<String> {
    change
        .fields
        .iter()
        .filter(|(_, class)| *class == change.class)
        .map(|(name, _)| format!("{of}{name}"))
        .collect()
}

/// A route as a peer would get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exported<'a> {
    attrs: &'a Attrs,
    set: &'a SetAttrs,
}

/// Prefixes that peers would get, lose, or get with other attributes.
#[must_use]
pub fn prefixes(old: &SpeakerConfig, new: &SpeakerConfig) -> Vec<PrefixChange> {
    let (before, after) = (exports(old), exports(new));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let nothing = BTreeMap::new();
    let mut out = Vec::new();
    for key in keys {
        let (before, after) = (
            before.get(key).unwrap_or(&nothing),
            after.get(key).unwrap_or(&nothing),
        );
        let prefixes: BTreeSet<&Prefix> = before.keys().chain(after.keys()).collect();
        for prefix in prefixes {
            let (effect, detail) = match (before.get(prefix), after.get(prefix)) {
                (None, Some(_)) => (PrefixEffect::Added, None),
                (Some(_), None) => (PrefixEffect::Withdrawn, None),
                (Some(b), Some(a)) if b != a => (
                    PrefixEffect::Changed,
                    Some(format!("{} -> {}", words(b), words(a))),
                ),
                _ => continue,
            };
            out.push(PrefixChange {
                instance: key.0.to_string(),
                peer: key.1.to_string(),
                prefix: prefix.to_string(),
                effect,
                detail,
            });
        }
    }
    out
}

type Exports<'a> = BTreeMap<(&'a Name, &'a Name), BTreeMap<Prefix, Exported<'a>>>;

fn exports(config: &SpeakerConfig) -> Exports<'_> {
    let mut out = BTreeMap::new();
    for (name, instance) in &config.instances {
        for (peer_name, peer) in &instance.peers {
            out.insert((name, peer_name), exports_to(instance, peer));
        }
    }
    out
}

fn exports_to<'a>(instance: &'a InstanceConfig, peer: &'a PeerConfig) -> BTreeMap<Prefix, Exported<'a>> {
    let mut out = BTreeMap::new();
    for (family, FamilyConfig { export, .. }) in &peer.families {
        // The first statement that matches decides, so what it took is out of reach of the next ones.
        let mut judged = BTreeSet::new();
        for statement in &export.statements {
            let any = [whole(*family)];
            let matches: &[PrefixMatch] = if statement.prefixes.is_empty() {
                any.as_slice()
            } else {
                &statement.prefixes
            };
            for (prefix, route) in matches.iter().flat_map(|m| matching(instance, m)) {
                if prefix.family() == *family && judged.insert(*prefix) {
                    match &statement.verdict {
                        Verdict::Accept(set) => {
                            out.insert(*prefix, Exported { attrs: route, set });
                        }
                        Verdict::Reject => {}
                    }
                }
            }
        }
    }
    out
}

fn whole(family: bgp_speaker::types::Family) -> PrefixMatch {
    if family == bgp_speaker::types::Family::IPV6_UNICAST {
        PrefixMatch {
            prefix: Prefix::V6 {
                bits: [0; 16],
                len: 0,
            },
            min: 0,
            max: 128,
        }
    } else {
        PrefixMatch {
            prefix: Prefix::V4 { bits: 0, len: 0 },
            min: 0,
            max: 32,
        }
    }
}

/// Routes are ordered by address, so those inside a prefix stand together.
fn matching<'a>(
    instance: &'a InstanceConfig,
    wanted: &PrefixMatch,
) -> impl Iterator<Item = (&'a Prefix, &'a Attrs)> {
    let PrefixMatch { prefix, min, max } = *wanted;
    instance
        .routes
        .range(prefix..)
        .take_while(move |(p, _)| prefix.contains(p))
        .filter(move |(p, _)| (min..=max).contains(&p.len()))
        .map(|(p, route)| (p, &*route.attrs))
}

/// What differs between exports of one prefix, in a line.
fn words(exported: &Exported<'_>) -> String {
    let SetAttrs {
        communities,
        large_communities,
        ext_communities,
        local_pref,
        med,
        as_path_prepend,
        next_hop,
    } = exported.set;
    let mut parts = Vec::new();
    let mut list = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            parts.push(format!("{name} {}", values.join(",")));
        }
    };
    list(
        "communities",
        exported
            .attrs
            .communities
            .iter()
            .chain(communities)
            .map(|c| text::community(*c))
            .collect(),
    );
    list(
        "large",
        large_communities
            .iter()
            .map(|c| format!("{}:{}:{}", c.0, c.1, c.2))
            .collect(),
    );
    list(
        "extended",
        ext_communities.iter().map(|c| text::ext_community(c.0)).collect(),
    );
    list(
        "local-preference",
        local_pref.iter().map(u32::to_string).collect(),
    );
    list("med", med.iter().map(u32::to_string).collect());
    list(
        "prepend",
        Some(as_path_prepend)
            .filter(|n| **n > 0)
            .map(u8::to_string)
            .into_iter()
            .collect(),
    );
    list(
        "next-hop",
        match next_hop {
            SetNextHop::Default => Vec::new(),
            SetNextHop::Local => vec!["self".to_owned()],
            SetNextHop::Unchanged => vec!["unchanged".to_owned()],
            SetNextHop::Is(hop) => vec![super::route::next_hop(hop)],
        },
    );
    list(
        "origin",
        vec![super::route::origin(exported.attrs.origin).to_owned()],
    );
    parts.join(" ")
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
