//! Reading containerlab's topology files.
//!
//! Understood: `name`, `topology.{defaults, kinds, groups, nodes, links}`; of a node `kind` (linux), `group`,
//! `image`, `cmd`, `entrypoint`, `exec`, `binds`, `env`, `network-mode`; links in the short and in the extended
//! form, with `mtu`. A node takes what it does not say from its group, then its kind, then the defaults; lists
//! and maps are joined. Settings that only concern containers (ports, memory, labels) have no meaning here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What containerlab gives a link that says nothing.
pub const MTU: u32 = 9500;

/// A topology, all inheritance resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    pub name: String,
    pub nodes: BTreeMap<String, Node>,
    pub links: Vec<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub image: String,
    /// What the container runs: `entrypoint` and `cmd`; `None` is what the image says itself.
    pub command: Option<String>,
    /// Command lines run after the links are there.
    pub exec: Vec<String>,
    pub binds: Vec<Bind>,
    pub env: BTreeMap<String, String>,
    pub network: Network,
}

/// Whose network a node lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    Own,
    /// That of another container, which the topology need not name: a node of a kind cluster.
    Of(String),
}

/// `source:target[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub source: String,
    pub target: String,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

impl Access {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "rw",
            Self::ReadOnly => "ro",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub ends: [Endpoint; 2],
    pub mtu: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub node: String,
    pub interface: String,
}

/// Why a topology cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("not a topology: {0}")]
    Syntax(String),
    #[error("node {node}: kind {kind} is not supported, only linux is")]
    Kind { node: String, kind: String },
    #[error("node {node}: network-mode {mode} is not supported, only container:NAME is")]
    NetworkMode { node: String, mode: String },
    #[error("node {node}: bind {bind} is not source:target[:ro]")]
    Bind { node: String, bind: String },
    #[error("link {link}: {reason}")]
    Link { link: String, reason: String },
}

/// Reads a topology.
///
/// # Errors
/// The text is no topology, or asks for what a lab of namespaces has not got.
pub fn parse(text: &str) -> Result<Topology, TopologyError> {
    let file: File =
        serde_saphyr::from_str(text).map_err(|error| TopologyError::Syntax(error.to_string()))?;
    let raw = file.topology;
    let mut nodes = BTreeMap::new();
    for (name, node) in &raw.nodes {
        let node = node.clone().unwrap_or_default();
        nodes.insert(name.clone(), resolve(name, &node, &raw)?);
    }
    let links = raw
        .links
        .iter()
        .map(|link| resolve_link(link, &nodes))
        .collect::<Result<_, _>>()?;
    Ok(Topology {
        name: file.name,
        nodes,
        links,
    })
}

#[derive(Deserialize)]
struct File {
    name: String,
    topology: Raw,
}

