//! Which devices serve, which addresses node ports listen at, and as whom packets leave.
//!
//! Named devices are taken as they are named. Without names they are found as Cilium finds them: what has an address and
//! leads outside. So of veths only those with a default route count, because the others are pods; bridges and what begins
//! as devices of container runtimes do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ebpf_abi::config::{Device as Entry, device_flag};
use ebpf_abi::{V4, V6};
use ipnet::IpNet;

use super::frames::Frames;

/// A device as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    /// As in `ip link add type`; empty: hardware.
    pub kind: String,
    /// `None`: it has no Ethernet headers.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    pub state: AdminState,
    pub role: Role,
    /// Global ones that are in use.
    pub addresses: BTreeSet<IpAddr>,
    pub default_route: DefaultRoute,
    pub frames: Frames,
}

/// What the administrator set it to; a cable that is out changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AdminState {
    #[default]
    Down,
    Up,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Own,
    Loopback,
    /// Of a bridge or a bond.
    Part,
}

/// Whether a default route leads out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultRoute {
    #[default]
    None,
    Here,
}

/// `devices`: names, names that begin so (`eth+`), and those of them that are meant not to (`!eth1`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Prefix(String),
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl Patterns {
    /// Reads a list with blanks or commas.
    ///
    /// # Errors
    /// The word that is no pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = Self::default();
        for word in text.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty()) {
            let (name, list) = match word.strip_prefix('!') {
                Some(name) => (name, &mut patterns.unwanted),
                None => (word, &mut patterns.wanted),
            };
            let (name, pattern): (&str, fn(String) -> Pattern) = match name.strip_suffix('+') {
                Some(prefix) => (prefix, Pattern::Prefix),
                None => (name, Pattern::Name),
            };
            if name.is_empty() || name.contains(['+', '!', '/']) {
                return Err(word.to_owned());
            }
            list.push(pattern(name.to_owned()));
        }
        Ok(patterns)
    }

    /// Whether any device is named.
    #[must_use]
    pub fn name_any(&self) -> bool {
        !self.wanted.is_empty()
    }

    fn unwanted(&self, name: &str) -> bool {
        self.unwanted.iter().any(|pattern| pattern.matches(name))
    }

    /// `None`: nobody named any.
    fn wanted(&self, name: &str) -> Option<bool> {
        let named = !self.wanted.is_empty();
        named.then(|| self.wanted.iter().any(|pattern| pattern.matches(name)))
    }
}

/// Why a device does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unused {
    NotNamed,
    NamedNotTo,
    NoAddress,
    NoEthernet,
    PartOfAnother,
    OfContainers,
    Bridge,
    VethWithoutDefaultRoute,
}

impl Unused {
    /// Stable, in kebab case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotNamed => "not-named",
            Self::NamedNotTo => "named-not-to",
            Self::NoAddress => "no-address",
            Self::NoEthernet => "no-ethernet",
            Self::PartOfAnother => "part-of-another",
            Self::OfContainers => "of-containers",
            Self::Bridge => "bridge",
            Self::VethWithoutDefaultRoute => "veth-without-default-route",
        }
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNamed => "devices names others",
            Self::NamedNotTo => "devices names it with !",
            Self::NoAddress => "it has no global address",
            Self::NoEthernet => "it has no Ethernet headers",
            Self::PartOfAnother => "it is a part of a bridge or a bond",
            Self::OfContainers => {
                "its name is one of devices of containers; name it in devices if it is meant"
            }
            Self::Bridge => "it is a bridge; name it in devices if it is meant",
            Self::VethWithoutDefaultRoute => {
                "it is a veth without default route, so probably a pod's; name it in devices if it is meant"
            }
        })
    }
}

/// Names of devices that container runtimes and CNI plugins make.
const CONTAINERS: [&str; 4] = ["cilium_", "lxc", "cni", "docker"];

/// Whether a device serves.
///
/// # Errors
/// Why it does not.
pub fn select(device: &Device, patterns: &Patterns) -> Result<(), Unused> {
    if device.role == Role::Loopback || device.mac.is_none() {
        return Err(Unused::NoEthernet);
    }
    if patterns.unwanted(&device.name) {
        return Err(Unused::NamedNotTo);
    }
    let wanted = patterns.wanted(&device.name);
    if wanted == Some(false) {
        return Err(Unused::NotNamed);
    }
    if device.role == Role::Part {
        return Err(Unused::PartOfAnother);
    }
    if device.addresses.is_empty() {
        return Err(Unused::NoAddress);
    }
    if wanted == Some(true) {
        return Ok(());
    }
    if CONTAINERS.iter().any(|prefix| device.name.starts_with(prefix)) {
        return Err(Unused::OfContainers);
    }
    match (device.kind.as_str(), device.default_route) {
        ("veth", DefaultRoute::None) => Err(Unused::VethWithoutDefaultRoute),
        ("bridge" | "openvswitch", _) => Err(Unused::Bridge),
        _ => Ok(()),
    }
}

