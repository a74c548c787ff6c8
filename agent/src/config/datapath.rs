//! The keys of the load balancer in the kernel. Defaults are Cilium's; without `kube-proxy-replacement` none of them
//! matters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebpf_abi::config::setting;
use ebpf_abi::maglev;
use ebpf_abi::service::{Dispatch, Selection};
use ebpf_datapath::sizes::{MapSizes, Ratio};
use ebpf_datapath::{ClusterIps, Family, Forwarding, Honour, Pods, Settings, SourceRanges};
use ipnet::IpNet;

use super::{ConfigError, Reader};
use crate::datapath::devices::Patterns;
use crate::plan::options::Families;

/// Everything the load balancer goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datapath {
    /// `kube-proxy-replacement`
    pub switch: Switch,
    /// `devices`
    pub devices: Patterns,
    /// `bpf-lb-container-devices`: those that lead to pods whose sockets cannot be translated. Not a key of Cilium's, whose
    /// agent makes these devices itself.
    pub pods: Patterns,
    /// `nodeport-addresses`. Empty: one address of each device and family.
    pub node_port_addresses: Vec<IpNet>,
    /// `bpf-lb-acceleration`
    pub acceleration: Acceleration,
    /// `bpf-lb-sock`
    pub sockets: Switch,
    /// `bpf-root`
    pub bpf_root: PathBuf,
    /// `cgroup-root`. Cilium mounts one of its own below /run; the machine's is as good.
    pub cgroup_root: PathBuf,
    /// `kube-proxy-replacement-healthz-bind-address`
    pub healthz: Option<SocketAddr>,
    /// `kube-proxy-replacement-proxy-mode-bind-address`
    pub proxy_mode: Option<SocketAddr>,
    /// Counts at the start of the agent.
    pub sizes: MapSizes,
    pub settings: Settings,
}

