//! A lab as a drawing: nodes, cables with their addresses, sessions with their state, prefixes.
//!
//! ```text
//!   hosts      server2                 four rows, top down; a solid line is a cable, a dashed one a session,
//!   routers    router0  prefixes       green when it is established, red when not
//!   nodes      worker   prefixes
//!   pods       web-0    addresses
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::clab::Network;
use crate::cluster::Pod;
use crate::frr;
use crate::running::Image;
use crate::{Error, Handle, Spec};

const BOX: (u32, u32) = (250, 44);
const GAP: u32 = 40;
const ROW: u32 = 96;
const LINE: u32 = 14;

/// Everything to be drawn. Made from files alone it has no states and no addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    title: String,
    boxes: Vec<Node>,
    cables: Vec<Cable>,
    sessions: Vec<Session>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    role: Role,
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Host,
    Router,
    Agent,
    Pod,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cable {
    ends: [(String, String); 2],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    ends: [String; 2],
    state: String,
}

impl Graph {
    /// The topology and the cluster's pods.
    #[must_use]
    pub fn of(spec: &Spec, pods: &[Pod]) -> Self {
        let topology = &spec.topology;
        let agents = spec.cluster_nodes();
        let mut boxes: Vec<Node> = agents
            .iter()
            .map(|name| Node {
                name: name.clone(),
                role: Role::Agent,
                lines: Vec::new(),
            })
            .collect();
        for (name, node) in &topology.nodes {
            let role = if Image::of(&node.image) == Image::Host {
                Role::Host
            } else {
                Role::Router
            };
            match &node.network {
                Network::Own => boxes.push(Node {
                    name: name.clone(),
                    role,
                    lines: Vec::new(),
                }),
                Network::Of(other) => {
                    if let Some(known) = boxes.iter_mut().find(|known| known.name == *other) {
                        known.lines.push(format!("shared with {name}"));
                    }
                }
            }
        }
        let mut cables = Vec::new();
        for link in &topology.links {
            let end = |index: usize| {
                let end = &link.ends[index];
                (box_of(spec, &end.node), end.interface.clone())
            };
            cables.push(Cable {
                ends: [end(0), end(1)],
            });
        }
        for pod in pods {
            let addresses = pod.addresses.iter().map(ToString::to_string).collect();
            boxes.push(Node {
                name: pod.name.clone(),
                role: Role::Pod,
                lines: addresses,
            });
            let ends = [
                (pod.name.clone(), String::new()),
                (pod.node.clone(), String::new()),
            ];
            cables.push(Cable { ends });
        }
        Self {
            title: topology.name.clone(),
            boxes,
            cables,
            sessions: Vec::new(),
        }
    }

    /// Adds what a running lab knows: addresses, sessions, prefixes.
    ///
    /// # Errors
    /// A node or a router cannot be asked.
    pub fn observe(&mut self, spec: &Spec, nodes: &BTreeMap<String, Handle>) -> Result<(), Error> {
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for cable in &mut self.cables {
            for (name, interface) in &mut cable.ends {
                let Some(node) = nodes.get(name).filter(|_| !interface.is_empty()) else {
                    continue;
                };
                let addresses = addresses(node, interface)?;
                for address in &addresses {
                    let plain = address.split('/').next().unwrap_or_default();
                    owners.insert(plain.to_owned(), name.clone());
                }
                for address in &addresses {
                    interface.push('\n');
                    interface.push_str(address);
                }
            }
        }
        for router in spec.routers() {
            let Some(node) = nodes.get(&router) else { continue };
            for (peer, session) in frr::sessions(node)? {
                let other = owners.get(&peer).cloned().unwrap_or_else(|| peer.clone());
                self.sessions.push(Session {
                    ends: [router.clone(), other],
                    state: session.state,
                });
            }
            for (prefix, paths) in frr::routes(node)? {
                let from: BTreeSet<String> = paths
                    .iter()
                    .map(|path| owners.get(&path.peer).unwrap_or(&path.peer).clone())
                    .collect();
                let communities: BTreeSet<&String> =
                    paths.iter().flat_map(|path| &path.communities).collect();
                let communities: Vec<&str> = communities.into_iter().map(String::as_str).collect();
                let note = if communities.is_empty() {
                    String::new()
                } else {
                    format!(" [{}]", communities.join(" "))
                };
                for name in from.iter().chain([&router]) {
                    let line = format!("{prefix}{note}");
                    if let Some(known) = self.boxes.iter_mut().find(|known| known.name == *name)
                        && !known.lines.contains(&line)
                    {
                        known.lines.push(line);
                    }
                }
            }
        }
        Ok(())
    }

