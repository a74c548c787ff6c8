//! The objects that agents are given, and their configuration.

use std::fmt::Write as _;

use crate::bed::{BACKENDS, FAR, PORT, ROUTER, TARGET, vip};
use crate::way::{Forwarding, Hook};

/// Keys and values of Cilium's ConfigMap.
pub(crate) fn config(hook: Hook, forwarding: Forwarding) -> String {
    let acceleration = match hook {
        Hook::Tc => "disabled",
        Hook::Xdp => "native",
    };
    let mode = match forwarding {
        Forwarding::Snat => "snat",
        Forwarding::Ipip => "dsr",
    };
    format!(
        "kube-proxy-replacement: \"true\"\ndevices: eth+\nbpf-lb-mode: {mode}\nbpf-lb-dsr-dispatch: ipip\n\
         bpf-lb-acceleration: {acceleration}\nenable-ipv4: \"true\"\nenable-ipv6: \"false\"\n\
         bpf-ct-global-tcp-max: \"131072\"\nbpf-ct-global-any-max: \"131072\"\n"
    )
}

/// Nodes, and services that all have the same backends.
pub(crate) fn all(services: u32) -> String {
    let mut text = String::new();
    for (name, address) in [("router", ROUTER), ("far", FAR)] {
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}}}}}\n\
             status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n---\n"
        );
    }
    let ports = |more: &str| {
        let list = ["TCP", "UDP"].map(|protocol| {
            format!(
                "{{name: {}, protocol: {protocol}, {more}}}",
                protocol.to_lowercase()
            )
        });
        list.join(", ")
    };
    let endpoints = BACKENDS
        .map(|backend| format!("{{addresses: [{backend}], nodeName: far, conditions: {{ready: true}}}}"));
    for n in 0..services {
        let [_, _, third, fourth] = vip(n).octets();
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: default, uid: s{n}}}\n\
             spec: {{type: LoadBalancer, allocateLoadBalancerNodePorts: false, clusterIP: 10.96.{third}.{fourth}, \
             clusterIPs: [10.96.{third}.{fourth}], ports: [{}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: {}}}]}}}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{n}, namespace: default, labels: {{kubernetes.io/service-name: s{n}}}}}\n\
             addressType: IPv4\nports: [{}]\nendpoints: [{}]\n---\n",
            ports(&format!("port: {PORT}, targetPort: {TARGET}")),
            vip(n),
            ports(&format!("port: {TARGET}")),
            endpoints.join(", "),
        );
    }
    text
}