impl Default for Datapath {
    fn default() -> Self {
        Self {
            switch: Switch::Off,
            devices: Patterns::default(),
            pods: Patterns::default(),
            node_port_addresses: Vec::new(),
            acceleration: Acceleration::Disabled,
            sockets: Switch::On,
            bpf_root: PathBuf::from("/sys/fs/bpf"),
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            healthz: None,
            proxy_mode: None,
            sizes: MapSizes::default(),
            settings: Settings::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Switch {
    #[default]
    Off,
    On,
}

/// Whether packets are taken before the stack sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acceleration {
    #[default]
    Disabled,
    /// By XDP in the driver, and nowhere else.
    Native,
    /// By XDP in the driver where a device has it, after the driver where not.
    BestEffort,
}

pub(super) fn understand(read: &Reader<'_>, families: Families) -> Result<Datapath, ConfigError> {
    let defaults = Datapath::default();
    Ok(Datapath {
        switch: switch(read.flag("kube-proxy-replacement", false)?),
        devices: patterns(read, "devices")?,
        pods: patterns(read, PODS)?,
        node_port_addresses: networks(read, "nodeport-addresses")?,
        acceleration: match read.text("bpf-lb-acceleration") {
            None | Some("" | "disabled") => Acceleration::Disabled,
            Some("native") => Acceleration::Native,
            Some("best-effort") => Acceleration::BestEffort,
            Some(_) => return Err(read.bad("bpf-lb-acceleration", "disabled, native or best-effort")),
        },
        sockets: switch(read.flag("bpf-lb-sock", true)?),
        bpf_root: path(read, "bpf-root", defaults.bpf_root)?,
        cgroup_root: path(read, "cgroup-root", defaults.cgroup_root)?,
        healthz: listening(read, "kube-proxy-replacement-healthz-bind-address")?,
        proxy_mode: listening(read, "kube-proxy-replacement-proxy-mode-bind-address")?,
        sizes: sizes(read)?,
        settings: settings(read, families)?,
    })
}

const PODS: &str = "bpf-lb-container-devices";

fn patterns(read: &Reader<'_>, key: &'static str) -> Result<Patterns, ConfigError> {
    Patterns::parse(read.text(key).unwrap_or_default()).map_err(|bad| {
        read.bad(
            key,
            &format!("names of devices, eth+ for all that begin so, !eth1 for none; {bad:?} is none of them"),
        )
    })
}

fn switch(on: bool) -> Switch {
    if on { Switch::On } else { Switch::Off }
}

fn settings(read: &Reader<'_>, families: Families) -> Result<Settings, ConfigError> {
    let defaults = Settings::default();
    let honour = |on: bool| if on { Honour::Yes } else { Honour::No };
    let mut config = defaults.config;
    match read.text("service-no-backend-response") {
        None | Some("" | "reject") => {}
        Some("drop") => config.settings |= setting::SILENT_NO_BACKEND,
        Some(_) => return Err(read.bad("service-no-backend-response", "reject or drop")),
    }
    if !read.flag("bpf-lb-vip-echo", true)? {
        config.settings |= setting::SILENT_ECHO;
    }
    let rate = |key, default, meaning| match read.text(key) {
        None | Some("") => Ok(default),
        Some(text) => text.parse().map_err(|_| read.bad(key, meaning)),
    };
    config.answer_rate = rate(
        "bpf-lb-answer-rate",
        config.answer_rate,
        "how many answers each processor may make in a second; 0: none",
    )?;
    config.flow_rate = rate(
        "bpf-lb-flow-rate",
        config.flow_rate,
        "how many flows by direct return each processor may remember in a second; 0: all",
    )?;
    if !read.flag("enable-no-service-endpoints-routable", true)? {
        config.settings |= setting::PASS_NO_BACKEND;
    }
    let seconds = |key, default| lifetime(read, key, default);
    config.lifetimes.open = seconds("bpf-ct-timeout-service-tcp", config.lifetimes.open)?;
    config.lifetimes.opening = seconds("bpf-ct-timeout-regular-tcp-syn", config.lifetimes.opening)?;
    config.lifetimes.closed = seconds("bpf-ct-timeout-regular-tcp-fin", config.lifetimes.closed)?;
    config.lifetimes.other = seconds("bpf-ct-timeout-service-any", config.lifetimes.other)?;
    Ok(Settings {
        families: match families {
            Families::Dual => Family::ALL.into(),
            Families::Ipv4Only => BTreeSet::from([Family::V4]),
            Families::Ipv6Only => BTreeSet::from([Family::V6]),
        },
        selection: match read.text("bpf-lb-algorithm") {
            None | Some("" | "random") => Selection::Random,
            Some("maglev") => Selection::Maglev,
            Some(_) => return Err(read.bad("bpf-lb-algorithm", "random or maglev")),
        },
        selection_annotation: honour(read.flag(
            "bpf-lb-algorithm-annotation",
            defaults.selection_annotation == Honour::Yes,
        )?),
        forwarding: match read.text("bpf-lb-mode") {
            None | Some("" | "snat") => Forwarding::Snat,
            Some("dsr") => Forwarding::Dsr,
            Some("hybrid") => Forwarding::Hybrid,
            Some(_) => return Err(read.bad("bpf-lb-mode", "snat, dsr or hybrid")),
        },
        forwarding_annotation: honour(read.flag(
            "bpf-lb-mode-annotation",
            defaults.forwarding_annotation == Honour::Yes,
        )?),
        dsr: match read.text("bpf-lb-dsr-dispatch") {
            None | Some("" | "opt") => Dispatch::DsrOption,
            Some("ipip") => Dispatch::DsrIpip,
            Some("geneve") => Dispatch::DsrGeneve,
            Some(_) => return Err(read.bad("bpf-lb-dsr-dispatch", "opt, ipip or geneve")),
        },
        cluster_ips: if read.flag("bpf-lb-external-clusterip", false)? {
            ClusterIps::Outside
        } else {
            ClusterIps::Inside
        },
        pods: if patterns(read, PODS)?.name_any() {
            Pods::ByPackets
        } else {
            Pods::BySockets
        },
        topology: honour(read.flag("enable-service-topology", false)?),
        source_ranges: if read.flag("bpf-lb-source-range-all-types", false)? {
            SourceRanges::All
        } else {
            SourceRanges::LoadBalancer
        },
        node_ports: node_ports(read)?.unwrap_or(defaults.node_ports),
        proxy_name: read.text("k8s-service-proxy-name").unwrap_or_default().to_owned(),
        zones: zones(read)?,
        maglev_size: maglev_size(read)?.unwrap_or(defaults.maglev_size),
        seeds: seeds(read)?.unwrap_or(defaults.seeds),
        config,
        limits: defaults.limits,
    })
}

/// Durations as Go writes them (`2h13m20s`), or seconds.
fn lifetime(read: &Reader<'_>, key: &'static str, default: u32) -> Result<u32, ConfigError> {
    match read.text(key) {
        None | Some("") => Ok(default),
        Some(text) => duration(text)
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| read.bad(key, "a duration of at least one second, such as 60s or 2h13m20s")),
    }
}

/// In seconds.
pub(crate) fn duration(text: &str) -> Option<u32> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let mut rest = text;
    let mut sum = 0_u32;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let number: u32 = number.parse().ok()?;
        let (factor, after) = match unit.split_at_checked(1)? {
            ("h", after) => (3600, after),
            ("m", after) => (60, after),
            ("s", after) => (1, after),
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(factor)?)?;
        rest = after;
    }
    Some(sum)
}

