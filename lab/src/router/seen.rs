//! A received route in words all daemons share.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A route as a daemon holds it after receiving it. What the daemon does not show is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub prefix: IpNet,
    /// The global one, where the daemon shows a link-local one beside it.
    pub next_hop: Option<IpAddr>,
    pub as_path: Vec<u32>,
    pub communities: BTreeSet<(u16, u16)>,
    pub large: BTreeSet<(u32, u32, u32)>,
    pub ext: BTreeSet<Ext>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// Kept from before the neighbour's restart.
    pub stale: bool,
}

impl Seen {
    /// A route that shows nothing but its prefix.
    #[must_use]
    pub fn new(prefix: IpNet) -> Self {
        Self {
            prefix,
            next_hop: None,
            as_path: Vec::new(),
            communities: BTreeSet::new(),
            large: BTreeSet::new(),
            ext: BTreeSet::new(),
            med: None,
            local_pref: None,
            stale: false,
        }
    }
}

/// An extended community (RFC 4360).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ext {
    /// `rt`, two-octet AS specific.
    RouteTarget {
        asn: u16,
        number: u32,
    },
    /// `soo`, two-octet AS specific.
    RouteOrigin {
        asn: u16,
        number: u32,
    },
    /// draft-ietf-idr-link-bandwidth. Bytes per second, exact below 2^24.
    LinkBandwidth {
        asn: u16,
        bytes_per_second: u32,
    },
    /// The same as some daemons send it over external sessions, which non-transitive ones do not pass.
    TransitiveLinkBandwidth {
        asn: u16,
        bytes_per_second: u32,
    },
    Other([u8; 8]),
}

impl Ext {
    /// From the eight octets on the wire.
    #[must_use]
    pub fn from_octets(octets: [u8; 8]) -> Self {
        let [kind, subtype, a, b, n @ ..] = octets;
        let asn = u16::from_be_bytes([a, b]);
        match (kind, subtype) {
            (0x00, 0x02) => Self::RouteTarget {
                asn,
                number: u32::from_be_bytes(n),
            },
            (0x00, 0x03) => Self::RouteOrigin {
                asn,
                number: u32::from_be_bytes(n),
            },
            (0x40, 0x04) => Self::LinkBandwidth {
                asn,
                bytes_per_second: whole(f32::from_be_bytes(n)),
            },
            (0x00, 0x04) => Self::TransitiveLinkBandwidth {
                asn,
                bytes_per_second: whole(f32::from_be_bytes(n)),
            },
            _ => Self::Other(octets),
        }
    }

    /// The eight octets on the wire.
    #[must_use]
    pub fn octets(self) -> [u8; 8] {
        let join = |kind: u8, subtype: u8, asn: u16, n: [u8; 4]| {
            let [a, b] = asn.to_be_bytes();
            let [n0, n1, n2, n3] = n;
            [kind, subtype, a, b, n0, n1, n2, n3]
        };
        match self {
            Self::RouteTarget { asn, number } => join(0x00, 0x02, asn, number.to_be_bytes()),
            Self::RouteOrigin { asn, number } => join(0x00, 0x03, asn, number.to_be_bytes()),
            Self::LinkBandwidth {
                asn,
                bytes_per_second,
            } => join(0x40, 0x04, asn, float(bytes_per_second).to_be_bytes()),
            Self::TransitiveLinkBandwidth {
                asn,
                bytes_per_second,
            } => join(0x00, 0x04, asn, float(bytes_per_second).to_be_bytes()),
            Self::Other(octets) => octets,
        }
    }
}

impl fmt::Display for Ext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RouteTarget { asn, number } => write!(f, "rt:{asn}:{number}"),
            Self::RouteOrigin { asn, number } => write!(f, "soo:{asn}:{number}"),
            Self::LinkBandwidth {
                asn,
                bytes_per_second,
            } => write!(f, "bandwidth:{asn}:{bytes_per_second}"),
            Self::TransitiveLinkBandwidth {
                asn,
                bytes_per_second,
            } => write!(f, "transitive bandwidth:{asn}:{bytes_per_second}"),
            Self::Other(octets) => write!(f, "{:016x}", u64::from_be_bytes(*octets)),
        }
    }
}

/// Whole bytes per second; saturates.
#[expect(clippy::as_conversions, reason = "`as` saturates, which is what is wanted")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn whole(rate: f32) -> u32 {
    rate as u32
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the wire format is a float"
)]
fn float(rate: u32) -> f32 {
    rate as f32
}

/// `65010:1` and the like: so many numbers with colons between them.
pub(super) fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let mut found = [0; N];
    let mut parts = text.split(':');
    for slot in &mut found {
        *slot = parts.next()?.trim().parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// `65010:1` as a standard community.
pub(super) fn community(text: &str) -> Option<(u16, u16)> {
    let [high, low] = numbers(text)?;
    Some((u16::try_from(high).ok()?, u16::try_from(low).ok()?))
}

/// `65010:1:2` as a large community.
pub(super) fn large(text: &str) -> Option<(u32, u32, u32)> {
    let [global, one, two] = numbers(text)?;
    Some((global, one, two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_communities_survive_the_way_to_octets_and_back() {
        for ext in [
            Ext::RouteTarget {
                asn: 65010,
                number: 70000,
            },
            Ext::RouteOrigin { asn: 1, number: 2 },
            Ext::LinkBandwidth {
                asn: 65010,
                bytes_per_second: 125_000,
            },
            Ext::TransitiveLinkBandwidth {
                asn: 1,
                bytes_per_second: 1_000_000,
            },
            Ext::Other([0x03, 0x0c, 0, 0, 0, 0, 0, 8]),
        ] {
            assert_eq!(Ext::from_octets(ext.octets()), ext);
        }
        assert_eq!(community("65535:0"), Some((65535, 0)));
        assert_eq!(community("65536:0"), None);
        assert_eq!(large("1:2"), None);
    }
}
