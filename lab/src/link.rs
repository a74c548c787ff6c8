//! Cables between nodes: veth pairs.

use std::process::Command;

use crate::process::run_here;
use crate::{Error, Handle};

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct LinkEnd<'a> {
    pub node: &'a Handle,
    /// Interface name inside the node, at most 15 bytes.
    pub interface: &'a str,
    /// Addresses with prefix length, for example `10.0.0.1/24`.
    pub addresses: &'a [&'a str],
}

impl<'a> LinkEnd<'a> {
    #[must_use]
    pub fn new(node: &'a Handle, interface: &'a str, addresses: &'a [&'a str]) -> Self {
        Self {
            node,
            interface,
            addresses,
        }
    }
}

/// Whether an interface is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    Up,
    Down,
}

impl LinkState {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Lays a cable between two nodes (which may be the same one), addresses it and sets both ends up.
///
/// `mtu`: bytes of an IP packet; `None` leaves the kernel's 1500.
///
/// # Errors
/// A name is taken or too long, or an address is malformed.
pub fn veth(a: LinkEnd<'_>, b: LinkEnd<'_>, mtu: Option<u32>) -> Result<(), Error> {
    let mut command = Command::new("ip");
    command.args(["link", "add", a.interface, "netns", &a.node.pid().to_string()]);
    if let Some(mtu) = mtu {
        command.args(["mtu", &mtu.to_string()]);
    }
    command.args([
        "type",
        "veth",
        "peer",
        "name",
        b.interface,
        "netns",
        &b.node.pid().to_string(),
    ]);
    if let Some(mtu) = mtu {
        command.args(["mtu", &mtu.to_string()]);
    }
    run_here(&mut command)?;
    for end in [a, b] {
        for address in end.addresses {
            // Even with DAD off, an IPv6 address is tentative for a moment, and cannot be bound.
            let flags = if address.contains(':') { "nodad" } else { "" };
            let interface = end.interface;
            end.node
                .sh_in_network(&format!("ip addr add {address} dev {interface} {flags}"))?;
        }
        end.node.set_link(end.interface, LinkState::Up)?;
    }
    Ok(())
}
