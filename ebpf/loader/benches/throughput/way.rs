//! Ways through the router.

use std::fmt;
use std::path::Path;
use std::process::Command;

/// What the router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Clients ask a backend itself.
    Plain,
    /// nftables: one look at a map of all services.
    Map {
        services: u32,
    },
    /// nftables: a rule for each service, one after the other.
    Linear {
        services: u32,
    },
    Ipvs {
        services: u32,
    },
    Stentor {
        hook: Hook,
        forwarding: Forwarding,
        services: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Tc,
    Xdp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    Snat,
    /// Direct return, IP in IP.
    Ipip,
}

/// Why a way can not be tried here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    KernelWithoutIpvs,
    NoIpvsadm,
}

const FEW: u32 = 1000;
const MANY: u32 = 10_000;

impl Way {
    pub(crate) fn all() -> Vec<Self> {
        let stentor = |hook, forwarding| Self::Stentor {
            hook,
            forwarding,
            services: MANY,
        };
        vec![
            Self::Plain,
            Self::Map { services: FEW },
            Self::Map { services: MANY },
            Self::Linear { services: MANY },
            Self::Ipvs { services: MANY },
            stentor(Hook::Tc, Forwarding::Snat),
            stentor(Hook::Xdp, Forwarding::Snat),
            stentor(Hook::Tc, Forwarding::Ipip),
            stentor(Hook::Xdp, Forwarding::Ipip),
        ]
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Plain => "plain routing".to_owned(),
            Self::Map { services } => format!("nftables, map of {services}"),
            Self::Linear { services } => format!("nftables, {services} rules"),
            Self::Ipvs { services } => format!("IPVS, {services}"),
            Self::Stentor {
                hook,
                forwarding,
                services,
            } => {
                let hook = match hook {
                    Hook::Tc => "tc",
                    Hook::Xdp => "XDP",
                };
                let forwarding = match forwarding {
                    Forwarding::Snat => "SNAT",
                    Forwarding::Ipip => "DSR",
                };
                format!("Stentor {hook}, {forwarding}, {services}")
            }
        }
    }

    /// Only with direct return answers take another way.
    pub(crate) fn forwarding(self) -> Forwarding {
        match self {
            Self::Plain | Self::Map { .. } | Self::Linear { .. } | Self::Ipvs { .. } => Forwarding::Snat,
            Self::Stentor { forwarding, .. } => forwarding,
        }
    }

    /// How many there are; the one in the middle is asked.
    pub(crate) fn services(self) -> Option<u32> {
        match self {
            Self::Plain => None,
            Self::Map { services }
            | Self::Linear { services }
            | Self::Ipvs { services }
            | Self::Stentor { services, .. } => Some(services),
        }
    }
}

impl Absent {
    pub(crate) fn of(way: Way) -> Option<Self> {
        match way {
            Way::Plain | Way::Map { .. } | Way::Linear { .. } | Way::Stentor { .. } => None,
            Way::Ipvs { .. } => {
                // A module comes when it is called; the file is there once it came.
                let called = Command::new("modprobe").args(["-q", "ip_vs"]).status();
                let ipvsadm = Command::new("ipvsadm").arg("--version").output();
                match (called, ipvsadm) {
                    _ if !Path::new("/proc/net/ip_vs").exists() => Some(Self::KernelWithoutIpvs),
                    (_, Err(_)) => Some(Self::NoIpvsadm),
                    (_, Ok(_)) => None,
                }
            }
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KernelWithoutIpvs => {
                "this kernel has no IPVS (CONFIG_IP_VS), and there is no /proc/net/ip_vs"
            }
            Self::NoIpvsadm => "the program ipvsadm is not installed",
        })
    }
}
