//! What building the agent and running labs needs: packages only, a minute at most.

use super::{Part, daemon, package};

pub(super) const PART: Part = Part {
    name: "lab",
    needs: &[
        package("gcc", "cc", "links Rust programs"),
        package("libc6-dev", "/usr/include/stdio.h", "links Rust programs"),
        package("iproute2", "ip", "links, addresses and routes"),
        package("util-linux", "nsenter", "enters namespaces"),
        package("procps", "sysctl", "kernel settings of nodes"),
        package("hostname", "hostname", "names nodes"),
        package("iputils-ping", "ping", "reachability"),
        package("curl", "curl", "talks to services"),
        daemon("frr", "/usr/lib/frr/bgpd", "frr", "the routers"),
    ],
};
