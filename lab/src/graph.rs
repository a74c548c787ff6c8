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

/// All in pixels: a box without lines in it, the space it gives each cable, what lies between boxes, a line.
const WIDTH: u32 = 250;
const HEIGHT: u32 = 32;
const PLUG: u32 = 150;
const GAP: u32 = 40;
const ROW: u32 = 150;
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
        let plugs = self.plugs(&places);
        let width = places
            .values()
            .map(|place| place.x + place.width + GAP)
            .max()
            .unwrap_or(WIDTH);
        let height = places
            .values()
            .map(|place| place.y + place.height + GAP)
            .max()
            .unwrap_or(ROW);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{GAP}\" y=\"24\" font-size=\"16\">{}</text>",
            escape(&self.title)
        );
        for [from, to] in &plugs {
            line(&mut svg, *from, *to, "stroke=\"#888\" stroke-width=\"2\"");
        }
        for (pair, states) in self.session_pairs() {
            self.draw_sessions(&mut svg, &places, &plugs, &pair, &states);
        }
        for node in &self.boxes {
            if let Some(place) = places.get(&node.name) {
                draw_box(&mut svg, node, *place);
            }
        }
        // Last, so that no line covers them.
        for (cable, plugs) in self.cables.iter().zip(&plugs) {
            for (near, far) in [(0, 1), (1, 0)] {
                let ((x, y), label) = (plugs[near], &cable.ends[near].1);
                let count = u32::try_from(label.lines().count()).unwrap_or_default();
                let top = if plugs[far].1 > y {
                    y + LINE
                } else {
                    y.saturating_sub(count * LINE) + LINE - 4
                };
                for (number, part) in (0_u32..).zip(label.lines()) {
                    text(&mut svg, x + 4, top + number * LINE, part, "#555");
                }
            }
        }
        svg + "</svg>\n"
    }

    /// All sessions between the same two boxes, so that they can be drawn side by side.
    fn session_pairs(&self) -> BTreeMap<[&str; 2], Vec<&str>> {
        let mut pairs: BTreeMap<[&str; 2], Vec<&str>> = BTreeMap::new();
        for session in &self.sessions {
            let [a, b] = &session.ends;
            pairs.entry([a, b]).or_default().push(&session.state);
        }
        pairs
    }

    /// Along the cable between the two, or from middle to middle where there is none.
    fn draw_sessions(
        &self,
        svg: &mut String,
        places: &BTreeMap<String, Place>,
        plugs: &[[Point; 2]],
        pair: &[&str; 2],
        states: &[&str],
    ) {
        let cable = self.cables.iter().zip(plugs).find_map(|(cable, plugs)| {
            let ends = [&cable.ends[0].0, &cable.ends[1].0];
            let same = ends == [pair[0], pair[1]] || ends == [pair[1], pair[0]];
            same.then_some(*plugs)
        });
        let middles = || Some([places.get(pair[0])?.middle(), places.get(pair[1])?.middle()]);
        let Some([from, to]) = cable.or_else(middles) else {
            return;
        };
        for (number, state) in (1_u32..).zip(states) {
            let colour = if *state == "Established" { "#080" } else { "#c00" };
            // Beside the cable, on the side where its labels are not.
            let aside = |(x, y): Point| (x.saturating_sub(7 * number), y);
            let style = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"6 4\"");
            line(svg, aside(from), aside(to), &style);
            let (x, y) = between(aside(from), aside(to));
            text(
                svg,
                x + 12,
                y + number * LINE - LINE,
                &format!("BGP {state}"),
                colour,
            );
        }
    }

    /// Four rows, each as wide as it needs, centred.
    fn places(&self) -> BTreeMap<String, Place> {
        let mut rows: BTreeMap<Role, Vec<&Node>> = BTreeMap::new();
        for node in &self.boxes {
            rows.entry(node.role).or_default().push(node);
        }
        let width = |node: &Node| {
            let plugs = self.sides(&node.name);
            WIDTH.max(PLUG * plugs[0].len().max(plugs[1].len()).try_into().unwrap_or(0))
        };
        let span = |row: &[&Node]| -> u32 { row.iter().map(|node| width(node) + GAP).sum() };
        let widest = rows.values().map(|row| span(row)).max().unwrap_or_default();
        let mut places = BTreeMap::new();
        let mut y = GAP + 10;
        for row in rows.values() {
            let mut x = GAP + (widest - span(row)) / 2;
            let height = |node: &Node| HEIGHT + LINE * u32::try_from(node.lines.len()).unwrap_or_default();
            for node in row {
                let place = Place {
                    x,
                    y,
                    width: width(node),
                    height: height(node),
                };
                places.insert(node.name.clone(), place);
                x += place.width + GAP;
            }
            y += row.iter().map(|node| height(node)).max().unwrap_or_default() + ROW;
        }
        places
    }

    /// Which cables leave a box at its top and which at its bottom, each as (cable, end).
    fn sides(&self, name: &str) -> [Vec<(usize, usize)>; 2] {
        let role = |name: &str| {
            self.boxes
                .iter()
                .find(|node| node.name == name)
                .map(|node| node.role)
        };
        let mut sides = [Vec::new(), Vec::new()];
        for (index, cable) in self.cables.iter().enumerate() {
            for (own, other) in [(0, 1), (1, 0)] {
                if cable.ends[own].0 == name {
                    let below = role(&cable.ends[other].0) >= role(name);
                    sides[usize::from(below)].push((index, own));
                }
            }
        }
        sides
    }

    /// Where each cable's ends meet their boxes: spread over the edge, in the order of where they lead.
    fn plugs(&self, places: &BTreeMap<String, Place>) -> Vec<[Point; 2]> {
        let mut plugs = vec![[(0, 0); 2]; self.cables.len()];
        for (name, place) in places {
            for (side, mut ends) in self.sides(name).into_iter().enumerate() {
                ends.sort_by_key(|(cable, end)| {
                    places.get(&self.cables[*cable].ends[1 - end].0).map(|far| far.x)
                });
                let step = place.width / u32::try_from(ends.len() + 1).unwrap_or(1);
                let y = if side == 0 {
                    place.y
                } else {
                    place.y + place.height
                };
                for (number, (cable, end)) in (1_u32..).zip(ends) {
                    plugs[cable][end] = (place.x + number * step, y);
                }
            }
        }
        plugs
    }
}