/// Whether it leads to a pod whose packets are balanced: only if somebody says so.
#[must_use]
pub fn leads_to_pod(device: &Device, pods: &Patterns) -> bool {
    device.role == Role::Own
        && device.mac.is_some()
        && pods.wanted(&device.name) == Some(true)
        && !pods.unwanted(&device.name)
}

/// Where node ports listen: of each device that is up one address of each family, or, where `networks` are given, all that
/// are in them. `of_node` are the addresses that the Node object names.
pub fn node_port_addresses<'a>(
    devices: impl IntoIterator<Item = &'a Device>,
    of_node: &BTreeSet<IpAddr>,
    networks: &[IpNet],
) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for device in devices
        .into_iter()
        .filter(|device| device.state == AdminState::Up)
    {
        if networks.is_empty() {
            all.extend(families(device).filter_map(|of| first(of, of_node, Order::PrivateFirst)));
        } else {
            let listed = |address: &&IpAddr| networks.iter().any(|net| net.contains(*address));
            all.extend(device.addresses.iter().filter(listed));
        }
    }
    all
}

/// What the programs know of a device: as whom its packets leave.
#[must_use]
pub fn entry(device: &Device, of_node: &BTreeSet<IpAddr>) -> Entry {
    let mut entry = Entry {
        mac: device.mac.unwrap_or_default(),
        mtu: u16::try_from(device.mtu).unwrap_or(u16::MAX),
        ..Entry::default()
    };
    for of_family in families(device) {
        match first(of_family, of_node, Order::PublicFirst) {
            Some(IpAddr::V4(address)) => entry.v4 = V4::from(address),
            Some(IpAddr::V6(address)) => entry.v6 = V6::from(address),
            None => {}
        }
    }
    entry
}

/// All addresses of this node that packets may come to.
pub fn addresses<'a>(devices: impl IntoIterator<Item = &'a Device>) -> BTreeSet<IpAddr> {
    let up = devices
        .into_iter()
        .filter(|device| device.state == AdminState::Up);
    up.flat_map(|device| device.addresses.iter().copied()).collect()
}

/// The entries of `DEVICES`, by index.
pub fn entries<'a>(
    devices: impl IntoIterator<Item = &'a Device>,
    of_node: &BTreeSet<IpAddr>,
) -> BTreeMap<u32, Entry> {
    let each = devices.into_iter();
    each.map(|device| (device.index, entry(device, of_node)))
        .collect()
}

/// The same of those that lead to pods: no packet leaves by them as from this node.
pub fn pods<'a>(devices: impl IntoIterator<Item = &'a Device>) -> impl Iterator<Item = (u32, Entry)> {
    devices.into_iter().map(|device| {
        let entry = Entry {
            flags: device_flag::POD,
            ..entry(device, &BTreeSet::new())
        };
        (device.index, entry)
    })
}

/// Addresses in whose place devices have others now. What only went may come back, as with a cable.
pub(super) fn replaced(before: &BTreeMap<u32, Entry>, after: &BTreeMap<u32, Entry>) -> BTreeSet<IpAddr> {
    let mut gone = BTreeSet::new();
    for (index, new) in after {
        let Some(old) = before.get(index) else { continue };
        if old.v4 != new.v4 && new.v4 != V4::default() {
            gone.insert(IpAddr::V4(old.v4.into()));
        }
        if old.v6 != new.v6 && new.v6 != V6::default() {
            gone.insert(IpAddr::V6(old.v6.into()));
        }
    }
    gone
}

#[derive(Clone, Copy)]
enum Order {
    PrivateFirst,
    PublicFirst,
}

fn families(device: &Device) -> impl Iterator<Item = Vec<IpAddr>> {
    let (v4, v6) = device.addresses.iter().partition(|address| address.is_ipv4());
    [v4, v6].into_iter()
}

/// The node's own, or else the first of the preferred ones.
fn first(addresses: Vec<IpAddr>, of_node: &BTreeSet<IpAddr>, order: Order) -> Option<IpAddr> {
    addresses.into_iter().min_by_key(|address| {
        let preferred = match order {
            Order::PrivateFirst => is_private(*address),
            Order::PublicFirst => !is_private(*address),
        };
        (!of_node.contains(address), !preferred, *address)
    })
}

