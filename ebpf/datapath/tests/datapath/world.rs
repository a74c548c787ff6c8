//! Objects as text, the node they are planned for, and the image that came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crds::Object;
use crds::k8s_openapi::api::core::v1::{Node, Pod, Service};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use ebpf_datapath::diff::{apply, diff};
use ebpf_datapath::image::{Built, MapImage, build};
use ebpf_datapath::services::{Objects, Plan, plan};
use ebpf_datapath::{Problem, Settings, ThisNode};

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<EndpointSlice>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) node: ThisNode,
    pub(crate) settings: Settings,
    pub(crate) image: MapImage,
}

impl World {
    pub(crate) fn new() -> Self {
        let addresses: BTreeSet<_> = ["192.0.2.1", "2001:db8::1"]
            .map(|text| text.parse().expect("an address"))
            .into();
        Self {
            node: ThisNode {
                name: "me".to_owned(),
                labels: BTreeMap::new(),
                node_port_addresses: addresses.clone(),
                addresses,
            },
            ..Self::default()
        }
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut world = Self::new();
        world.add(text);
        world
    }

    /// Puts objects in, in place of those with the same name.
    pub(crate) fn add(&mut self, text: &str) {
        let read = crds::read(Path::new("test.yaml"), text);
        assert!(read.bad.is_empty(), "{:?}", read.problems);
        for parsed in read.objects {
            match parsed.object {
                Object::Service(service) => {
                    let service = service.into_inner();
                    self.services.retain(|known| {
                        (&known.metadata.namespace, &known.metadata.name)
                            != (&service.metadata.namespace, &service.metadata.name)
                    });
                    self.services.push(service);
                }
                Object::EndpointSlice(slice) => {
                    let slice = slice.into_inner();
                    self.slices.retain(|known| {
                        (&known.metadata.namespace, &known.metadata.name)
                            != (&slice.metadata.namespace, &slice.metadata.name)
                    });
                    self.slices.push(slice);
                }
                Object::Node(node) => self.nodes.push(*node),
                other => panic!("nobody asks for {:?}", other.kind()),
            }
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let objects = Objects {
            services: self.services.iter().collect(),
            slices: self.slices.iter().collect(),
            nodes: self.nodes.iter().collect(),
            pods: self.pods.iter().collect(),
            granted: BTreeMap::new(),
        };
        plan(&objects, &self.node, &self.settings)
    }

    pub(crate) fn build(&self) -> Built {
        build(&self.plan(), &self.image, &self.node, &self.settings)
    }

    /// Carries out the whole difference, and looks at every step. What did not fit is named.
    pub(crate) fn settle(&mut self) -> Vec<Problem> {
        let built = self.build();
        for op in diff(&self.image, &built.image) {
            apply(&op, &mut self.image);
            assert_eq!(self.image.dangling(), [], "after {op:?}");
        }
        assert_eq!(self.image, built.image);
        built.refused
    }

    /// `address type service [serving | draining | held]`, for both views where they differ.
    pub(crate) fn table(&self) -> String {
        let plan = self.plan();
        let mut lines: Vec<String> = Vec::new();
        for service in &plan.services {
            for frontend in &service.frontends {
                let members = |set: usize| {
                    let set = &service.sets[set];
                    let list = |sockets: &[ebpf_datapath::Socket]| {
                        let sockets: Vec<String> =
                            sockets.iter().map(|socket| socket.address.to_string()).collect();
                        sockets.join(" ")
                    };
                    let all = [list(&set.serving), list(&set.draining), list(&set.held)];
                    all.join("|").trim_end_matches('|').to_owned()
                };
                let (outer, inner) = (members(frontend.outer), members(frontend.inner));
                let inside = if inner == outer {
                    String::new()
                } else {
                    format!(" inside [{inner}]")
                };
                lines.push(format!(
                    "{} {} {} [{outer}]{inside}",
                    frontend.socket, frontend.kind, service.name
                ));
            }
        }
        lines.join("\n")
    }

    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        self.plan().problems.iter().map(Problem::reason).collect()
    }
}

/// A Service; `spec` and `more` are YAML for one line each.
pub(crate) fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a, uid: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// A slice with TCP port 80 named `http`; an endpoint is `address/node` with conditions after it: `r` ready, `s` serving,
/// `t` terminating.
pub(crate) fn slice(name: &str, service: &str, endpoints: &[&str]) -> String {
    let family = if endpoints.iter().any(|e| e.contains("::")) {
        "IPv6"
    } else {
        "IPv4"
    };
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: a\n  labels: \
         {{kubernetes.io/service-name: {service}}}\naddressType: {family}\nports: [{{name: http, port: 80, protocol: TCP}}]\n\
         endpoints:\n"
    );
    for endpoint in endpoints {
        let mut words = endpoint.split(' ');
        let (address, node) = words
            .next()
            .and_then(|at| at.split_once('/'))
            .expect("address/node");
        let flags = words.next().unwrap_or("rs");
        let extra = words.next().unwrap_or_default();
        let has = |flag| flags.contains(flag);
        text.push_str(&format!(
            "- {{addresses: [\"{address}\"], nodeName: {node}, conditions: {{ready: {}, serving: {}, terminating: {}}}{}}}\n",
            has('r'),
            has('s'),
            has('t'),
            if extra.is_empty() { String::new() } else { format!(", hints: {{forZones: [{{name: {extra}}}]}}") },
        ));
    }
    text
}