type Point = (u32, u32);

#[derive(Clone, Copy)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Place {
    fn middle(self) -> Point {
        (self.x + self.width / 2, self.y + self.height / 2)
    }
}

fn between(from: Point, to: Point) -> Point {
    (u32::midpoint(from.0, to.0), u32::midpoint(from.1, to.1))
}

fn draw_box(svg: &mut String, node: &Node, place: Place) {
    let fill = match node.role {
        Role::Host => "#eef",
        Role::Router => "#ffe",
        Role::Agent => "#efe",
        Role::Pod => "#f6f6f6",
    };
    let Place { x, y, width, height } = place;
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" stroke=\"#444\"/>"
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-weight=\"bold\" font-size=\"13\">{}</text>",
        x + 8,
        y + 18,
        escape(&node.name)
    );
    for (number, entry) in (2_u32..).zip(&node.lines) {
        text(svg, x + 8, y + 6 + number * LINE, entry, "#222");
    }
}

/// The box that stands for a node of the topology: the cluster node whose network it shares, or its own.
fn box_of(spec: &Spec, name: &str) -> String {
    match spec.topology.nodes.get(name).map(|node| &node.network) {
        Some(Network::Of(other)) => other.clone(),
        Some(Network::Own) | None => name.to_owned(),
    }
}

fn addresses(node: &Handle, interface: &str) -> Result<Vec<String>, Error> {
    let text = node.sh_in_network(&format!("ip -j addr show dev {interface} scope global"))?;
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
        "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" paint-order=\"stroke\" stroke=\"white\" \
         stroke-opacity=\"0.7\" stroke-width=\"3\">{}</text>",
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
                let apart = a.x + a.width <= b.x
                    || b.x + b.width <= a.x
                    || a.y + a.height <= b.y
                    || b.y + b.height <= a.y;
                assert!(apart);
            }
        }
    }
}