fn is_private(address: IpAddr) -> bool {
    match address {
        // RFC 6598 is shared by carriers, and nobody's own.
        IpAddr::V4(address) => address.is_private() || address & RFC6598.1 == RFC6598.0,
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

const RFC6598: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(100, 64, 0, 0), Ipv4Addr::new(255, 192, 0, 0));

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: &str, addresses: &[&str]) -> Device {
        Device {
            index: 2,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            state: AdminState::Up,
            addresses: set(addresses),
            ..Device::default()
        }
    }

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn patterns(text: &str) -> Patterns {
        Patterns::parse(text).unwrap()
    }

    #[test]
    fn without_names_what_leads_outside_is_found() {
        let none = Patterns::default();
        let found = |device: &Device| select(device, &none);
        assert_eq!(found(&device("eth0", "", &["10.0.0.1"])), Ok(()));
        assert_eq!(found(&device("eth0", "", &[])), Err(Unused::NoAddress));
        assert_eq!(
            found(&device("veth1", "veth", &["10.0.0.1"])),
            Err(Unused::VethWithoutDefaultRoute)
        );
        let uplink = Device {
            default_route: DefaultRoute::Here,
            ..device("net0", "veth", &["10.0.0.1"])
        };
        assert_eq!(found(&uplink), Ok(()));
        assert_eq!(
            found(&device("br0", "bridge", &["10.0.0.1"])),
            Err(Unused::Bridge)
        );
        assert_eq!(
            found(&device("lxc12", "", &["10.0.0.1"])),
            Err(Unused::OfContainers)
        );
        let part = Device {
            role: Role::Part,
            ..device("eth0", "", &["10.0.0.1"])
        };
        assert_eq!(found(&part), Err(Unused::PartOfAnother));
        let tunnel = Device {
            mac: None,
            ..device("tun0", "tun", &["10.0.0.1"])
        };
        assert_eq!(found(&tunnel), Err(Unused::NoEthernet));
    }

    #[test]
    fn names_say_which_devices_serve() {
        let named = |name: &str, list: &str| select(&device(name, "veth", &["10.0.0.1"]), &patterns(list));
        assert_eq!(named("eth0", "eth0"), Ok(()));
        assert_eq!(named("eth1", "eth0"), Err(Unused::NotNamed));
        assert_eq!(named("eth1", "eth+, bond0"), Ok(()));
        assert_eq!(named("eth1", "eth+ !eth1"), Err(Unused::NamedNotTo));
        assert_eq!(named("lxc1", "lxc+"), Ok(()));
        let hardware = |list: &str| select(&device("eth0", "", &["10.0.0.1"]), &patterns(list));
        assert_eq!(hardware("!eth1"), Ok(()), "the others are found");
        for bad in ["+", "!", "a+b", "!+", "a/b"] {
            assert_eq!(Patterns::parse(bad), Err(bad.to_owned()));
        }
    }

    #[test]
    fn devices_of_pods_are_named_and_never_guessed() {
        let pod = |name: &str, list: &str| leads_to_pod(&device(name, "veth", &[]), &patterns(list));
        assert!(!pod("lxc1", ""));
        assert!(pod("lxc1", "lxc+"));
        assert!(!pod("lxc1", "lxc+ !lxc1"));
        assert!(!pod("lxc1", "!lxc2"), "only what is not meant is named");
        assert!(!pod("eth0", "lxc+"));
        assert!(!patterns("!lxc2").name_any());
    }

    #[test]
    fn node_ports_listen_at_one_address_of_each_device_and_family() {
        let eth = device(
            "eth0",
            "",
            &["198.51.100.1", "10.0.0.2", "10.0.0.1", "2001:db8::1", "fd00::1"],
        );
        let all = |of_node: &[&str], nets: &[IpNet]| node_port_addresses([&eth], &set(of_node), nets);
        assert_eq!(all(&[], &[]), set(&["10.0.0.1", "fd00::1"]));
        assert_eq!(
            all(&["198.51.100.1", "2001:db8::1"], &[]),
            set(&["198.51.100.1", "2001:db8::1"])
        );
        let net = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(all(&["198.51.100.1"], &net), set(&["10.0.0.1", "10.0.0.2"]));
        let down = Device {
            state: AdminState::Down,
            ..eth.clone()
        };
        assert!(node_port_addresses([&down], &BTreeSet::new(), &[]).is_empty());
    }

    #[test]
    fn packets_leave_as_the_node_or_else_as_a_public_address() {
        let eth = device("eth0", "", &["198.51.100.1", "10.0.0.1", "100.64.0.1"]);
        let as_v4 = |of_node: &[&str]| Ipv4Addr::from(entry(&eth, &set(of_node)).v4);
        assert_eq!(as_v4(&[]), Ipv4Addr::new(198, 51, 100, 1));
        assert_eq!(as_v4(&["10.0.0.1"]), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(entry(&eth, &BTreeSet::new()).v6, V6::default());
        assert_eq!(entry(&eth, &BTreeSet::new()).mtu, 1500);
    }
}
