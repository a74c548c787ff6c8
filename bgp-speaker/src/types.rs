//! Numbers and names of the protocol, validated where they are made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An autonomous system number (RFC 6793). Never 0 (RFC 7607).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(u32);

/// AS_TRANS stands for a 4-octet ASN towards a speaker that knows only two octets (RFC 6793 9).
pub const AS_TRANS: u16 = 23456;

/// AS 0 is not a usable ASN (RFC 7607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("AS 0 can not be used (RFC 7607)")]
pub struct AsnZero;

impl Asn {
    /// [`AS_TRANS`].
    pub const TRANS: Self = Self(23456);

    /// # Errors
    /// [`AsnZero`] for 0.
    pub const fn new(number: u32) -> Result<Self, AsnZero> {
        if number == 0 {
            Err(AsnZero)
        } else {
            Ok(Self(number))
        }
    }

    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A BGP Identifier: any 4-octet number but 0 (RFC 6286 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(u32);

/// 0.0.0.0 is no BGP Identifier (RFC 6286 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("router ID 0.0.0.0 can not be used (RFC 6286)")]
pub struct RouterIdZero;

impl RouterId {
    /// # Errors
    /// [`RouterIdZero`] for 0.0.0.0.
    pub fn new(id: Ipv4Addr) -> Result<Self, RouterIdZero> {
        if id.is_unspecified() {
            Err(RouterIdZero)
        } else {
            Ok(Self(id.to_bits()))
        }
    }

    /// Collisions compare the number, most significant octet first (RFC 4271 6.8).
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from_bits(self.0), f)
    }
}

/// Seconds a session may stay silent: 0 (never expires) or at least 3 (RFC 4271 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

/// Hold times of 1 and 2 seconds are not acceptable (RFC 4271 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hold time of {0} s is not acceptable: 0, or at least 3 (RFC 4271 6.2)")]
pub struct UnacceptableHoldTime(pub u16);

impl HoldTime {
    /// # Errors
    /// [`UnacceptableHoldTime`] for 1 and 2.
    pub const fn new(seconds: u16) -> Result<Self, UnacceptableHoldTime> {
        if seconds == 1 || seconds == 2 {
            Err(UnacceptableHoldTime(seconds))
        } else {
            Ok(Self(seconds))
        }
    }

    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

/// Address family and subsequent address family (RFC 4760), as numbers: any pair can be negotiated,
/// the RIB carries the two unicast ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    pub afi: u16,
    pub safi: u8,
}

impl Family {
    pub const IPV4_UNICAST: Self = Self { afi: 1, safi: 1 };
    pub const IPV6_UNICAST: Self = Self { afi: 2, safi: 1 };
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Family {
    /// `ipv4/unicast`; numbers where a family has no name here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.afi {
            1 => f.write_str("ipv4")?,
            2 => f.write_str("ipv6")?,
            25 => f.write_str("l2vpn")?,
            16388 => f.write_str("ls")?,
            16397 => f.write_str("opaque")?,
            other => write!(f, "{other}")?,
        }
        f.write_str("/")?;
        match self.safi {
            1 => f.write_str("unicast"),
            2 => f.write_str("multicast"),
            4 => f.write_str("mpls_label"),
            7 => f.write_str("encapsulation"),
            65 => f.write_str("vpls"),
            70 => f.write_str("evpn"),
            71 => f.write_str("ls"),
            73 => f.write_str("sr_policy"),
            85 => f.write_str("mup"),
            128 => f.write_str("mpls_vpn"),
            129 => f.write_str("mpls_vpn_multicast"),
            132 => f.write_str("route_target_constraints"),
            133 => f.write_str("flowspec_unicast"),
            134 => f.write_str("flowspec_vpn"),
            241 => f.write_str("key_value"),
            other => write!(f, "{other}"),
        }
    }
}

/// An IP prefix with no host bits set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    V4 { bits: u32, len: u8 },
    V6 { bits: [u8; 16], len: u8 },
}

/// The length does not fit the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("prefix length {len} is more than {max}")]
pub struct PrefixTooLong {
    pub len: u8,
    pub max: u8,
}