    /// The drawing.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let places = self.places();
        let width = places
            .values()
            .map(|place| place.x + BOX.0 + GAP)
            .max()
            .unwrap_or(BOX.0);
        let height = places
            .values()
            .map(|place| place.y + place.height + GAP)
            .max()
            .unwrap_or(ROW)
            + LINE;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{GAP}\" y=\"24\" font-size=\"16\">{}</text>",
            escape(&self.title)
        );
        for cable in &self.cables {
            let [a, b] = &cable.ends;
            let (Some(from), Some(to)) = (places.get(&a.0), places.get(&b.0)) else {
                continue;
            };
            line(
                &mut svg,
                from.middle(),
                to.middle(),
                "stroke=\"#888\" stroke-width=\"2\"",
            );
        }
        for session in &self.sessions {
            let [a, b] = &session.ends;
            let (Some(from), Some(to)) = (places.get(a), places.get(b)) else {
                continue;
            };
            let colour = if session.state == "Established" {
                "#080"
            } else {
                "#c00"
            };
            // Beside the cable, which often runs the same way.
            let aside = |(x, y): (u32, u32)| (x + 14, y);
            let style = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"6 4\"");
            line(&mut svg, aside(from.middle()), aside(to.middle()), &style);
            let (x, y) = between(aside(from.middle()), aside(to.middle()), 50);
            text(&mut svg, x + 6, y, &format!("BGP {}", session.state), colour);
        }
        for node in &self.boxes {
            let Some(place) = places.get(&node.name) else {
                continue;
            };
            let fill = match node.role {
                Role::Host => "#eef",
                Role::Router => "#ffe",
                Role::Agent => "#efe",
                Role::Pod => "#f6f6f6",
            };
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"{fill}\" stroke=\"#444\"/>",
                place.x, place.y, BOX.0, place.height
            );
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" font-weight=\"bold\" font-size=\"13\">{}</text>",
                place.x + 8,
                place.y + 18,
                escape(&node.name)
            );
            for (number, entry) in (2_u32..).zip(&node.lines) {
                text(&mut svg, place.x + 8, place.y + 6 + number * LINE, entry, "#222");
            }
        }
        // Last, so that no line covers them.
        for cable in &self.cables {
            let [a, b] = &cable.ends;
            let (Some(from), Some(to)) = (places.get(&a.0), places.get(&b.0)) else {
                continue;
            };
            for (label, near, far) in [(&a.1, from, to), (&b.1, to, from)] {
                let (x, y) = near.edge_towards(*far);
                let down = if far.y > near.y { LINE } else { 0 };
                let count = u32::try_from(label.lines().count()).unwrap_or_default();
                for (number, part) in (0_u32..).zip(label.lines()) {
                    let y = if down > 0 {
                        y + down + number * LINE
                    } else {
                        (y + number * LINE).saturating_sub((count - 1) * LINE + 4)
                    };
                    text(&mut svg, x + 4, y, part, "#555");
                }
            }
        }
        svg + "</svg>\n"
    }

    /// Four rows, each as wide as it needs, centred.
    fn places(&self) -> BTreeMap<String, Place> {
        let mut rows: BTreeMap<Role, Vec<&Node>> = BTreeMap::new();
        for node in &self.boxes {
            rows.entry(node.role).or_default().push(node);
        }
        let widest = rows.values().map(Vec::len).max().unwrap_or_default();
        let span = |count: usize| u32::try_from(count).unwrap_or_default() * (BOX.0 + GAP);
        let mut places = BTreeMap::new();
        let mut y = GAP + 10;
        for row in rows.values() {
            let left = GAP + (span(widest) - span(row.len())) / 2;
            let height = |node: &Node| BOX.1 + LINE * u32::try_from(node.lines.len()).unwrap_or_default();
            for (index, node) in row.iter().enumerate() {
                places.insert(
                    node.name.clone(),
                    Place {
                        x: left + span(index),
                        y,
                        height: height(node),
                    },
                );
            }
            y += row.iter().map(|node| height(node)).max().unwrap_or_default() + ROW;
        }
        places
    }
}

