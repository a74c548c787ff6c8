//! The keys, and what is near to one.

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It decides something.
    Acted { form: Form, help: &'static str },
    /// It asks for something this version lacks, unless it has this value.
    Lacking { harmless: &'static str },
    /// It says how Cilium does what happens here in another way, or not at all.
    Moot,
}

/// A key of Cilium's ConfigMap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    used: Use,
}

/// How its value is written on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `--key=true`; `--key` alone says the same.
    Flag,
    Value,
}

/// The keys that decide something: each is an option of the agent too.
pub(crate) fn options() -> impl Iterator<Item = (&'static str, Form, &'static str)> {
    KEYS.iter().filter_map(|key| match key.used {
        Use::Acted { form, help } => Some((key.name, form, help)),
        Use::Lacking { .. } | Use::Moot => None,
    })
}

const fn acted(name: &'static str, form: Form, help: &'static str) -> Key {
    Key {
        name,
        used: Use::Acted { form, help },
    }
}

const fn lacking(name: &'static str, harmless: &'static str) -> Key {
    Key {
        name,
        used: Use::Lacking { harmless },
    }
}

const fn moot(name: &'static str) -> Key {
    Key {
        name,
        used: Use::Moot,
    }
}

#[rustfmt::skip]
const KEYS: &[Key] = &[
    moot("agent-liveness-update-interval"),
    acted("bgp-router-id-allocation-ip-pool", Form::Value, "IPv4 prefix that router IDs are taken from"),
    acted("bgp-router-id-allocation-mode", Form::Value, "Where router IDs come from: default or ip-pool"),
    acted("bgp-secrets-namespace", Form::Value, "Namespace of the Secrets with passwords"),
    acted("bpf-ct-global-any-max", Form::Value, "Flows of other protocols that are remembered, of each family"),
    acted("bpf-ct-global-tcp-max", Form::Value, "TCP flows that are remembered, of each family"),
    moot("bpf-ct-timeout-regular-any"),
    moot("bpf-ct-timeout-regular-tcp"),
    acted("bpf-ct-timeout-regular-tcp-fin", Form::Value, "How long a closed TCP connection is remembered"),
    acted("bpf-ct-timeout-regular-tcp-syn", Form::Value, "How long a TCP connection is remembered that was never answered"),
    acted("bpf-ct-timeout-service-any", Form::Value, "How long silence ends a flow that is not TCP"),
    acted("bpf-ct-timeout-service-tcp", Form::Value, "How long silence ends a TCP connection"),
    moot("bpf-ct-timeout-service-tcp-grace"),
    acted("bpf-fragments-map-max", Form::Value, "Datagrams in fragments that are remembered"),
    acted("bpf-lb-acceleration", Form::Value, "Where packets are taken: disabled (tc), native (XDP) or best-effort"),
    acted("bpf-lb-affinity-map-max", Form::Value, "Clients that are remembered for session affinity"),
    acted("bpf-lb-algorithm", Form::Value, "How backends are chosen: random or maglev"),
    acted("bpf-lb-algorithm-annotation", Form::Flag, "Let Services choose it with service.cilium.io/lb-algorithm"),
    acted("bpf-lb-answer-rate", Form::Value, "Echo replies, resets and ICMP errors each processor may send in a second; 0: none"),
    acted("bpf-lb-container-devices", Form::Value, "Devices of pods whose sockets are out of reach, as lxc+: their packets are balanced"),
    acted("bpf-lb-dsr-dispatch", Form::Value, "How packets travel under DSR: opt, ipip or geneve"),
    acted("bpf-lb-external-clusterip", Form::Flag, "Serve cluster addresses to clients outside"),
    acted("bpf-lb-flow-rate", Form::Value, "Flows by DSR and Maglev each processor remembers in a second; others go on without; 0: all"),
    acted("bpf-lb-maglev-hash-seed", Form::Value, "12 octets in base64, the same on all nodes"),
    acted("bpf-lb-maglev-map-max", Form::Value, "Sets of backends that may have a Maglev table"),
    acted("bpf-lb-maglev-table-size", Form::Value, "Length of each Maglev table, a prime of the list"),
    acted("bpf-lb-map-max", Form::Value, "Size of all maps of the load balancer that have no key of their own"),
    acted("bpf-lb-mode", Form::Value, "How packets get to other nodes: snat, dsr, or hybrid (TCP dsr, UDP snat)"),
    acted("bpf-lb-mode-annotation", Form::Flag, "Let Services choose it with service.cilium.io/forwarding-mode"),
    moot("bpf-lb-rev-nat-map-max"),
    acted("bpf-lb-service-backend-map-max", Form::Value, "Backends, of each family"),
    acted("bpf-lb-service-map-max", Form::Value, "Frontends, of each family"),
    acted("bpf-lb-sock", Form::Flag, "Balance the sockets of this node at connect()"),
    acted("bpf-lb-source-range-all-types", Form::Flag, "Hold loadBalancerSourceRanges against all frontends"),
    acted("bpf-lb-source-range-map-max", Form::Value, "Source ranges, of each family"),
    acted("bpf-lb-vip-echo", Form::Flag, "Addresses of Services answer ping"),
    acted("bpf-map-dynamic-size-ratio", Form::Value, "Share of the memory for what programs remember"),
    moot("bpf-nat-global-max"),
    moot("bpf-neigh-global-max"),
    acted("bpf-root", Form::Value, "BPF file system, for what outlives the agent"),
    moot("bpf-sock-rev-map-max"),
    acted("cgroup-root", Form::Value, "cgroup2 whose sockets are balanced"),
    acted("cluster-pool-ipv4-cidr", Form::Value, "Prefixes that nodes' pod prefixes are cut from (operator)"),
    acted("cluster-pool-ipv4-mask-size", Form::Value, "Length of each node's pod prefix (operator)"),
    acted("cluster-pool-ipv6-cidr", Form::Value, "The same for IPv6 (operator)"),
    acted("cluster-pool-ipv6-mask-size", Form::Value, "The same for IPv6 (operator)"),
    acted("default-lb-service-ipam", Form::Value, "Who gives Services without class addresses: lbipam, nodeipam or none"),
    acted("devices", Form::Value, "Devices that serve: names, eth+, !eth1; empty: found"),
    acted("enable-bgp-control-plane", Form::Flag, "Speak BGP"),
    acted("enable-bgp-control-plane-status-report", Form::Flag, "Write conditions of BGP objects (operator) and what sessions do (agent)"),
    acted("enable-bgp-legacy-origin-attribute", Form::Flag, "Announce with ORIGIN incomplete"),
    acted("enable-ipv4", Form::Flag, "Serve and announce IPv4"),
    acted("enable-ipv6", Form::Flag, "Serve and announce IPv6"),
    lacking("enable-l2-announcements", "false"),
    lacking("enable-l2-pod-announcements", "false"),
    acted("enable-lb-ipam", Form::Flag, "Give addresses out of pools"),
    acted("enable-no-service-endpoints-routable", Form::Flag, "Announce Services without endpoints, and refuse their packets"),
    acted("enable-node-ipam", Form::Flag, "Give Services of class io.cilium/node the addresses of nodes (operator)"),
    acted("enable-service-topology", Form::Flag, "Listen to topology hints"),
    moot("enable-session-affinity"),
    moot("enable-svc-source-range-check"),
    acted("fixed-zone-mapping", Form::Value, "Numbers of zones: zone-a=1,zone-b=2"),
    acted("ipam", Form::Value, "Where pods' addresses come from"),
    moot("k8s-client-burst"),
    moot("k8s-client-qps"),
    acted("k8s-service-proxy-name", Form::Value, "Serve only Services with this service-proxy-name"),
    acted("kube-proxy-replacement", Form::Flag, "Serve Services in the kernel; without it addresses are only announced"),
    acted("kube-proxy-replacement-healthz-bind-address", Form::Value, "Address and port of /healthz as kube-proxy has it; empty: none"),
    acted("kube-proxy-replacement-proxy-mode-bind-address", Form::Value, "Address and port of /proxyMode as kube-proxy has it; empty: none"),
    moot("l2-announcements-lease-duration"),
    moot("l2-announcements-renew-deadline"),
    moot("l2-announcements-retry-period"),
    moot("l2-pod-announcements-interface"),
    moot("l2-pod-announcements-interface-pattern"),
    acted("node-port-range", Form::Value, "First and last node port: 30000,32767"),
    acted("nodeport-addresses", Form::Value, "Prefixes of addresses where node ports listen"),
    acted("operator-k8s-client-burst", Form::Value, "Writes of the operator at once, after a rest"),
    acted("operator-k8s-client-qps", Form::Value, "Writes of the operator in a second, for long"),
    moot("preallocate-bpf-maps"),
    acted("service-no-backend-response", Form::Value, "What clients of a Service without backend get: reject or drop"),
];

pub(super) fn known(key: &str) -> bool {
    KEYS.iter().any(|known| known.name == key)
}

/// Whether this asks for something that will not happen.
pub(super) fn without_effect(key: &str, value: &str) -> bool {
    KEYS.iter().any(|known| match known.used {
        Use::Lacking { harmless } => known.name == key && value.trim() != harmless,
        Use::Acted { .. } | Use::Moot => false,
    })
}

/// The key that was probably meant: at most two slips away.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|known| (distance(key, known.name), known.name))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), left_above) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(i + 1);
            let replaced = left_above + usize::from(from != *to);
            next.push(replaced.min(left + 1).min(above + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_finds_none() {
        assert_eq!(
            nearest("enable-bgp-controlplane"),
            Some("enable-bgp-control-plane")
        );
        assert_eq!(nearest("enable-ipv5"), Some("enable-ipv4"));
        assert_eq!(nearest("cluster-name"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
    }

    #[test]
    fn keys_stand_in_order_and_once() {
        assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