impl Prefix {
    /// Host bits are cleared.
    ///
    /// # Errors
    /// [`PrefixTooLong`] for a length over 32 (IPv4) or 128 (IPv6).
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixTooLong> {
        match addr {
            IpAddr::V4(a) => {
                let shift = 32_u8.checked_sub(len).ok_or(PrefixTooLong { len, max: 32 })?;
                let mask = u32::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
                Ok(Self::V4 {
                    bits: a.to_bits() & mask,
                    len,
                })
            }
            IpAddr::V6(a) => {
                let shift = 128_u8.checked_sub(len).ok_or(PrefixTooLong { len, max: 128 })?;
                let mask = u128::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
                Ok(Self::V6 {
                    bits: (a.to_bits() & mask).to_be_bytes(),
                    len,
                })
            }
        }
    }

    /// The /32 or /128 of an address.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::V4 {
                bits: a.to_bits(),
                len: 32,
            },
            IpAddr::V6(a) => Self::V6 {
                bits: a.octets(),
                len: 128,
            },
        }
    }

    #[must_use]
    pub fn addr(&self) -> IpAddr {
        match self {
            Self::V4 { bits, .. } => IpAddr::V4(Ipv4Addr::from_bits(*bits)),
            Self::V6 { bits, .. } => IpAddr::V6(Ipv6Addr::from(*bits)),
        }
    }

    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of a prefix, not of a container"
    )]
    pub fn len(&self) -> u8 {
        match self {
            Self::V4 { len, .. } | Self::V6 { len, .. } => *len,
        }
    }

    /// The unicast family this prefix belongs to.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::IPV4_UNICAST,
            Self::V6 { .. } => Family::IPV6_UNICAST,
        }
    }

    /// The first `len` bits of it; itself where it has no more.
    #[must_use]
    pub fn shortened(&self, len: u8) -> Self {
        match *self {
            Self::V4 { bits, len: own } if len < own => Self::V4 {
                bits: bits & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0),
                len,
            },
            Self::V6 { bits, len: own } if len < own => Self::V6 {
                bits: (u128::from_be_bytes(bits) & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0))
                    .to_be_bytes(),
                len,
            },
            Self::V4 { .. } | Self::V6 { .. } => *self,
        }
    }

    /// Whether `other` lies inside this prefix (or is the same).
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.len() <= other.len()
            && self.family() == other.family()
            && Self::new(other.addr(), self.len()).is_ok_and(|p| p == *self)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name given by the configuration; cheap to clone. Used for instances, peers and policies.
pub type Name = Arc<str>;

/// Whether a session stays inside this AS (iBGP) or leaves it (eBGP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionKind {
    Internal,
    External,
}

/// Octets of an ASN in AS_PATH and AGGREGATOR on a session (RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsnWidth {
    Two,
    Four,
}

/// A TCP-MD5 key (RFC 2385). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// The kernel takes keys of 1 to 80 octets (TCP_MD5SIG_MAXKEYLEN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TCP-MD5 key has 1 to 80 octets, not {0}")]
pub struct SecretLength(pub usize);

impl Secret {
    /// # Errors
    /// [`SecretLength`] outside 1..=80 octets.
    pub fn new(key: &[u8]) -> Result<Self, SecretLength> {
        if key.is_empty() || key.len() > 80 {
            Err(SecretLength(key.len()))
        } else {
            Ok(Self(key.into()))
        }
    }

    /// The key itself, for the socket option and nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_clears_host_bits_and_contains_its_parts() {
        let net = Prefix::new("10.1.2.3".parse().unwrap(), 16).unwrap();
        assert_eq!(net.to_string(), "10.1.0.0/16");
        assert!(net.contains(&Prefix::host("10.1.255.1".parse().unwrap())));
        assert!(!net.contains(&Prefix::host("10.2.0.1".parse().unwrap())));
        assert!(!net.contains(&Prefix::host("fd00::1".parse().unwrap())));
        let all = Prefix::new("::".parse().unwrap(), 0).unwrap();
        assert!(all.contains(&Prefix::host("fd00::1".parse().unwrap())));
        assert_eq!(
            Prefix::new("10.0.0.0".parse().unwrap(), 33),
            Err(PrefixTooLong { len: 33, max: 32 })
        );
    }

    #[test]
    fn secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2").unwrap()), "Secret(***)");
        assert_eq!(Secret::new(b""), Err(SecretLength(0)));
    }
}