#[derive(Clone, Copy)]
struct Place {
    x: u32,
    y: u32,
    height: u32,
}

impl Place {
    fn middle(self) -> (u32, u32) {
        (self.x + BOX.0 / 2, self.y + self.height / 2)
    }

    /// Where the line to another box leaves this one.
    fn edge_towards(self, other: Self) -> (u32, u32) {
        let (from, to) = (self.middle(), other.middle());
        let y = match other.y.cmp(&self.y) {
            std::cmp::Ordering::Greater => self.y + self.height,
            std::cmp::Ordering::Less => self.y,
            std::cmp::Ordering::Equal => return between(from, to, 45),
        };
        let percent = 100 * y.abs_diff(from.1) / to.1.abs_diff(from.1).max(1);
        (between(from, to, percent).0, y)
    }
}

fn between(from: (u32, u32), to: (u32, u32), percent: u32) -> (u32, u32) {
    let part = |a: u32, b: u32| (a * (100 - percent.min(100)) + b * percent.min(100)) / 100;
    (part(from.0, to.0), part(from.1, to.1))
}

/// The box that stands for a node of the topology: the cluster node whose network it shares, or its own.
fn box_of(spec: &Spec, name: &str) -> String {
    match spec.topology.nodes.get(name).map(|node| &node.network) {
        Some(Network::Of(other)) => other.clone(),
        Some(Network::Own) | None => name.to_owned(),
    }
}

fn addresses(node: &Handle, interface: &str) -> Result<Vec<String>, Error> {
    let text = node.exec(&["ip", "-j", "addr", "show", "dev", interface, "scope", "global"])?;
    let links: Value = serde_json::from_str(&text).unwrap_or_default();
    let all = links
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    Ok(all
        .filter_map(|info| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"])))
        .collect())
}

fn line(svg: &mut String, from: (u32, u32), to: (u32, u32), style: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {style}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: u32, y: u32, text: &str, colour: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
        escape(text)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let node = |name: &str, role| Node {
            name: name.into(),
            role,
            lines: vec!["10.0.0.0/24".into()],
        };
        Graph {
            title: "a<b".into(),
            boxes: vec![node("r", Role::Router), node("n", Role::Agent)],
            cables: vec![Cable {
                ends: [
                    ("r".into(), "net0\n10.0.0.1/24".into()),
                    ("n".into(), "net0".into()),
                ],
            }],
            sessions: vec![Session {
                ends: ["r".into(), "n".into()],
                state: "Active".into(),
            }],
        }
    }

    #[test]
    fn the_drawing_shows_nodes_addresses_states_and_prefixes() {
        let svg = graph().to_svg();
        for part in [
            ">r</text>",
            ">n</text>",
            "10.0.0.1/24",
            "BGP Active",
            "#c00",
            ">10.0.0.0/24</text>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.contains("a&lt;b"));
    }

    #[test]
    fn boxes_do_not_overlap() {
        let mut graph = graph();
        graph.boxes.push(Node {
            name: "n2".into(),
            role: Role::Agent,
            lines: Vec::new(),
        });
        let places: Vec<Place> = graph.places().into_values().collect();
        for (index, a) in places.iter().enumerate() {
            for b in places.iter().skip(index + 1) {
                let apart = a.x + BOX.0 <= b.x
                    || b.x + BOX.0 <= a.x
                    || a.y + a.height <= b.y
                    || b.y + b.height <= a.y;
                assert!(apart);
            }
        }
    }
}