#[derive(Default, Deserialize)]
struct Raw {
    #[serde(default)]
    defaults: RawNode,
    #[serde(default)]
    kinds: BTreeMap<String, RawNode>,
    #[serde(default)]
    groups: BTreeMap<String, RawNode>,
    nodes: BTreeMap<String, Option<RawNode>>,
    #[serde(default)]
    links: Vec<RawLink>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawNode {
    kind: Option<String>,
    group: Option<String>,
    image: Option<String>,
    entrypoint: Option<String>,
    cmd: Option<String>,
    network_mode: Option<String>,
    #[serde(default)]
    exec: Vec<String>,
    #[serde(default)]
    binds: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct RawLink {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    endpoints: Vec<RawEndpoint>,
    mtu: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawEndpoint {
    Short(String),
    Extended { node: String, interface: String },
}

fn resolve(name: &str, node: &RawNode, raw: &Raw) -> Result<Node, TopologyError> {
    let group_name = node.group.as_ref().or(raw.defaults.group.as_ref());
    let none = RawNode::default();
    let group = group_name
        .and_then(|group| raw.groups.get(group))
        .unwrap_or(&none);
    let kind_name = [node, group, &raw.defaults]
        .into_iter()
        .find_map(|level| level.kind.clone());
    let kind_name = kind_name.unwrap_or_else(|| "linux".to_owned());
    if kind_name != "linux" {
        return Err(TopologyError::Kind {
            node: name.into(),
            kind: kind_name,
        });
    }
    let kind = raw.kinds.get(&kind_name).unwrap_or(&none);
    // Nearest first; for what is joined, farthest first.
    let levels = [node, group, kind, &raw.defaults];
    let nearest = |get: fn(&RawNode) -> Option<&String>| levels.into_iter().find_map(get).cloned();
    let joined = |get: fn(&RawNode) -> &Vec<String>| levels.into_iter().rev().flat_map(get).cloned();

    let network = match nearest(|level| level.network_mode.as_ref()) {
        None => Network::Own,
        Some(mode) => match mode.strip_prefix("container:") {
            Some(other) => Network::Of(other.to_owned()),
            None => {
                return Err(TopologyError::NetworkMode {
                    node: name.into(),
                    mode,
                });
            }
        },
    };
    let bind = |text: String| {
        parse_bind(&text).ok_or(TopologyError::Bind {
            node: name.into(),
            bind: text,
        })
    };
    let entrypoint = nearest(|level| level.entrypoint.as_ref());
    let command: Vec<String> = entrypoint
        .into_iter()
        .chain(nearest(|level| level.cmd.as_ref()))
        .collect();
    let env = levels.into_iter().rev().flat_map(|level| &level.env);
    Ok(Node {
        image: nearest(|level| level.image.as_ref()).unwrap_or_default(),
        command: Some(command.join(" ")).filter(|command| !command.is_empty()),
        exec: joined(|level| &level.exec).collect(),
        binds: joined(|level| &level.binds).map(bind).collect::<Result<_, _>>()?,
        env: env.map(|(name, value)| (name.clone(), plain(value))).collect(),
        network,
    })
}

/// The text of a YAML scalar: in a file of variables, `1` means "1".
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parse_bind(text: &str) -> Option<Bind> {
    let mut parts = text.split(':');
    let (source, target) = (parts.next()?, parts.next()?);
    let access = match parts.next() {
        None | Some("rw") => Access::ReadWrite,
        Some("ro") => Access::ReadOnly,
        Some(_) => return None,
    };
    let absolute = target.starts_with('/') && !source.is_empty() && parts.next().is_none();
    absolute.then(|| Bind {
        source: source.into(),
        target: target.into(),
        access,
    })
}

fn resolve_link(link: &RawLink, nodes: &BTreeMap<String, Node>) -> Result<Link, TopologyError> {
    let shown = || {
        let ends = link.endpoints.iter().map(|end| match end {
            RawEndpoint::Short(text) => text.clone(),
            RawEndpoint::Extended { node, interface } => format!("{node}:{interface}"),
        });
        ends.collect::<Vec<_>>().join(" - ")
    };
    let fault = |reason: &str| TopologyError::Link {
        link: shown(),
        reason: reason.into(),
    };
    if link.kind.as_ref().is_some_and(|kind| kind != "veth") {
        return Err(fault("only type veth is supported"));
    }
    let ends = link.endpoints.iter().map(|end| match end {
        RawEndpoint::Short(text) => text
            .split_once(':')
            .map(|(node, interface)| Endpoint {
                node: node.into(),
                interface: interface.into(),
            })
            .ok_or_else(|| fault("an endpoint is node:interface")),
        RawEndpoint::Extended { node, interface } => Ok(Endpoint {
            node: node.clone(),
            interface: interface.clone(),
        }),
    });
    let ends: Vec<Endpoint> = ends.collect::<Result<_, _>>()?;
    let ends: [Endpoint; 2] = ends.try_into().map_err(|_| fault("a link has two endpoints"))?;
    for end in &ends {
        if !nodes.contains_key(&end.node) {
            return Err(fault(&format!("there is no node {}", end.node)));
        }
        if end.interface.is_empty() || end.interface.len() > 15 {
            return Err(fault("an interface name has 1 to 15 bytes"));
        }
    }
    Ok(Link {
        ends,
        mtu: link.mtu.unwrap_or(MTU),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_inherits_from_group_kind_and_defaults_in_that_order() {
        let topology = parse(
            "name: t\ntopology:\n  defaults: {kind: linux, image: d, env: {A: 1, B: d}, exec: [first]}\n  \
             kinds: {linux: {image: k, exec: [second]}}\n  groups: {g: {image: g, env: {B: g}}}\n  \
             nodes:\n    a: {group: g, exec: [third], binds: ['f:/etc/f:ro']}\n    b:\n",
        )
        .unwrap();
        let a = &topology.nodes["a"];
        assert_eq!((a.image.as_str(), topology.nodes["b"].image.as_str()), ("g", "k"));
        assert_eq!(a.exec, ["first", "second", "third"]);
        assert_eq!(
            a.env,
            BTreeMap::from([("A".into(), "1".into()), ("B".into(), "g".into())])
        );
        assert_eq!(a.binds[0].access, Access::ReadOnly);
    }

    #[test]
    fn links_come_in_a_short_and_an_extended_form() {
        let topology = parse(
            "name: t\ntopology:\n  nodes: {a: {}, b: {}}\n  links:\n  - endpoints: ['a:e1', 'b:e1']\n  \
             - type: veth\n    mtu: 1500\n    endpoints:\n    - {node: a, interface: e2}\n    - {node: b, interface: e2}\n",
        )
        .unwrap();
        assert_eq!(topology.links[0].mtu, MTU);
        assert_eq!(topology.links[1].mtu, 1500);
        assert_eq!(
            topology.links[1].ends[1],
            Endpoint {
                node: "b".into(),
                interface: "e2".into()
            }
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let refusal = |nodes: &str, links: &str| {
            parse(&format!(
                "name: t\ntopology:\n  nodes: {nodes}\n  links: {links}\n"
            ))
            .unwrap_err()
            .to_string()
        };
        assert_eq!(
            refusal("{a: {kind: srl}}", "[]"),
            "node a: kind srl is not supported, only linux is"
        );
        assert!(refusal("{a: {network-mode: host}}", "[]").contains("network-mode host is not supported"));
        assert!(refusal("{a: {}}", "[{endpoints: ['a:x', 'c:y']}]").contains("there is no node c"));
        assert!(refusal("{a: {}}", "[{endpoints: ['a:x']}]").contains("two endpoints"));
        assert!(refusal("{a: {binds: ['x']}}", "[]").contains("source:target"));
        assert!(refusal("3", "[]").starts_with("not a topology"));
    }

    #[test]
    fn a_node_may_live_in_the_network_of_a_container_outside_the_topology() {
        let topology =
            parse("name: t\ntopology: {nodes: {a: {network-mode: 'container:c-worker'}}}\n").unwrap();
        assert_eq!(topology.nodes["a"].network, Network::Of("c-worker".into()));
    }
}
