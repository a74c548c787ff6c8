//! What others are told: rules of nftables, and services of IPVS.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use lab::Handle;
use serde_json::Value;

use crate::bed::{BACKENDS, FAR, PORT, TARGET, vip};

/// One for each backend, and one for the node.
const COUNTERS: [&str; 4] = ["first", "second", "third", "node"];

/// As kube-proxy writes it: service -> chain of the service -> chain of an endpoint, and clients' addresses changed.
pub(crate) fn map(services: u32) -> String {
    let mut text = begin(services);
    let elements: Vec<String> = (0..services)
        .flat_map(|n| {
            ["tcp", "udp"].map(|protocol| format!("{} . {protocol} . {PORT} : goto service{n}", vip(n)))
        })
        .collect();
    let _ = write!(
        text,
        "map services {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {} }}; }}\n\
         chain services {{ type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }}\n}}\n",
        elements.join(",\n")
    );
    text
}

/// As iptables would do it.
pub(crate) fn linear(services: u32) -> String {
    let mut text = begin(services);
    text.push_str("chain services { type nat hook prerouting priority dstnat;\n");
    for n in 0..services {
        let _ = writeln!(text, "ip daddr {} th dport {PORT} goto service{n}", vip(n));
    }
    text.push_str("}\n}\n");
    text
}

fn begin(services: u32) -> String {
    let mut text = String::from(
        "table ip balance {\n\
         chain leaving { type nat hook postrouting priority srcnat; meta mark 0x4000 masquerade; }\n",
    );
    for (n, backend) in BACKENDS.iter().enumerate() {
        let _ = writeln!(
            text,
            "chain endpoint{n} {{ meta mark set 0x4000; meta l4proto {{ tcp, udp }} dnat to {backend}:{TARGET}; }}"
        );
    }
    let choices: Vec<String> = (0..BACKENDS.len())
        .map(|n| format!("{n} : goto endpoint{n}"))
        .collect();
    let choices = choices.join(", ");
    for n in 0..services {
        let _ = writeln!(
            text,
            "chain service{n} {{ numgen random mod {} vmap {{ {choices} }}; }}",
            BACKENDS.len()
        );
    }
    text
}

/// Services, their addresses at a device as kube-proxy has them, and clients' addresses changed.
pub(crate) fn ipvs(router: &Handle, services: u32) -> Result<()> {
    let (mut addresses, mut rules) = (String::new(), String::new());
    for address in (0..services).map(vip) {
        let _ = writeln!(addresses, "address add {address}/32 dev lo");
        for protocol in ["-t", "-u"] {
            let _ = writeln!(rules, "-A {protocol} {address}:{PORT} -s rr");
            for backend in BACKENDS {
                let _ = writeln!(rules, "-a {protocol} {address}:{PORT} -r {backend}:{TARGET} -m");
            }
        }
    }
    feed(router, "ip -batch", &addresses)?;
    feed(router, "ipvsadm --restore <", &rules)?;
    router.sh_in_network("sysctl -qw net.ipv4.vs.conntrack=1")?;
    let masquerade = "table ip balance { chain leaving { type nat hook postrouting priority srcnat; \
                      oifname eth1 masquerade; }\n}\n";
    feed(router, "nft -f", masquerade)
}

/// Runs a command with a file of these words.
pub(crate) fn feed(node: &Handle, command: &str, words: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), words)?;
    node.sh_in_network(&format!("{command} {}", file.path().display()))?;
    Ok(())
}

/// Counts what arrives as it should, for each backend, and drops it before anybody else sees it.
pub(crate) fn sink(vip: Ipv4Addr, payload: [u8; 8]) -> String {
    let payload = u64::from_be_bytes(payload);
    let mut text = String::from("table netdev sink {\n");
    for name in COUNTERS {
        let _ = writeln!(text, "counter {name} {{ }}");
    }
    text.push_str("chain arriving { type filter hook ingress device eth0 priority 0;\n");
    for (name, backend) in COUNTERS.iter().zip(BACKENDS) {
        let plain = format!("ip daddr {backend} udp dport {TARGET} @th,64,64 {payload:#x}");
        let _ = writeln!(text, "{plain} counter name {name} drop");
    }
    // Direct return: the node chooses the backend. The payload lies behind two headers of IP.
    let [.., node] = COUNTERS;
    let inner = u32::from(vip);
    let _ = writeln!(
        text,
        "ip daddr {FAR} ip protocol 4 @nh,288,32 {inner:#x} @nh,384,64 {payload:#x} counter name {node} drop"
    );
    text.push_str("}\n}\n");
    text
}

/// How many packets the sink has seen, by counter.
pub(crate) fn arrived(far: &Handle) -> Result<[u64; 4]> {
    let text = far.sh_in_network("nft -j list counters")?;
    let said: Value = serde_json::from_str(&text)?;
    let rows = said["nftables"].as_array().context("nft says what it counted")?;
    let mut all = [0; COUNTERS.len()];
    for counter in rows.iter().map(|row| &row["counter"]) {
        let place = COUNTERS.iter().position(|name| counter["name"] == *name);
        if let Some(count) = place.and_then(|place| all.get_mut(place)) {
            *count = counter["packets"].as_u64().context("a number of packets")?;
        }
    }
    Ok(all)
}
