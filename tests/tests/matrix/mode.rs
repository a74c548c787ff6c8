//! How nodes forward: one set-up of the bed for each.

use std::collections::BTreeMap;

/// The agent's configuration: keys and values of Cilium's ConfigMap.
pub(crate) type Config = BTreeMap<&'static str, &'static str>;

/// How packets get to backends on other nodes, and which program does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mode {
    pub(crate) forwarding: Forwarding,
    pub(crate) hook: Hook,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forwarding {
    Snat,
    DsrOption,
    DsrIpip,
    DsrGeneve,
    /// Direct server return by option for TCP, SNAT for UDP.
    Hybrid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Tc,
    Xdp,
}

impl Mode {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Forwarding::ALL
            .into_iter()
            .flat_map(|forwarding| [Hook::Tc, Hook::Xdp].map(|hook| Self { forwarding, hook }))
    }

    pub(crate) fn name(self) -> String {
        let hook = match self.hook {
            Hook::Tc => "tc",
            Hook::Xdp => "xdp",
        };
        format!("{}/{hook}", self.forwarding.name())
    }

    pub(crate) fn config(self) -> Config {
        let (mode, dispatch) = match self.forwarding {
            Forwarding::Snat => ("snat", "opt"),
            Forwarding::DsrOption => ("dsr", "opt"),
            Forwarding::DsrIpip => ("dsr", "ipip"),
            Forwarding::DsrGeneve => ("dsr", "geneve"),
            Forwarding::Hybrid => ("hybrid", "opt"),
        };
        let acceleration = match self.hook {
            Hook::Tc => "disabled",
            Hook::Xdp => "native",
        };
        Config::from([
            ("kube-proxy-replacement", "true"),
            ("devices", "eth+"),
            ("bpf-lb-mode", mode),
            ("bpf-lb-dsr-dispatch", dispatch),
            ("bpf-lb-acceleration", acceleration),
            ("enable-ipv4", "true"),
            ("enable-ipv6", "true"),
            // All ask at once.
            ("bpf-lb-answer-rate", "10000"),
            // Each node of a test has its maps, and ten modes follow each other.
            ("bpf-lb-map-max", "4096"),
            ("bpf-ct-global-tcp-max", "65536"),
            ("bpf-ct-global-any-max", "16384"),
        ])
    }
}

impl Forwarding {
    const ALL: [Self; 5] = [
        Self::Snat,
        Self::DsrOption,
        Self::DsrIpip,
        Self::DsrGeneve,
        Self::Hybrid,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Snat => "snat",
            Self::DsrOption => "dsr-opt",
            Self::DsrIpip => "dsr-ipip",
            Self::DsrGeneve => "dsr-geneve",
            Self::Hybrid => "hybrid",
        }
    }
}
