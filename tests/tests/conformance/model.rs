//! The planner and a model of the routers: what a router would have in its table if every session were up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bgp_speaker::config::{InstanceConfig, LocalRoute, PeerAddress, PeerConfig};
use bgp_speaker::policy::{SetAttrs, Verdict};
use bgp_speaker::types::{Family, Prefix};
use bgp_speaker::wire::attrs::Origin;
use stentor::plan::{Desired, Options, plan};
use stentor::render::attrs;
use stentor::source::folder::{Folder, Found, Look as FolderLook};
use stentor::world::World;

use super::script::{Look, NODE, Peer, Script, Server, Stage};
use super::table::table;

pub(crate) struct Model {
    world: World,
    options: Options,
    folder: Folder,
    servers: BTreeMap<String, (Server, Vec<Peer>)>,
}

impl Model {
    pub(crate) fn new(script: &Script) -> anyhow::Result<Self> {
        let keys = script.config_keys();
        let variables = keys.into_iter().map(|(key, value)| {
            let name = key.to_uppercase().replace('-', "_");
            (format!("CILIUM_{name}"), value)
        });
        Ok(Self {
            world: World::new(NODE),
            options: stentor::config::load(None, variables, &stentor::config::Given::new())?
                .0
                .options,
            folder: Folder::new(PathBuf::from("/m")),
            servers: BTreeMap::new(),
        })
    }
}

impl Stage for Model {
    fn add_server(&mut self, server: &Server) -> anyhow::Result<()> {
        self.servers
            .insert(server.name.clone(), (server.clone(), Vec::new()));
        Ok(())
    }

    fn delete_server(&mut self, name: &str) -> anyhow::Result<()> {
        self.servers.remove(name);
        Ok(())
    }

    fn add_peer(&mut self, server: &str, peer: &Peer) -> anyhow::Result<()> {
        let (_, peers) = self.servers.get_mut(server).context("no such server")?;
        peers.push(peer.clone());
        Ok(())
    }

    fn write(&mut self, file: &str, text: Option<&str>) -> anyhow::Result<()> {
        let found = text.map_or(Found::Gone, |text| Found::Text(text.as_bytes().to_vec()));
        let look = FolderLook::Files(vec![(Path::new("/m").join(file), found)]);
        self.world.take(self.folder.take(0, look));
        Ok(())
    }

    fn wait_state(&mut self, _: &str, _: IpAddr, _: &str, _: Duration) -> anyhow::Result<()> {
        Ok(())
    }

    fn look(&mut self, look: &Look) -> anyhow::Result<Option<String>> {
        match look {
            Look::ServerRoutes { server, family } => {
                let (server, peers) = self.servers.get(server).context("no such server")?;
                let desired = plan(&self.world, &self.options);
                Ok(Some(routes(&desired, server, peers, *family)))
            }
            Look::ServerPeers { .. } | Look::Peers | Look::Routes(_) | Look::RoutePolicies(_) => Ok(None),
        }
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

fn routes(desired: &Desired, server: &Server, peers: &[Peer], family: Family) -> String {
    let mut rows = BTreeMap::new();
    for instance in desired.speaker.instances.values() {
        for config in instance.peers.values() {
            let local = config.local_address.or(peers.first().map(|p| p.address));
            let (Some(local), true) = (local, config.address == PeerAddress::One(server.address)) else {
                continue;
            };
            let knows = peers
                .iter()
                .any(|peer| peer.address == local && peer.families.contains(&family));
            if knows {
                rows.extend(received(instance, config, server, local, family));
            }
        }
    }
    let head = vec!["Prefix", "NextHop", "Attrs"];
    let rows: Vec<[String; 3]> = rows.into_values().collect();
    let rows = rows.iter().map(|row| row.iter().map(String::as_str).collect());
    table(std::iter::once(head).chain(rows))
}

/// By the text of the prefix, the order of the tables.
fn received(
    instance: &InstanceConfig,
    config: &PeerConfig,
    server: &Server,
    local: IpAddr,
    family: Family,
) -> BTreeMap<String, [String; 3]> {
    let export = config
        .families
        .iter()
        .find(|(f, _)| *f == family)
        .map(|(_, c)| &c.export);
    let routes = instance
        .routes
        .iter()
        .filter(|(prefix, _)| prefix.family() == family);
    let accepted = routes.filter_map(|(prefix, route)| {
        let statement = export?.statements.iter().find(|s| {
            let hit = |m: &bgp_speaker::policy::PrefixMatch| {
                m.prefix.contains(prefix) && (m.min..=m.max).contains(&prefix.len())
            };
            s.prefixes.is_empty() || s.prefixes.iter().any(hit)
        })?;
        match &statement.verdict {
            Verdict::Accept(set) => Some((prefix, route, set)),
            Verdict::Reject => None,
        }
    });
    let rows = accepted.map(|(prefix, route, set)| {
        let text = attributes(instance, server, local, prefix, route, set);
        (prefix.to_string(), [prefix.to_string(), local.to_string(), text])
    });
    rows.collect()
}

fn attributes(
    instance: &InstanceConfig,
    server: &Server,
    local: IpAddr,
    prefix: &Prefix,
    route: &LocalRoute,
    set: &SetAttrs,
) -> String {
    let internal = instance.asn.get() == server.asn;
    let origin = match route.attrs.origin {
        Origin::Igp => "i",
        Origin::Egp => "e",
        Origin::Incomplete => "?",
    };
    let path = if internal {
        String::new()
    } else {
        instance.asn.to_string()
    };
    let mut text = format!("[{{Origin: {origin}}} {{AsPath: {path}}}");
    let family = prefix.family();
    let by_mp = family != Family::IPV4_UNICAST || local.is_ipv6();
    if !by_mp {
        write!(text, " {{Nexthop: {local}}}").unwrap();
    }
    if internal {
        write!(text, " {{LocalPref: {}}}", set.local_pref.unwrap_or(100)).unwrap();
    }
    if !set.communities.is_empty() {
        let values: Vec<String> = set.communities.iter().map(|c| attrs::community(*c)).collect();
        write!(text, " {{Communities: {}}}", values.join(", ")).unwrap();
    }
    if !set.large_communities.is_empty() {
        let values: Vec<String> = set
            .large_communities
            .iter()
            .map(|c| format!("{}:{}:{}", c.0, c.1, c.2))
            .collect();
        write!(text, " {{LargeCommunity: [ {}]}}", values.join(", ")).unwrap();
    }
    if by_mp {
        let family = attrs::dashed(family);
        write!(
            text,
            " {{MpReach({family}): {{Nexthop: {local}, NLRIs: [{prefix}]}}}}"
        )
        .unwrap();
    }
    text + "]"
}