/// Cilium writes `30000,32767`, kube-proxy and the API server `30000-32767`.
fn node_ports(read: &Reader<'_>) -> Result<Option<std::ops::RangeInclusive<u16>>, ConfigError> {
    let Some(text) = read.text("node-port-range").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let range = text.split_once([',', '-']).and_then(|(first, last)| {
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first > 0 && first <= last).then_some(first..=last)
    });
    range
        .map(Some)
        .ok_or_else(|| read.bad("node-port-range", "the first and the last port, as 30000,32767"))
}

/// `zone-a=1,zone-b=2`
fn zones(read: &Reader<'_>) -> Result<BTreeMap<String, u8>, ConfigError> {
    let mut zones = BTreeMap::new();
    for pair in words(read.text("fixed-zone-mapping").unwrap_or_default()) {
        let zone = pair.split_once('=').and_then(|(zone, number)| {
            let number: u8 = number.trim().parse().ok()?;
            (number > 0).then(|| (zone.trim().to_owned(), number))
        });
        let (zone, number) = zone.ok_or_else(|| {
            read.bad(
                "fixed-zone-mapping",
                "zones with numbers from 1 to 255, as zone-a=1,zone-b=2",
            )
        })?;
        zones.insert(zone, number);
    }
    Ok(zones)
}

fn maglev_size(read: &Reader<'_>) -> Result<Option<u32>, ConfigError> {
    let key = "bpf-lb-maglev-table-size";
    let Some(text) = read.text(key).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let size = text.parse().ok().filter(|size| maglev::SIZES.contains(size));
    size.map(Some).ok_or_else(|| {
        let sizes: Vec<String> = maglev::SIZES.iter().map(u32::to_string).collect();
        read.bad(key, &format!("one of {}", sizes.join(", ")))
    })
}

fn seeds(read: &Reader<'_>) -> Result<Option<maglev::Seeds>, ConfigError> {
    let key = "bpf-lb-maglev-hash-seed";
    let Some(text) = read.text(key).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let octets = STANDARD
        .decode(text)
        .ok()
        .and_then(|octets| octets.try_into().ok());
    octets
        .map(|octets| Some(maglev::Seeds::from_octets(octets)))
        .ok_or_else(|| read.bad(key, "12 octets in base64 (head -c12 /dev/urandom | base64 -w0)"))
}

fn networks(read: &Reader<'_>, key: &'static str) -> Result<Vec<IpNet>, ConfigError> {
    words(read.text(key).unwrap_or_default())
        .map(|word| word.parse::<IpNet>().map(|net| net.trunc()))
        .collect::<Result<_, _>>()
        .map_err(|_| read.bad(key, "prefixes such as 10.0.0.0/8,fd00::/8"))
}

fn listening(read: &Reader<'_>, key: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
    match read.text(key) {
        None | Some("") => Ok(None),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(read.bad(key, "an address with a port, such as 0.0.0.0:10256")),
        },
    }
}

fn path(read: &Reader<'_>, key: &'static str, default: PathBuf) -> Result<PathBuf, ConfigError> {
    match read.text(key) {
        None | Some("") => Ok(default),
        Some(text) if text.starts_with('/') => Ok(text.into()),
        Some(_) => Err(read.bad(key, "a path that begins with /")),
    }
}

fn sizes(read: &Reader<'_>) -> Result<MapSizes, ConfigError> {
    let number = |key: &'static str| match read.text(key) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| read.bad(key, "a number")),
    };
    let sizes = MapSizes {
        balancing: number("bpf-lb-map-max")?,
        services: number("bpf-lb-service-map-max")?,
        backends: number("bpf-lb-service-backend-map-max")?,
        affinity: number("bpf-lb-affinity-map-max")?,
        source_ranges: number("bpf-lb-source-range-map-max")?,
        maglev: number("bpf-lb-maglev-map-max")?,
        tcp: number("bpf-ct-global-tcp-max")?,
        any: number("bpf-ct-global-any-max")?,
        fragments: number("bpf-fragments-map-max")?,
        ratio: match read.text("bpf-map-dynamic-size-ratio") {
            None | Some("") => Ratio::default(),
            Some(text) => text.parse().map_err(|_| {
                read.bad(
                    "bpf-map-dynamic-size-ratio",
                    "a share from 0 to 1, such as 0.0025",
                )
            })?,
        },
        memory: 0,
    };
    match sizes.entries().1.first() {
        Some(bad) => Err(read.bad(bad.key, &format!("a number from {} to {}", bad.least, bad.most))),
        None => Ok(sizes),
    }
}

/// Lists are written with commas or blanks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t', '\n'])
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("60", Some(60)),
            ("2h13m20s", Some(8000)),
            ("1m", Some(60)),
            ("10s", Some(10)),
            ("1d", None),
            ("s", None),
            ("5m3", None),
            ("99999999999s", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
